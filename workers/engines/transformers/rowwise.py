"""What a layer computes row by row between its products, on a CPU, each in one pass over memory.

A norm takes the library six operations and a gate two, each of which reads and writes all rows and wakes all threads.
Here they are compiled loops with the same roundings. Deliberately knows no list of architectures: a module is exchanged
where it is built like one of these and computes the same of some random rows.
"""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from torch import Tensor, nn

from workers.engines.transformers.compiled import compiled, floats, narrow, power, rounded, take, widen
from workers.engines.transformers.team import run

#: What a loop is told; a task is some rows.
TOLD = np.dtype(
    [
        ("taken", np.int64),  # how many tasks have been taken
        ("tasks", np.int64),
        ("rows", np.int64),
        ("width", np.int64),
        ("source", np.int64),  # address of (rows, width) numbers
        ("other", np.int64),  # of a norm its weights, of a gate what passes it, shape of ``source``
        ("target", np.int64),  # address of as many
        ("epsilon", np.float32),
    ],
    align=True,
)
#: Rows of a task.
_ROWS = 16
_FORMATS = {torch.float32: 0, torch.bfloat16: 1}
#: As far as two ways of computing the same may be from each other, relative to the largest number.
_TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


@cache
def norming(form: int) -> int:
    """Address of the loop of a root mean square norm, for a number format."""
    size = 2 if form else 4

    def norm(call: Any) -> None:  # pragma: no cover
        told = carray(call, 1)[0]
        width = told.width
        space = np.empty(2 * width, np.float32)
        own = space.ctypes.data
        numbers, weights = floats(own), floats(own + 4 * width)
        widen(form, told.other, own + 4 * width, width)
        task = take(call)
        while task < told.tasks:
            for row in range(task * _ROWS, min(told.rows, task * _ROWS + _ROWS)):
                widen(form, told.source + row * width * size, own, width)
                squares = np.float32(0)
                for d in range(width):
                    squares += numbers[d] * numbers[d]
                factor = np.float32(1) / np.sqrt(squares / np.float32(width) + told.epsilon)
                for d in range(width):
                    numbers[d] = rounded(form, rounded(form, numbers[d] * factor) * weights[d])
                narrow(form, own, told.target + row * width * size, width)
            task = take(call)
        space[0] = 0  # memory lives as long as its array is used, which pointers into it are not

    return compiled(norm, TOLD)


@cache
def gating(form: int) -> int:
    """Address of the loop of a gate: x / (1 + exp(-x)) of one number times another."""
    size = 2 if form else 4

    def gate(call: Any) -> None:  # pragma: no cover
        told = carray(call, 1)[0]
        width = told.width
        space = np.empty(2 * width, np.float32)
        own = space.ctypes.data
        numbers, others = floats(own), floats(own + 4 * width)
        task = take(call)
        while task < told.tasks:
            for row in range(task * _ROWS, min(told.rows, task * _ROWS + _ROWS)):
                widen(form, told.source + row * width * size, own, width)
                widen(form, told.other + row * width * size, own + 4 * width, width)
                for d in range(width):
                    x = numbers[d]
                    open_by = x / (np.float32(1) + power(min(-x, np.float32(88))))
                    numbers[d] = rounded(form, rounded(form, open_by) * others[d])
                narrow(form, own, told.target + row * width * size, width)
            task = take(call)
        space[0] = 0

    return compiled(gate, TOLD)


class Norm(nn.Module):
    """A root mean square norm (Zhang and Sennrich, 2019).

    Args:
        weight: Shape (width,).
        epsilon: What is added to the mean square.
    """

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = weight, epsilon

    def forward(self, rows: Tensor) -> Tensor:
        """Shape (..., width) to the same."""
        return _computed(norming, rows, self.weight, self.variance_epsilon)


class GatedLayers(nn.Module):
    """Two layers of which one opens a gate for the other, and a third behind them (Shazeer, 2020).

    Args:
        layers: The module whose layers they are.
    """

    def __init__(self, layers: Any) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = layers.gate_proj, layers.up_proj, layers.down_proj

    def forward(self, rows: Tensor) -> Tensor:
        """Shape (..., width) to the same."""
        result: Tensor = self.down_proj(_computed(gating, self.gate_proj(rows), self.up_proj(rows)))
        return result


def exchange(model: Any) -> int:
    """Put these in the place of a model's own modules; returns how many were."""
    exchanged = 0
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            made = _made_of(module)
            if made is not None and _alike(made, module):
                setattr(parent, name, made.eval())
                exchanged += 1
    return exchanged


def _computed(loop: Any, rows: Tensor, other: Tensor, epsilon: float = 0.0) -> Tensor:
    rows, other = rows.contiguous(), other.contiguous()
    result, told = torch.empty_like(rows), np.zeros(1, TOLD)
    width = rows.shape[-1]
    count = rows.numel() // width
    told[0] = 0, -(-count // _ROWS), count, width, rows.data_ptr(), other.data_ptr(), result.data_ptr(), epsilon
    run(loop(_FORMATS[rows.dtype]), told)
    return result


def _made_of(module: nn.Module) -> Norm | GatedLayers | None:
    """What might take a module's place."""
    weight, epsilon = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if type(module) is not Norm and isinstance(weight, nn.Parameter) and isinstance(epsilon, float):
        return Norm(weight, epsilon) if weight.dim() == 1 and _served(weight) else None
    layers = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if type(module) is not GatedLayers and all(isinstance(layer, nn.Module) for layer in layers):
        weights = [getattr(layer, "weight", None) for layer in layers]
        return GatedLayers(module) if all(isinstance(one, Tensor) and _served(one) for one in weights) else None
    return None


def _served(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype in _FORMATS


def _alike(made: Norm | GatedLayers, module: nn.Module) -> bool:
    """Whether both make the same of some random rows."""
    weight: Any = made.weight if isinstance(made, Norm) else made.gate_proj.weight
    rows = torch.randn(1, 4, weight.shape[-1], generator=torch.Generator().manual_seed(0)).to(weight.dtype)
    try:
        with torch.inference_mode():
            one, other = made(rows), module(rows)
    except (RuntimeError, TypeError, ValueError, AttributeError):  # a module that only looks like one
        return False
    return one.shape == other.shape and bool((one - other).abs().max() <= _TOLERANCES[weight.dtype] * other.abs().max())
