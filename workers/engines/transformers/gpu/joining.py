"""Products and norms of a model in fewer operations: what each computes is the same.

Queries, keys and values of a layer are one product, and so are the gate and what it lets through; a norm is one kernel
where the library has six operations. Layers that hold no plain matrix, such as quantised ones, are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm

#: Names of layers that a module gives the same rows, one after the other.
_SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class _Product:
    """One product in place of several; whoever asks first computes it for all."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self.weight = torch.cat([layer.weight.data for layer in layers])
        biases = [layer.bias.data for layer in layers if layer.bias is not None]
        self.bias = torch.cat(biases) if biases else None
        self.sizes = [layer.out_features for layer in layers]
        self._rows: Tensor | None = None
        self._results: list[Tensor | None] = []

    def take(self, rows: Tensor, part: int) -> Tensor:
        """Results of one of the layers, which are forgotten once they are taken."""
        if rows is not self._rows or self._results[part] is None:
            self._rows = rows
            self._results = list(torch.split(linear(rows, self.weight, self.bias), self.sizes, dim=-1))
        taken = self._results[part]
        assert taken is not None
        self._results[part] = None
        if not any(result is not None for result in self._results):
            self._rows = None
        return taken


class _Joined(nn.Module):
    """A layer that is computed together with its siblings."""

    def __init__(self, product: _Product, layer: nn.Linear, part: int) -> None:
        super().__init__()
        first = sum(product.sizes[:part])
        self.weight = nn.Parameter(product.weight[first : first + product.sizes[part]], requires_grad=False)
        self.bias = layer.bias
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self._product, self._part = product, part

    def forward(self, rows: Tensor) -> Tensor:
        """Shape (..., in) to (..., out)."""
        return self._product.take(rows, self._part)


class _Norm(nn.Module):
    """A root mean square norm (Zhang and Sennrich, 2019)."""

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = weight, epsilon

    def forward(self, rows: Tensor) -> Tensor:
        """Shape (..., width) to the same."""
        return rms_norm(rows, self.weight.shape, self.weight, self.variance_epsilon)


#: A module, the name of one within it, and what was there.
Replaced = list[tuple[nn.Module, str, nn.Module]]


def join(model: nn.Module) -> Replaced:
    """Join what can be joined, in place; returns what ``undo`` needs."""
    replaced: Replaced = []
    module: Any
    for module in list(model.modules()):
        for names in _SIBLINGS:
            layers: list[Any] = [getattr(module, name, None) for name in names]
            if _alike(layers):
                product = _Product(layers)
                for part, (name, layer) in enumerate(zip(names, layers, strict=True)):
                    replaced.append((module, name, layer))
                    setattr(module, name, made := _Joined(product, layer, part))
                    layer.weight.data = made.weight.data  # what it had is given back
        for name, norm in list(module.named_children()):
            if _is_norm(norm):
                replaced.append((module, name, norm))
                setattr(module, name, _Norm(norm.weight, norm.variance_epsilon))
    return replaced


def undo(replaced: Replaced) -> None:
    """Put back what ``join`` has replaced."""
    for module, name, before in replaced:
        setattr(module, name, before)


def _alike(layers: Sequence[Any]) -> bool:
    """Whether layers are plain ones that differ in nothing but how many numbers they give."""
    if not all(type(layer) is nn.Linear and not layer._forward_hooks for layer in layers):
        return False
    return len({(one.in_features, one.bias is None, one.weight.dtype, one.weight.device) for one in layers}) == 1


def _is_norm(module: Any) -> bool:
    """Whether a module computes such a norm: tried, since others are called so too."""
    if not type(module).__name__.endswith("RMSNorm") or not hasattr(module, "variance_epsilon"):
        return False
    weight: Tensor = module.weight
    rows = torch.randn(4, weight.shape[-1], generator=torch.Generator().manual_seed(0)).to(weight.device, weight.dtype)
    with torch.inference_mode():
        expected, found = module(rows), rms_norm(rows, weight.shape, weight, module.variance_epsilon)
    return bool(torch.allclose(found, expected, rtol=4 * torch.finfo(weight.dtype).eps, atol=1e-6))
