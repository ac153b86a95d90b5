"""What compiled loops are made of: addresses as pointers, number formats, and tasks that whoever is first takes.

numba compiles a loop when it is first wanted and keeps what it made for the next process.
"""
# Compiled code is no Python: it has pointers, and is measured by the tests that call it.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import from_dtype, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from defsurvey.workers.engines.transformers.cpu import vectors
from defsurvey.workers.engines.transformers.cpu.keeping import kept
from defsurvey.workers.engines.transformers.cpu.vectors import LANES, LOG2E, POWERS_OF_TWO, WORD

#: Number formats, by their names in torch.
FORMATS = ("float32", "bfloat16", "float16")

_LOG2E = np.float32(LOG2E)
_C7, _C6, _C5, _C4, _C3, _C2, _C1, _C0 = (np.float32(factor) for factor in POWERS_OF_TWO)
#: Brings the exponents of float16 to those of float32; subnormal numbers come out right as well.
_HALF = np.float32(2.0**112)
_INFINITE, _NOT_ANY = np.uint32(0x7C00), np.uint32(0x7E00)  # in float16, and what is no number
#: Bits of float32 numbers: infinity, above which is what is no number, and where infinity of float16 is moved to.
_NO_NUMBER, _BEYOND = np.uint32(0x7F800000), np.uint32(0x7C00 << 13)
#: What of float32 arithmetic may be reordered: without it no sum is computed in vectors. But what is no number, or
#: infinite, stays so: it is how a defect of a model is known.
_MATHS = {"reassoc", "contract", "nsz", "arcp"}
#: What is added to the tasks that have been taken where a thread has no memory: more than there can be.
UNDONE = 1 << 40
#: Bytes between which vectors lie best.
_LINE = 64
#: Compiled code is given up with the object that it came in.
_alive: list[Any] = []


def compiled(loop: Callable[[Any], None], told: np.dtype) -> int:
    """Address of a loop that is told one record, whose first field is ``taken``: how many tasks have been taken."""
    signature = types.void(types.CPointer(from_dtype(told)))
    made = kept(loop, signature, {"fastmath": _MATHS, "error_model": "numpy"})
    _alive.append(made)
    return int(made.address)


def pointer_to(number: Any) -> Any:
    """For compiled code: an address as a pointer to numbers of a kind."""

    @intrinsic
    def pointer(_typing: Any, address: Any) -> Any:
        kind = types.CPointer(number)

        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(kind))

        return kind(address), generate

    return pointer


integers, floats = pointer_to(types.int64), pointer_to(types.float32)
words, halves, octets = pointer_to(types.uint32), pointer_to(types.uint16), pointer_to(types.uint8)


@intrinsic
def take(_typing: Any, told: Any) -> Any:
    """For compiled code: the number of the next task, which nobody else will get."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = builder.bitcast(arguments[0], context.get_value_type(types.CPointer(types.int64)))
        return builder.atomic_rmw("add", place, context.get_constant(types.int64, 1), "monotonic")

    return types.int64(told), generate


@intrinsic
def claim(_typing: Any, told: Any, _count: Any) -> Any:
    """For compiled code: the address of so many bytes of a thread's own, up to ``release``; 0 where there are none.

    Compiled code has nobody to raise an error to. All tasks that are left count as taken then, and ``team`` sees by
    their number that they are not done.
    """

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        long = ir.IntType(64)
        found = context.nrt.allocate_unchecked(builder, builder.add(arguments[1], long(_LINE)))
        place = builder.ptrtoint(found, long)
        address = builder.and_(builder.add(place, long(_LINE)), long(-_LINE))
        missing = builder.icmp_unsigned("==", place, long(0))
        with builder.if_else(missing, likely=False) as (none, some):
            with none:
                taken = builder.bitcast(arguments[0], long.as_pointer())
                builder.atomic_rmw("add", taken, long(UNDONE), "monotonic")
            with some:
                builder.store(place, _before(builder, address))
        return builder.select(missing, long(0), address)

    return types.int64(told, types.int64), generate


@intrinsic
def release(_typing: Any, _address: Any) -> Any:
    """For compiled code: give back what ``claim`` gave."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = builder.load(_before(builder, arguments[0]))
        context.nrt.free(builder, builder.inttoptr(place, ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64), generate


def _before(builder: Any, address: Any) -> Any:
    """Where ``claim`` notes what it was given, which is less well placed than what it gives."""
    long = ir.IntType(64)
    return builder.inttoptr(builder.sub(address, long(8)), long.as_pointer())


@intrinsic
def _prefetch(_typing: Any, address: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> None:
        place, small = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, small, small, small])
        # To be read, to be kept, data.
        builder.call(
            builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind), [place, small(0), small(3), small(1)]
        )

    return types.void(address), generate


def _as(number: Any, bits: Any) -> Any:
    @intrinsic
    def cast(_typing: Any, _given: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(number))

        return number(bits), generate

    return cast


