"""Attention of prompts on a CPU as compiled loops: some rows at a time against panels of their request's keys.

First keys and values are laid out as products read them, once for all rows and all query heads that use them. Then, for
a tile of rows, all scores, their powers, and the sums of values; scores and sums are in float32, and the future is left
out of all three. In bfloat16 the powers are rounded before values are weighed with them, where a processor multiplies
such numbers, as the library's attention does. Products are computed in a processor's matrix units where it has them,
else in registers.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import carray, from_dtype, types

from defsurvey.workers.engines.transformers.cpu import matrix
from defsurvey.workers.engines.transformers.cpu.compiled import (
    FORMATS,
    claim,
    compiled,
    copy,
    floats,
    halves,
    integers,
    narrow,
    pointer_to,
    release,
    take,
    widen,
    words,
)
from defsurvey.workers.engines.transformers.cpu.loops import CALL, HIDDEN, PIECE, TASK
from defsurvey.workers.engines.transformers.cpu.product import ROWS, can, product, vectors
from defsurvey.workers.engines.transformers.cpu.softmax import highest, raise_each
from defsurvey.workers.engines.transformers.cpu.vectors import LANES

#: Some rows of a piece, for all query heads of a key head.
TILE = np.dtype([("piece", np.int64), ("head", np.int64), ("row", np.int64)])
#: Keys are laid out for a multiple of this, whatever a panel is.
KEYS = 64
#: Rows of a tile, counted once for each query head: their scores should stay near, and be many for a panel of keys.
_ROWS = 64

_tasks, _tiles, _pieces = (pointer_to(from_dtype(kind)) for kind in (TASK, TILE, PIECE))


def tile_rows(per_group: int) -> int:
    """How many rows of a piece are one task, of so many query heads to a key head."""
    return max(1, _ROWS // per_group)


def laid_bytes(width: int, dtype: str) -> int:
    """What a key and its value take, laid out."""
    return 2 * width * (2 if _in_pairs(dtype) else 4)


def serves(width: int, dtype: str) -> bool:
    """Whether there are loops for keys of a width, and nothing faster.

    Where a processor has matrix units, the library's attention uses them for any width, the loops for some.
    """
    return width % LANES == 0 and (_in_matrix_units(width, dtype) or not (dtype == "bfloat16" and matrix.available()))


@cache
def laying(width: int, dtype: str) -> int:
    """Address of the loop that lays keys and values out; a task is a piece's key head."""
    form, size, pairs = FORMATS.index(dtype), 4 if dtype == "float32" else 2, _in_pairs(dtype)
    panel = _panel(width, dtype)
    each, units = laid_bytes(width, dtype), width // 2 if pairs else width

    def lay(call: Any) -> None:  # pragma: no cover
        told = carray(call, 1)[0]
        tasks, pieces = carray(_tasks(told.task), told.tasks), carray(_pieces(told.piece), told.pieces)
        buffers = integers(told.buffer)
        own = claim(call, 4 * width)
        if own == 0:
            return
        number = take(call)
        while number < told.tasks:
            task = tasks[number]
            piece, held = pieces[task.piece], buffers[task.piece * told.layers + told.layer]
            count = piece.filled - piece.low
            padded = (count + KEYS - 1) // KEYS * KEYS
            source = held + (task.head * piece.capacity + piece.low) * width * size
            keys = told.laid + piece.laid + task.head * padded * each
            laid = words(keys)
            for key in range(count):
                if pairs:
                    numbers = words(source + key * width * size)
                else:
                    widen(form, source + key * width * size, own, width)
                    numbers = words(own)
                to = key // panel * panel * units + key % panel
                for unit in range(units):
                    laid[to + unit * panel] = numbers[unit]
            source += told.key_heads * piece.capacity * width * size
            values = keys + padded * (each // 2)
            if pairs:
                for key in range(0, padded, 2):
                    laid = words(values + key * width * 2)
                    here, beyond = halves(source + key * width * 2), halves(source + (key + 1) * width * 2)
                    if key + 1 < count:
                        for d in range(width):
                            laid[d] = types.uint32(here[d]) | (types.uint32(beyond[d]) << types.uint32(16))
                    elif key < count:
                        for d in range(width):
                            laid[d] = types.uint32(here[d])
                    else:  # for tiles, which are weighed whole
                        for d in range(width):
                            laid[d] = types.uint32(0)
            else:
                for key in range(count):
                    widen(form, source + key * width * size, values + key * width * 4, width)
            number = take(call)
        release(own)

    return compiled(lay, CALL)


@cache
def attending(width: int, per_group: int, dtype: str) -> int:
    """Address of the loop that attends, after ``laying``; a task is a ``TILE``."""
    form, size, pairs = FORMATS.index(dtype), 4 if dtype == "float32" else 2, _in_pairs(dtype)
    panel, in_tiles = _panel(width, dtype), _in_matrix_units(width, dtype)
    each, units, wide, short = (
        laid_bytes(width, dtype),
        width // 2 if pairs else width,
        2 if in_tiles else vectors(width),
        2 if pairs else 4,
    )
    panel_wide, paired = panel // LANES, int(pairs)
    rows, at_once = tile_rows(per_group), matrix.ROWS if in_tiles else ROWS
    most = -(-rows * per_group // at_once) * at_once

    def attend(call: Any) -> None:  # pragma: no cover
        told = carray(call, 1)[0]
        tiles, pieces = carray(_tiles(told.task), told.tasks), carray(_pieces(told.piece), told.pieces)
        scaling, window, heads, most_keys = told.scaling, told.window, told.key_heads * per_group, told.most_keys
        # A thread's own: queries, scores in float32, their powers as units of the next product, sums, what each row's
        # powers come to, and what tiles are like.
        asked = claim(call, 4 * most * (units + 2 * most_keys + width + 1) + matrix.CONFIGURATION)
        if asked == 0:
            return
        scored = asked + 4 * most * units
        raised = scored + 4 * most * most_keys
        summed = raised + 4 * most * most_keys
        scores, found, shares = floats(scored), floats(summed), floats(summed + 4 * most * width)
        if in_tiles:
            configuration = summed + 4 * most * (width + 1)
            matrix.begin(configuration)
        number = take(call)
        while number < told.tasks:
            tile = tiles[number]
            piece, head = pieces[tile.piece], tile.head
            count = min(rows, piece.count - tile.row)
            position = piece.at + tile.row  # of its first row, counted as places in the buffer are
            start = max(0, position - window + 1 - piece.low) // panel * panel if window > 0 else 0
            filled = position + count - piece.low
            stop = (filled + panel - 1) // panel * panel
            padded = (piece.filled - piece.low + KEYS - 1) // KEYS * KEYS
            keys = told.laid + piece.laid + head * padded * each
            values = keys + padded * (each // 2)
            for r in range(count * per_group):
                row, query = piece.start + tile.row + r // per_group, head * per_group + r % per_group
                source = told.query + (row * told.query_row + query * told.query_head) * size
                if pairs:
                    copy(source, asked + 4 * r * units, width * size)
                else:
                    widen(form, source, asked + 4 * r * units, width)
            several = (count * per_group + at_once - 1) // at_once * at_once

            for key in range(start, stop, panel):
                for r in range(0, several, at_once):
                    left, right, to = asked + 4 * r * units, keys + 4 * key * units, scored + 4 * (r * most_keys + key)
                    if in_tiles:
                        matrix.multiply(2, 0, left, 4 * units, right, 4 * panel, to, 4 * most_keys, units)
                    else:
                        product(panel_wide, paired, 0, left, 4 * units, right, 4 * panel, to, 4 * most_keys, units)

            for r in range(count * per_group):
                s, own = r * most_keys, position - piece.low + r // per_group
                for key in range(start, max(start, own - window + 1) if window > 0 else start):
                    scores[s + key] = HIDDEN
                for key in range(own + 1, stop):
                    scores[s + key] = HIDDEN
                top = highest(scored + 4 * (s + start), stop - start)
                total = raise_each(
                    paired, scored + 4 * (s + start), raised + short * (s + start), stop - start, top, scaling
                )
                shares[r] = np.float32(1) / total

            weighed = (filled - start + 1) // 2 if pairs else filled - start
            for d in range(0, width, 16 * wide):
                for r in range(0, several, at_once):
                    left, right = raised + short * (r * most_keys + start), values + short * start * width + 4 * d
                    to = summed + 4 * (r * width + d)
                    if in_tiles:
                        matrix.multiply(2, 0, left, 2 * most_keys, right, 4 * width, to, 4 * width, (stop - start) // 2)
                    else:
                        product(wide, paired, 0, left, short * most_keys, right, 4 * width, to, 4 * width, weighed)
            for r in range(count * per_group):
                row, query = piece.start + tile.row + r // per_group, head * per_group + r % per_group
                for d in range(width):
                    found[r * width + d] *= shares[r]
                narrow(form, summed + 4 * r * width, told.result + (row * heads + query) * width * size, width)
            number = take(call)
        if in_tiles:
            matrix.end()
        release(asked)

    return compiled(attend, CALL)


def _in_matrix_units(width: int, dtype: str) -> bool:
    return dtype == "bfloat16" and width % matrix.COLUMNS == 0 and matrix.available()


def _in_pairs(dtype: str) -> bool:
    return dtype == "bfloat16" and (can("avx512bf16") or matrix.available())


def _panel(width: int, dtype: str) -> int:
    return matrix.COLUMNS if _in_matrix_units(width, dtype) else vectors(KEYS) * LANES
