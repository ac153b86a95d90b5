"""What is put in the place of a model's own modules computes the same, and nothing else is exchanged."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from defsurvey.workers.engines.transformers import exchanging, support
from defsurvey.workers.engines.transformers.comparing import same
from defsurvey.workers.engines.transformers.exchanging import GatedLayers, Layer, Norm, exchange
from defsurvey.workers.engines.transformers.kv import LayerShape, Layout
from defsurvey.workers.engines.transformers.packing import can_pack, pack
from tests.workers.engine.tiny_models import HEADS, SIZES, built

LAYOUT = Layout(layers=(LayerShape(2, 4),), dtype=torch.float32, device=torch.device("cpu"))
WINDOW = {"sliding_window": 6}

# Each with the number of its two layers that are computed another way.
MODELS: list[tuple[str, dict[str, Any], int]] = [
    ("Llama", HEADS | {"attention_bias": True, "mlp_bias": True}, 2),
    ("Mistral", HEADS | WINDOW, 2),
    ("Qwen2", HEADS | {"use_sliding_window": True, **WINDOW, "max_window_layers": 1}, 2),
    ("Qwen3", HEADS | {"head_dim": 8}, 2),  # with norms of queries and keys
    ("Granite", HEADS | {"attention_multiplier": 0.3}, 2),
    ("Granite", HEADS | {"residual_multiplier": 0.2}, 0),
    ("Olmo2", HEADS, 0),  # its norms are behind attention
    ("Mixtral", HEADS | {"num_local_experts": 3}, 0),
    ("Glm", HEADS | {"head_dim": 4}, 0),  # only half of a row is rotated
]


@pytest.mark.parametrize(("architecture", "settings", "layers"), MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_computes_the_same_as_before(
    one_thread: None, architecture: str, settings: dict[str, Any], layers: int, dtype: torch.dtype
) -> None:
    model, untouched = built(architecture, **settings).to(dtype), built(architecture, **settings).to(dtype)
    layout = support.adopt(model)
    assert bool(pack(model)) is can_pack(dtype)
    assert exchange(model, layout)
    exchanged = sum(isinstance(module.forward, Layer) for module in model.modules())
    assert exchanged == (layers if can_pack(dtype) else 0)
    assert exchange(model, layout) == 0
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        found, expected = model(ids).logits, untouched(ids).logits
    tolerance = 0.1 if dtype is torch.bfloat16 else 1e-4
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())
    difference, largest = support._differ(support.packed_logits(model, layout), support.plain_logits(model))
    assert difference <= tolerance * largest


#: Of a width, and with weights so small, that in bfloat16 attention is all but lost in what a layer is given.
WIDE: dict[str, Any] = {
    **SIZES,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 4,
    "initializer_range": 0.02,
}
#: What they compute instead of what a Llama does, and which of their layers do not.
OTHERS: list[tuple[str, dict[str, Any], list[int]]] = [
    ("HunYuanDenseV1", WIDE | {"head_dim": 32}, []),  # norms behind the rotation
    ("Helium", WIDE | {"head_dim": 32}, []),  # neighbours are turned together, not halves
    ("Ernie4_5", WIDE | {"head_dim": 32}, []),  # likewise
    ("SmolLM3", WIDE, [0, 1, 2]),  # every fourth layer knows no positions
    ("Llama", WIDE, [0, 1, 2, 3]),
    ("Mistral", WIDE | WINDOW, [0, 1, 2, 3]),
    ("Qwen2", WIDE, [0, 1, 2, 3]),
    ("Qwen3", WIDE | {"head_dim": 32}, [0, 1, 2, 3]),
]


def exchanged_layers(model: Any) -> list[int]:
    """Which layers are computed another way."""
    return [number for number, layer in enumerate(model.model.layers) if isinstance(layer.forward, Layer)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_that_make_a_model_another_are_its_own_again(
    one_thread: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, dtype: torch.dtype
) -> None:
    model = built("HunYuanDenseV1", **WIDE | {"initializer_range": 0.1, "head_dim": 32})
    layout = support.adopt(model.to(dtype))
    pack(model)
    tried = exchanging.same_layer
    monkeypatch.setattr(exchanging, "same_layer", lambda made, layout: tried(made, layout) or True)
    exchange(model, layout)
    assert exchanged_layers(model) == []
    assert ("layers of HunYuanDenseV1ForCausalLM are computed the library's way" in caplog.text) is can_pack(dtype)
    difference, largest = support._differ(support.packed_logits(model, layout), support.plain_logits(model))
    assert difference <= (0.05 if dtype is torch.bfloat16 else 1e-5) * largest


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gated_layers_are_the_librarys(one_thread: None, dtype: torch.dtype) -> None:
    layers = LlamaMLP(LlamaConfig(hidden_size=32, intermediate_size=48, num_attention_heads=1)).to(dtype)
    rows = torch.randn(1, 20, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    rows *= torch.logspace(-3, 4, 20).to(dtype)[:, None]
    with torch.inference_mode():
        expected = layers(rows)
        model = nn.Sequential(layers)
        pack(model)
        assert exchange(model, LAYOUT) == can_pack(dtype)
        gated: Any = model[0]
        if not can_pack(dtype):
            assert gated is layers
            return
        assert isinstance(gated, GatedLayers)
        for found, wanted in ((gated(rows), expected), (gated(rows, rows), expected + rows)):
            scale = wanted.abs().amax(dim=-1, keepdim=True)
            assert float(((found - wanted) / scale).abs().max()) < (2e-2 if dtype is torch.bfloat16 else 1e-5)


class Centred(LlamaRMSNorm):
    """Looks like a norm of its parent's kind and is another."""

    def forward(self, rows: Tensor) -> Tensor:
        """With weights around zero, as Gemma's."""
        normed: Tensor = super().forward(rows) * (1 + self.weight)
        return normed


def test_what_computes_something_else_is_left_alone(one_thread: None) -> None:
    with torch.device("meta"):
        elsewhere = LlamaRMSNorm(8)
    gelu = built("Gemma2", **HEADS, head_dim=4).model.layers[0].mlp
    pack(gelu)
    plain = LlamaMLP(LlamaConfig(hidden_size=8, intermediate_size=4, num_attention_heads=1))
    modules = [Centred(8), LlamaRMSNorm(8).to(torch.float16), elsewhere, gelu, plain, nn.LayerNorm(8)]
    model = nn.Sequential(*modules)
    assert exchange(model, LAYOUT) == 0
    assert list(model) == modules


@pytest.mark.parametrize("width", [16, 576, 4096])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_kernel_of_a_norm_computes_the_same(dtype: torch.dtype, width: int) -> None:
    own = LlamaRMSNorm(width, 1e-5).to(dtype)
    own.weight.data = (1 + 0.3 * torch.randn(width, generator=torch.Generator().manual_seed(0))).to(dtype)
    elsewhere = Norm(nn.Parameter(own.weight.to("meta")), 1e-5)
    assert elsewhere(torch.zeros(1, 3, width, dtype=dtype, device="meta")).shape == (1, 3, width)

    def by_kernel(rows: Tensor) -> Tensor:
        return nn.functional.rms_norm(rows, own.weight.shape, own.weight, own.variance_epsilon)

    assert same(by_kernel, own, width, dtype)
