"""What attention of few rows is made of, for compiled loops: scores of ``LANES`` keys, and sums of as many values.

Keys and values come one after the other; their width is a multiple of ``LANES``. Deliberately knows
nothing of attention (see ``loops``).
"""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from workers.engines.transformers import vectors
from workers.engines.transformers.product import pairs_product
from workers.engines.transformers.vectors import LANES


@cache
def scoring(width: int, *, in_pairs: bool) -> Any:
    """For compiled code: a function that multiplies a row with ``LANES`` keys.

    Args:
        width: of both.
        in_pairs: whether row and keys are bfloat16 numbers, of which the processor multiplies pairs, exactly; the width
            is a multiple of twice ``LANES`` then.

    Returns:
        A function of three addresses, of float32 numbers but for that: the row, the keys, and where the products go.
    """

    @intrinsic
    def score(_typing: Any, row: Any, keys: Any, scores: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            of_row, of_keys, of_scores = arguments
            count = width // LANES // (2 if in_pairs else 1)
            numbers = [vectors.LONG(number * LANES) for number in range(count)]
            parts = [_part(builder, of_row, number, in_pairs=in_pairs) for number in numbers]
            sums = []
            for key in range(LANES):
                total = vectors.alike(0.0)
                for number, part in enumerate(parts):
                    place = vectors.LONG((key * count + number) * LANES)
                    other = _part(builder, of_keys, place, in_pairs=in_pairs)
                    add = pairs_product if in_pairs else vectors.multiply_add
                    total = add(builder, part, other, total)
                sums.append(total)
            vectors.store(builder, _summed_up(builder, sums), of_scores)
            return context.get_dummy_value()

        return types.void(row, keys, scores), generate

    return score


@cache
def weighing(width: int) -> Any:
    """For compiled code: a function that adds ``LANES`` values, each times a weight, to a row.

    Returns:
        A function of three addresses, of float32 numbers: the weights, the values, and the row.
    """

    @intrinsic
    def weigh(_typing: Any, weights: Any, values: Any, row: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            of_weights, of_values, of_row = arguments
            places = [vectors.LONG(d) for d in range(0, width, LANES)]
            sums = [vectors.load(builder, of_row, place) for place in places]
            for value in range(LANES):
                there = builder.add(of_weights, vectors.LONG(4 * value))
                alone = builder.load(builder.inttoptr(there, vectors.NUMBER.as_pointer()), align=4)
                weight = vectors.spread(builder, alone)
                for number, total in enumerate(sums):
                    at = vectors.LONG(value * width + number * LANES)
                    part = vectors.load(builder, of_values, at)
                    sums[number] = vectors.multiply_add(builder, weight, part, total)
            for place, total in zip(places, sums, strict=True):
                vectors.store(builder, total, of_row, place)
            return context.get_dummy_value()

        return types.void(weights, values, row), generate

    return weigh


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
