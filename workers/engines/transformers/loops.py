"""Attention of beams on a CPU as compiled loops: each attends to its own request's keys and to nothing else.

Nothing is filled up to a common length, of keys or of beams. Compiled for a width of keys, a number of
query heads to a key head and a number format; sums are in float32, whatever the format. Deliberately knows neither
torch nor requests: numbers and addresses come in, see ``buffered``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import carray, from_dtype

from workers.engines.transformers.compiled import (
    FORMATS,
    compiled,
    copy,
    floats,
    integers,
    narrow,
    octets,
    pointer_to,
    power,
    prefetch,
    take,
    widen,
)

#: What a loop is told.
CALL = np.dtype(
    [
        ("taken", np.int64),  # how many tasks have been taken, by whichever thread
        ("tasks", np.int64),  # how many there are
        ("task", np.int64),  # address of a ``TASK`` for each
        ("pieces", np.int64),
        ("piece", np.int64),  # address of a ``PIECE`` for each
        ("buffer", np.int64),  # address of (pieces, layers) addresses of (2, key heads, capacity, width) numbers
        ("layers", np.int64),
        ("layer", np.int64),  # whose buffers are meant; keys come first in them
        ("key_heads", np.int64),
        ("query", np.int64),  # address of the queries; how many numbers lie between two rows, and between two heads
        ("query_row", np.int64),
        ("query_head", np.int64),
        ("key", np.int64),  # likewise of the new keys
        ("key_row", np.int64),
        ("key_head", np.int64),
        ("value", np.int64),  # and of the new values
        ("value_row", np.int64),
        ("value_head", np.int64),
        ("result", np.int64),  # address of (rows, heads, width) numbers
        ("seen", np.int64),  # address of bytes: for each row of each tree, whether it sees each token of the tree
        ("scaling", np.float32),  # factor on the scores
        ("most_rows", np.int64),  # of a tree
        ("most_keys", np.int64),  # of a task, filled up
        ("laid", np.int64),  # address of prompts' keys and values as ``tiles`` lays them out
        ("window", np.int64),  # how many tokens back a row sees, itself included; 0: all there is
    ],
    align=True,
)
#: The rows of a piece, for one key head.
TASK = np.dtype([("piece", np.int64), ("head", np.int64)])
#: Where a request's rows belong.
PIECE = np.dtype(
    [
        ("start", np.int64),  # its first row among all
        ("count", np.int64),  # how many rows it has
        ("at", np.int64),  # where its new keys and values go in its buffer
        ("capacity", np.int64),  # of its buffer, in tokens
        ("root", np.int64),  # tokens before the tree
        ("filled", np.int64),  # tokens in its buffer, new ones counted
        ("first", np.int64),  # position of its first row
        ("seen", np.int64),  # where its bytes begin, if it is a tree
        ("low", np.int64),  # the first token that is seen at all, if it is a prompt
        ("laid", np.int64),  # where its keys and values lie, laid out
    ]
)
#: So many tokens before they are wanted keys and values are sent for: processors look no further than a page ahead.
_AHEAD = 32
#: A score that is hidden: far below any other, and still a number.
HIDDEN = np.float32(-1.0e30)

_tasks, _pieces = pointer_to(from_dtype(TASK)), pointer_to(from_dtype(PIECE))


@cache
def storing(width: int, dtype: str) -> int:
    """Address of the loop that puts new keys and values into the buffers; a task is a piece's key head."""
    size = 4 if dtype == "float32" else 2

    def store(call: Any) -> None:  # pragma: no cover
        told = carray(call, 1)[0]
        tasks, pieces = carray(_tasks(told.task), told.tasks), carray(_pieces(told.piece), told.pieces)
        buffers = integers(told.buffer)
        number = take(call)
        while number < told.tasks:
            task = tasks[number]
            piece, held = pieces[task.piece], buffers[task.piece * told.layers + told.layer]
            for row in range(piece.count):
                new, place = piece.start + row, piece.at + row
                keys = held + (task.head * piece.capacity + place) * width * size
                values = keys + told.key_heads * piece.capacity * width * size
                copy(told.key + (new * told.key_row + task.head * told.key_head) * size, keys, width * size)
                copy(told.value + (new * told.value_row + task.head * told.value_head) * size, values, width * size)
            number = take(call)

    return compiled(store, CALL)


