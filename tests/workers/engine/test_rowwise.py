"""Norms and gates as compiled loops: what the library computes, and nothing exchanged that computes something else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from tests.workers.engine.test_support import HEADS
from tests.workers.engine.tiny_models import tiny_model
from workers.engines.transformers.packing import pack
from workers.engines.transformers.rowwise import GatedLayers, Norm, exchange


def numbers(*sizes: int, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    """Random ones, always the same."""
    return (scale * torch.randn(*sizes, generator=torch.Generator().manual_seed(sum(sizes)))).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 15, 16, 17, 200])
@pytest.mark.parametrize("width", [1, 31, 576])
def test_a_norm_is_the_librarys(dtype: torch.dtype, rows: int, width: int) -> None:
    """To the last digit of the short format, and to a few units of the last of the long one."""
    library: Any = LlamaRMSNorm(width, eps=1e-5).to(dtype)
    library.weight.data = numbers(width, dtype=dtype)
    given = numbers(2, rows, width, dtype=dtype, scale=3.0)
    with torch.inference_mode():
        found, expected = Norm(library.weight, 1e-5)(given), library(given)
    assert found.dtype is dtype
    torch.testing.assert_close(found, expected, rtol=8e-3 if dtype is torch.bfloat16 else 1e-6, atol=1e-6)
    if dtype is torch.bfloat16:  # sums in another order may round otherwise, now and then
        assert int((found != expected).sum()) <= max(2, 0.01 * found.numel())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gate_is_the_librarys(dtype: torch.dtype) -> None:
    """Open, closed, and far beyond what an exponential function can be asked for."""
    gate = torch.cat([torch.linspace(-200, 200, 1001), torch.tensor([-1e4, 1e4, 0.0, -0.0])]).to(dtype)[None]
    layers: Any = nn.Module()
    layers.gate_proj, layers.up_proj, layers.down_proj = nn.Identity(), nn.Identity(), nn.Identity()
    with torch.inference_mode():
        found = GatedLayers(layers)(gate)
        expected = nn.functional.silu(gate) * gate
    torch.testing.assert_close(found, expected, rtol=8e-3 if dtype is torch.bfloat16 else 1e-5, atol=1e-30)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_computes_the_same_as_before(one_thread: None, dtype: torch.dtype) -> None:
    """Packed layers or not; a second time nothing is left to do."""
    model, untouched = tiny_model("llama").to(dtype), tiny_model("llama").to(dtype)
    ids = torch.arange(20)[None]
    assert exchange(model) == 2 * 3 + 1
    pack(model)
    assert exchange(model) == 0
    with torch.inference_mode():
        found, expected = model(ids).logits, untouched(ids).logits
    assert float((found - expected).abs().max()) <= (0.1 if dtype is torch.bfloat16 else 1e-4) * float(expected.max())


class Centred(LlamaRMSNorm):
    """Looks like a norm of its parent's kind and is another."""

    def forward(self, rows: Tensor) -> Tensor:
        """With weights around zero, as Gemma's."""
        normed: Tensor = super().forward(rows) * (1 + self.weight)
        return normed


class Strict(LlamaRMSNorm):
    """Wants more than rows."""

    def forward(self, rows: Tensor, gate: Tensor) -> Tensor:
        """With a gate, as some recurrent layers have it."""
        return rows * gate


def test_what_computes_something_else_is_left_alone(one_thread: None) -> None:
    """Other norms, other gates, other number formats, other devices."""
    with torch.device("meta"):
        elsewhere = LlamaRMSNorm(8)
    gelu = Gemma2ForCausalLM(Gemma2Config(**HEADS, head_dim=4)).model.layers[0].mlp
    modules = [Centred(8), Strict(8), LlamaRMSNorm(8).to(torch.float16), elsewhere, gelu, nn.LayerNorm(8)]
    model = nn.Sequential(*modules)
    assert exchange(model) == 0
    assert list(model) == modules


def test_layers_without_weights_are_left_alone(one_thread: None) -> None:
    """As quantised ones are, whose weights are no numbers of a format that is computed here."""
    mlp = LlamaMLP(LlamaConfig(hidden_size=8, intermediate_size=4, num_attention_heads=1))
    assert exchange(nn.Sequential(mlp)) == 1
    mlp.down_proj = nn.Identity()
    assert exchange(nn.Sequential(mlp)) == 0
