"""Keys and values of running requests side by side: what lets one product on a CPU attend for many of them.

A slab has slots of equal capacity; a request has a slot, and moves to another slab when it outgrows it. A prompt that
is kept leaves its slot for a buffer of its own, so that slots are taken by who runs. Deliberately knows nothing of
attention (see ``stacked``).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.engines.transformers.kv import KV, KVStore, Layout, OutOfRoom, rounded

#: Capacities are multiples of this: the coarser, the more requests share a slab, and the more room they do not use.
_CAPACITY = 128
#: How many slots a slab has, if so many take no more than this share of all room: of a large model's requests each may
#: have a slab to itself.
_SLOTS, _SHARE = 8, 3


@dataclass(slots=True, eq=False)
class Slab:
    """Slots of equal capacity. ``layers[layer]`` has shape (2, slots, heads, capacity, width), keys first."""

    layers: list[Tensor]
    capacity: int
    slots: int
    free: list[int]  #: the highest first


class Slabs(KVStore):
    """Gives out slots; a slab is made when none is free, and given up when all are. Bytes are those of whole slabs.

    Args:
        layout: what the model keeps for one token.
        tokens: for how many tokens there is room in all; kept to by whoever opens, not here.
        compacting: whether dead branches of beams are squeezed out.
    """

    def __init__(self, layout: Layout, tokens: int, *, compacting: bool = True) -> None:
        super().__init__(layout, compacting=compacting)
        self._tokens = tokens
        self._slabs: dict[int, list[Slab]] = defaultdict(list)

    def room(self, tokens: int) -> int:
        """See ``KVStore``."""
        return -(-tokens // _CAPACITY) * _CAPACITY

    def bytes_for(self, tokens: int) -> int:
        """See ``KVStore``: nothing where a slot is free, a slab where none is."""
        capacity = self.room(tokens)
        if any(slab.free for slab in self._slabs[capacity]):
            return 0
        return self._slots(capacity) * capacity * self.layout.bytes_per_token

    def open(self, tokens: int) -> SlabKV:
        """An empty slot with room for at least ``tokens``; raises OutOfRoom."""
        kv = SlabKV(self)
        kv.grow(self.room(tokens))
        return kv

    def take(self, capacity: int) -> tuple[Slab, int]:
        """A slot, filled with zeros; raises OutOfRoom."""
        for slab in self._slabs[capacity]:
            if slab.free:
                break
        else:
            slab = self._make(capacity)
            self._slabs[capacity].append(slab)
        slot = slab.free.pop()
        for layer in slab.layers:
            layer[:, slot].zero_()
        return slab, slot

    def give(self, slab: Slab, slot: int) -> None:
        """Take a slot back; a slab without a request is given up."""
        slab.free = sorted([*slab.free, slot], reverse=True)
        if len(slab.free) == slab.slots:
            self._slabs[slab.capacity].remove(slab)
            self.count(-slab.slots * slab.capacity)

    def _make(self, capacity: int) -> Slab:
        slots = self._slots(capacity)
        try:
            layers = [
                torch.zeros(2, slots, of.heads, capacity, of.width, dtype=self.layout.dtype, device=self.layout.device)
                for of in self.layout.layers
            ]
        except (RuntimeError, MemoryError) as error:  # allocating fails for no other reason
            raise OutOfRoom(" ".join(str(error).split())) from error
        self.count(slots * capacity)
        return Slab(layers, capacity, slots, list(range(slots))[::-1])

    def _slots(self, capacity: int) -> int:
        return max(1, min(_SLOTS, self._tokens // _SHARE // capacity))


class SlabKV(KV):
    """One request's slot in a slab, its buffers being views of it; None for slab: buffers of its own."""

    def __init__(self, slabs: Slabs) -> None:
        super().__init__(slabs)
        self.slabs = slabs
        self.slab: Slab | None = None
        self.slot = 0

    def growth(self, tokens: int) -> int:
        """See ``KV``; while a request moves it has both slots."""
        return self.store.bytes_for(tokens)

    def grow(self, capacity: int) -> None:
        """Move to a slot of that capacity; raises OutOfRoom, and then nothing has moved."""
        slab, slot = self.slabs.take(capacity)
        buffers = [layer[:, slot] for layer in slab.layers]
        for new, old in zip(buffers, self.buffers, strict=bool(self.buffers)):
            new[:, :, : self.filled] = old[:, :, : self.filled]
        self._leave()
        self.slab, self.slot, self.buffers, self.capacity = slab, slot, buffers, capacity

    def cut(self, tokens: int) -> None:
        """Forget all but the first ``tokens`` of the prompt, which leave the slab; raises OutOfRoom."""
        super().cut(tokens)
        capacity = rounded(tokens)
        try:
            buffers = [torch.nn.functional.pad(of[:, :, :tokens], (0, 0, 0, capacity - tokens)) for of in self.buffers]
        except (RuntimeError, MemoryError) as error:
            raise OutOfRoom(" ".join(str(error).split())) from error
        self._leave()
        self.slab, self.buffers, self.capacity = None, buffers, capacity
        self.store.count(capacity)

    def close(self) -> None:
        """See ``KV``."""
        self._leave()
        self.slab, self.buffers, self.capacity, self.filled = None, [], 0, 0

    def _leave(self) -> None:
        if self.slab is not None:
            self.slabs.give(self.slab, self.slot)
        else:
            self.store.count(-self.capacity)
