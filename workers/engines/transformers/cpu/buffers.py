"""Keys and values on a CPU: a buffer for each request and layer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from defsurvey.workers.engines.transformers.core.kv import KV, KVStore, OutOfRoom, rounded


class Buffers(KVStore):
    """Gives out buffers as they are wanted."""

    def open(self, tokens: int) -> BufferKV:
        """An empty buffer with room for at least ``tokens``; raises OutOfRoom."""
        kv = BufferKV(self)
        kv.grow(rounded(tokens))
        return kv


class BufferKV(KV):
    """One request's buffer.

    ``buffers[layer]`` has shape (2, heads, capacity, width), keys first; the first ``filled`` tokens count.
    """

    def __init__(self, store: KVStore) -> None:
        super().__init__(store)
        self.buffers: list[Tensor] = []
        self.addresses: np.ndarray = np.zeros(0, dtype=np.int64)  #: of ``buffers``

    def grow(self, capacity: int) -> None:
        """Move to buffers of that capacity; raises OutOfRoom, and then it can be closed and nothing else."""
        layout = self.store.layout
        for layer, of in enumerate(layout.layers):
            try:
                # Zeros: a value that is not there yet is multiplied with zero, and must be a number.
                new = torch.zeros(2, of.heads, capacity, of.width, dtype=layout.dtype, device=layout.device)
            except (RuntimeError, MemoryError) as error:  # allocating fails for no other reason
                raise OutOfRoom(" ".join(str(error).split())) from error
            if self.filled:
                new[:, :, : self.filled] = self.buffers[layer][:, :, : self.filled]
            self.buffers[layer : layer + 1] = [new]
        self.store.count(capacity - self.capacity)
        self.capacity = capacity
        self.addresses = np.array([of.data_ptr() for of in self.buffers])

    def cut(self, tokens: int) -> None:
        """Forget all but the first ``tokens`` of the prompt, and the room that they do not need; raises OutOfRoom."""
        super().cut(tokens)
        if (capacity := rounded(tokens)) < self.capacity:
            self.grow(capacity)

    def copy_prefix(self, other: KV, tokens: int) -> None:
        """See ``KV``."""
        assert isinstance(other, BufferKV)
        for mine, theirs in zip(self.buffers, other.buffers, strict=True):
            mine[:, :, :tokens] = theirs[:, :, :tokens]
        self.filled = self.root = tokens

    def close(self) -> None:
        """See ``KV``."""
        self.store.count(-self.capacity)
        self.buffers, self.capacity, self.filled = [], 0, 0

    def squeeze(self, alive: np.ndarray) -> None:
        """See ``KV``."""
        kept = torch.from_numpy(np.flatnonzero(alive) + self.root)
        for buffer in self.buffers:
            buffer[:, :, self.root : self.root + len(kept)] = buffer.index_select(2, kept)
