"""Attention over blocks as one kernel for Triton: a tile of one sequence's queries against the keys in its blocks.

Source: Dao et al. (2022, FlashAttention) for the running maximum and sum; Kwon et al. (2023, PagedAttention) for keys
that are found by a table of blocks. Imported only where Triton is: torch for CUDA brings it.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

#: Keys that are looked at together.
KEYS = 64


@triton.jit  # type: ignore[untyped-decorator]
def attend(  # type: ignore[no-untyped-def]
    query,
    layer,
    result,
    tiles,
    scale,
    cap,
    window,
    query_row,
    query_head,
    layer_block,
    layer_token,
    layer_kind,
    layer_head,
    result_row,
    result_head,
    tiles_line,
    block: tl.constexpr,
    per_head: tl.constexpr,
    width: tl.constexpr,
    numbers: tl.constexpr,
    rows: tl.constexpr,
    keys_at_once: tl.constexpr,
    capped: tl.constexpr,
    windowed: tl.constexpr,
    beams: tl.constexpr,
):
    """One tile and one head of keys, by the program's two numbers.

    A tile is some consecutive tokens of a sequence, or one token of each of some consecutive lines, each as often as
    query heads share a head of keys. What fills it up is not stored. The numbers of a head are neighbours everywhere;
    strides count numbers.

    Args:
        query: Pointer, with strides ``query_row`` and ``query_head``.
        layer: Pointer to blocks of keys and values, with strides ``layer_block``, ``layer_token``, ``layer_kind`` (from
            keys to values) and ``layer_head``.
        result: Pointer, with strides ``result_row`` and ``result_head``.
        tiles: Pointer to lines, ``tiles_line`` apart, see ``attention.Tiles``.
        scale: Factor on the scores.
        cap: Scores are bent to stay within this, where ``capped``.
        window: How many tokens back a token sees, itself included, where ``windowed``.
        query_row: Stride.
        query_head: Stride.
        layer_block: Stride.
        layer_token: Stride.
        layer_kind: Stride.
        layer_head: Stride.
        result_row: Stride.
        result_head: Stride.
        tiles_line: Stride.
        block: Tokens in a block.
        per_head: Query heads that share a head of keys.
        width: Numbers of a head.
        numbers: ``width``, filled up to a power of two, at least 16.
        rows: Rows of a tile, filled up to a power of two, at least 16.
        keys_at_once: See ``KEYS``.
        capped: Whether scores are capped.
        windowed: Whether there is a window.
        beams: Whether a tile's tokens are of a line each.
    """
    line = tiles + tl.program_id(0) * tiles_line
    first, past = tl.load(line), tl.load(line + 2)
    head_of_keys = tl.program_id(1)
    of_tile = tl.arange(0, rows)
    token, head = of_tile // per_head, head_of_keys * per_head + of_tile % per_head
    if beams:  # first what they have in common, then each one's own
        count, alike = tl.load(line + 3), tl.load(line + 4)
        position = tl.load(line + token * tiles_line + 2, mask=token < count, other=0)
        turns = count + 1
    else:
        count = tl.load(line + 1)
        alike, position = past + count, past + token
        turns = count * 0 + 1
    number = tl.arange(0, numbers)
    real = (token < count)[:, None] & (number < width)[None, :]
    row = first + token
    asked = query + row[:, None] * query_row + head[:, None] * query_head + number[None, :]
    queries = tl.load(asked, mask=real, other=0.0)
    begin = past * 0
    if windowed:
        begin = tl.min(tl.where(token < count, tl.maximum(position - window + 1, 0), alike), 0)
    highest = tl.full([rows], float("-inf"), tl.float32)
    total = tl.zeros([rows], tl.float32)
    gathered = tl.zeros([rows, numbers], tl.float32)
    for turn in range(turns):
        own = line + tl.maximum(turn - 1, 0) * tiles_line
        mine = (turn == 0) | (token == turn - 1)
        low = tl.where(turn == 0, begin, tl.maximum(begin, alike))
        end = tl.where(turn == 0, alike, tl.load(own + 2) + 1)
        for start in range(low, end, keys_at_once):
            key = start + tl.arange(0, keys_at_once)
            there = key < end
            of_block = tl.load(own + 5 + key // block, mask=there, other=0)
            place = of_block * layer_block + (key % block) * layer_token + head_of_keys * layer_head
            held, kept = layer + place[:, None] + number[None, :], there[:, None] & (number < width)[None, :]
            of_keys = tl.load(held, mask=kept, other=0.0)
            scores = tl.dot(queries, tl.trans(of_keys), input_precision="ieee") * scale
            if capped:
                scores = (2.0 * tl.sigmoid(2.0 * scores / cap) - 1.0) * cap  # the hyperbolic tangent
            seen = there[None, :] & mine[:, None] & (key[None, :] <= position[:, None])
            if windowed:
                seen = seen & (key[None, :] > position[:, None] - window)
            scores = tl.where(seen, scores * 1.4426950408889634, float("-inf"))  # for powers of two instead of e
            higher = tl.maximum(highest, tl.max(scores, 1))
            base = tl.where(higher == float("-inf"), 0.0, higher)  # of a row that has seen nothing yet
            weights = tl.exp2(scores - base[:, None])
            shrunk = tl.exp2(highest - base)
            of_values = tl.load(held + layer_kind, mask=kept, other=0.0)
            weighted = tl.dot(weights.to(of_values.dtype), of_values, input_precision="ieee")
            gathered = gathered * shrunk[:, None] + weighted
            total = total * shrunk + tl.sum(weights, 1)
            highest = higher
    total = tl.where(total == 0.0, 1.0, total)  # of rows that fill up
    written = result + row[:, None] * result_row + head[:, None] * result_head + number[None, :]
    tl.store(written, (gathered / total[:, None]).to(result.dtype.element_ty), mask=real)


def launch(grid: tuple[int, int], *arguments: Any, **constants: Any) -> None:
    """Start the kernel for so many tiles and heads of keys; see ``attend``."""
    attend[grid](*arguments, **constants)
