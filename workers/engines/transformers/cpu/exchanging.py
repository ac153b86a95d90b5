"""What a model computes in fewer passes over memory, put in the place of its own modules.

A norm is one loop, or one kernel, where the library has six operations. The rest is for CPUs. A gate, and a sum with
what a layer was given, are computed by products as they write their results. Positions turn queries and keys where they
lie. Where all of it are loops of our own, a layer is one sequence of them (see ``fused``). What is not packed, as in
``generate``, layers go on computing their own way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from defsurvey.workers.engines.transformers.core.batch import Packed
from defsurvey.workers.engines.transformers.core.freeing import give_back
from defsurvey.workers.engines.transformers.core.kv import Layout
from defsurvey.workers.engines.transformers.core.support import packed_logits, plain_logits
from defsurvey.workers.engines.transformers.cpu.buffered import attend_buffered
from defsurvey.workers.engines.transformers.cpu.buffers import Buffers
from defsurvey.workers.engines.transformers.cpu.comparing import further, same, same_layer
from defsurvey.workers.engines.transformers.cpu.fused import Asked, FusedLayer, RootMeanSquare
from defsurvey.workers.engines.transformers.cpu.linear import Weights, in_turn, multiply
from defsurvey.workers.engines.transformers.cpu.outputs import GATED
from defsurvey.workers.engines.transformers.cpu.packing import PackedLinear, Part, join
from defsurvey.workers.engines.transformers.cpu.replacing import replace
from defsurvey.workers.engines.transformers.cpu.rowwise import FORMATS, normed, rotate

logger = logging.getLogger(__name__)

#: Whether the library has a kernel for norms on GPUs; older versions make them of others.
_ONE_KERNEL = hasattr(torch.ops.aten, "_fused_rms_norm")
#: What computes queries, keys and values of a layer.
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


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
        if self.weight.device.type == "cpu":
            return normed(rows, self.weight, self.variance_epsilon)
        # One kernel in place of the six that models launch, since most of a step on a GPU is launching.
        return nn.functional.rms_norm(rows, self.weight.shape, self.weight, self.variance_epsilon)


class GatedLayers(nn.Module):
    """Two layers of which one opens a gate for the other, and a third behind them (Shazeer, 2020).

    Args:
        layers: The module whose packed layers they are.
    """

    def __init__(self, layers: Any) -> None:
        super().__init__()
        self.down_proj = layers.down_proj
        gate, up = layers.gate_proj.ours, layers.up_proj.ours
        #: Of the gate and of what it lets through, where one product computes both.
        self.panels: Tensor | None = None
        if gate is not None and up is not None and gate.bias is None and up.bias is None:
            self.panels = in_turn(gate.panels, up.panels)
        else:
            self.gate_proj, self.up_proj = layers.gate_proj, layers.up_proj

    def forward(self, rows: Tensor, summand: Tensor | None = None) -> Tensor:
        """Shape (..., width) to the same; the summand, of that shape, is added."""
        down = self.down_proj
        if self.panels is None:
            passed = self.up_proj.times(rows, self.gate_proj.swish(rows))
        else:
            passed = multiply(rows, self.panels, None, GATED)
        result: Tensor = down.forward(passed) if summand is None else down.plus(passed, summand)
        return result


class Observed(Asked):
    """What a layer asks of attention, once it has been seen."""

    key_size: float = 0.0  #: root of the mean square of its keys, positions applied

    def note(self, _layer: int, key: Tensor, _value: Tensor, settings: dict[str, Any]) -> None:
        """See ``attention.attend``."""
        self.key_heads, self.width = key.shape[1], key.shape[-1]
        self.scaling = settings["scaling"] if settings["scaling"] is not None else key.shape[-1] ** -0.5
        self.window = settings["sliding_window"]
        self.key_size = float(key.float().square().mean().sqrt())


@dataclass(frozen=True, slots=True)
class Layer:
    """A decoder layer's forward: attention and gated layers, each behind a norm, each added to what it was given.

    Where no packed batch is described, where keys and values are not in requests' own buffers, and where positions come
    in another format than rows, it is the layer's own.

    Args:
        layer: the layer, as the library builds it.
        own: its own forward.
        joined: what computes queries, keys and values, side by side.
        asked: what it asks of attention, once it has been seen.
        fused: the same as one sequence of loops; None: it has other parts.
    """

    layer: Any
    own: Callable[..., Any]
    joined: PackedLinear
    asked: Observed = field(default_factory=Observed)
    fused: FusedLayer | None = None

    def __call__(self, rows: Tensor, *arguments: Any, **settings: Any) -> Any:
        """Shape (1, T, hidden) to the same."""
        packed, positions = settings.get("packed"), settings.get("position_embeddings", ())
        if packed is None or not isinstance(packed.store, Buffers) or not self._turns_by(positions, rows):
            return self.own(rows, *arguments, **settings)
        if self.fused is not None:
            result = self.fused(rows, packed, positions, self.asked)
            if result is not None:
                return result
        layer = self.layer
        rows = layer.self_attn.o_proj.plus(self.attended(rows, packed, positions), rows)
        return layer.mlp.forward(layer.post_attention_layernorm.forward(rows), rows)

    def attended(self, rows: Tensor, packed: Packed, positions: Sequence[Tensor]) -> Tensor:
        """What rows attend to, shape (1, T, hidden) to (1, T, heads * width)."""
        layer, attention, key_heads = self.layer, self.layer.self_attn, self.asked.key_heads
        every = self.joined.forward(layer.input_layernorm.forward(rows)).view(rows.shape[1], -1, self.asked.width)
        query, key, value = every[:, : -2 * key_heads], every[:, -2 * key_heads : -key_heads], every[:, -key_heads:]
        if hasattr(attention, "q_norm"):
            query, key = attention.q_norm(query), attention.k_norm(key)
            rotate(query, *positions)
            rotate(key, *positions)
        else:
            rotate(every[:, :-key_heads], *positions)
        result = attend_buffered(
            packed,
            attention.layer_idx,
            query.transpose(0, 1),
            key.transpose(0, 1),
            value.transpose(0, 1),
            self.asked.scaling,
            self.asked.window,
        )
        return result.flatten(1)[None]

    def _turns_by(self, positions: Sequence[Tensor], rows: Tensor) -> bool:
        """Whether positions are a cosine and a sine for every number of a key."""
        wanted = (1, rows.shape[1], self.asked.width)
        alike = [angles.shape == wanted and angles.dtype is rows.dtype for angles in positions]
        return alike == [True, True]


def exchange(model: Any, layout: Layout) -> int:
    """Exchange what can be; returns how many modules were. A second time nothing is left to do.

    Args:
        model: A model that uses the packed attention, see ``support.adopt``; its layers are packed.
        layout: What it keeps for one token.
    """
    exchanged = replace(model, _exchanged, _size) + _exchange_layers(model, layout)
    give_back()
    return exchanged


def _exchanged(module: nn.Module) -> Norm | GatedLayers | None:
    made = _made_of(module)
    return None if made is None or not _alike(made, module) else made.eval()


def _size(module: Any) -> int:
    """Bytes of gated layers that are left behind."""
    packed = (getattr(module, name, None) for name in ("gate_proj", "up_proj"))
    return sum(layer.ours.panels.nbytes for layer in packed if layer is not None and layer.ours is not None)


def _exchange_layers(model: Any, layout: Layout) -> int:
    """Exchange a model's layers, but for one that computes something else with them: it keeps its own."""
    layers = [module for module in model.modules() if _is_layer(module)]
    if not layers:
        return 0
    expected, before = plain_logits(model), packed_logits(model, layout)
    made = [layer for layer in layers if _exchange_layer(layer, layout)]
    if made and further(packed_logits(model, layout), before, expected, layout.dtype):
        logger.warning("layers of %s are computed the library's way: exchanged, they differ", type(model).__name__)
        for layer in made:
            layer.forward = layer.forward.own
        return 0
    return len(made)


