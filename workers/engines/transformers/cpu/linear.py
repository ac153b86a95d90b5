"""A linear layer in bfloat16 on a CPU, as a compiled loop: some rows against a panel of its weights.

Weights are laid out once, some outputs side by side and inputs in pairs, as products read them: in a processor's matrix
units where it has them, else in registers. What is wanted of each number of the result, such as a gate or a sum, is
computed before it is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from torch import Tensor

from defsurvey.workers.engines.transformers.cpu import matrix
from defsurvey.workers.engines.transformers.cpu.compiled import claim, compiled, copy, release, take
from defsurvey.workers.engines.transformers.cpu.outputs import GATED, finish
from defsurvey.workers.engines.transformers.cpu.product import ROWS, can, product
from defsurvey.workers.engines.transformers.cpu.team import run
from defsurvey.workers.engines.transformers.cpu.vectors import LANES

#: What the loop is told; a task is a block of rows against some panels.
LINEAR = np.dtype(
    [
        ("taken", np.int64),
        ("tasks", np.int64),
        ("rows", np.int64),
        ("units", np.int64),  # pairs of inputs
        ("panels", np.int64),  # of the result
        ("together", np.int64),  # of these, how many are a task's
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


@dataclass(frozen=True, slots=True)
class Weights:
    """Of a linear layer, laid out."""

    panels: Tensor  #: see ``lay_out``
    bias: Tensor | None  #: in float32


@dataclass(frozen=True, slots=True)
class Way:
    """How products are computed. Rows of a block, and the weights between them, stay near."""

    columns: int  #: outputs of a panel
    pairs: int  #: of inputs there are a multiple of so many
    rows: int  #: that are multiplied at once
    summing: int  #: rows whose sums are kept
    block: int  #: rows of a task
    most: int  #: pairs of inputs that are summed at once
    together: int  #: panels of a task of many rows, so that more than a line of memory is written of each


IN_REGISTERS = Way(
    columns=_VECTORS * LANES, pairs=1, rows=ROWS, summing=40 * ROWS, block=40 * ROWS, most=384, together=1
)
IN_MATRIX_UNITS = Way(
    matrix.COLUMNS, matrix.PAIRS, matrix.ROWS, summing=matrix.ROWS, block=8 * matrix.ROWS, most=144, together=4
)
#: From so many rows on a product takes long enough for other threads to run meanwhile.
LONG = 128
#: Numbers of a thread's own that tiles are configured by.
_TILES = matrix.CONFIGURATION // 4


def way(weight: Tensor) -> Way | None:
    """How products with weights, shape (out, in), are computed on this processor; None: the library knows better."""
    (outs, ins), how = weight.shape, IN_MATRIX_UNITS if matrix.available() else IN_REGISTERS
    can_be = how is IN_MATRIX_UNITS or can("avx512bf16")
    fits = weight.dtype is torch.bfloat16 and outs % how.columns == 0 and ins % (2 * how.pairs) == 0
    return how if can_be and fits else None


def lay_out(weight: Tensor, how: Way) -> Tensor:
    """Weights, shape (out, in), as the loop reads them; shape (panels, units, columns, 2)."""
    outs, ins = weight.shape
    return weight.view(outs // how.columns, how.columns, ins // 2, 2).transpose(1, 2).contiguous()


def as_they_were(panels: Tensor) -> Tensor:
    """Weights that were laid out, shape (out, in)."""
    return panels.transpose(1, 2).flatten(2).flatten(0, 1)


def multiply(rows: Tensor, panels: Tensor, bias: Tensor | None, then: int, other: Tensor | None = None) -> Tensor:
    """What a linear layer computes, and something of each number of it.

    Args:
        rows: shape (..., in).
        panels: see ``lay_out``; for ``GATED`` those of both layers in turn, see ``in_turn``.
        bias: in float32, shape (out,).
        then: one of the constants of ``outputs``.
        other: what ``PLUS`` and ``TIMES`` want, of the result's shape.

    Returns:
        Shape (..., out).

    Raises:
        ValueError: Rows, or the others, have another width or number format, or are of another number.
    """
    units, shape = panels.shape[1], (*rows.shape[:-1], outs(panels, then))
    wanted = other is None or (other.shape == shape and other.dtype is panels.dtype)
    if rows.shape[-1] != 2 * units or rows.dtype is not panels.dtype or not wanted:
        given = "" if other is None else f" with {tuple(other.shape)} of {other.dtype}"
        raise ValueError(
            f"product of {tuple(rows.shape)} of {rows.dtype}{given}: "
            f"expected (..., {2 * units}) of {panels.dtype}, and nothing or {shape}"
        )
    flat = rows.reshape(-1, 2 * units)
    flat = flat if flat.stride(1) == 1 else flat.contiguous()
    result, other = rows.new_empty(shape), None if other is None else other.contiguous()
    loop, told = step(flat, Weights(panels, bias), then, other, result)
    run(loop, told, long=len(flat) >= LONG)
    return result


def step(rows: Tensor, weights: Weights, then: int, other: Tensor | None, target: Tensor) -> tuple[int, np.ndarray]:
    """Address of the loop of a product, and what it is told.

    Args:
        rows: shape (rows, in); numbers of a row lie side by side.
        weights: see ``multiply``.
        then: see ``multiply``.
        other: see ``multiply``; contiguous.
        target: where the result goes, shape (rows, out); contiguous. It may be the others.
    """
    panels, bias = weights.panels, weights.bias
    how = IN_MATRIX_UNITS if panels.shape[2] == matrix.COLUMNS else IN_REGISTERS
    count, told = outs(panels, then) // how.columns, np.zeros(1, LINEAR)
    together = 1 if len(rows) <= how.block else how.together  # of few rows threads have little to share
    told[0] = (
        *(0, -(-len(rows) // how.block) * -(-count // together), len(rows), panels.shape[1], count, together),
        *(rows.data_ptr(), 2 * rows.stride(0), panels.data_ptr()),
        *(0 if each is None else each.data_ptr() for each in (bias, other)),
        target.data_ptr(),
    )
    return multiplying(then, how, biased=bias is not None), told


def outs(panels: Tensor, then: int) -> int:
    """How wide a product is."""
    return panels.shape[0] * panels.shape[2] // (2 if then == GATED else 1)


def in_turn(gate: Tensor, gated: Tensor) -> Tensor:
    """Panels of two layers as ``GATED`` wants them: of the gate, of what it lets through, and so on."""
    return torch.stack((gate, gated), 1).flatten(0, 1)


@cache
def multiplying(then: int, how: Way, *, biased: bool) -> int:
    """Address of the loop that computes one of the constants of ``outputs`` of each number of a product."""
    layers, has_bias = 2 if then == GATED else 1, int(biased)
    columns, at_once, summing, block, most = how.columns, how.rows, how.summing, how.block, how.most
    in_tiles, all_sums = how is IN_MATRIX_UNITS, layers * how.together * summing * columns

    def loop(call: Any) -> None:  # pragma: no cover
        told = carray(call, 1)[0]
        # Read once: for all that is known here, what is written might be what is told.
        units, panels, outs, together = told.units, told.panels, told.panels * columns, told.together
        rows, given, row_step, weights = told.rows, told.source, told.row, told.weight
        biases, others, target = told.bias, told.other, told.target
        groups = (panels + together - 1) // together
        # A thread's own: what tiles are like, sums, and the last rows where they are fewer than a product takes.
        own = claim(call, 4 * (_TILES + all_sums + at_once * units))
        if own == 0:
            return
        summed = own + 4 * _TILES
        last, beyond = summed + 4 * all_sums, -1
        if in_tiles:
            matrix.begin(own)
        task = take(call)
        while task < told.tasks:
            first, group = task // groups * block, task % groups * together
            stop, several = min(first + block, rows), min(together, panels - group)
            for start in range(first, stop, summing):
                count = min(summing, stop - start)
                whole = count // at_once * at_once
                if whole < count and beyond != start:
                    for r in range(whole, count):
                        copy(given + (start + r) * row_step, last + (r - whole) * units * 4, units * 4)
                    beyond = start
                for unit in range(0, units, most):
                    some = min(most, units - unit)
                    for panel in range(several * layers):  # a gate's, and that of what it lets through, in turn
                        part = weights + ((group * layers + panel) * units + unit) * columns * 4
                        for r in range(0, count, at_once):
                            if r < whole:
                                source, row = given + (start + r) * row_step + unit * 4, row_step
                            else:
                                source, row = last + unit * 4, units * 4
                            to, wide = summed + (panel * summing + r) * columns * 4, columns * 4
                            if in_tiles:
                                if count <= matrix.TILE and unit == 0:
                                    matrix.multiply(1, 0, source, row, part, wide, to, wide, some)
                                elif count <= matrix.TILE:
                                    matrix.multiply(1, 1, source, row, part, wide, to, wide, some)
                                elif unit == 0:
                                    matrix.multiply(2, 0, source, row, part, wide, to, wide, some)
                                else:
                                    matrix.multiply(2, 1, source, row, part, wide, to, wide, some)
                            elif unit == 0:
                                product(_VECTORS, 1, 0, source, row, part, wide, to, wide, some)
                            else:
                                product(_VECTORS, 1, 1, source, row, part, wide, to, wide, some)
                for r in range(count):
                    for panel in range(several):
                        place = ((start + r) * outs + (group + panel) * columns) * 2
                        done = summed + (panel * layers * summing + r) * columns * 4
                        other = done + summing * columns * 4 if layers == 2 else others + place
                        bias = biases + (group + panel) * columns * 4
                        for d in range(0, columns, LANES):
                            beside = 4 * d if layers == 2 else 2 * d
                            finish(then, has_bias, done + 4 * d, bias + 4 * d, other + beside, target + place + 2 * d)
            task = take(call)
        if in_tiles:
            matrix.end()
        release(own)

    return compiled(loop, LINEAR)
