"""What a layer computes row by row between its products, on a CPU, as compiled loops: one pass over memory each.

With the same roundings as the library's operations. Deliberately knows nothing of modules (see ``exchanging``).
"""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from torch import Tensor

from workers.engines.transformers.compiled import compiled, floats, narrow, rounded, take, widen
from workers.engines.transformers.team import run

#: Number formats that there are loops for.
FORMATS = {torch.float32: 0, torch.bfloat16: 1}
#: What the loop of a norm is told; a task is some rows.
NORM = np.dtype(
    [
        ("taken", np.int64),  # how many tasks have been taken
        ("tasks", np.int64),
        ("rows", np.int64),
        ("width", np.int64),
        ("source", np.int64),  # address of (rows, width) numbers
        ("weight", np.int64),  # of (width,)
        ("target", np.int64),  # of (rows, width)
        ("epsilon", np.float32),
    ],
    align=True,
)
#: What the loop of a rotation is told; a task is some rows.
ROTATION = np.dtype(
    [
        ("taken", np.int64),
        ("tasks", np.int64),
        ("rows", np.int64),
        ("width", np.int64),
        ("heads", np.int64),
        ("turned", np.int64),  # address of (heads, width) numbers of the first row
        ("row", np.int64),  # how many numbers lie between two rows
        ("cosine", np.int64),  # of (rows, width)
        ("sine", np.int64),  # of (rows, width)
    ],
    align=True,
)
#: Rows of a task.
_ROWS = 16


def normed(rows: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Each row over the root of its mean square, times weights.

    Args:
        rows: shape (..., width).
        weight: shape (width,), of the same format.
        epsilon: what is added to the mean square.

    Returns:
        Shape of the rows.
    """
    rows = rows.contiguous()
    result, told, width = torch.empty_like(rows), np.zeros(1, NORM), rows.shape[-1]
    count = rows.numel() // width
    told[0] = 0, -(-count // _ROWS), count, width, rows.data_ptr(), weight.data_ptr(), result.data_ptr(), epsilon
    run(norming(FORMATS[rows.dtype]), told)
    return result


def rotate(turned: Tensor, cosine: Tensor, sine: Tensor) -> None:
    """Turn queries or keys by their positions, in place (Su et al., 2021; a number's partner is half a width away).

    Args:
        turned: shape (T, heads, width); what belongs to a row lies side by side.
        cosine: shape (1, T, width).
        sine: shape of ``cosine``.

    Raises:
        ValueError: Shapes or number formats do not go together, or a row's numbers do not lie side by side.
    """
    rows, heads, width = turned.shape
    cosine, sine = cosine.contiguous(), sine.contiguous()
    alike = turned.dtype is cosine.dtype is sine.dtype and cosine.shape == sine.shape == (1, rows, width)
    if not alike or turned.stride()[1:] != (width, 1):
        raise ValueError(
            f"rotation of {tuple(turned.shape)} by {tuple(cosine.shape)} of {cosine.dtype}: "
            f"expected (1, {rows}, {width}) of {turned.dtype}"
        )
    told = np.zeros(1, ROTATION)
    told[0] = (
        *(0, -(-rows // _ROWS), rows, width),
        *(heads, turned.data_ptr(), turned.stride(0)),
        *(cosine.data_ptr(), sine.data_ptr()),
    )
    run(rotating(FORMATS[turned.dtype]), told)


@cache
def norming(form: int) -> int:
    """Address of the loop of a norm, for a number format."""
    size = 2 if form else 4

    def norm(call: Any) -> None:  # pragma: no cover
        told = carray(call, 1)[0]
        width = told.width
        space = np.empty(2 * width, np.float32)
        own = space.ctypes.data
        numbers, weights = floats(own), floats(own + 4 * width)
        widen(form, told.weight, own + 4 * width, width)
        task = take(call)
        while task < told.tasks:
            for row in range(task * _ROWS, min(told.rows, task * _ROWS + _ROWS)):
                widen(form, told.source + row * width * size, own, width)
                squares = np.float32(0)
                for d in range(width):
                    squares += numbers[d] * numbers[d]
                factor = np.float32(1) / np.sqrt(squares / np.float32(width) + told.epsilon)
                for d in range(width):
                    numbers[d] = rounded(form, numbers[d] * factor) * weights[d]
                narrow(form, own, told.target + row * width * size, width)
            task = take(call)
        space[0] = 0  # memory lives as long as its array is used, which pointers into it are not

    return compiled(norm, NORM)


@cache
def rotating(form: int) -> int:
    """Address of the loop of a rotation, for a number format."""
    size = 2 if form else 4

    def rotation(call: Any) -> None:  # pragma: no cover
        told = carray(call, 1)[0]
        width, half = told.width, told.width // 2
        space = np.empty(4 * width, np.float32)
        own = space.ctypes.data
        cosines, sines = floats(own), floats(own + 4 * width)
        old, new = floats(own + 8 * width), floats(own + 12 * width)
        task = take(call)
        while task < told.tasks:
            for row in range(task * _ROWS, min(told.rows, task * _ROWS + _ROWS)):
                widen(form, told.cosine + row * width * size, own, width)
                widen(form, told.sine + row * width * size, own + 4 * width, width)
                for head in range(told.heads):
                    place = told.turned + (row * told.row + head * width) * size
                    widen(form, place, own + 8 * width, width)
                    for d in range(half):
                        a, b = old[d], old[half + d]
                        new[d] = rounded(form, a * cosines[d]) - rounded(form, b * sines[d])
                        new[half + d] = rounded(form, b * cosines[half + d]) + rounded(form, a * sines[half + d])
                    narrow(form, own + 12 * width, place, width)
            task = take(call)
        space[0] = 0

    return compiled(rotation, ROTATION)
