"""What a layer computes row by row between its products, on a CPU, as compiled loops: one pass over memory each.

With the same roundings as the library's operations.
"""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray, types
from numba.extending import intrinsic
from torch import Tensor

from defsurvey.workers.engines.transformers.cpu import vectors
from defsurvey.workers.engines.transformers.cpu.compiled import (
    claim,
    compiled,
    floats,
    narrow,
    release,
    rounded,
    take,
    widen,
)
from defsurvey.workers.engines.transformers.cpu.team import run
from defsurvey.workers.engines.transformers.cpu.vectors import LANES

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
    result = torch.empty_like(rows)
    run(*norming_step(rows, weight, epsilon, result))
    return result


def norming_step(rows: Tensor, weight: Tensor, epsilon: float, target: Tensor) -> tuple[int, np.ndarray]:
    """Address of the loop of a norm, and what it is told.

    Args:
        rows: see ``normed``; contiguous.
        weight: see ``normed``.
        epsilon: see ``normed``.
        target: where the result goes, contiguous, of the rows' shape.
    """
    told, width = np.zeros(1, NORM), rows.shape[-1]
    count = rows.numel() // width
    told[0] = 0, -(-count // _ROWS), count, width, rows.data_ptr(), weight.data_ptr(), target.data_ptr(), epsilon
    return norming(FORMATS[rows.dtype]), told


def rotate(turned: Tensor, cosine: Tensor, sine: Tensor) -> None:
    """Turn queries or keys by their positions, in place (Su et al., 2021; a number's partner is half a width away).

    Args:
        turned: shape (T, heads, width); what belongs to a row lies side by side.
        cosine: shape (1, T, width).
        sine: shape of ``cosine``.

    Raises:
        ValueError: Shapes or number formats do not go together, or a row's numbers do not lie side by side.
    """
    run(*rotation_step(turned, cosine.contiguous(), sine.contiguous()))


def rotation_step(turned: Tensor, cosine: Tensor, sine: Tensor) -> tuple[int, np.ndarray]:
    """Address of the loop of a rotation, and what it is told.

    Args:
        turned: shape (T, heads, width); what belongs to a row lies side by side.
        cosine: shape (1, T, width), contiguous.
        sine: shape of ``cosine``, contiguous.

    Raises:
        ValueError: Shapes or number formats do not go together, or a row's numbers do not lie side by side.
    """
    rows, heads, width = turned.shape
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
    return rotating(FORMATS[turned.dtype]), told


@intrinsic
def _squares(_typing: Any, source: Any, count: Any) -> Any:
    """The sum of the squares of bfloat16 numbers, a multiple of ``LANES`` of them."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        def squared(place: Any, so_far: Any) -> Any:
            numbers = vectors.load(builder, arguments[0], place, short=True)
            return vectors.multiply_add(builder, numbers, numbers, so_far)

        sums = vectors.go_through(builder, arguments[1], vectors.alike(0.0), squared)
        return vectors.sum_of(builder, sums)

    return types.float32(source, count), generate


@intrinsic
def _scaled(_typing: Any, source: Any, weight: Any, target: Any, count: Any, _factor: Any) -> Any:
    """bfloat16 numbers, a multiple of ``LANES`` of them, times a number, rounded, and times weights."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        factor = vectors.spread(builder, arguments[4])

        def scaled(place: Any, nothing: Any) -> Any:
            numbers = builder.fmul(vectors.load(builder, arguments[0], place, short=True), factor)
            weights = vectors.load(builder, arguments[1], place, short=True)
            result = builder.fmul(vectors.rounded(builder, numbers), weights)
            vectors.store(builder, result, arguments[2], place, short=True)
            return nothing

        vectors.go_through(builder, arguments[3], vectors.LONG(0), scaled)
        return context.get_dummy_value()

    return types.void(source, weight, target, count, types.float32), generate


@intrinsic
def _turned(_typing: Any, place: Any, cosine: Any, sine: Any, half: Any) -> Any:
    """bfloat16 numbers of a head turned in place; half a width is a multiple of ``LANES``."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        of, half = arguments[:3], arguments[3]

        def turned(place: Any, nothing: Any) -> Any:
            beyond = builder.add(place, half)
            (a, cos, sin), (b, far_cos, far_sin) = (
                [vectors.load(builder, address, at, short=True) for address in of] for at in (place, beyond)
            )

            def product(one: Any, other: Any) -> Any:
                return vectors.rounded(builder, builder.fmul(one, other))

            near = builder.fsub(product(a, cos), product(b, sin))
            far = builder.fadd(product(b, far_cos), product(a, far_sin))
            vectors.store(builder, near, of[0], place, short=True)
            vectors.store(builder, far, of[0], beyond, short=True)
            return nothing

        vectors.go_through(builder, half, vectors.LONG(0), turned)
        return context.get_dummy_value()

    return types.void(place, cosine, sine, half), generate


@cache
def norming(form: int) -> int:
    """Address of the loop of a norm, for a number format."""
    size = 2 if form else 4

    def norm(call: Any) -> None:  # pragma: no cover
        told = carray(call, 1)[0]
        width = told.width
        own = claim(call, 8 * width)
        if own == 0:
            return
        numbers, weights = floats(own), floats(own + 4 * width)
        widen(form, told.weight, own + 4 * width, width)
        task = take(call)
        while task < told.tasks:
            for row in range(task * _ROWS, min(told.rows, task * _ROWS + _ROWS)):
                if form == 1 and width % LANES == 0:
                    at = row * width * size
                    mean = _squares(told.source + at, width) / np.float32(width)
                    factor = np.float32(1) / np.sqrt(mean + told.epsilon)
                    _scaled(told.source + at, told.weight, told.target + at, width, factor)
                    continue
                widen(form, told.source + row * width * size, own, width)
                squares = np.float32(0)
                for d in range(width):
                    squares += numbers[d] * numbers[d]
                factor = np.float32(1) / np.sqrt(squares / np.float32(width) + told.epsilon)
                for d in range(width):
                    numbers[d] = rounded(form, numbers[d] * factor) * weights[d]
                narrow(form, own, told.target + row * width * size, width)
            task = take(call)
        release(own)

    return compiled(norm, NORM)


@cache
def rotating(form: int) -> int:
    """Address of the loop of a rotation, for a number format."""
    size = 2 if form else 4

    def rotation(call: Any) -> None:  # pragma: no cover
        told = carray(call, 1)[0]
        width, half = told.width, told.width // 2
        own = claim(call, 16 * width)
        if own == 0:
            return
        cosines, sines = floats(own), floats(own + 4 * width)
        old, new = floats(own + 8 * width), floats(own + 12 * width)
        task = take(call)
        while task < told.tasks:
            for row in range(task * _ROWS, min(told.rows, task * _ROWS + _ROWS)):
                if form == 1 and half % LANES == 0:
                    at = row * width * size
                    for head in range(told.heads):
                        place = told.turned + (row * told.row + head * width) * size
                        _turned(place, told.cosine + at, told.sine + at, half)
                    continue
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
        release(own)

    return compiled(rotation, ROTATION)
