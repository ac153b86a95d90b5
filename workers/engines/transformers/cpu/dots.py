"""What attention of few rows is made of, for compiled loops: scores of ``LANES`` keys, and sums of as many values.

Keys and values come one after the other; their width is a multiple of ``LANES``.
"""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from defsurvey.workers.engines.transformers.cpu import vectors
from defsurvey.workers.engines.transformers.cpu.product import pairs_product
from defsurvey.workers.engines.transformers.cpu.vectors import LANES


@intrinsic(prefer_literal=True)
def score(_typing: Any, width: Any, in_pairs: Any, _row: Any, _keys: Any, _scores: Any) -> Any:
    """For compiled code: multiply a row with ``LANES`` keys.

    Args of a call, integers all of them:
        width: of both; a constant.
        in_pairs: 1 where row and keys are bfloat16 numbers, of which the processor multiplies pairs, exactly, and the
            width is a multiple of twice ``LANES``; 0 where they are float32 numbers; a constant.
        row: its address.
        keys: that of the first.
        scores: where the products go, in float32.
    """
    paired = bool(in_pairs.literal_value)
    count = width.literal_value // LANES // (2 if paired else 1)
    add = pairs_product if paired else vectors.multiply_add

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        row, keys, scores = arguments[2:]
        parts = [_part(builder, row, vectors.LONG(number * LANES), in_pairs=paired) for number in range(count)]
        sums = []
        for key in range(LANES):
            total = vectors.alike(0.0)
            for number, part in enumerate(parts):
                place = vectors.LONG((key * count + number) * LANES)
                total = add(builder, part, _part(builder, keys, place, in_pairs=paired), total)
            sums.append(total)
        vectors.store(builder, _summed_up(builder, sums), scores)
        return context.get_dummy_value()

    return types.void(width, in_pairs, *[types.int64] * 3), generate


@intrinsic(prefer_literal=True)
def weigh(_typing: Any, width: Any, _weights: Any, _values: Any, _row: Any) -> Any:
    """For compiled code: add ``LANES`` values, each times a weight, to a row, float32 numbers all of them.

    Args of a call, integers all of them:
        width: of a value and of the row; a constant.
        weights: address of the weights.
        values: that of the first value.
        row: its address.
    """
    count = width.literal_value // LANES

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        weights, values, row = arguments[1:]
        places = [vectors.LONG(number * LANES) for number in range(count)]
        sums = [vectors.load(builder, row, place) for place in places]
        for value in range(LANES):
            there = builder.add(weights, vectors.LONG(4 * value))
            alone = builder.load(builder.inttoptr(there, vectors.NUMBER.as_pointer()), align=4)
            weight = vectors.spread(builder, alone)
            for number, total in enumerate(sums):
                at = vectors.LONG((value * count + number) * LANES)
                sums[number] = vectors.multiply_add(builder, weight, vectors.load(builder, values, at), total)
        for place, total in zip(places, sums, strict=True):
            vectors.store(builder, total, row, place)
        return context.get_dummy_value()

    return types.void(width, *[types.int64] * 3), generate


def _part(builder: Any, address: Any, place: Any, *, in_pairs: bool) -> Any:
    """``LANES`` numbers or pairs of them."""
    if not in_pairs:
        return vectors.load(builder, address, place)
    there = builder.add(address, builder.mul(place, vectors.LONG(4)))
    return builder.load(builder.inttoptr(there, vectors.WORDS.as_pointer()), align=2)


def _summed_up(builder: Any, sums: list[Any]) -> Any:
    """A vector of the sums of ``LANES`` vectors' numbers, in their order.

    Halves of two vectors are added side by side, then quarters, and so on: fifteen additions for sixteen sums. Whose
    halves come to lie beside each other are half of all apart, so that all are in order at the end.
    """
    half = LANES // 2
    while len(sums) > 1:
        middle = len(sums) // 2
        near = [start + i for start in range(0, LANES, 2 * half) for i in (*range(half), *range(LANES, LANES + half))]
        far = [place + half for place in near]
        sums = [
            builder.fadd(_picked(builder, one, other, near), _picked(builder, one, other, far))
            for one, other in zip(sums[:middle], sums[middle:], strict=True)
        ]
        half //= 2
    return sums[0]


def _picked(builder: Any, one: Any, other: Any, places: list[int]) -> Any:
    return builder.shuffle_vector(one, other, ir.Constant(vectors.WORDS, places))
