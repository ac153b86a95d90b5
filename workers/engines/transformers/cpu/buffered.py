"""Attention over requests' own buffers on a CPU: compiled loops of ``loops`` for beams, of ``tiles`` for prompts.

Beams are few, each request has its own keys and each beam sees others of them; a call for each request would take
longer than the work. A prompt's rows are many and see the same keys, which is what the library's attention is made for:
where it is faster than loops are, it computes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from defsurvey.workers.engines.transformers.core.batch import Packed, Piece, tree_mask
from defsurvey.workers.engines.transformers.core.kv import STRIDE, rounded, up
from defsurvey.workers.engines.transformers.cpu import loops, tiles
from defsurvey.workers.engines.transformers.cpu.buffers import BufferKV
from defsurvey.workers.engines.transformers.cpu.compiled import FORMATS
from defsurvey.workers.engines.transformers.cpu.loops import CALL, PIECE, TASK
from defsurvey.workers.engines.transformers.cpu.team import run
from defsurvey.workers.engines.transformers.cpu.vectors import LANES

#: For the library's attention a prompt's rows and keys are filled up to multiples of these: it compiles its products
#: for each size that it meets, and keeps them, hundreds of megabytes, where prompts may have any length.
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
class Step:
    """A compiled loop."""

    loop: int  #: its address
    call: np.ndarray  #: ``loops.CALL``; what differs between layers is filled in by each
    long: bool = False  #: whether it takes longer than most


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A forward as attention is told of it, once for all layers alike."""

    calls: np.ndarray  #: of all steps
    steps: tuple[Step, ...]  #: in their order
    prompts: tuple[Prompt, ...]  #: that the library computes
    kept: tuple[np.ndarray, ...]  #: what calls have the addresses of, so that it lives as long


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
    of = _laid_out(packed, key_heads, heads // key_heads, width, window)
    query, key, value = (each if each.stride(2) == 1 else each.contiguous() for each in (query, key, value))
    result = query.new_empty(rows, heads, width)
    _fill_in(of.calls, packed, query, key, value, result)
    of.calls["layer"], of.calls["scaling"] = layer, scaling
    for step in of.steps:
        run(step.loop, step.call, long=step.long)
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


@dataclass(frozen=True, slots=True)
class Attention:
    """The loops of ``attend_buffered``, of all layers alike."""

    steps: list[tuple[int, np.ndarray]]  #: address of each and what it is told
    calls: np.ndarray  #: what all of them are told

    def tell(self, layer: int, scaling: float) -> None:
        """What differs between layers."""
        self.calls["layer"], self.calls["scaling"] = layer, scaling


def attention_of(
    packed: Packed, query: Tensor, key: Tensor, value: Tensor, window: int | None, to: Tensor
) -> Attention | None:
    """Attention of all layers of a forward that have their queries, keys and values in the same places.

    Args:
        packed: as the other arguments, see ``attend_buffered``; numbers of a row lie side by side.
        to: where the result goes, shape (T, heads, width), contiguous. Rows that are nobody's become zero.

    Returns:
        None where the library computes some of it.
    """
    of = _laid_out(packed, len(key), len(query) // len(key), query.shape[2], window)
    if of.prompts:
        return None
    calls = of.calls.copy()  # others may attend in between, with queries elsewhere
    _fill_in(calls, packed, query, key, value, to)
    return Attention([(step.loop, calls[i : i + 1]) for i, step in enumerate(of.steps)], calls)


def _fill_in(calls: np.ndarray, packed: Packed, query: Tensor, key: Tensor, value: Tensor, result: Tensor) -> None:
    """Tell all steps what they read and write."""
    if packed.rows < len(result):
        result[packed.rows :].zero_()  # the layers behind want numbers there as well
    calls["result"] = result.data_ptr()
    for name, each in (("query", query), ("key", key), ("value", value)):
        calls[name], calls[f"{name}_row"], calls[f"{name}_head"] = each.data_ptr(), each.stride(1), each.stride(0)


def _laid_out(packed: Packed, key_heads: int, per_group: int, width: int, window: int | None) -> LaidOut:
    shape = key_heads, per_group, width, window
    if (made := packed.laid_out.get(shape)) is None:
        made = packed.laid_out[shape] = _lay_out(packed, *shape)
    assert isinstance(made, LaidOut)
    return made


def _lay_out(packed: Packed, key_heads: int, per_group: int, width: int, window: int | None) -> LaidOut:
    dtype = _FORMATS[packed.store.layout.dtype]
    served = tiles.serves(width, dtype)
    pieces = np.zeros(len(packed.pieces), PIECE)
    prompts, trees, others, addresses, seen = [], [], [], [], []
    seeing = laying = 0
    for number, (piece, start) in enumerate(zip(packed.pieces, packed.starts, strict=True)):
        kv, low = piece.kv, 0 if window is None else max(0, piece.at - window + 1) // STRIDE * STRIDE
        assert isinstance(kv, BufferKV)
        addresses.append(kv.addresses)
        pieces[number] = (
            *(start, len(piece.tokens), piece.at, kv.capacity, kv.root, kv.filled, piece.first),
            *(seeing, low, laying),
        )
        if piece.tree:
            trees.append(number)
            seen.append(tree_mask(piece, window, kv.root, kv.filled).reshape(-1))
            seeing += seen[-1].size
        elif served:
            prompts.append(number)
            laying += up(kv.filled - low, tiles.KEYS) * key_heads * tiles.laid_bytes(width, dtype)
        else:
            others.append(_prompt(piece, kv, start, low, window))
    kept = pieces, np.array(addresses), np.concatenate(seen or [np.zeros(1, dtype=bool)]), np.empty(laying, np.uint8)
    call = np.zeros(1, CALL)
    for name, told in {
        "pieces": len(pieces),
        "piece": kept[0].ctypes.data,
        "buffer": kept[1].ctypes.data,
        "layers": kept[1].shape[1],
        "seen": kept[2].ctypes.data,
        "laid": kept[3].ctypes.data,
        "key_heads": key_heads,
        "most_rows": int(pieces["count"][trees].max(initial=0)),
        "window": window or 0,
    }.items():
        call[name] = told
    every, of_trees, of_prompts = (
        np.array([(number, head) for number in numbers for head in range(key_heads)], TASK)
        for numbers in (range(len(pieces)), trees, prompts)
    )
    # A prompt's last rows see the most keys: they come first, so that no thread is left with them at the end.
    rows = tiles.tile_rows(per_group)
    tiled = [
        (number, head, row)
        for number in prompts
        for row in reversed(range(0, int(pieces["count"][number]), rows))
        for head in range(key_heads)
    ]
    found = [(loops.storing(width, dtype), every, 0)]
    if trees:
        most = up(int(pieces["filled"][trees].max()), LANES)
        found.append((loops.attending(width, per_group, dtype), of_trees, most))
    if prompts:
        most = up(int((pieces["filled"] - pieces["low"])[prompts].max()), tiles.KEYS)
        found.append((tiles.laying(width, dtype), of_prompts, 0))
        found.append((tiles.attending(width, per_group, dtype), np.array(tiled, tiles.TILE), most))
    calls = np.repeat(call, len(found))
    for number, (_, tasks, most) in enumerate(found):
        calls[number]["task"], calls[number]["tasks"], calls[number]["most_keys"] = tasks.ctypes.data, len(tasks), most
    steps = [
        Step(loop, calls[number : number + 1], long=bool(prompts) and number == len(found) - 1)
        for number, (loop, _, _) in enumerate(found)
    ]
    return LaidOut(calls, tuple(steps), tuple(others), (*kept, *(tasks for _, tasks, _ in found)))


def _prompt(piece: Piece, kv: BufferKV, start: int, low: int, window: int | None) -> Prompt:
    count, first = len(piece.tokens), piece.at
    filled = up(count, _ROWS if count > _ROWS - _FEW else _FEW)
    keys = slice(low, rounded(first + count))
    mask = None
    if first or (window is not None and count > window):
        query, key = torch.arange(first, first + filled)[:, None], torch.arange(keys.start, keys.stop)[None]
        hidden = key > query
        if window is not None:
            hidden |= key <= query - window
        mask = torch.where(hidden, -torch.inf, 0.0)
    return Prompt(kv, slice(start, start + count), filled, keys, mask)
