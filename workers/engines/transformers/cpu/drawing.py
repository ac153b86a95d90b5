"""Draws from a whole vocabulary as a compiled loop: two passes over the scores, and a short walk for each number.

Sums are kept for blocks of scores, in double precision, so that rare tokens are not rounded away.
"""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import carray, types

from defsurvey.workers.engines.transformers.cpu.compiled import (
    claim,
    compiled,
    floats,
    integers,
    pointer_to,
    power,
    release,
    take,
)
from defsurvey.workers.engines.transformers.cpu.team import run

#: What the loop is told; a task is a row of scores.
TOLD = np.dtype(
    [
        ("taken", np.int64),  # how many tasks have been taken
        ("tasks", np.int64),
        ("scores", np.int64),  # address of (rows, n) float32 numbers
        ("n", np.int64),
        ("highest", np.int64),  # address of (rows,) float32 numbers: the highest score of each
        ("numbers", np.int64),  # address of (rows, tries) random numbers in [0, 1), in double precision
        ("tries", np.int64),
        ("drawn", np.int64),  # address of (rows, wanted) integers
        ("wanted", np.int64),
    ],
    align=True,
)
#: Scores of a block.
_BLOCK = 512
_doubles = pointer_to(types.float64)


def drawn(scores: np.ndarray, highest: np.ndarray, numbers: np.ndarray, wanted: int) -> np.ndarray:
    """Different indices with probabilities ``softmax(scores)``, in the order in which the numbers bring them up.

    Args:
        scores: log-probabilities up to a constant, float32, shape (rows, n).
        highest: the highest of each row, a finite number; shape (rows,).
        numbers: random, uniform in [0, 1), float64, shape (rows, tries).
        wanted: how many different indices.

    Returns:
        Shape (rows, wanted), int64; where a row's numbers bring up fewer, what is missing is -1.
    """
    found = np.full((len(scores), wanted), -1)
    told = np.zeros(1, TOLD)
    told[0] = (
        0,
        len(scores),
        scores.ctypes.data,
        scores.shape[1],
        highest.ctypes.data,
        numbers.ctypes.data,
        numbers.shape[1],
        found.ctypes.data,
        wanted,
    )
    run(drawing(), told)
    return found


@cache
def drawing() -> int:
    """Address of the loop."""

    def draw(call: Any) -> None:  # pragma: no cover
        told = carray(call, 1)[0]
        blocks = (told.n + _BLOCK - 1) // _BLOCK
        own = claim(call, 8 * blocks)
        if own == 0:
            return
        sums = _doubles(own)
        row = take(call)
        while row < told.tasks:
            scores, highest = floats(told.scores + row * told.n * 4), floats(told.highest)[row]
            numbers = _doubles(told.numbers + row * told.tries * 8)
            found, count = integers(told.drawn + row * told.wanted * 8), 0
            total = np.float64(0)
            for block in range(blocks):
                part = np.float32(0)
                for i in range(block * _BLOCK, min(told.n, block * _BLOCK + _BLOCK)):
                    part += power(scores[i] - highest)
                sums[block] = part
                total += np.float64(part)
            for number in range(told.tries):
                left, block = numbers[number] * total, 0
                while block < blocks - 1 and left >= sums[block]:
                    left -= sums[block]
                    block += 1
                # The last that can be drawn, in case that these sums come out a little smaller than those above.
                index = -1
                for i in range(block * _BLOCK, min(told.n, block * _BLOCK + _BLOCK)):
                    weight = np.float64(power(scores[i] - highest))
                    if weight > 0:
                        index = i
                        left -= weight
                        if left < 0:
                            break
                known = index < 0
                for i in range(count):
                    known = known or found[i] == index
                if not known:
                    found[count] = index
                    count += 1
                    if count == told.wanted:
                        break
            row = take(call)
        release(own)

    return compiled(draw, TOLD)
