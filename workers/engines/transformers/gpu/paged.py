"""Attention over a pool by a kernel of our own: keys and values are read where they lie, once for all beams.

Gathering them first (see ``gathered``) writes and reads each once more, in every layer. Here a forward's query rows are
cut into tiles, each of one request, and a tile reads its request's keys by their places. Who sees what is told by bytes
only from where not all rows of a tile see a key: of a prompt the part that it is computing, of beams their tree.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from defsurvey.workers.engines.transformers.core.batch import Packed, Piece, build, tree_mask
from defsurvey.workers.engines.transformers.core.kv import LayerShape, Layout
from defsurvey.workers.engines.transformers.core.placing import place
from defsurvey.workers.engines.transformers.gpu.gathered import attend_gathered, gather
from defsurvey.workers.engines.transformers.gpu.pool import Pool, PooledKV

logger = logging.getLogger(__name__)

#: Rows of a tile, each query row counted as often as heads share a key head: at least what a matrix unit takes, of
#: prompts as many as keep it busy.
_LEAST, _MOST = 16, 64
#: What matrix units multiply, and from which of them on a tile finds room in a processor's registers.
_SHORT, _OLDEST = (torch.float16, torch.bfloat16), (8, 0)
#: How far the kernel's results may be from those of gathering, relative to these.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}


@dataclass(frozen=True, slots=True)
class Tiles:
    """Tiles of one size."""

    lines: Tensor  #: shape (tiles, 6), see ``paged_kernel.attend``
    rows: int  #: a power of two


@dataclass(frozen=True, slots=True)
class Paging:
    """A forward's rows as the kernel wants them."""

    written: Tensor  #: where each packed row's key and value go in the pool, shape (rows,)
    places: Tensor  #: where all requests' keys are, one request after the other
    masks: Tensor  #: bytes, not 0 where a row sees a key
    tiles: tuple[Tiles, ...]


def usable(device: torch.device, dtype: torch.dtype, shape: LayerShape, per_group: int) -> bool:
    """Whether the kernel is there and, on this device, computes what gathering does; tried once for each shape.

    Args:
        device: where keys and values are.
        dtype: their number format.
        shape: what a layer keeps for a token.
        per_group: query heads that share a head of keys.
    """
    if device.type == "cuda":
        worth_it = dtype in _SHORT and torch.cuda.get_device_capability(device) >= _OLDEST
    else:  # where Triton interprets kernels, if it is told to, far too slowly for anything but tests
        worth_it = os.environ.get("TRITON_INTERPRET") == "1"
    return worth_it and _agrees(device, dtype, shape, per_group)


