"""Attention over a pool of keys and values: many requests in a few products, whatever their lengths.

Query rows are sorted into buckets of like size; each bucket gathers its requests' keys and values and is one product.
No loop is ever longer than the number of buckets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from defsurvey.workers.engines.transformers.core.batch import Block, Packed, Segment
from defsurvey.workers.engines.transformers.core.placing import onto, place
from defsurvey.workers.engines.transformers.gpu.pool import PooledKV

#: Numbers of keys are filled up to a multiple of this, so that requests of like length share a bucket.
_KEYS = 256


@dataclass(frozen=True, slots=True)
class Bucket:
    """Query rows of R requests, Q each, against L keys each; what fills up is computed and thrown away."""

    rows: Tensor  #: which packed rows, shape (R * Q,)
    slots: Tensor  #: where keys and values are in the pool, shape (R * L,)
    mask: Tensor  #: added to the scores, in the model's number format; shape (R, Q, L)
    kept: Tensor  #: which of the R * Q rows count
    targets: Tensor  #: the packed rows that these are, shape of ``kept``
    _masks: dict[int, Tensor] = field(default_factory=dict)

    def mask_for(self, per_group: int) -> Tensor:
        """The mask where ``per_group`` query heads share a key head; shape (R, 1, per_group * Q, L)."""
        if per_group not in self._masks:
            self._masks[per_group] = self.mask[:, None].repeat(1, 1, per_group, 1)
        return self._masks[per_group]


@dataclass(frozen=True, slots=True)
class Gathering:
    """A forward's rows as a pool wants them."""

    written: Tensor  #: where each packed row's key and value go, shape (rows,)
    buckets: tuple[Bucket, ...]


def gather(packed: Packed, window: int | None, dtype: torch.dtype) -> Gathering:
    """Sort a forward's rows into buckets, once for all layers with the same sliding window (None: all there is)."""
    if (found := packed.gathered.get(window)) is not None:
        assert isinstance(found, Gathering)
        return found
    segments = packed.segments(window)
    written = np.concatenate([_slots(one)[one.at : one.at + one.rows.stop - one.rows.start] for one in segments])
    alike: dict[tuple[int, int], list[tuple[Segment, Block]]] = defaultdict(list)
    for segment in segments:
        for block in segment.blocks:
            size = _rows(block.padded), -(-(block.keys.stop - block.keys.start) // _KEYS) * _KEYS
            alike[size].append((segment, block))
    drafts = [_draft(rows, keys, members, dtype) for (rows, keys), members in alike.items()]
    written_there, *indices = place([written, *(array for draft in drafts for array in draft.indices)], packed.device)
    parts = iter(indices)
    made = Gathering(
        written_there,
        tuple(
            Bucket(
                rows=next(parts),
                slots=next(parts),
                kept=next(parts),
                targets=next(parts),
                mask=draft.mask if packed.device.type == "cpu" else onto(draft.mask.pin_memory(), packed.device),
            )
            for draft in drafts
        ),
    )
    packed.gathered[window] = made
    return made


def attend_gathered(
    pool: Tensor, query: Tensor, keys_values: Tensor, scaling: float, result: Tensor, gathering: Gathering
) -> None:
    """One layer's attention.

    Args:
        pool: the layer's keys and values, shape (places, 2, groups, width); gets those of this forward.
        query: shape (groups, per group, T, width).
        keys_values: of this forward, shape (2, groups, T, width).
        scaling: factor on the scores.
        result: shape (T, groups, per group, width); rows that belong to nobody are left alone.
        gathering: which rows attend to what.
    """
    groups, per_group, _, width = query.shape
    rows = len(gathering.written)
    pool.index_copy_(0, gathering.written, keys_values[:, :, :rows].permute(2, 0, 1, 3))
    by_row = query.permute(2, 0, 1, 3)
    for bucket in gathering.buckets:
        requests, queries, keys = bucket.mask.shape
        asked = by_row.index_select(0, bucket.rows).view(requests, queries, groups, per_group, width)
        asked = asked.permute(0, 2, 3, 1, 4).reshape(requests, groups, per_group * queries, width)
        held = pool.index_select(0, bucket.slots).view(requests, keys, 2, groups, width).permute(2, 0, 3, 1, 4)
        attended = torch.nn.functional.scaled_dot_product_attention(
            asked, held[0], held[1], attn_mask=bucket.mask_for(per_group), scale=scaling
        )
        attended = attended.view(requests, groups, per_group, queries, width).permute(0, 3, 1, 2, 4)
        attended = attended.reshape(requests * queries, groups, per_group, width)
        result.index_copy_(0, bucket.targets, attended.index_select(0, bucket.kept))


@dataclass(frozen=True, slots=True)
class _Draft:
    """A bucket on the host."""

    indices: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # rows, slots, kept and targets, see ``Bucket``
    mask: Tensor


def _draft(rows: int, keys: int, members: Sequence[tuple[Segment, Block]], dtype: torch.dtype) -> _Draft:
    shape = len(members), rows
    numbers = np.zeros(shape, dtype=np.int64)
    slots = np.zeros((len(members), keys), dtype=np.int64)
    mask = np.full((*shape, keys), -np.inf, dtype=np.float32)
    real = np.zeros(shape, dtype=bool)
    for member, (segment, block) in enumerate(members):
        count, length = block.rows.stop - block.rows.start, block.keys.stop - block.keys.start
        numbers[member] = block.rows.start  # rows that fill up are the first one over again
        numbers[member, :count] = np.arange(block.rows.start, block.rows.stop)
        slots[member] = _slots(segment)[block.keys.start]  # filled up with a key of its own: others' may be no numbers
        slots[member, :length] = _slots(segment)[block.keys]
        mask[member, :, :length] = 0.0
        mask[member, :count, :length] = block.mask[:count].numpy()
        real[member, :count] = True
    kept = np.flatnonzero(real)
    flat = numbers.reshape(-1)
    return _Draft((flat, slots.reshape(-1), kept, flat[kept]), torch.from_numpy(mask).to(dtype))


def _slots(segment: Segment) -> np.ndarray:
    assert isinstance(segment.kv, PooledKV)
    return segment.kv.slots


def _rows(count: int) -> int:
    """To how many query rows these are filled up: 8, 16, 32 and so on."""
    return max(8, 1 << (count - 1).bit_length())
