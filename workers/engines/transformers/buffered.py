"""Attention over requests' own buffers on a CPU: for prompts the library's, for beams the compiled loops of ``loops``.

A prompt's rows are many and see the same keys, which is what the library's attention is made for. Beams are few, each
request has its own keys and each beam sees others of them; a call for each request would take longer than the work.
Knows addresses and strides. Deliberately knows nothing of how rows came about (see ``batch``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from workers.engines.transformers.batch import Packed, Piece, tree_mask
from workers.engines.transformers.buffers import BufferKV
from workers.engines.transformers.compiled import FORMATS
from workers.engines.transformers.kv import STRIDE, rounded, up
from workers.engines.transformers.loops import CALL, PIECE, TASK, attending, storing
from workers.engines.transformers.team import run

#: A prompt's rows and keys are filled up to multiples of these. The library compiles its products for each size that it
#: meets, and keeps them: hundreds of megabytes, where prompts may have any length.
_ROWS, _FEW = STRIDE, 16
_FORMATS = {getattr(torch, name): name for name in FORMATS}


@dataclass(frozen=True, slots=True)
class Prompt:
    """Rows of one request's prompt, for the library's attention."""

    kv: BufferKV
    rows: slice  #: in the packed row
    filled: int  #: how many rows are computed, at least those there are
    keys: slice  #: in the request's buffer
    mask: Tensor | None  #: added to the scores; shape (filled, keys). None: a row sees itself and all before it


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A forward as attention is told of it, once for all layers alike."""

    prompts: tuple[Prompt, ...]
    call: np.ndarray  #: ``loops.CALL``; what differs between layers is filled in by each
    stored: np.ndarray  #: ``loops.TASK`` of storing
    attended: np.ndarray  #: and of attending
    kept: tuple[np.ndarray, ...]  #: what ``call`` has the addresses of, so that it lives as long


def serves(dtype: torch.dtype) -> bool:
    """Whether there are loops for a number format."""
    return dtype in _FORMATS


def attend_buffered(
    packed: Packed, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
) -> Tensor:
    """Store the new keys and values of a layer, then attend.

    Args:
        packed: the forward.
        layer: which layer of the buffers.
        query: shape (heads, T, width).
        key: shape (key heads, T, width).
        value: shape of ``key``.
        scaling: factor on the scores.
        window: how many tokens back a token sees, itself included; None: all there is.

    Returns:
        Shape (T, heads, width); rows that are nobody's are zero.

    Raises:
        ValueError: One of them has another number format than the buffers.
    """
    formats = {query.dtype, key.dtype, value.dtype, packed.store.layout.dtype}
    if len(formats) > 1:
        raise ValueError(f"queries, keys, values and buffers: expected one number format, got {formats}")
    (heads, rows, width), key_heads = query.shape, len(key)
    of = _laid_out(packed, key_heads, window)
    query, key, value = (each if each.stride(2) == 1 else each.contiguous() for each in (query, key, value))
    result = query.new_empty(rows, heads, width)
    result[packed.rows :].zero_()  # the layers behind want numbers there as well
    call, dtype = of.call[0], _FORMATS[query.dtype]
    call["layer"], call["scaling"], call["result"] = layer, scaling, result.data_ptr()
    for name, each in (("query", query), ("key", key), ("value", value)):
        call[name], call[f"{name}_row"], call[f"{name}_head"] = each.data_ptr(), each.stride(1), each.stride(0)
    for loop, tasks in (
        (storing(width, dtype), of.stored),
        (attending(width, heads // key_heads, dtype), of.attended),
    ):
        if len(tasks):
            call["task"], call["tasks"] = tasks.ctypes.data, len(tasks)
            run(loop, of.call)
    for prompt in of.prompts:
        held = prompt.kv.buffers[layer][:, None, :, prompt.keys]
        # What fills up are rows of others, or nobody's, whose results are thrown away.
        asked = query[:, prompt.rows.start : prompt.rows.start + prompt.filled]
        attended = scaled_dot_product_attention(
            pad(asked, (0, 0, 0, prompt.filled - asked.shape[1]))[None],
            held[0],
            held[1],
            attn_mask=prompt.mask,
            is_causal=prompt.mask is None,
            scale=scaling,
            enable_gqa=heads != key_heads,
        )
        count = prompt.rows.stop - prompt.rows.start
        result[prompt.rows] = attended[0, :, :count].transpose(0, 1)
    return result


def _laid_out(packed: Packed, key_heads: int, window: int | None) -> LaidOut:
    if (made := packed.laid_out.get((key_heads, window))) is None:
        made = packed.laid_out[key_heads, window] = _lay_out(packed, key_heads, window)
    assert isinstance(made, LaidOut)
    return made


def _lay_out(packed: Packed, key_heads: int, window: int | None) -> LaidOut:
    pieces = np.zeros(len(packed.pieces), PIECE)
    prompts, trees, addresses, seen = [], [], [], []
    seeing = 0
    for number, (piece, start) in enumerate(zip(packed.pieces, packed.starts, strict=True)):
        kv = piece.kv
        assert isinstance(kv, BufferKV)
        addresses.append(kv.addresses)
        pieces[number] = start, len(piece.tokens), piece.at, kv.capacity, kv.root, kv.filled, piece.first, seeing
        if piece.tree:
            trees.append(number)
            seen.append(tree_mask(piece, window, kv.root, kv.filled).reshape(-1))
            seeing += seen[-1].size
        else:
            prompts.append(_prompt(piece, kv, start, window))
    kept = pieces, np.array(addresses), np.concatenate(seen or [np.zeros(1, dtype=bool)])
    call = np.zeros(1, CALL)
    for name, told in {
        "pieces": len(pieces),
        "piece": kept[0].ctypes.data,
        "buffer": kept[1].ctypes.data,
        "layers": kept[1].shape[1],
        "seen": kept[2].ctypes.data,
        "key_heads": key_heads,
        "most_rows": int(pieces["count"][trees].max(initial=0)),
        "most_keys": up(int(pieces["filled"][trees].max(initial=0)), 8),
        "window": window or 0,
    }.items():
        call[name] = told
    stored, attended = (
        np.array([(number, head) for number in numbers for head in range(key_heads)], TASK)
        for numbers in (range(len(pieces)), trees)
    )
    return LaidOut(tuple(prompts), call, stored, attended, kept)


def _prompt(piece: Piece, kv: BufferKV, start: int, window: int | None) -> Prompt:
    count, first = len(piece.tokens), piece.at
    filled = up(count, _ROWS if count > _ROWS - _FEW else _FEW)
    low = 0 if window is None else max(0, first - window + 1) // STRIDE * STRIDE
    keys = slice(low, rounded(first + count))
    mask = None
    if first or (window is not None and count > window):
        query, key = torch.arange(first, first + filled)[:, None], torch.arange(keys.start, keys.stop)[None]
        hidden = key > query
        if window is not None:
            hidden |= key <= query - window
        mask = torch.where(hidden, -torch.inf, 0.0)
    return Prompt(kv, slice(start, start + count), filled, keys, mask)
