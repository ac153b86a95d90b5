"""A linear layer in bfloat16 on a CPU, as a compiled loop: some rows against a panel of its weights.

Weights are laid out once, 64 outputs side by side and inputs in pairs, as a product held in registers reads them. What
is wanted of each number of the result, such as a gate or a sum, is computed before it is rounded. Deliberately knows
nothing of models (see ``packing``).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from torch import Tensor

from workers.engines.transformers.compiled import compiled, copy, floats, narrow, power, take, widen
from workers.engines.transformers.product import LANES, ROWS, can, product
from workers.engines.transformers.team import run

#: What may be computed of each number of a product x: with a number y of something of its shape, or alone.
NONE, SWISH, PLUS, TIMES = range(4)  # x, x / (1 + exp(-x)), x + y, x * y
#: What the loop is told; a task is a block of rows against a panel.
LINEAR = np.dtype(
    [
        ("taken", np.int64),
        ("tasks", np.int64),
        ("rows", np.int64),
        ("units", np.int64),  # pairs of inputs
        ("panels", np.int64),
        ("source", np.int64),  # address of (rows, 2 units) numbers
        ("row", np.int64),  # how many bytes lie between two rows of them
        ("weight", np.int64),  # address of (panels, units, columns, 2) numbers
        ("bias", np.int64),  # of float32 numbers; 0: there is none
        ("other", np.int64),  # of (rows, columns) numbers; 0: none is asked for
        ("target", np.int64),  # of as many
    ],
    align=True,
)
_VECTORS = 4
#: Outputs of a panel.
COLUMNS = _VECTORS * LANES
#: Rows of a block and pairs of inputs that are summed at once: both, and the weights between them, stay near.
_BLOCK, _UNITS = 40 * ROWS, 384
#: From so many rows on a product takes long enough for other threads to run meanwhile.
_LONG = 128
_BFLOAT16 = 1  # its place in ``compiled.FORMATS``


def serves(weight: Tensor) -> bool:
    """Whether there is a loop for weights, shape (out, in), and nothing faster.

    Where a processor has matrix units the library knows to use them.
    """
    outs, ins = weight.shape
    fits = weight.dtype is torch.bfloat16 and outs % COLUMNS == 0 and ins % 2 == 0
    return fits and can("avx512bf16") and not can("amx-bf16")


def lay_out(weight: Tensor) -> Tensor:
    """Weights, shape (out, in), as the loop reads them; shape (panels, units, columns, 2)."""
    outs, ins = weight.shape
    return weight.view(outs // COLUMNS, COLUMNS, ins // 2, 2).transpose(1, 2).contiguous()


def as_they_were(panels: Tensor) -> Tensor:
    """Weights that were laid out, shape (out, in)."""
    return panels.transpose(1, 2).reshape(len(panels) * COLUMNS, -1)


def multiply(rows: Tensor, panels: Tensor, bias: Tensor | None, then: int, other: Tensor | None = None) -> Tensor:
    """What a linear layer computes, and something of each number of it.

    Args:
        rows: shape (..., in).
        panels: see ``lay_out``.
        bias: in float32, shape (out,).
        then: one of the constants of this module.
        other: what ``PLUS`` and ``TIMES`` want, of the result's shape.

    Returns:
        Shape (..., out).

    Raises:
        ValueError: Rows, or the others, have another width or number format, or are of another number.
    """
    (count, units), shape = panels.shape[:2], (*rows.shape[:-1], len(panels) * COLUMNS)
    wanted = other is None or (other.shape == shape and other.dtype is panels.dtype)
    if rows.shape[-1] != 2 * units or rows.dtype is not panels.dtype or not wanted:
        given = "" if other is None else f" with {tuple(other.shape)} of {other.dtype}"
        raise ValueError(
            f"product of {tuple(rows.shape)} of {rows.dtype}{given}: "
            f"expected (..., {2 * units}) of {panels.dtype}, and nothing or {shape}"
        )
    flat = rows.reshape(-1, 2 * units)
    flat = flat if flat.stride(1) == 1 else flat.contiguous()
    other = None if other is None else other.contiguous()
    result, told = rows.new_empty(shape), np.zeros(1, LINEAR)
    told[0] = (
        *(0, -(-len(flat) // _BLOCK) * count, len(flat), units, count),
        *(flat.data_ptr(), 2 * flat.stride(0), panels.data_ptr()),
        *(0 if each is None else each.data_ptr() for each in (bias, other)),
        result.data_ptr(),
    )
    run(multiplying(then), told, long=len(flat) >= _LONG)
    return result


@cache
def multiplying(then: int) -> int:
    """Address of the loop that computes one of the constants of this module of each number of a product."""
    with_other = then in (PLUS, TIMES)

    def loop(call: Any) -> None:  # pragma: no cover
        told = carray(call, 1)[0]
        units, panels, outs = told.units, told.panels, told.panels * COLUMNS
        # A thread's own: sums of a block, the last rows where they are fewer than a product takes, and a row of others.
        space = np.zeros(_BLOCK * COLUMNS + ROWS * units + COLUMNS, np.float32)
        summed = space.ctypes.data
        last = summed + 4 * _BLOCK * COLUMNS
        beside = last + 4 * ROWS * units
        sums, others = floats(summed), floats(beside)
        biases = floats(told.bias)
        task = take(call)
        while task < told.tasks:
            first, panel = task // panels * _BLOCK, task % panels
            count = min(_BLOCK, told.rows - first)
            weight = told.weight + panel * units * COLUMNS * 4
            whole = count // ROWS * ROWS
            for r in range(whole, count):
                copy(told.source + (first + r) * told.row, last + (r - whole) * units * 4, units * 4)
            for unit in range(0, units, _UNITS):
                some = min(_UNITS, units - unit)
                for r in range(0, count, ROWS):
                    if r < whole:
                        source, step = told.source + (first + r) * told.row + unit * 4, told.row
                    else:
                        source, step = last + unit * 4, units * 4
                    columns, to = weight + unit * COLUMNS * 4, summed + r * COLUMNS * 4
                    if unit == 0:
                        product(_VECTORS, 1, 0, source, step, columns, COLUMNS * 4, to, COLUMNS * 4, some)
                    else:
                        product(_VECTORS, 1, 1, source, step, columns, COLUMNS * 4, to, COLUMNS * 4, some)
            for r in range(count):
                place, at = r * COLUMNS, ((first + r) * outs + panel * COLUMNS) * 2
                if told.bias != 0:
                    for d in range(COLUMNS):
                        sums[place + d] += biases[panel * COLUMNS + d]
                if with_other:
                    widen(_BFLOAT16, told.other + at, beside, COLUMNS)
                if then == SWISH:
                    for d in range(COLUMNS):
                        x = sums[place + d]
                        sums[place + d] = x / (np.float32(1) + power(min(-x, np.float32(88))))
                elif then == PLUS:
                    for d in range(COLUMNS):
                        sums[place + d] += others[d]
                elif then == TIMES:
                    for d in range(COLUMNS):
                        sums[place + d] *= others[d]
                narrow(_BFLOAT16, summed + 4 * place, told.target + at, COLUMNS)
            task = take(call)
        space[0] = 0  # memory lives as long as its array is used, which pointers into it are not

    return compiled(loop, LINEAR)
