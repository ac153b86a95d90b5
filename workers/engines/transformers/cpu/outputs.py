"""What becomes of the sums of a product, for compiled loops: a bias, a gate or a sum, and the rounding to bfloat16."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from defsurvey.workers.engines.transformers.cpu import vectors

#: What may be computed of each number x of a product: alone, with a number y of something of its shape, or with the
#: number z of another product of the same rows.
NONE, SWISH, PLUS, TIMES, GATED = range(5)  # x, x / (1 + exp(-x)), x + y, x * y, z * x / (1 + exp(-x))


@intrinsic(prefer_literal=True)
def finish(_typing: Any, then: Any, biased: Any, _sums: Any, _bias: Any, _other: Any, _target: Any) -> Any:
    """For compiled code: finish ``vectors.LANES`` sums.

    Args of a call, integers all of them; of the addresses only those that are wanted are looked at:
        then: one of the constants of this module; a constant.
        biased: 1 where there is a bias, else 0; a constant.
        sums: address of the sums, in float32.
        bias: address of the bias, in float32.
        other: address of the others, in bfloat16, or in float32 if they are another product's sums.
        target: address of the results, in bfloat16.
    """
    wanted, has_bias = then.literal_value, bool(biased.literal_value)

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        of_sums, of_bias, of_other, of_target = arguments[2:]
        x = vectors.load(builder, of_sums)
        if has_bias:
            x = builder.fadd(x, vectors.load(builder, of_bias))
        if wanted in (SWISH, GATED):
            x = builder.fdiv(x, builder.fadd(vectors.alike(1.0), vectors.power(builder, builder.fneg(x))))
        if wanted in (PLUS, TIMES, GATED):
            y = vectors.load(builder, of_other, short=wanted != GATED)
            x = builder.fadd(x, y) if wanted == PLUS else builder.fmul(x, y)
        vectors.store(builder, x, of_target, short=True)
        return context.get_dummy_value()

    return types.void(then, biased, *[types.int64] * 4), generate
