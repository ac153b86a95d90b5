"""Attention of beams whose requests lie side by side in a slab: a few products for all of them.

Every request of a stack gets as many query rows as the one with most beams, and every row is multiplied with the whole
of its slot; what is too much is hidden or thrown away. Products of a few sizes only, see ``batch``. Deliberately knows
nothing of prompts, whose rows are many enough for products of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workers.engines.transformers.batch import Packed, Piece, tree_mask
from workers.engines.transformers.slabs import Slab, SlabKV


@dataclass(frozen=True, slots=True)
class Stack:
    """The S slots of a slab, M query rows each (query heads that share a key head being rows of their own)."""

    slab: Slab
    written: tuple[Tensor, Tensor, Tensor]  #: of each token: its packed row, its slot, its place there
    asked: Tensor  #: rows of queries, shape (S * M,)
    mask: Tensor  #: added to the scores, in the model's number format; shape (S, 1, M, capacity)
    kept: Tensor  #: which of the S * M rows count
    targets: Tensor  #: which rows of queries these are, shape of ``kept``


def stacks(packed: Packed, window: int | None, per_group: int, dtype: torch.dtype) -> list[Stack]:
    """A forward's trees by slab, made once for all layers with the same sliding window (None: all there is)."""
    key = window, per_group
    if (made := packed.stacked.get(key)) is None:
        members: dict[Slab, list[tuple[Piece, int]]] = defaultdict(list)
        for piece, start in zip(packed.pieces, packed.starts, strict=True):
            if (slab := piece.slab) is not None:
                members[slab].append((piece, start))
        made = [_stack(slab, of, window, per_group, dtype) for slab, of in members.items()]
        packed.stacked[key] = made
    return made


def attend_stack(
    stack: Stack, layer: int, queries: Tensor, keys_values: Tensor, scaling: float, result: Tensor
) -> None:
    """Store the keys and values of a slab's beams, then attend.

    Args:
        stack: whose.
        layer: which layer of the slab.
        queries: shape (groups, T * per group, width).
        keys_values: of this forward, shape (2, groups, T, width).
        scaling: factor on the scores.
        result: shape of ``queries``; rows of others are left alone.
    """
    groups, _, width = queries.shape
    slots, _, rows, _ = stack.mask.shape
    held = stack.slab.layers[layer]
    packed_rows, slot, place = stack.written
    held[:, slot, :, place] = keys_values.index_select(2, packed_rows).permute(2, 0, 1, 3)
    keys, values = held.flatten(1, 2).unbind()
    asked = queries.index_select(1, stack.asked).view(groups, slots, rows, width).transpose(0, 1)
    products = torch.bmm(asked.reshape(slots * groups, rows, width), keys.transpose(1, 2))
    scores = torch.add(stack.mask, products.view(slots, groups, rows, -1), alpha=scaling)
    weights = torch.softmax(scores, dim=-1)  # whatever the number format, its sums are in float32
    attended = torch.bmm(weights.view(slots * groups, rows, -1), values).view(slots, groups, rows, width)
    attended = attended.transpose(0, 1).reshape(groups, slots * rows, width)
    result.index_copy_(1, stack.targets, attended.index_select(1, stack.kept))


def _stack(
    slab: Slab, members: Sequence[tuple[Piece, int]], window: int | None, per_group: int, dtype: torch.dtype
) -> Stack:
    beams = _beams(max(len(piece.tokens) for piece, _ in members))
    rows = np.zeros((slab.slots, beams), dtype=np.int64)
    hidden = np.zeros((slab.slots, beams, slab.capacity), dtype=bool)
    real = np.zeros((slab.slots, beams), dtype=bool)
    places = []
    for piece, start in members:
        count, slot = len(piece.tokens), _slot(piece)
        rows[slot, :count] = np.arange(start, start + count)
        hidden[slot, :count] = ~tree_mask(piece, window, 0, slab.capacity)
        real[slot, :count] = True
        places += [(start + beam, slot, piece.at + beam) for beam in range(count)]
    packed_rows, slots, at_place = torch.tensor(places).T
    # Rows of queries are a packed row's heads, one after the other.
    asked = (rows[..., None] * per_group + np.arange(per_group)).reshape(-1)
    kept = np.flatnonzero(np.repeat(real, per_group))
    mask = torch.where(torch.from_numpy(hidden), -torch.inf, 0.0).to(dtype)
    return Stack(
        slab=slab,
        written=(packed_rows.contiguous(), slots, at_place),
        asked=torch.from_numpy(asked),
        mask=mask.repeat_interleave(per_group, dim=1)[:, None],
        kept=torch.from_numpy(kept),
        targets=torch.from_numpy(asked[kept]),
    )


def _slot(piece: Piece) -> int:
    assert isinstance(piece.kv, SlabKV)
    return piece.kv.slot


def _beams(count: int) -> int:
    """To how many beams these are filled up: 1, 2, 4, 6 and so on."""
    return count if count == 1 else count + count % 2
