"""Keys and values of all requests in one tensor per layer: what a GPU needs to attend to many buffers in one product.

A request holds pages of the pool, wherever they are free, so that it grows without being copied, and dead branches are
squeezed out by renaming places.
"""

from __future__ import annotations

import numpy as np
import torch

from defsurvey.workers.engines.transformers.core.kv import KV, STRIDE, KVStore, Layout, OutOfRoom, rounded
from defsurvey.workers.engines.transformers.cpu.buffers import Buffers


class Pool(KVStore):
    """Gives out pages of ``STRIDE`` tokens each; all memory is taken at once.

    ``layers[layer]`` has shape (tokens, 2, heads, width), keys first.

    Args:
        layout: what the model keeps for one token.
        tokens: for how many tokens there is room.
        compacting: whether dead branches of beams are squeezed out.

    Raises:
        OutOfRoom: the device cannot hold so many.
    """

    gives_back = False

    def __init__(self, layout: Layout, tokens: int, *, compacting: bool = True) -> None:
        super().__init__(layout, compacting=compacting)
        pages = max(1, tokens // STRIDE)
        try:
            self.layers = [
                torch.zeros(pages * STRIDE, 2, of.heads, of.width, dtype=layout.dtype, device=layout.device)
                for of in layout.layers
            ]
        except (RuntimeError, MemoryError) as error:  # allocating fails for no other reason
            raise OutOfRoom(" ".join(str(error).split())) from error
        self._free = list(range(pages))[::-1]

    def open(self, tokens: int) -> PooledKV:
        """An empty place with room for at least ``tokens``; raises OutOfRoom."""
        kv = PooledKV(self)
        kv.grow(rounded(tokens))
        return kv

    def take(self, tokens: int) -> np.ndarray:
        """Places for so many tokens, whole pages of them, filled with zeros; raises OutOfRoom."""
        pages = tokens // STRIDE
        if pages > len(self._free):
            raise OutOfRoom(f"{pages} pages of keys and values are wanted, {len(self._free)} are free")
        taken = np.array([self._free.pop() for _ in range(pages)], dtype=np.int64)
        slots = (taken[:, None] * STRIDE + np.arange(STRIDE)[None]).reshape(-1)
        # What is hidden must be numbers all the same, and who was here before may have left some that are not.
        places = torch.from_numpy(slots).to(self.layout.device)
        for layer in self.layers:
            layer.index_fill_(0, places, 0)
        self.count(tokens)
        return slots

    def give(self, slots: np.ndarray) -> None:
        """Take pages back."""
        self._free += np.unique(slots // STRIDE).tolist()
        self.count(-len(slots))


class PooledKV(KV):
    """One request's places in a pool: ``slots[i]`` is where its token i is, shape (capacity,)."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.pool = pool
        self.slots: np.ndarray = np.zeros(0, dtype=np.int64)

    def copy_prefix(self, other: KV, tokens: int) -> None:
        """See ``KV``."""
        assert isinstance(other, PooledKV)
        mine, theirs = (torch.from_numpy(of.slots[:tokens]).to(self.pool.layout.device) for of in (self, other))
        for layer in self.pool.layers:
            layer.index_copy_(0, mine, layer.index_select(0, theirs))
        self.filled = self.root = tokens

    def cut(self, tokens: int) -> None:
        """Forget all but the first ``tokens`` of the prompt, and give back the pages that hold none of them."""
        super().cut(tokens)
        kept = np.isin(self.slots // STRIDE, self.slots[:tokens] // STRIDE)
        self.pool.give(self.slots[~kept])
        self.slots, self.capacity = self.slots[kept], int(kept.sum())

    def close(self) -> None:
        """See ``KV``."""
        self.pool.give(self.slots)
        self.slots, self.capacity, self.filled = self.slots[:0], 0, 0

    def grow(self, capacity: int) -> None:
        """Take more pages; nothing moves."""
        self.slots = np.concatenate((self.slots, self.pool.take(capacity - self.capacity)))
        self.capacity = capacity

    def squeeze(self, alive: np.ndarray) -> None:
        """Rename places: those that count come first, the others are written again."""
        tree = self.slots[self.root : self.filled]
        self.slots[self.root : self.filled] = np.concatenate((tree[alive], tree[~alive]))


def store_for(layout: Layout, tokens: int, *, compacting: bool = True, pooled: bool | None = None) -> KVStore:
    """Buffers on a CPU, a pool on anything else.

    Args:
        layout: what the model keeps for one token, and where.
        tokens: for how many tokens there is room; a pool takes all of it at once.
        compacting: whether dead branches of beams are squeezed out.
        pooled: whether there is a pool; None: as the device wants it.
    """
    if layout.device.type != "cpu" if pooled is None else pooled:
        return Pool(layout, tokens, compacting=compacting)
    return Buffers(layout, compacting=compacting)
