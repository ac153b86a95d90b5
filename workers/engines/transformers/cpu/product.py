"""The product of a few rows with a panel of columns, summed in registers: what compiled loops are made of.

Numbers are taken in units of 32 bits: one float32 number, or two bfloat16 numbers, which are multiplied at once where
the processor can, and elsewhere one after the other, which gains nothing. Which it can do is asked of numba, whose
choice of instructions it is.
"""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from defsurvey.workers.engines.transformers.cpu.vectors import LANES, NUMBERS, WORDS

#: Rows whose sums are kept in registers, with as many vectors each as there are registers for.
ROWS = 6
#: The instruction that multiplies pairs of bfloat16 numbers and adds both products to a float32 number.
_PAIRS = "llvm.x86.avx512bf16.dpbf16ps.512"


@cache
def can(feature: str) -> bool:
    """Whether compiled code may use a feature of the processor, by its name in LLVM."""
    return f"+{feature}" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")


def vectors(columns: int) -> int:
    """How many vectors wide a panel is, of so many columns, a multiple of ``LANES``."""
    most = 4 if can("avx512f") else 1
    return max(count for count in range(1, most + 1) if columns % (count * LANES) == 0)


def pairs_product(builder: Any, one: Any, other: Any, summand: Any) -> Any:
    """Pairs of bfloat16 numbers in vectors of words, multiplied and added to numbers: where a processor has that."""
    kind = ir.FunctionType(NUMBERS, [NUMBERS, WORDS, WORDS])
    return builder.call(builder.module.declare_intrinsic(_PAIRS, (), kind), [summand, one, other])


@intrinsic(prefer_literal=True)
def product(
    _typing: Any,
    wide: Any,
    pairs: Any,
    onto: Any,
    _rows: Any,
    _row_step: Any,
    _columns: Any,
    _column_step: Any,
    _result: Any,
    _result_step: Any,
    _units: Any,
) -> Any:
    """For compiled code: rows times columns.

    Args of a call, integers all of them:
        wide: how many vectors there are columns for; a constant.
        pairs: 1 where a unit is a pair of bfloat16 numbers, else 0; a constant.
        onto: 1 where the product is added to what is in the result, else 0; a constant.
        rows: address of the first of ``ROWS`` rows; then how many bytes lie between two.
        columns: address of the first row of columns, of one unit each; then likewise.
        result: address of as many rows in float32 as there are of rows, and likewise.
        units: how many units a row has, at least 1.
    """
    generate = _generator(wide.literal_value, in_pairs=bool(pairs.literal_value), onto=bool(onto.literal_value))
    return types.void(wide, pairs, onto, *[types.int64] * 7), generate


def _generator(wide: int, *, in_pairs: bool, onto: bool) -> Any:
    """What writes the instructions of a product."""
    number, sums = ir.IntType(32) if in_pairs else ir.FloatType(), ir.VectorType(ir.FloatType(), LANES)
    vector, at_once = ir.VectorType(number, LANES), can("avx512bf16")
    sixteen, upper = (ir.Constant(ir.VectorType(ir.IntType(32), LANES), [bits] * LANES) for bits in (16, 0xFFFF0000))

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        left, left_step, right, right_step, target, target_step, units = arguments[3:]
        long = units.type

        def place(address: Any, step: Any, count: int, offset: int, kind: Any) -> Any:
            there = builder.add(address, builder.add(builder.mul(step, long(count)), long(offset)))
            return builder.inttoptr(there, kind.as_pointer())

        def add(so_far: Any, one: Any, other: Any) -> Any:
            if not in_pairs:
                return builder.fadd(so_far, builder.fmul(one, other, flags=("contract",)), flags=("contract",))
            if at_once:
                return pairs_product(builder, one, other, so_far)
            for first in (True, False):
                halves = (builder.shl(pair, sixteen) if first else builder.and_(pair, upper) for pair in (one, other))
                factors = [builder.bitcast(half, sums) for half in halves]
                so_far = builder.fadd(so_far, builder.fmul(*factors, flags=("contract",)), flags=("contract",))
            return so_far

        def sum_at(row: int, i: int) -> Any:
            return place(target, target_step, row, 4 * LANES * i, sums)

        begun = [
            [builder.load(sum_at(row, i), align=4) if onto else ir.Constant(sums, [0.0] * LANES) for i in range(wide)]
            for row in range(ROWS)
        ]
        before, body = builder.basic_block, builder.append_basic_block("units")
        after = builder.append_basic_block("summed")
        builder.branch(body)
        builder.position_at_end(body)
        unit = builder.phi(long)
        unit.add_incoming(long(0), before)
        held = [[builder.phi(sums) for _ in range(wide)] for _ in range(ROWS)]
        columns = builder.add(right, builder.mul(unit, right_step))
        rows = builder.add(left, builder.mul(unit, long(4)))
        taken = [builder.load(place(columns, long(0), 0, 4 * LANES * i, vector), align=4) for i in range(wide)]
        for row, so_far in enumerate(held):
            one = builder.load(place(rows, left_step, row, 0, number), align=4)
            alike = builder.insert_element(ir.Constant(vector, ir.Undefined), one, ir.IntType(32)(0))
            spread = builder.shuffle_vector(
                alike, alike, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            )
            for i, phi in enumerate(so_far):
                phi.add_incoming(begun[row][i], before)
                phi.add_incoming(add(phi, spread, taken[i]), body)
        following = builder.add(unit, long(1))
        unit.add_incoming(following, body)
        builder.cbranch(builder.icmp_signed("<", following, units), body, after)
        builder.position_at_end(after)
        for row, so_far in enumerate(held):
            for i, phi in enumerate(so_far):
                builder.store(phi.incomings[1][0], sum_at(row, i), align=4)
        return context.get_dummy_value()

    return generate
