"""What becomes of the sums of a product, for compiled loops: a bias, a gate or a sum, and the rounding to bfloat16.

Deliberately knows nothing of products (see ``linear``).
"""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from functools import cache
from typing import Any

from numba import types
from numba.extending import intrinsic

from workers.engines.transformers import vectors

#: What may be computed of each number x of a product: alone, with a number y of something of its shape, or with the
#: number z of another product of the same rows.
NONE, SWISH, PLUS, TIMES, GATED = range(5)  # x, x / (1 + exp(-x)), x + y, x * y, z * x / (1 + exp(-x))


@cache
def finishing(then: int, *, biased: bool) -> Any:
    """For compiled code: a function that finishes ``vectors.LANES`` sums.

    Args:
        then: one of the constants of this module.
        biased: whether there is a bias.

    Returns:
        A function of four addresses, of which only those that are wanted are looked at: the sums in float32, the bias
        in float32, the others in bfloat16, or in float32 if they are another product's sums, and the results in
        bfloat16.
    """

    @intrinsic
    def finish(_typing: Any, sums: Any, bias: Any, other: Any, target: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            of_sums, of_bias, of_other, of_target = arguments
            x = vectors.load(builder, of_sums)
            if biased:
                x = builder.fadd(x, vectors.load(builder, of_bias))
            if then in (SWISH, GATED):
                x = builder.fdiv(x, builder.fadd(vectors.alike(1.0), vectors.power(builder, builder.fneg(x))))
            if then in (PLUS, TIMES, GATED):
                y = vectors.load(builder, of_other, short=then != GATED)
                x = builder.fadd(x, y) if then == PLUS else builder.fmul(x, y)
            vectors.store(builder, x, of_target, short=True)
            return context.get_dummy_value()

        return types.void(sums, bias, other, target), generate

    return finish
