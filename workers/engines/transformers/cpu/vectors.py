"""What compiled loops do to many numbers at once, written as vectors: what a compiler makes of a loop is shorter ones.

The functions here write instructions with llvmlite: a ``builder`` is where they go, numbers are float32 unless said
otherwise, and a vector has ``LANES`` of them, on whatever processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir

#: Numbers of a vector.
LANES = 16
WORD, SHORT, LONG, NUMBER = ir.IntType(32), ir.IntType(16), ir.IntType(64), ir.FloatType()
NUMBERS, SHORTS, WORDS = (ir.VectorType(kind, LANES) for kind in (NUMBER, SHORT, WORD))
LOG2E = 1 / math.log(2)
#: 2**x for x from -1/2 to 1/2 as a polynomial, highest power first: to 1 in 10**8.
POWERS_OF_TWO = tuple(math.log(2) ** n / math.factorial(n) for n in range(7, -1, -1))


def alike(number: float) -> Any:
    """A vector of a constant."""
    return ir.Constant(NUMBERS, [float(number)] * LANES)


def spread(builder: Any, number: Any) -> Any:
    """A vector of a number."""
    alone = builder.insert_element(ir.Constant(NUMBERS, ir.Undefined), number, WORD(0))
    return builder.shuffle_vector(alone, alone, ir.Constant(WORDS, [0] * LANES))


def load(builder: Any, address: Any, place: Any = None, *, short: bool = False) -> Any:
    """The vector that begins at a number of those at an address; ``short``: they are bfloat16 numbers."""
    there = _at(builder, address, place, short=short)
    return lengthen(builder, builder.load(there, align=2)) if short else builder.load(there, align=4)


def store(builder: Any, vector: Any, address: Any, place: Any = None, *, short: bool = False) -> None:
    """Put a vector where ``load`` finds it, each number of which becomes the nearest bfloat16 number if ``short``."""
    there = _at(builder, address, place, short=short)
    if short:
        builder.store(shorten(builder, vector), there, align=2)
    else:
        builder.store(vector, there, align=4)


def shorten(builder: Any, numbers: Any) -> Any:
    """The 16 bits of the bfloat16 number nearest to a number or to each of a vector; of two as near the even one."""
    word, short, constant = _kinds(numbers.type)
    bits = builder.bitcast(numbers, word)
    odd = builder.and_(builder.lshr(bits, constant(16)), constant(1))
    return builder.trunc(builder.lshr(builder.add(bits, builder.add(odd, constant(0x7FFF))), constant(16)), short)


def lengthen(builder: Any, bits: Any) -> Any:
    """The number that the 16 bits of a bfloat16 number are, or each of a vector."""
    word, _, constant = _kinds(bits.type)
    number = NUMBER if word is WORD else NUMBERS
    return builder.bitcast(builder.shl(builder.zext(bits, word), constant(16)), number)


def rounded(builder: Any, numbers: Any) -> Any:
    """The nearest bfloat16 numbers, again as float32."""
    return lengthen(builder, shorten(builder, numbers))


def function(builder: Any, name: str, *vectors: Any) -> Any:
    """What one of LLVM's own functions makes of vectors."""
    kind = ir.FunctionType(NUMBERS, [each.type for each in vectors])
    return builder.call(builder.module.declare_intrinsic(f"llvm.{name}.v{LANES}f32", (), kind), vectors)


def larger(builder: Any, one: Any, other: Any) -> Any:
    """The larger numbers of two vectors; the other's where one of two is no number. One instruction."""
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


def smaller(builder: Any, one: Any, other: Any) -> Any:
    """The smaller numbers of two vectors, likewise."""
    return builder.select(builder.fcmp_ordered("<", one, other), one, other)


def multiply_add(builder: Any, one: Any, other: Any, summand: Any) -> Any:
    """One times the other plus a third, in one instruction where there is one."""
    return builder.fadd(builder.fmul(one, other, flags=("contract",)), summand, flags=("contract",))


def power(builder: Any, exponents: Any) -> Any:
    """e to the power of each number; no more than 2**127, and 0 from about -88 on. What is no number stays none."""
    x = builder.fmul(exponents, alike(LOG2E))
    x = smaller(builder, alike(127.0), larger(builder, alike(-127.0), x))
    whole = function(builder, "floor", builder.fadd(x, alike(0.5)))
    y, result = builder.fsub(x, whole), alike(POWERS_OF_TWO[0])
    for factor in POWERS_OF_TWO[1:]:
        result = multiply_add(builder, result, y, alike(factor))
    bits = builder.add(builder.fptosi(whole, WORDS), ir.Constant(WORDS, [127] * LANES))
    return builder.fmul(result, builder.bitcast(builder.shl(bits, ir.Constant(WORDS, [23] * LANES)), NUMBERS))


def sum_of(builder: Any, vector: Any) -> Any:
    """Of a vector's numbers, in any order."""
    kind = ir.FunctionType(NUMBER, [NUMBER, NUMBERS])
    declared = builder.module.declare_intrinsic(f"llvm.vector.reduce.fadd.v{LANES}f32", (), kind)
    return builder.call(declared, [NUMBER(0.0), vector], fastmath=("reassoc",))


def highest_of(builder: Any, vector: Any) -> Any:
    """Of a vector's numbers."""
    step = LANES // 2
    while step:
        places = ir.Constant(WORDS, [(lane + step) % LANES for lane in range(LANES)])
        vector = larger(builder, vector, builder.shuffle_vector(vector, vector, places))
        step //= 2
    return builder.extract_element(vector, WORD(0))


def go_through(builder: Any, count: Any, begun: Any, step: Callable[[Any, Any], Any]) -> Any:
    """What a step makes of a place and of what it made before, for every ``LANES`` of ``count`` numbers.

    Args:
        builder: where instructions go.
        count: how many numbers, a multiple of ``LANES`` and not 0.
        begun: what the first step is given as made before.
        step: writes instructions.

    Returns:
        What the last step made.
    """
    before, body = builder.basic_block, builder.append_basic_block("numbers")
    after = builder.append_basic_block("done")
    builder.branch(body)
    builder.position_at_end(body)
    place, so_far = builder.phi(LONG), builder.phi(begun.type)
    place.add_incoming(LONG(0), before)
    so_far.add_incoming(begun, before)
    made, following = step(place, so_far), builder.add(place, LONG(LANES))
    place.add_incoming(following, body)
    so_far.add_incoming(made, body)
    builder.cbranch(builder.icmp_signed("<", following, count), body, after)
    builder.position_at_end(after)
    return made


def _at(builder: Any, address: Any, place: Any, *, short: bool) -> Any:
    there = address if place is None else builder.add(address, builder.mul(place, LONG(2 if short else 4)))
    return builder.inttoptr(there, (SHORTS if short else NUMBERS).as_pointer())


def _kinds(kind: Any) -> tuple[Any, Any, Callable[[int], Any]]:
    """Words, halves of words and constant words, or vectors of them."""
    if isinstance(kind, ir.VectorType):
        return WORDS, SHORTS, lambda value: ir.Constant(WORDS, [value] * LANES)
    return WORD, SHORT, WORD
