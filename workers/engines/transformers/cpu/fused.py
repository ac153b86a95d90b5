"""A decoder layer on a CPU as one sequence of compiled loops: threads are started once instead of ten times.

For layers whose products are all loops of our own (see ``linear``). What the layers of a forward have in common is
worked out once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from defsurvey.workers.engines.transformers.core.batch import Packed
from defsurvey.workers.engines.transformers.cpu import linear
from defsurvey.workers.engines.transformers.cpu.buffered import Attention, attention_of
from defsurvey.workers.engines.transformers.cpu.linear import Weights
from defsurvey.workers.engines.transformers.cpu.outputs import GATED, NONE, PLUS
from defsurvey.workers.engines.transformers.cpu.rowwise import norming_step, rotation_step
from defsurvey.workers.engines.transformers.cpu.team import Sequel


@dataclass(slots=True)
class Asked:
    """What a layer asks of attention."""

    key_heads: int = 0
    width: int = 0
    scaling: float = 0.0
    window: int | None = None


@dataclass(frozen=True, slots=True)
class RootMeanSquare:
    """A norm."""

    weight: Tensor
    epsilon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedLayer:
    """Attention and gated layers, each behind a norm, each added to what it was given."""

    number: int  #: which layer of the buffers
    before: RootMeanSquare  #: attention
    between: RootMeanSquare  #: attention and gated layers
    joined: Weights  #: of queries, keys and values, side by side
    attended: Weights  #: of what attention comes to
    gates: Weights  #: of the gate and of what it lets through, see ``linear.in_turn``
    gated: Weights  #: of what was let through

    def __call__(self, rows: Tensor, packed: Packed, positions: Sequence[Tensor], asked: Asked) -> Tensor | None:
        """Compute the layer.

        Args:
            rows: shape (1, T, hidden).
            packed: whose they are.
            positions: cosines and sines, each of shape (1, T, width).
            asked: what it asks of attention.

        Returns:
            Shape of the rows; None where the library attends faster, and nothing was computed.
        """
        rows, weights = rows.contiguous(), (self.joined, self.attended, self.gates, self.gated)
        key = asked.key_heads, asked.width, asked.window, *((of.panels.shape, of.bias is None) for of in weights)
        if key not in packed.laid_out:
            packed.laid_out[key] = _laid_out(self, rows, packed, positions, asked)
        of: _Common | None = packed.laid_out[key]
        if of is None:
            return None
        cosine, sine = positions[0].contiguous(), positions[1].contiguous()
        result = rows.new_empty(rows.shape)
        old, new = rows.data_ptr(), result.data_ptr()
        for norm, at, of_norm in ((of.first, old, self.before), (of.second, new, self.between)):
            norm["source"], norm["weight"], norm["epsilon"] = at, of_norm.weight.data_ptr(), of_norm.epsilon
        for product, layer in zip(of.products, weights, strict=True):
            product["weight"] = layer.panels.data_ptr()
            if layer.bias is not None:
                product["bias"] = layer.bias.data_ptr()
        of.rotation["cosine"], of.rotation["sine"] = cosine.data_ptr(), sine.data_ptr()
        of.attention.tell(self.number, asked.scaling)
        of.products[1]["other"], of.products[1]["target"] = old, new
        of.products[3]["other"], of.products[3]["target"] = new, new
        of.sequel.run(long=rows.shape[1] >= linear.LONG)
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common:
    """What the layers of a forward have in common, but for where their weights and rows are."""

    first: Any  #: norm, as its loop is told of it
    second: Any  #: norm
    products: tuple[Any, ...]  #: in the order in which they are computed
    rotation: Any
    attention: Attention
    sequel: Sequel
    kept: tuple[Tensor, ...]  #: what they read and write


def _laid_out(
    of: FusedLayer, rows: Tensor, packed: Packed, positions: Sequence[Tensor], asked: Asked
) -> _Common | None:
    key_heads, (_, count, hidden) = asked.key_heads, rows.shape
    every = rows.new_empty(count, linear.outs(of.joined.panels, NONE) // asked.width, asked.width)
    query, key, value = (
        heads.transpose(0, 1)
        for heads in (every[:, : -2 * key_heads], every[:, -2 * key_heads : -key_heads], every[:, -key_heads:])
    )
    attended = rows.new_empty(count, len(query), asked.width)
    attention = attention_of(packed, query, key, value, asked.window, attended)
    if attention is None:
        return None
    normed, passed = rows.new_empty(count, hidden), rows.new_empty(count, linear.outs(of.gates.panels, GATED))
    flat, cosine, sine = rows[0], positions[0].contiguous(), positions[1].contiguous()
    norms = [norming_step(flat, norm.weight, norm.epsilon, normed) for norm in (of.before, of.between)]
    products = [
        linear.step(normed, of.joined, NONE, None, every),
        linear.step(attended.flatten(1), of.attended, PLUS, flat, flat),
        linear.step(normed, of.gates, GATED, None, passed),
        linear.step(passed, of.gated, PLUS, flat, flat),
    ]
    rotation = rotation_step(every[:, :-key_heads], cosine, sine)
    sequel = Sequel(
        [norms[0], products[0], rotation, *attention.steps, products[1], norms[1], products[2], products[3]]
    )
    return _Common(
        first=norms[0][1][0],
        second=norms[1][1][0],
        products=tuple(told[0] for _, told in products),
        rotation=rotation[1][0],
        attention=attention,
        sequel=sequel,
        kept=(every, attended, normed, passed),
    )