#: For compiled code: 32 bits as a float32 number, and the other way round.
as_float, as_bits = _as(types.float32, types.uint32), _as(types.uint32, types.float32)


@intrinsic
def _power_of_two(_typing: Any, _exponent: Any) -> Any:
    """A float32 number from a whole one from -127 to 127. As what follows in 32 bits, which the language widens."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        whole = builder.fptosi(arguments[0], WORD)
        return builder.bitcast(builder.shl(builder.add(whole, WORD(127)), WORD(23)), ir.FloatType())

    return types.float32(types.float32), generate


@intrinsic
def _shortened(_typing: Any, _number: Any) -> Any:
    return types.uint16(types.float32), lambda _context, builder, _signature, given: vectors.shorten(builder, given[0])


@intrinsic
def _lengthened(_typing: Any, _bits: Any) -> Any:
    return types.float32(types.uint16), lambda _context, builder, _signature, given: vectors.lengthen(builder, given[0])


def _changed(*, short: bool) -> Any:
    """For compiled code: ``LANES`` numbers at an address as bfloat16 numbers at another, or the other way round."""

    @intrinsic
    def changed(_typing: Any, source: Any, target: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            numbers = vectors.load(builder, arguments[0], short=not short)
            vectors.store(builder, numbers, arguments[1], short=short)
            return context.get_dummy_value()

        return types.void(source, target), generate

    return changed


_shorten_some, _lengthen_some = _changed(short=True), _changed(short=False)


@njit(inline="always")
def power(exponent: Any) -> Any:  # pragma: no cover
    """For compiled code: e to the power of a float32 number, at most 88; 0 from about -88 on."""
    x = max(exponent * _LOG2E, np.float32(-127.0))
    whole = np.floor(x + np.float32(0.5))
    y = x - whole
    y = ((((((_C7 * y + _C6) * y + _C5) * y + _C4) * y + _C3) * y + _C2) * y + _C1) * y + _C0
    return y * _power_of_two(whole)


@njit(inline="always")
def prefetch(address: int, count: int) -> None:  # pragma: no cover
    """For compiled code: let bytes at an address, which need not be anyone's, come near before they are read."""
    for line in range(0, count, 64):
        _prefetch(address + line)


@intrinsic
def copy(_typing: Any, source: Any, target: Any, _count: Any) -> Any:
    """For compiled code: bytes at an address to another; neither are among the other's."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        old, new = (builder.inttoptr(address, ir.IntType(8).as_pointer()) for address in arguments[:2])
        cgutils.raw_memcpy(builder, new, old, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(source, target, types.int64), generate


@njit(inline="always")
def widen(form: int, source: int, target: int, count: int) -> None:  # pragma: no cover
    """For compiled code: numbers at an address, of the format with that index, as float32 at another."""
    wide = floats(target)
    if form == 0:
        same = floats(source)
        for d in range(count):
            wide[d] = same[d]
    elif form == 1:
        short = halves(source)
        whole = count // LANES * LANES
        for d in range(0, whole, LANES):
            _lengthen_some(source + 2 * d, target + 4 * d)
        for d in range(whole, count):
            wide[d] = _lengthened(short[d])
    else:
        short, bits = halves(source), words(target)
        for d in range(count):
            word = types.uint32(short[d])
            sign = (word & types.uint32(0x8000)) << types.uint32(16)
            size = (word & types.uint32(0x7FFF)) << types.uint32(13)
            number = as_bits(as_float(size) * _HALF)
            bits[d] = sign | (size | _NO_NUMBER if size >= _BEYOND else number)


@njit(inline="always")
def rounded(form: int, number: Any) -> Any:  # pragma: no cover
    """For compiled code: the nearest float32 (0) or bfloat16 (1) number; of two as near the even one."""
    if form == 0:
        return number
    return _lengthened(_shortened(number))


@njit(inline="always")
def narrow(form: int, source: int, target: int, count: int) -> None:  # pragma: no cover
    """For compiled code: float32 numbers at an address as the nearest of a format, with that index, at another."""
    wide = floats(source)
    if form == 0:
        same = floats(target)
        for d in range(count):
            same[d] = wide[d]
    elif form == 1:
        short = halves(target)
        whole = count // LANES * LANES
        for d in range(0, whole, LANES):
            _shorten_some(source + 4 * d, target + 2 * d)
        for d in range(whole, count):
            short[d] = _shortened(wide[d])
    else:
        short = halves(target)
        for d in range(count):
            sign = (as_bits(wide[d]) >> types.uint32(16)) & types.uint32(0x8000)
            size = as_bits(abs(wide[d]))
            bits = as_bits(as_float(size) / _HALF)
            bits = (bits + types.uint32(0xFFF) + ((bits >> types.uint32(13)) & types.uint32(1))) >> types.uint32(13)
            short[d] = types.uint16(sign | (_NOT_ANY if size > _NO_NUMBER else min(bits, _INFINITE)))
