"""Weights laid out once as the CPU's matrix products read them.

A product of few rows with a matrix of weights spends up to half of its time on bringing the weights into the order that
its inner loop wants, at every call. Here that is done once, for products of our own where they are faster (see
``linear``), else by oneDNN, which torch brings along.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from defsurvey.workers.engines.transformers.cpu import linear, outputs
from defsurvey.workers.engines.transformers.cpu.linear import Weights
from defsurvey.workers.engines.transformers.cpu.replacing import replace

_FORMATS = (torch.float32, torch.bfloat16)
#: What is computed behind a product, as oneDNN calls it.
_THEN = {outputs.NONE: "none", outputs.SWISH: "swish", outputs.PLUS: "add", outputs.TIMES: "mul"}


class PackedLinear(nn.Module):
    """What a linear layer computes, from weights that are packed.

    Args:
        layer: The layer; it is not needed any more afterwards.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = layer.bias
        weight = layer.weight.detach().contiguous()
        how = linear.way(weight)
        self._ours = how is not None
        self._wide_bias = None if self.bias is None or not self._ours else self.bias.detach().float()
        with torch.inference_mode():
            # No parameter: its layout is known to us or to oneDNN alone.
            self._packed: Tensor = (
                torch.ops.mkldnn._reorder_linear_weight(weight, None) if how is None else linear.lay_out(weight, how)
            )

    @property
    def dtype(self) -> torch.dtype:
        """The weights' number format."""
        return self._packed.dtype

    @property
    def ours(self) -> Weights | None:
        """The weights as ``linear`` reads them; None where the library computes the products."""
        return Weights(self._packed, self._wide_bias) if self._ours else None

    @property
    def weight(self) -> Tensor:
        """The weights as they were, unpacked anew each time; shape (out, in)."""
        return linear.as_they_were(self._packed) if self._ours else self._packed.to_dense()

    def forward(self, rows: Tensor) -> Tensor:
        """Shape (..., in) to (..., out)."""
        return self._product(rows, outputs.NONE)

    def swish(self, rows: Tensor) -> Tensor:
        """Each number x of the product becomes x / (1 + exp(-x))."""
        return self._product(rows, outputs.SWISH)

    def plus(self, rows: Tensor, summand: Tensor) -> Tensor:
        """The product plus something of its shape."""
        return self._product_with(rows, summand, outputs.PLUS)

    def times(self, rows: Tensor, factor: Tensor) -> Tensor:
        """Each number of the product times one of something of its shape."""
        return self._product_with(rows, factor, outputs.TIMES)

    def _product(self, rows: Tensor, then: int) -> Tensor:
        if self._ours:
            return linear.multiply(rows, self._packed, self._wide_bias, then)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._packed, self.bias, _THEN[then], [], "")
        return product

    def _product_with(self, rows: Tensor, other: Tensor, then: int) -> Tensor:
        # What is behind the product is computed as the result is written, before it is rounded to a short format.
        if self._ours:
            return linear.multiply(rows, self._packed, self._wide_bias, then, other)
        product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, other, self._packed, self.bias, _THEN[then])
        return product


class Part(nn.Module):
    """One of several products that are computed together, by itself: of all of them where the library computes them.

    Args:
        joined: what computes them all, see ``join``.
        columns: which numbers of a result are its own.
    """

    def __init__(self, joined: PackedLinear, columns: slice) -> None:
        super().__init__()
        self.joined, self._columns = joined, columns
        self._own = None if joined.ours is None else _of_columns(joined.ours, columns)

    def forward(self, rows: Tensor) -> Tensor:
        """Shape (..., in) to (..., columns)."""
        if self._own is not None:
            return linear.multiply(rows, self._own.panels, self._own.bias, outputs.NONE)
        result: Tensor = self.joined(rows)[..., self._columns]
        return result


def _of_columns(weights: Weights, columns: slice) -> Weights | None:
    """The weights of some numbers of a result, where they lie; None where these are no whole panels."""
    wide, bias = weights.panels.shape[2], weights.bias
    if columns.start % wide or columns.stop % wide:
        return None
    panels = weights.panels[columns.start // wide : columns.stop // wide]
    return Weights(panels, None if bias is None else bias[columns])


def join(layers: Sequence[PackedLinear]) -> PackedLinear | None:
    """One layer for several of the same rows, whose results lie side by side; None where only some have a bias.

    The layers themselves stay as they are.
    """
    biased = {layer.bias is not None for layer in layers}
    if len(biased) > 1:
        return None
    outs = sum(layer.out_features for layer in layers)
    joined = nn.Linear(layers[0].in_features, outs, bias=biased == {True}, device="meta")
    joined.weight = nn.Parameter(torch.cat([layer.weight for layer in layers]), requires_grad=False)
    if joined.bias is not None:
        joined.bias = nn.Parameter(torch.cat([layer.bias for layer in layers]), requires_grad=False)
    return PackedLinear(joined)


def pack(model: Any) -> int:
    """Pack every linear layer that can be; returns how many there were. The layers' own weights are given up.

    Only weights that something else uses as well, such as an embedding tied to the output, are then there twice.
    """
    return replace(model, _packed, lambda layer: layer.weight.nbytes)


def _packed(layer: nn.Module) -> PackedLinear | None:
    return PackedLinear(layer) if type(layer) is nn.Linear and _can_be_packed(layer) else None


def _can_be_packed(layer: nn.Linear) -> bool:
    return layer.weight.device.type == "cpu" and layer.weight.dtype in _FORMATS and can_pack(layer.weight.dtype)


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch packs weights of a number format on this processor; found out by trying."""
    if dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False  # computed without instructions for it, they would be slow
    layer = nn.Linear(64, 32, dtype=dtype)
    rows = torch.ones(2, 64, dtype=dtype)
    try:
        with torch.inference_mode():
            packed, plain = PackedLinear(layer), layer(rows)
            found = torch.stack([packed(rows), packed.swish(rows), packed.plus(rows, plain), packed.times(rows, plain)])
            expected = torch.stack([plain, nn.functional.silu(plain), 2 * plain, plain * plain])
    except (RuntimeError, AttributeError):  # how torch says that it was built without an operation
        return False
    return torch.allclose(found, expected, rtol=1e-2, atol=1e-2)
