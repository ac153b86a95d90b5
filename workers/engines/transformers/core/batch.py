"""One forward for many requests: tokens packed into one row, and what attention needs to keep them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from defsurvey.workers.engines.transformers.core.kv import KV, STRIDE, KVStore, up
from defsurvey.workers.engines.transformers.core.placing import place

#: Rows of a prompt that attend together over a pool: enough for the product, few enough to leave the future out of it.
BLOCK = 128
#: Rows are filled up to a multiple of this, or of an eighth of what they are more than; very few, to a power of two.
#: They come in few sizes because the CPU's matrix products in short number formats are compiled for each size, at the
#: price of a few products and half a megabyte.
_STEP, _VERY_FEW = 8, 16
#: Rows of a block are filled up to a multiple of this.
_ROWS = 16


@dataclass(frozen=True, slots=True)
class Piece:
    """What one request computes in one forward."""

    kv: KV
    tokens: Sequence[int]
    at: int  #: where keys and values go in its buffer
    first: int  #: position in the sequence of the first token
    tree: bool  #: whether each token is a beam's next one, rather than the next of one sequence
    logits: bool  #: whether logits are wanted: of every row of a tree, of the last row of a prompt


@dataclass(frozen=True, slots=True)
class Block:
    """Query rows of one request against a range of its keys."""

    rows: slice  #: in the packed row
    padded: int  #: number of rows that are computed, at least those there are
    keys: slice  #: in the request's buffer
    mask: Tensor  #: added to the scores, in float32; shape (padded, keys)


@dataclass(frozen=True, slots=True)
class Segment:
    """One request's rows in the packed row."""

    kv: KV
    rows: slice
    at: int
    blocks: tuple[Block, ...]


@dataclass(slots=True)
class Packed:
    """What attention needs to know of a forward."""

    store: KVStore  #: where the keys and values of all pieces are
    pieces: Sequence[Piece]
    starts: Sequence[int]
    rows: int  #: of all pieces together
    device: torch.device
    gathered: dict[int | None, Any] = field(default_factory=dict)  #: what ``gathered`` makes of it, by window
    paged: dict[Any, Any] = field(default_factory=dict)  #: what ``paged`` makes of it, by window and heads
    laid_out: dict[Any, Any] = field(default_factory=dict)  #: what ``buffered`` makes of it, by a layer's shape
    _segments: dict[int | None, list[Segment]] = field(default_factory=dict)

    def segments(self, window: int | None) -> list[Segment]:
        """One segment for each piece, in their order."""
        if window not in self._segments:
            pieces = zip(self.pieces, self.starts, strict=True)
            self._segments[window] = [_segment(piece, start, window) for piece, start in pieces]
        return self._segments[window]


@dataclass(frozen=True, slots=True)
class Batch:
    """The arguments of one forward."""

    ids: Tensor  #: shape (1, T); what is behind the pieces' tokens fills up and is not looked at
    positions: Tensor  #: shape (1, T)
    wanted: Tensor  #: rows whose logits are wanted, in the order of the pieces; filled up likewise
    rows: int  #: tokens of the pieces
    counts: tuple[int, ...]  #: for each piece how many rows of logits it gets
    packed: Packed


def build(pieces: Sequence[Piece], *, device: torch.device) -> Batch:
    """Pack pieces, in their order; each request may have at most one."""
    ids: list[int] = []
    positions: list[int] = []
    wanted: list[int] = []
    counts, starts = [], []
    for piece in pieces:
        start, count = len(ids), len(piece.tokens)
        starts.append(start)
        ids += piece.tokens
        positions += [piece.first] * count if piece.tree else range(piece.first, piece.first + count)
        rows = range(start, start + count)
        asked = [] if not piece.logits else rows if piece.tree else rows[-1:]
        wanted += asked
        counts.append(len(asked))
    total, idle = len(ids), _filled(len(ids)) - len(ids)
    wanted += wanted[-1:] * (_filled(len(wanted)) - len(wanted))
    lines = ([ids + [0] * idle], [positions + [0] * idle], wanted)
    all_ids, all_positions, all_wanted = place([np.array(line, dtype=np.int64) for line in lines], device)
    return Batch(
        ids=all_ids,
        positions=all_positions,
        wanted=all_wanted,
        rows=total,
        counts=tuple(counts),
        packed=Packed(pieces[0].kv.store, pieces, starts, total, device),
    )


def _segment(piece: Piece, start: int, window: int | None) -> Segment:
    count = len(piece.tokens)
    if piece.tree:
        blocks: tuple[Block, ...] = (_tree_block(piece, start, window),)
    else:
        steps = range(0, count, BLOCK)
        blocks = tuple(_prompt_block(piece, start, i, min(count, i + BLOCK), window) for i in steps)
    return Segment(piece.kv, slice(start, start + count), piece.at, blocks)


def _prompt_block(piece: Piece, start: int, i: int, j: int, window: int | None) -> Block:
    first, high = piece.at + i, up(piece.at + j, STRIDE)
    padded, low = up(j - i, _ROWS), _low(first, window)
    queries, keys = np.arange(first, first + padded)[:, None], np.arange(low, high)[None]
    hidden = keys > queries
    if window is not None:
        hidden |= keys <= queries - window
    return Block(slice(start + i, start + j), padded, slice(low, high), _mask(hidden))


def _tree_block(piece: Piece, start: int, window: int | None) -> Block:
    kv, count = piece.kv, len(piece.tokens)
    low, high = min(kv.root // STRIDE * STRIDE, _low(piece.first, window)), up(kv.filled, STRIDE)
    seen = tree_mask(piece, window, low, high)
    return Block(slice(start, start + count), count, slice(low, high), _mask(~seen))


def tree_mask(piece: Piece, window: int | None, low: int, high: int) -> np.ndarray:
    """Which keys from ``low`` to ``high`` each row of a tree sees; shape (rows, high - low)."""
    kv = piece.kv
    seen = np.zeros((len(piece.tokens), high - low), dtype=bool)
    seen[:, : kv.root - low] = True
    seen[:, kv.root - low : kv.filled - low] = kv.ancestors
    if window is not None:
        seen[:, : kv.filled - low] &= kv.positions[low:] > piece.first - window
    return seen


def _mask(hidden: np.ndarray) -> Tensor:
    mask = np.where(hidden, np.float32(-np.inf), np.float32(0))
    return torch.from_numpy(mask)


def _filled(rows: int) -> int:
    """To how many rows these are filled up."""
    twice = (rows - 1).bit_length()
    if rows <= _VERY_FEW:
        return 1 << twice if rows else 0
    return up(rows, max(_STEP, 1 << twice >> 4))


def _low(position: int, window: int | None) -> int:
    """The first key that is read for a query at a position, on a stride."""
    return 0 if window is None else max(0, position - window + 1) // STRIDE * STRIDE
