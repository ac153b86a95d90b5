"""Keys and values: one buffer per request and layer, the prompt once, then a tree of generated tokens.

A beam is a row of an ancestor mask over the tree: when beams are reordered rows of the mask are permuted, and keys and
values stay where they are. Branches that no beam stands on any more are squeezed out when room is wanted. Every byte is
accounted for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

#: Room is made for so many tokens at once. It is zero at first: attention reads whole strides and hides what is not
#: there yet, and what is hidden must still be numbers.
STRIDE = 64
#: Fewer dead tokens than this are not worth squeezing out.
_FEW = 16


class OutOfRoom(MemoryError):
    """The device has no memory for a buffer."""


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one attention layer keeps for one token."""

    heads: int  #: heads of keys and values, not of queries
    width: int  #: numbers in a key, and in a value


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a model keeps for one token, as seen in its own keys and values."""

    layers: tuple[LayerShape, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_token(self) -> int:
        """Over all layers."""
        return sum(2 * shape.heads * shape.width for shape in self.layers) * self.dtype.itemsize


class KVStore(ABC):
    """Gives out buffers and counts their bytes."""

    gives_back = True  #: whether the device has more memory once a buffer is closed

    def __init__(self, layout: Layout, *, compacting: bool = True) -> None:
        self.layout = layout
        self.compacting = compacting
        self.bytes = 0  #: held now
        self.peak_bytes = 0
        self.compactions = 0

    def bytes_for(self, tokens: int) -> int:
        """What one more buffer with room for ``tokens`` takes."""
        return rounded(tokens) * self.layout.bytes_per_token

    @abstractmethod
    def open(self, tokens: int) -> KV:
        """An empty buffer with room for at least ``tokens``; raises OutOfRoom."""

    def count(self, tokens: int) -> None:
        """Account for so many more tokens' room, or fewer."""
        self.bytes += tokens * self.layout.bytes_per_token
        self.peak_bytes = max(self.peak_bytes, self.bytes)


class KV(ABC):
    """One request's keys and values; the first ``filled`` tokens of the room there is count."""

    def __init__(self, store: KVStore) -> None:
        self.store = store
        self.capacity = 0
        self.filled = 0
        self.root = 0  #: tokens before the tree: the prompt's
        self._ancestors: np.ndarray = np.zeros((1, 0), dtype=bool)  # which tokens of the tree each row stands on
        self._depths: np.ndarray = np.zeros(0, dtype=np.int64)  # how deep in the tree each token is

    def extend(self, tokens: int) -> int:
        """Take up a piece of the prompt; returns where it is to be written."""
        at = self.filled
        self._make_room(at + tokens)
        self.filled = self.root = at + tokens
        return at

    def branch(self, parents: Sequence[int]) -> int:
        """Put one token behind each of the given rows, which become the rows; returns where to write them."""
        rows = len(parents)
        self._ancestors = self._ancestors[list(parents)]
        if self.filled + rows > self.capacity and self.store.compacting:
            self._compact()
        at = self.filled
        self._make_room(at + rows)
        depth = int(self._depths.max()) + 1 if len(self._depths) else 0
        self._ancestors = np.concatenate((self._ancestors, np.eye(rows, dtype=bool)), axis=1)
        self._depths = np.concatenate((self._depths, np.full(rows, depth)))
        self.filled = at + rows
        return at

    def wants(self, parents: Sequence[int]) -> int:
        """Bytes that will be taken to put one more token behind each of the given rows."""
        tokens = self.filled + len(parents)
        if tokens > self.capacity and self.store.compacting:
            dead = self._ancestors.shape[1] - int(self._alive(self._ancestors[list(parents)]).sum())
            tokens -= dead if dead >= _FEW else 0
        return max(0, rounded(tokens) - self.capacity) * self.store.layout.bytes_per_token

    def take_back(self, tokens: int) -> None:
        """Forget the last ``tokens`` of a prompt that is not through yet; the room stays."""
        self.filled = self.root = self.filled - tokens

    @property
    def bytes(self) -> int:
        """What the buffer takes."""
        return self.capacity * self.store.layout.bytes_per_token

    @property
    def ancestors(self) -> np.ndarray:
        """Which tokens of the tree each row stands on, itself included; shape (rows, tokens of the tree)."""
        return self._ancestors

    @property
    def positions(self) -> np.ndarray:
        """Position in the sequence of each token in the buffer, shape (filled,)."""
        return np.concatenate((np.arange(self.root), self.root + self._depths))

    def cut(self, tokens: int) -> None:
        """Forget all but the first ``tokens`` of the prompt; the room stays."""
        self.filled = self.root = tokens
        self._ancestors, self._depths = self._ancestors[:1, :0], self._depths[:0]

    @abstractmethod
    def copy_prefix(self, other: KV, tokens: int) -> None:
        """Take over the first ``tokens`` of another's; this one must be empty."""

    @abstractmethod
    def close(self) -> None:
        """Give the memory back; closing twice is closing."""

    @abstractmethod
    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` tokens in all; raises OutOfRoom."""

    def _make_room(self, tokens: int) -> None:
        if tokens > self.capacity:
            self.grow(rounded(tokens))

    def _compact(self) -> None:
        """Squeeze out what no row stands on."""
        alive = self._alive(self._ancestors)
        count = int(alive.sum())
        if len(alive) - count < _FEW:
            return
        self.squeeze(alive)
        self._ancestors, self._depths = self._ancestors[:, alive], self._depths[alive]
        self.filled = self.root + count
        self.store.compactions += 1

    @staticmethod
    def _alive(ancestors: np.ndarray) -> np.ndarray:
        """On which tokens of the tree any row stands."""
        alive: np.ndarray = np.logical_or.reduce(ancestors, axis=0)
        return alive

    @abstractmethod
    def squeeze(self, alive: np.ndarray) -> None:
        """Move the tree's living tokens together, to its beginning; ``alive`` has shape (tokens of the tree,)."""


def rounded(tokens: int) -> int:
    """Tokens for which room is made where so many are wanted."""
    return up(tokens, STRIDE)


def up(number: int, step: int) -> int:
    """The next multiple of a step."""
    return -(-number // step) * step
