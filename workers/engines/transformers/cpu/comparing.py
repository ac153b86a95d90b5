"""Whether what would take a module's place computes the same: no further away than rounding explains.

What is tried is made so that all of it matters. Rows have different sizes and a mean, and each is compared by itself. A
layer's rows are so small that what it adds to them outweighs them, and what attention adds and what gated layers add
are compared one by one; angles are so large that each row sees some rows more than others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from defsurvey.workers.engines.transformers.core.batch import Packed, Piece
from defsurvey.workers.engines.transformers.core.kv import Layout
from defsurvey.workers.engines.transformers.cpu.buffers import Buffers

#: As far as two ways of computing the same may be from each other, as norms of a row: some five roundings.
_TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1.5e-2, torch.float16: 2e-3}
#: And where scores are between, whose error is one of their powers.
_OF_ATTENTION = {torch.float32: 3e-5, torch.bfloat16: 4e-2}
#: How much further logits may be from the library's than they were; rounding adds up over layers.
_OF_LOGITS = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
#: Sizes of the random rows that are tried.
_SIZES = (0.1, 1.0, 10.0, 100.0, 1000.0)
#: And of those of a layer.
_SMALL = 2.0**-8
#: How far scores are from each other when a layer is tried.
_SCORES = 1.5
#: What happens where a module only looks like what takes its place.
UNLIKE = (RuntimeError, TypeError, ValueError, LookupError, AttributeError)


def same(
    made: Callable[[Tensor], Tensor],
    module: nn.Module,
    width: int,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> bool:
    """Whether a module of rows, shape (1, T, width) to the same, computes what another does."""
    sizes = torch.tensor(_SIZES)[:, None]
    rows = ((_random(1, len(_SIZES), width) + 0.5) * sizes).to(device, dtype)
    try:
        with torch.inference_mode():
            return _close(made(rows), module(rows), _TOLERANCES[dtype])
    except UNLIKE:
        return False


@dataclass(slots=True)
class _Added:
    """What a layer of the library adds to its rows, and how."""

    by_attention: list[Tensor] = field(default_factory=list)
    to_gated: list[Tensor] = field(default_factory=list)  #: what its gated layers are given
    by_gated: list[Tensor] = field(default_factory=list)

    def note_attention(self, _module: nn.Module, _given: Any, made: Any) -> None:
        """A hook."""
        self.by_attention.append(made[0] if isinstance(made, tuple) else made)

    def note_gated(self, _module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        """A hook."""
        self.to_gated.append(given[0])
        self.by_gated.append(made)


def same_layer(made: Any, layout: Layout) -> bool:
    """Whether an ``exchanging.Layer`` computes what the layer itself does, of rows of one prompt.

    It has noted afterwards what the layer asks of attention.
    """
    try:
        with torch.inference_mode():
            return _same_layer(made, layout)
    except UNLIKE:
        return False


def _same_layer(made: Any, layout: Layout) -> bool:
    layer, attention, asked, dtype = made.layer, made.layer.self_attn, made.asked, layout.dtype
    count = len(_SIZES)
    rows = (_random(1, count, attention.o_proj.out_features) * _SMALL).to(dtype)
    angles = _random(2, 1, count, attention.head_dim)
    made.own(rows, position_embeddings=tuple(angles.to(dtype)), observed=asked)
    if asked.width != attention.head_dim:
        return False
    # Queries are taken to be as large as keys. Both are turned by the angles, whatever these are.
    angles *= math.sqrt(_SCORES / (asked.scaling * math.sqrt(asked.width) * max(asked.key_size**2, 1e-9)))
    positions = tuple(angles.to(dtype))
    whole, added = _observed(made, rows, positions)
    store = Buffers(layout)
    kv = store.open(count)
    try:
        piece = Piece(kv, [0] * count, kv.extend(count), 0, tree=False, logits=False)
        packed = Packed(store, [piece], [0], count, layout.device)
        attended = attention.o_proj.forward(made.attended(rows, packed, positions))
        (by_attention,), (to_gated,), (by_gated,) = added.by_attention, added.to_gated, added.by_gated
        between = rows + by_attention
        return (
            _close(attended, by_attention, _OF_ATTENTION[dtype])
            and _close(layer.post_attention_layernorm(between), to_gated, _TOLERANCES[dtype])
            and torch.equal(between + by_gated, whole)
            and _close(made(rows, position_embeddings=positions, packed=packed), whole, _OF_ATTENTION[dtype])
        )
    finally:
        kv.close()


def _observed(made: Any, rows: Tensor, positions: tuple[Tensor, ...]) -> tuple[Tensor, _Added]:
    """What a layer of the library makes of rows, and of what parts."""
    layer, added = made.layer, _Added()
    hooks = [
        layer.self_attn.register_forward_hook(added.note_attention),
        layer.mlp.register_forward_hook(added.note_gated),
    ]
    try:
        return made.own(rows, position_embeddings=positions), added
    finally:
        for hook in hooks:
            hook.remove()


def further(after: Tensor, before: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Whether a model's logits are further from what is expected than they were before, by more than rounding."""
    apart = (float((found - expected).norm() / expected.norm()) for found in (after, before))
    return not next(apart) <= 2 * next(apart) + _OF_LOGITS[dtype]


def _close(found: Any, expected: Any, tolerance: float) -> bool:
    if not isinstance(expected, Tensor) or found.shape != expected.shape:
        return False
    apart, size = (each.float().norm(dim=-1) for each in (found.float() - expected.float(), expected))
    return bool((apart <= tolerance * size).all())


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))
