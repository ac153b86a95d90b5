"""Attention of beams whose requests lie side by side in a slab: a few products for all of them.

Every request of a stack gets as many query rows as the one with most beams, and every row is multiplied with the whole
of its slot; what is too much is hidden or thrown away. Products of a few sizes only, see ``batch``. Deliberately knows
nothing of prompts, whose rows are many enough for products of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workers.engines.transformers.batch import Packed, Piece, tree_mask
from workers.engines.transformers.slabs import Slab, SlabKV


@dataclass(frozen=True, slots=True)
class Stack:
    """S neighbouring slots of a slab, M query rows each (query heads that share a key head being rows of their own)."""

    slab: Slab
    slots: slice  #: from the first that is in use to the last
    written: slice  #: of the tokens of all stacks, those that are written here
    slot: Tensor  #: of each of these tokens: its slot
    place: Tensor  #: and its place there
    rows: slice  #: of the rows of all stacks, the S * M that are computed here
    mask: Tensor  #: added to the scores, in the model's number format; shape (S, 1, M, capacity)


@dataclass(frozen=True, slots=True)
class Stacks:
    """All of a forward's, with what is gathered and put back once for all of them."""

    stacks: tuple[Stack, ...]
    written: Tensor  #: packed rows whose keys and values are stored, stack by stack
    asked: Tensor  #: rows of queries, stack by stack; what fills up is a row over again
    kept: Tensor  #: which of these count
    targets: Tensor  #: which rows of queries they are, shape of ``kept``


def stacks(packed: Packed, window: int | None, per_group: int, dtype: torch.dtype) -> Stacks | None:
    """A forward's trees by slab, made once for all layers with the same sliding window; None where there are none.

    Args:
        packed: the forward.
        window: how many tokens back a token sees; None: all there is.
        per_group: how many query heads share a key head.
        dtype: the model's number format.
    """
    key = window, per_group
    if key not in packed.stacked:
        members: dict[Slab, list[tuple[Piece, int]]] = defaultdict(list)
        for piece, start in zip(packed.pieces, packed.starts, strict=True):
            if (slab := piece.slab) is not None:
                members[slab].append((piece, start))
        packed.stacked[key] = _stacks(members, window, per_group, dtype) if members else None
    made: Stacks | None = packed.stacked[key]
    return made


def attend_stacks(of: Stacks, layer: int, queries: Tensor, keys_values: Tensor, scaling: float, result: Tensor) -> None:
    """Store the keys and values of all beams, then attend slab by slab.

    Args:
        of: whose.
        layer: which layer of the slabs.
        queries: shape (groups, T * per group, width).
        keys_values: of this forward, shape (2, groups, T, width).
        scaling: factor on the scores.
        result: shape of ``queries``; rows of others are left alone.
    """
    groups, _, width = queries.shape
    new, asked = keys_values.index_select(2, of.written), queries.index_select(1, of.asked)
    found = torch.empty_like(asked)
    for stack in of.stacks:
        slots, _, rows, _ = stack.mask.shape
        held = stack.slab.layers[layer]
        held[:, stack.slot, :, stack.place] = new[:, :, stack.written].permute(2, 0, 1, 3)
        keys, values = held[:, stack.slots].flatten(1, 2).unbind()
        own = asked[:, stack.rows].view(groups, slots, rows, width).transpose(0, 1)
        products = torch.bmm(own.reshape(slots * groups, rows, width), keys.transpose(1, 2))
        scores = torch.add(stack.mask, products.view(slots, groups, rows, -1), alpha=scaling)
        weights = torch.softmax(scores, dim=-1)  # whatever the number format, its sums are in float32
        attended = torch.bmm(weights.view(slots * groups, rows, -1), values).view(slots, groups, rows, width)
        found[:, stack.rows].view(groups, slots, rows, width).copy_(attended.transpose(0, 1))
    result.index_copy_(1, of.targets, found.index_select(1, of.kept))


def _stacks(
    members: Mapping[Slab, Sequence[tuple[Piece, int]]], window: int | None, per_group: int, dtype: torch.dtype
) -> Stacks:
    made: list[Stack] = []
    written: list[int] = []
    asked, kept = [], []
    tokens = computed = 0
    for slab, of in members.items():
        first, last = min(_slot(piece) for piece, _ in of), max(_slot(piece) for piece, _ in of)
        slots, beams = last - first + 1, _beams(max(len(piece.tokens) for piece, _ in of))
        rows = np.full((slots, beams), of[0][1], dtype=np.int64)
        hidden = np.zeros((slots, beams, slab.capacity), dtype=bool)
        real = np.zeros((slots, beams), dtype=bool)
        places = []
        for piece, start in of:
            count, slot = len(piece.tokens), _slot(piece)
            rows[slot - first, :count] = np.arange(start, start + count)
            hidden[slot - first, :count] = ~tree_mask(piece, window, 0, slab.capacity)
            real[slot - first, :count] = True
            written += range(start, start + count)
            places += [(slot, piece.at + beam) for beam in range(count)]
        slot_of, place = torch.tensor(places).T
        size = slots * beams * per_group
        mask = torch.where(torch.from_numpy(hidden), -torch.inf, 0.0).to(dtype)
        made.append(
            Stack(
                slab=slab,
                slots=slice(first, last + 1),
                written=slice(tokens, tokens + len(places)),
                slot=slot_of,
                place=place,
                rows=slice(computed, computed + size),
                mask=mask.repeat_interleave(per_group, dim=1)[:, None],
            )
        )
        tokens, computed = tokens + len(places), computed + size
        # Rows of queries are a packed row's heads, one after the other.
        asked.append((rows[..., None] * per_group + np.arange(per_group)).reshape(-1))
        kept.append(np.repeat(real, per_group))
    everyone, chosen = np.concatenate(asked), np.flatnonzero(np.concatenate(kept))
    return Stacks(
        stacks=tuple(made),
        written=torch.tensor(written),
        asked=torch.from_numpy(everyone),
        kept=torch.from_numpy(chosen),
        targets=torch.from_numpy(everyone[chosen]),
    )


def _slot(piece: Piece) -> int:
    assert isinstance(piece.kv, SlabKV)
    return piece.kv.slot


def _beams(count: int) -> int:
    """To how many beams these are filled up: 1, 2, 4, 6 and so on."""
    return count if count == 1 else count + count % 2
