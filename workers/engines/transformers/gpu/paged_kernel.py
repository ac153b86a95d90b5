"""The kernel behind ``paged``, for Triton: one tile of query rows against one request's keys, wherever these lie.

Source: Dao et al. (2022, FlashAttention) for the running maximum and sum; Kwon et al. (2023, PagedAttention) for keys
that are found by their places. Imported only where Triton is: it comes with torch for CUDA.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

#: Keys that are looked at together.
KEYS = 64


@triton.jit  # type: ignore[untyped-decorator]
def _looked_at(  # type: ignore[no-untyped-def]
    queries, place, pool, pool_place, pool_kind, there, number, width, scale, seen, state, told: tl.constexpr
):
    """What a tile knows after some more keys: the highest score, the sum of weights and of weighted values.

    Where all rows see all of these keys (``told`` is false), nothing is hidden.
    """
    highest, total, gathered = state
    held = pool + place[:, None] * pool_place + number[None, :]
    kept = there[:, None] & (number < width)[None, :]
    of_keys = tl.load(held, mask=kept, other=0.0)
    scores = tl.dot(queries, tl.trans(of_keys), input_precision="ieee") * scale
    if told:
        scores = tl.where(seen, scores, float("-inf"))
    higher = tl.maximum(highest, tl.max(scores, 1))
    base = tl.where(higher == float("-inf"), 0.0, higher)  # of a row that has seen nothing yet
    weights = tl.exp2(scores - base[:, None])
    shrunk = tl.exp2(highest - base)
    of_values = tl.load(held + pool_kind, mask=kept, other=0.0)
    weighted = tl.dot(weights.to(of_values.dtype), of_values, input_precision="ieee")
    return higher, total * shrunk + tl.sum(weights, 1), gathered * shrunk[:, None] + weighted


@triton.jit  # type: ignore[untyped-decorator]
def attend(  # type: ignore[no-untyped-def]
    query,
    pool,
    result,
    tiles,
    places,
    masks,
    scale,
    query_head,
    query_row,
    pool_place,
    pool_kind,
    pool_group,
    result_row,
    result_head,
    per_group: tl.constexpr,
    width: tl.constexpr,
    numbers: tl.constexpr,
    rows_filled: tl.constexpr,
    keys_at_once: tl.constexpr,
):
    """One tile and one head of keys, by the program's two numbers.

    A tile is some of a request's query rows, each as often as query heads share a key head; what fills it up is not
    stored.

    Args:
        query: pointer, with strides ``query_head`` and ``query_row``; numbers of a head are neighbours everywhere.
        pool: pointer to keys and values, with strides ``pool_place``, ``pool_kind`` (to the values) and ``pool_group``.
        result: pointer, with strides ``result_row`` and ``result_head``.
        tiles: pointer to a line of six numbers for each: its first row in the batch, how many rows, where its keys'
            places begin, how many keys, how many of these every row sees, and where the bytes for the others begin:
            a row of them for each query row, not 0 where it sees the key.
        places: pointer to places in the pool.
        masks: pointer to those bytes.
        scale: factor on the scores, times the logarithm of e to the base 2.
        query_head: stride, as all of them in numbers.
        query_row: stride.
        pool_place: stride.
        pool_kind: stride.
        pool_group: stride.
        result_row: stride.
        result_head: stride.
        per_group: query heads that share a head of keys.
        width: numbers of a head.
        numbers: ``width``, filled up to a power of two.
        rows_filled: rows of a tile, filled up; a power of two, at least 16.
        keys_at_once: see ``KEYS``.
    """
    line = tiles + tl.program_id(0) * 6
    first, rows, first_place = tl.load(line), tl.load(line + 1), tl.load(line + 2)
    keys, seen_by_all, first_bit = tl.load(line + 3), tl.load(line + 4), tl.load(line + 5)
    group = tl.program_id(1)
    of_tile = tl.arange(0, rows_filled)
    row, head = of_tile // per_group, group * per_group + of_tile % per_group
    number = tl.arange(0, numbers)
    real = (row < rows)[:, None] & (number < width)[None, :]
    asked = query + first * query_row + row[:, None] * query_row + head[:, None] * query_head + number[None, :]
    queries = tl.load(asked, mask=real, other=0.0)
    of_group = pool + group * pool_group
    bits = masks + first_bit - seen_by_all
    highest = tl.full([rows_filled], float("-inf"), tl.float32)
    state = highest, tl.zeros([rows_filled], tl.float32), tl.zeros([rows_filled, numbers], tl.float32)
    key = tl.arange(0, keys_at_once)
    whole = seen_by_all // keys_at_once * keys_at_once
    for start in range(0, whole, keys_at_once):
        place = tl.load(places + first_place + start + key)
        there = key < keys_at_once
        state = _looked_at(
            queries, place, of_group, pool_place, pool_kind, there, number, width, scale, there, state, False
        )
    for start in range(whole, keys, keys_at_once):
        there = start + key < keys
        place = tl.load(places + first_place + start + key, mask=there, other=0)
        told = (row < rows)[:, None] & (there & (start + key >= seen_by_all))[None, :]
        bit = tl.load(bits + (row * (keys - seen_by_all))[:, None] + (start + key)[None, :], mask=told, other=0)
        seen = (bit != 0) | (start + key < seen_by_all)[None, :]
        seen = seen & there[None, :]
        state = _looked_at(
            queries, place, of_group, pool_place, pool_kind, there, number, width, scale, seen, state, True
        )
    _, total, gathered = state
    total = tl.where(total == 0.0, 1.0, total)  # of rows that fill up
    written = result + first * result_row + row[:, None] * result_row + head[:, None] * result_head + number[None, :]
    tl.store(written, (gathered / total[:, None]).to(result.dtype.element_ty), mask=real)


def launch(grid: tuple[int, int], *arguments: Any, **constants: Any) -> None:
    """Start the kernel for so many tiles and heads of keys; see ``attend``."""
    attend[grid](*arguments, **constants)