def _exchange_layer(layer: Any, layout: Layout) -> bool:
    projections = [getattr(layer.self_attn, name) for name in _PROJECTIONS]
    joined = join(projections)
    if joined is None:
        return False
    made = Layer(layer, layer.forward, joined, fused=_fused(layer, joined))
    if not same_layer(made, layout):
        return False
    layer.forward = made
    _give_up(layer.self_attn, projections, joined)
    return True


def _made_of(module: nn.Module) -> Norm | GatedLayers | None:
    """What might take a module's place."""
    epsilon = getattr(module, "variance_epsilon", None)
    weight = getattr(module, "weight", None) if isinstance(epsilon, float) else None  # packed layers unpack theirs
    if type(module) is not Norm and isinstance(weight, nn.Parameter) and isinstance(epsilon, float):
        on_cpu = weight.device.type == "cpu" and weight.dtype in FORMATS
        served = on_cpu or (weight.device.type == "cuda" and _ONE_KERNEL)
        return Norm(weight, epsilon) if weight.dim() == 1 and served else None
    layers = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if type(module) is not GatedLayers and all(isinstance(layer, PackedLinear) for layer in layers):
        return GatedLayers(module)
    return None


def _alike(made: Norm | GatedLayers, module: nn.Module) -> bool:
    if isinstance(made, Norm):
        return same(made, module, len(made.weight), made.weight.dtype, made.weight.device)
    return same(made, module, made.down_proj.out_features, made.down_proj.dtype)


def _give_up(attention: Any, projections: Sequence[PackedLinear], joined: PackedLinear) -> None:
    """Let the library's own way, which is seldom gone, use the joined weights as well."""
    start = 0
    for name, projection in zip(_PROJECTIONS, projections, strict=True):
        setattr(attention, name, Part(joined, slice(start, start + projection.out_features)))
        start += projection.out_features


def _is_layer(module: Any) -> bool:
    attention = getattr(module, "self_attn", None)
    return (
        not isinstance(module.forward, Layer)
        and isinstance(getattr(module, "mlp", None), GatedLayers)
        and all(isinstance(getattr(attention, name, None), PackedLinear) for name in (*_PROJECTIONS, "o_proj"))
        and all(hasattr(module, name) for name in ("input_layernorm", "post_attention_layernorm"))
        and all(hasattr(attention, name) for name in ("layer_idx", "head_dim"))
    )


def _fused(layer: Any, joined: PackedLinear) -> FusedLayer | None:
    attention, norms = layer.self_attn, (layer.input_layernorm, layer.post_attention_layernorm)
    weights = joined.ours, attention.o_proj.ours, layer.mlp.down_proj.ours
    if hasattr(attention, "q_norm") or layer.mlp.panels is None or not all(type(norm) is Norm for norm in norms):
        return None
    of_all, of_attended, of_gated = weights
    if of_all is None or of_attended is None or of_gated is None:
        return None
    before, between = (RootMeanSquare(norm.weight, norm.variance_epsilon) for norm in norms)
    return FusedLayer(
        number=attention.layer_idx,
        before=before,
        between=between,
        joined=of_all,
        attended=of_attended,
        gates=Weights(layer.mlp.panels, None),
        gated=of_gated,
    )
