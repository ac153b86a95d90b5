"""The two passes of a softmax over scores in float32, for compiled loops: their highest, and their powers and sum."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import math
from typing import Any

from numba import types
from numba.extending import intrinsic

from defsurvey.workers.engines.transformers.cpu import vectors


@intrinsic
def highest(_typing: Any, scores: Any, count: Any) -> Any:
    """For compiled code: the highest of scores at an address, ``count`` of them, a multiple of ``vectors.LANES``.

    Where one is no number it may be any of them: their powers come to no number then, whatever is taken off them.
    """

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        def higher(place: Any, so_far: Any) -> Any:
            return vectors.larger(builder, so_far, vectors.load(builder, arguments[0], place))

        tops = vectors.go_through(builder, arguments[1], vectors.alike(-math.inf), higher)
        return vectors.highest_of(builder, tops)

    return types.float32(scores, count), generate


@intrinsic(prefer_literal=True)
def raise_each(_typing: Any, short: Any, _scores: Any, _powers: Any, _count: Any, _top: Any, _scaling: Any) -> Any:
    """For compiled code: e to the power of each score less the highest; returns the powers' sum.

    Args of a call:
        short: 1 where powers are stored in bfloat16, 0 where in float32; a constant.
        scores: their address.
        powers: that of the powers, which may be the same if these are not short.
        count: how many there are, a multiple of ``vectors.LANES``.
        top: the highest score.
        scaling: what is multiplied with differences.
    """
    shortened = bool(short.literal_value)

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        scores, powers, count = arguments[1:4]
        top, scaling = (vectors.spread(builder, number) for number in arguments[4:])

        def summed(place: Any, so_far: Any) -> Any:
            difference = builder.fsub(vectors.load(builder, scores, place), top)
            power = vectors.power(builder, builder.fmul(difference, scaling))
            vectors.store(builder, power, powers, place, short=shortened)
            return builder.fadd(so_far, power)

        return vectors.sum_of(builder, vectors.go_through(builder, count, vectors.alike(0.0), summed))

    return types.float32(short, *[types.int64] * 3, types.float32, types.float32), generate