def paging(packed: Packed, window: int | None, per_group: int) -> Paging:
    """Cut a forward's rows into tiles, once for all layers with the same sliding window (None: all there is).

    Args:
        packed: the forward.
        window: how many tokens back a token sees, itself included.
        per_group: query heads that share a head of keys.
    """
    key = window, per_group
    if (found := packed.paged.get(key)) is not None:
        assert isinstance(found, Paging)
        return found
    drafts = _Drafts()
    trees = [len(piece.tokens) for piece in packed.pieces if piece.tree]
    filled = {True: _filled(max(trees, default=1) * per_group, per_group), False: _filled(_MOST, per_group)}
    written = []
    for piece, start in zip(packed.pieces, packed.starts, strict=True):
        assert isinstance(piece.kv, PooledKV)
        written.append(piece.kv.slots[piece.at : piece.at + len(piece.tokens)])
        drafts.add(piece, start, window, filled[piece.tree], filled[piece.tree] // per_group)
    sizes = sorted(drafts.lines)
    lines = [np.array(drafts.lines[size], dtype=np.int64) for size in sizes]
    places = np.concatenate(drafts.places)
    written_there, places_there, *lines_there = place([np.concatenate(written), places, *lines], packed.device)
    (masks,) = place([np.concatenate([*drafts.masks, np.zeros(1, dtype=np.uint8)])], packed.device)
    tiles = tuple(Tiles(there, size) for there, size in zip(lines_there, sizes, strict=True))
    packed.paged[key] = made = Paging(written_there, places_there, masks, tiles)
    return made


def attend_paged(
    pool: Tensor, query: Tensor, keys_values: Tensor, scaling: float, result: Tensor, paged: Paging
) -> None:
    """One layer's attention; arguments as those of ``gathered.attend_gathered``, and what ``paging`` made.

    Args:
        pool: the layer's keys and values, shape (places, 2, groups, width); gets those of this forward.
        query: shape (groups, per group, T, width).
        keys_values: of this forward, shape (2, groups, T, width).
        scaling: factor on the scores.
        result: shape (T, groups, per group, width); rows that belong to nobody are left alone.
        paged: which rows attend to what.
    """
    from defsurvey.workers.engines.transformers.gpu import paged_kernel  # there is no Triton elsewhere

    groups, per_group, _, width = query.shape
    pool.index_copy_(0, paged.written, keys_values[:, :, : len(paged.written)].permute(2, 0, 1, 3))
    heads = query.reshape(groups * per_group, *query.shape[2:])
    if heads.stride(-1) != 1:
        heads = heads.contiguous()
    for tiles in paged.tiles:
        paged_kernel.launch(
            (len(tiles.lines), groups),
            *(heads, pool, result, tiles.lines, paged.places, paged.masks),
            scaling * math.log2(math.e),
            *(heads.stride(0), heads.stride(1), pool.stride(0), pool.stride(1), pool.stride(2)),
            *(result.stride(0), result.stride(2)),
            per_group=per_group,
            width=width,
            numbers=_power(width, _LEAST),
            rows_filled=tiles.rows,
            keys_at_once=paged_kernel.KEYS,
            num_warps=8 if tiles.rows >= _MOST else 4,  # more numbers than that find no room in registers
        )


class _Drafts:
    """Tiles on the host."""

    def __init__(self) -> None:
        self.lines: dict[int, list[tuple[int, ...]]] = {}  # by a tile's size
        self.places: list[np.ndarray] = []
        self.masks: list[np.ndarray] = []
        self._places = self._bytes = 0

    def add(self, piece: Piece, start: int, window: int | None, size: int, rows: int) -> None:
        """One request's tiles, of at most ``rows`` query rows each."""
        assert isinstance(piece.kv, PooledKV)
        cut = _tree(piece, window, rows) if piece.tree else _prompt(piece, window, rows)
        for at, count, low, high, mask in cut:
            free = high - low - mask.shape[1]
            line = start + at, count, self._places + low, high - low, free, self._bytes
            self.lines.setdefault(size, []).append(line)
            self.masks.append(mask.reshape(-1))
            self._bytes += mask.size
        self.places.append(piece.kv.slots[: piece.kv.filled])
        self._places += piece.kv.filled


#: Some rows: the first of a piece's, how many, their keys from where to where, and from where not all see all of these
#: which row sees which, shape (rows, keys).
_Cut = tuple[int, int, int, int, np.ndarray]


def _prompt(piece: Piece, window: int | None, rows: int) -> Iterator[_Cut]:
    for i in range(0, len(piece.tokens), rows):
        count = min(rows, len(piece.tokens) - i)
        first, high = piece.at + i, piece.at + i + count
        low = 0 if window is None else max(0, first - window + 1)
        all_see = window is None or low + window >= high
        queries = np.arange(first, high)[:, None]
        keys = np.arange(first + 1 if all_see else low, high)[None]
        seen = keys <= queries
        if window is not None:
            seen &= keys > queries - window
        yield i, count, low, high, seen.view(np.uint8)


def _tree(piece: Piece, window: int | None, rows: int) -> Iterator[_Cut]:
    kv = piece.kv
    low = 0 if window is None else min(kv.root, max(0, piece.first - window + 1))
    seen = tree_mask(piece, window, low, kv.filled)
    for i in range(0, len(piece.tokens), rows):
        part = seen[i : i + rows]
        not_all = np.flatnonzero(~part.all(axis=0))
        free = int(not_all[0]) if len(not_all) else part.shape[1]
        yield i, len(part), low, kv.filled, np.ascontiguousarray(part[:, free:]).view(np.uint8)


def _filled(rows: int, per_group: int) -> int:
    return max(_power(min(rows, _MOST), _LEAST), _power(per_group, _LEAST))


def _power(number: int, least: int) -> int:
    """The next power of two."""
    return max(least, 1 << (number - 1).bit_length())


@cache
def _agrees(device: torch.device, dtype: torch.dtype, shape: LayerShape, per_group: int) -> bool:
    try:
        deviation = _deviation(device, dtype, shape, per_group)
    except Exception as error:  # noqa: BLE001 -- no Triton, no compiler for it, a card that it does not know: whatever it is, there is another way
        logger.warning("keys and values are gathered, the kernel cannot be used: %s: %s", type(error).__name__, error)
        return False
    if not deviation <= _TOLERANCE.get(dtype, 0.0):
        logger.warning("keys and values are gathered, the kernel's results differ by %.1e", deviation)
        return False
    return True


def _deviation(device: torch.device, dtype: torch.dtype, shape: LayerShape, per_group: int) -> float:
    """How far a prompt's and a tree's attention by the kernel is from that by gathering, relative to its norm."""
    found = []
    for paged in (False, True):
        pool = Pool(Layout(layers=(shape,), dtype=dtype, device=device), 512)
        pool.layers[0].copy_(_random(pool.layers[0].shape, dtype, 1))
        packed = build(_trial(pool), device=device).packed
        rows = packed.rows
        query = _random((shape.heads, per_group, rows, shape.width), dtype, 2).to(device)
        keys_values = _random((2, shape.heads, rows, shape.width), dtype, 3).to(device)
        result = torch.zeros(rows, shape.heads, per_group, shape.width, dtype=dtype, device=device)
        scale = shape.width**-0.5
        if paged:
            attend_paged(pool.layers[0], query, keys_values, scale, result, paging(packed, None, per_group))
        else:
            attend_gathered(pool.layers[0], query, keys_values, scale, result, gather(packed, None, dtype))
        found.append(result.double().cpu())
    return float((found[1] - found[0]).norm() / found[0].norm())


def _trial(pool: Pool) -> Sequence[Piece]:
    """The second half of a prompt, and beams that have parted."""
    prompt, beams = pool.open(90), pool.open(90)
    prompt.extend(20)
    pieces = [Piece(prompt, [0] * 70, prompt.extend(70), 20, tree=False, logits=False)]
    beams.extend(80)
    beams.branch([0, 0, 0])
    return [*pieces, Piece(beams, [0] * 3, beams.branch([2, 0, 0]), 81, tree=True, logits=False)]


def _random(shape: Sequence[int], dtype: torch.dtype, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
