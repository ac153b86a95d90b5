"""Attention of beams on a CPU as compiled loops: each attends to its own request's keys and to nothing else.

Nothing is filled up to a common length, of keys or of beams. Compiled for a width of keys, a number of query heads to a
key head and a number format; sums are in float32, whatever the format.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import carray, from_dtype

from defsurvey.workers.engines.transformers.cpu.compiled import (
    FORMATS,
    claim,
    compiled,
    copy,
    floats,
    integers,
    narrow,
    octets,
    pointer_to,
    prefetch,
    release,
    take,
    widen,
)
from defsurvey.workers.engines.transformers.cpu.dots import score, weigh
from defsurvey.workers.engines.transformers.cpu.product import can
from defsurvey.workers.engines.transformers.cpu.softmax import highest, raise_each
from defsurvey.workers.engines.transformers.cpu.vectors import LANES

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
    form, size, in_vectors = FORMATS.index(dtype), 4 if dtype == "float32" else 2, width % LANES == 0
    # Pairs of short numbers are multiplied as they are, all others once they are float32 numbers.
    in_pairs = int(dtype == "bfloat16" and width % (2 * LANES) == 0 and can("avx512bf16"))

    def attend(call: Any) -> None:  # pragma: no cover
        told = carray(call, 1)[0]
        tasks, pieces = carray(_tasks(told.task), told.tasks), carray(_pieces(told.piece), told.pieces)
        seen, scaling, window = octets(told.seen), told.scaling, told.window
        buffers, heads, most_keys = integers(told.buffer), told.key_heads * per_group, told.most_keys
        # A thread's own, in float32: queries, results, some keys or values at a time, and all scores.
        most = told.most_rows * per_group
        asked = claim(call, 4 * (2 * most * width + LANES * width + most * most_keys))
        if asked == 0:
            return
        some = asked + 8 * most * width
        scored = some + 4 * LANES * width
        queries, found = floats(asked), floats(asked + 4 * most * width)
        numbers, scores = floats(some), floats(scored)
        number = take(call)
        while number < told.tasks:
            task = tasks[number]
            piece, head = pieces[task.piece], task.head
            start, rows, first = piece.start, piece.count * per_group, piece.first
            root, filled = piece.root, piece.filled
            # Keys from ``low`` on, a vector's at a time; what is before a window is not even read.
            low = min(max(0, first - window + 1), root) // LANES * LANES if window > 0 else 0
            length = (filled - low + LANES - 1) // LANES * LANES
            held = buffers[task.piece * told.layers + told.layer]
            keys = held + (head * piece.capacity + low) * width * size
            values = keys + told.key_heads * piece.capacity * width * size

            for r in range(rows):
                row, query = start + r // per_group, head * per_group + r % per_group
                source = told.query + (row * told.query_row + query * told.query_head) * size
                if in_pairs == 1:
                    copy(source, asked + 4 * r * width, 2 * width)
                else:
                    widen(form, source, asked + 4 * r * width, width)
            for d in range(rows * width):
                found[d] = np.float32(0)

            for key in range(0, length if in_vectors else 0, LANES):
                prefetch(keys + (key + _AHEAD) * width * size, LANES * width * size)
                of_keys = keys + key * width * size
                if in_pairs == 0:
                    widen(form, of_keys, some, LANES * width)
                    of_keys = some
                for r in range(rows):
                    score(width, in_pairs, asked + 4 * r * width, of_keys, scored + 4 * (r * most_keys + key))
            for key in range(0 if in_vectors else length):
                widen(form, keys + key * width * size, some, width)
                for r in range(rows):
                    a = np.float32(0)
                    for d in range(width):
                        a += queries[r * width + d] * numbers[d]
                    scores[r * most_keys + key] = a

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
                top = highest(scored + 4 * s, length)
                share = np.float32(1) / raise_each(0, scored + 4 * s, scored + 4 * s, length, top, scaling)
                for key in range(length):
                    scores[s + key] *= share

            for key in range(0, length if in_vectors else 0, LANES):
                prefetch(values + (key + _AHEAD) * width * size, LANES * width * size)
                widen(form, values + key * width * size, some, LANES * width)
                for r in range(rows):
                    weigh(width, scored + 4 * (r * most_keys + key), some, asked + 4 * (most + r) * width)
            for key in range(0 if in_vectors else length):
                widen(form, values + key * width * size, some, width)
                for r in range(rows):
                    for d in range(width):
                        found[r * width + d] += scores[r * most_keys + key] * numbers[d]

            for r in range(rows):
                row, query = start + r // per_group, head * per_group + r % per_group
                narrow(form, asked + 4 * (most + r) * width, told.result + (row * heads + query) * width * size, width)
            number = take(call)
        release(asked)

    return compiled(attend, CALL)
