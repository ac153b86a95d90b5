"""Attention over requests' own buffers on a CPU: what the compiled loops of ``loops`` are told.

A forward is cut into tasks: all beams of a request for one key head, or as many rows of a prompt as share the work of
reading keys. Knows addresses and strides. Deliberately knows nothing of how rows came about (see ``batch``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workers.engines.transformers.batch import Packed, tree_mask
from workers.engines.transformers.buffers import BufferKV
from workers.engines.transformers.compiled import FORMATS
from workers.engines.transformers.loops import CALL, PIECE, TASK, attending, storing
from workers.engines.transformers.team import run

#: Query rows of a task: enough to share the reading of keys, few enough to keep all threads busy and to stay in a
#: processor's own memory.
_ROWS = 48
_FORMATS = {getattr(torch, name): name for name in FORMATS}


@dataclass(frozen=True, slots=True)
class Looped:
    """A forward as the loops are told of it, once for all layers alike."""

    call: np.ndarray  #: ``loops.CALL``; what differs between layers is filled in by each
    stored: np.ndarray  #: ``loops.TASK`` of storing
    attended: np.ndarray  #: and of attending
    kept: tuple[np.ndarray, ...]  #: what ``call`` has the addresses of, so that it lives as long


def serves(dtype: torch.dtype) -> bool:
    """Whether there are loops for a number format."""
    return dtype in _FORMATS


def attend_looped(
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
        Shape (T, heads, width), in float32 whatever the format of what comes in; rows that are nobody's are zero.
    """
    (heads, rows, width), key_heads = query.shape, len(key)
    of = _laid_out(packed, key_heads, heads // key_heads, window)
    query, key, value = (each if each.stride(2) == 1 else each.contiguous() for each in (query, key, value))
    result = torch.empty(rows, heads, width)
    result[packed.rows :].zero_()  # the layers behind want numbers there as well
    call, dtype = of.call[0], _FORMATS[query.dtype]
    call["layer"], call["scaling"], call["result"] = layer, scaling, result.data_ptr()
    for name, each in (("query", query), ("key", key), ("value", value)):
        call[name], call[f"{name}_row"], call[f"{name}_head"] = each.data_ptr(), each.stride(1), each.stride(0)
    for loop, tasks in (
        (storing(width, dtype), of.stored),
        (attending(width, heads // key_heads, dtype), of.attended),
    ):
        call["task"], call["tasks"] = tasks.ctypes.data, len(tasks)
        run(loop, of.call)
    return result


def _laid_out(packed: Packed, key_heads: int, per_group: int, window: int | None) -> Looped:
    key = key_heads, per_group, window
    if (made := packed.looped.get(key)) is None:
        made = packed.looped[key] = _lay_out(packed, key_heads, max(1, _ROWS // per_group), window)
    assert isinstance(made, Looped)
    return made


def _lay_out(packed: Packed, key_heads: int, most_rows: int, window: int | None) -> Looped:
    pieces = np.zeros(len(packed.pieces), PIECE)
    stored, attended, addresses, seen = [], [], [], []
    seeing = 0
    for number, (piece, start) in enumerate(zip(packed.pieces, packed.starts, strict=True)):
        kv, count = piece.kv, len(piece.tokens)
        assert isinstance(kv, BufferKV)
        root, filled = (kv.root, kv.filled) if piece.tree else (-1, piece.at + count)
        pieces[number] = start, piece.at, kv.capacity, root, filled, piece.first, seeing
        addresses.append(kv.addresses)
        if piece.tree:
            seen.append(tree_mask(piece, window, root, filled).reshape(-1))
            seeing += seen[-1].size
        # A tree is one task, however many beams it has.
        step = count if piece.tree else most_rows
        for head in range(key_heads):
            stored.append((number, head, 0, count))
            attended += [(number, head, i, min(count, i + step)) for i in range(0, count, step)]
    kept = pieces, np.array(addresses), np.concatenate(seen or [np.zeros(1, dtype=bool)])
    tasks = np.array(attended, TASK)
    call = np.zeros(1, CALL)
    for name, told in {
        "pieces": len(pieces),
        "piece": kept[0].ctypes.data,
        "buffer": kept[1].ctypes.data,
        "layers": kept[1].shape[1],
        "seen": kept[2].ctypes.data,
        "key_heads": key_heads,
        "most_rows": int((tasks["last"] - tasks["first"]).max()),
        "most_keys": -(-int(pieces["filled"].max()) // 8) * 8,
        "window": window or 0,
    }.items():
        call[name] = told
    return Looped(call, np.array(stored, TASK), tasks, kept)
