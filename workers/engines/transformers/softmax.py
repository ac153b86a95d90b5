"""The two passes of a softmax over scores in float32, for compiled loops: their highest, and their powers and sum.

Deliberately knows nothing of attention (see ``tiles``).
"""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import math
from functools import cache
from typing import Any

from numba import types
from numba.extending import intrinsic

from workers.engines.transformers import vectors


@intrinsic
def highest(_typing: Any, scores: Any, count: Any) -> Any:
    """For compiled code: the highest of scores at an address, ``count`` of them, a multiple of ``vectors.LANES``."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        def higher(place: Any, so_far: Any) -> Any:
            return vectors.function(builder, "maxnum", so_far, vectors.load(builder, arguments[0], place))

        tops = vectors.go_through(builder, arguments[1], vectors.alike(-math.inf), higher)
        return vectors.highest_of(builder, tops)

    return types.float32(scores, count), generate


@cache
def raising(*, short: bool) -> Any:
    """For compiled code: a function that raises e to the power of each score less the highest.

    Args:
        short: whether powers are stored in bfloat16, rather than in float32.

    Returns:
        A function of the scores' address, that of the powers, of how many there are, a multiple of ``vectors.LANES``,
        of the highest score, and of what is multiplied with differences; it returns the powers' sum.
    """

    @intrinsic
    def raise_each(_typing: Any, _scores: Any, _powers: Any, _count: Any, _top: Any, _scaling: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            top, scaling = (vectors.spread(builder, number) for number in arguments[3:])

            def summed(place: Any, so_far: Any) -> Any:
                difference = builder.fsub(vectors.load(builder, arguments[0], place), top)
                power = vectors.power(builder, builder.fmul(difference, scaling))
                vectors.store(builder, power, arguments[1], place, short=short)
                return builder.fadd(so_far, power)

            sums = vectors.go_through(builder, arguments[2], vectors.alike(0.0), summed)
            return vectors.sum_of(builder, sums)

        return types.float32(types.int64, types.int64, types.int64, types.float32, types.float32), generate

    return raise_each