@cache
def attending(width: int, per_group: int, dtype: str) -> int:
    """Address of the loop that attends; a task is a tree, for all query heads of a key head."""
    form, size = FORMATS.index(dtype), 4 if dtype == "float32" else 2

    def attend(call: Any) -> None:  # pragma: no cover
        told = carray(call, 1)[0]
        tasks, pieces = carray(_tasks(told.task), told.tasks), carray(_pieces(told.piece), told.pieces)
        seen, scaling, window = octets(told.seen), told.scaling, told.window
        buffers, heads, most_keys = integers(told.buffer), told.key_heads * per_group, told.most_keys
        # A thread's own, in float32: queries, results, eight keys or values at a time, eight highest scores, and all
        # scores; with a row that nobody wants where their number is odd.
        most = (told.most_rows * per_group + 1) // 2 * 2
        space = np.zeros(2 * most * width + 8 * width + 8 + most * most_keys, np.float32)
        asked = space.ctypes.data
        eight = asked + 8 * most * width
        queries, found = floats(asked), floats(asked + 4 * most * width)
        numbers, tops, scores = floats(eight), floats(eight + 32 * width), floats(eight + 32 * width + 32)
        number = take(call)
        while number < told.tasks:
            task = tasks[number]
            piece, head = pieces[task.piece], task.head
            start, rows, first = piece.start, piece.count * per_group, piece.first
            root, filled = piece.root, piece.filled
            # Keys from ``low`` on, eight by eight; what is before a window is not even read.
            low = min(max(0, first - window + 1), root) // 8 * 8 if window > 0 else 0
            length = (filled - low + 7) // 8 * 8
            held = buffers[task.piece * told.layers + told.layer]
            keys = held + (head * piece.capacity + low) * width * size
            values = keys + told.key_heads * piece.capacity * width * size

            for r in range(rows):
                row, query = start + r // per_group, head * per_group + r % per_group
                source = told.query + (row * told.query_row + query * told.query_head) * size
                widen(form, source, asked + 4 * r * width, width)
            for d in range(rows * width):
                queries[d] *= scaling
                found[d] = np.float32(0)

            for key in range(0, length, 4):
                prefetch(keys + (key + _AHEAD) * width * size, 4 * width * size)
                widen(form, keys + key * width * size, eight, 4 * width)
                for r in range(rows):
                    a = b = c = e = np.float32(0)
                    for d in range(width):
                        x = queries[r * width + d]
                        a += x * numbers[d]
                        b += x * numbers[width + d]
                        c += x * numbers[2 * width + d]
                        e += x * numbers[3 * width + d]
                    to = r * most_keys + key
                    scores[to], scores[to + 1], scores[to + 2], scores[to + 3] = a, b, c, e

            for r in range(rows):
                s = r * most_keys
                for key in range(max(0, first - window + 1) - low if window > 0 else 0):
                    scores[s + key] = HIDDEN
                for key in range(filled - low, length):
                    scores[s + key] = HIDDEN
                sees = piece.seen + r // per_group * (filled - root) - root
                for key in range(root, filled):
                    if not seen[sees + key]:
                        scores[s + key - low] = HIDDEN
                # The highest of every eighth score, then of those: each comparison waits for the one before.
                for lane in range(8):
                    tops[lane] = scores[s + lane]
                for key in range(8, length, 8):
                    for lane in range(8):
                        tops[lane] = max(tops[lane], scores[s + key + lane])
                highest = tops[0]
                for lane in range(1, 8):
                    highest = max(highest, tops[lane])
                total = np.float32(0)
                for key in range(length):
                    scores[s + key] = power(scores[s + key] - highest)
                    total += scores[s + key]
                share = np.float32(1) / total
                for key in range(length):
                    scores[s + key] *= share

            for key in range(0, length, 8):
                prefetch(values + (key + _AHEAD) * width * size, 8 * width * size)
                widen(form, values + key * width * size, eight, 8 * width)
                for r in range(0, rows, 2):  # two rows, for which eight values are read once
                    s = r * most_keys + key
                    a0, a1, a2, a3 = scores[s], scores[s + 1], scores[s + 2], scores[s + 3]
                    a4, a5, a6, a7 = scores[s + 4], scores[s + 5], scores[s + 6], scores[s + 7]
                    s += most_keys
                    b0, b1, b2, b3 = scores[s], scores[s + 1], scores[s + 2], scores[s + 3]
                    b4, b5, b6, b7 = scores[s + 4], scores[s + 5], scores[s + 6], scores[s + 7]
                    to = r * width
                    for d in range(width):
                        v0, v1, v2, v3 = numbers[d], numbers[width + d], numbers[2 * width + d], numbers[3 * width + d]
                        v4, v5 = numbers[4 * width + d], numbers[5 * width + d]
                        v6, v7 = numbers[6 * width + d], numbers[7 * width + d]
                        found[to + d] += a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3 + a4 * v4 + a5 * v5 + a6 * v6 + a7 * v7
                        found[to + width + d] += (
                            b0 * v0 + b1 * v1 + b2 * v2 + b3 * v3 + b4 * v4 + b5 * v5 + b6 * v6 + b7 * v7
                        )

            for r in range(rows):
                row, query = start + r // per_group, head * per_group + r % per_group
                narrow(form, asked + 4 * (most + r) * width, told.result + (row * heads + query) * width * size, width)
            number = take(call)
        space[0] = 0  # memory lives as long as its array is used, which pointers into it are not

    return compiled(attend, CALL)
