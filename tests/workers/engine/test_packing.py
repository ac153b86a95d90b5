"""Packed weights: the same products, nothing lost, nothing touched that is no plain layer on a CPU."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

from defsurvey.workers.engines.transformers import packing
from defsurvey.workers.engines.transformers.packing import PackedLinear, Part, can_pack, join, pack
from tests.workers.engine.tiny_models import tiny_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 17, 512])
def test_a_packed_layer_computes_what_the_layer_did(
    one_thread: None, dtype: torch.dtype, bias: bool, rows: int
) -> None:
    layer = nn.Linear(96, 128, bias=bias, dtype=dtype)
    asked = torch.randn(1, rows, 96, generator=torch.Generator().manual_seed(rows)).to(dtype)
    with torch.inference_mode():
        truth = nn.functional.linear(asked.double(), layer.weight.double(), layer.bias.double() if bias else None)
        plain = (layer(asked).double() - truth).abs().max()
        model = nn.Sequential(layer)
        assert pack(model) == can_pack(dtype)
        found = model(asked)
    assert found.dtype is dtype
    assert found.shape == (1, rows, 128)
    assert float((found.double() - truth).abs().max()) <= max(2 * float(plain), 1e-6)
    assert torch.equal(model[0].weight, layer.weight)


def test_a_model_gives_up_the_weights_that_it_packs(one_thread: None) -> None:
    model, untouched = tiny_model("llama"), tiny_model("llama")
    ids = torch.arange(20)[None]
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    kept = [weakref.ref(layer.weight) for layer in layers]
    assert pack(model) == len(layers) == 15
    del layers
    gc.collect()
    assert [of() for of in kept] == [None] * 15
    assert pack(model) == 0
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, untouched(ids).logits, rtol=1e-4, atol=1e-4)


def test_weights_are_given_up_one_by_one(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    layers = [weakref.ref(module) for module in model.modules() if isinstance(module, nn.Linear)]
    alive = []

    def count(layer: nn.Linear) -> PackedLinear:
        alive.append(sum(of() is not None for of in layers))
        return PackedLinear(layer)

    monkeypatch.setattr(packing, "PackedLinear", count)
    assert pack(model) == len(layers)
    assert alive == list(range(len(layers), 0, -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_joined_layers_compute_what_each_did(one_thread: None, dtype: torch.dtype, bias: bool) -> None:
    if not can_pack(dtype):
        pytest.skip("this processor packs no weights of that format")
    layers = [PackedLinear(nn.Linear(48, out, bias=bias, dtype=dtype)) for out in (32, 16, 80)]
    rows = torch.randn(1, 20, 48, generator=torch.Generator().manual_seed(0)).to(dtype)
    joined = join(layers)
    assert joined is not None
    with torch.inference_mode():
        expected = [layer(rows) for layer in layers]
        parts = [Part(joined, slice(start, stop)) for start, stop in ((0, 32), (32, 48), (48, 128))]
        for found in (joined(rows).split((32, 16, 80), dim=-1), [part(rows) for part in parts]):
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-2 if dtype is torch.bfloat16 else 1e-5, atol=1e-6)


class Quantised(nn.Linear):
    """A layer whose weights are not what they look like."""


def test_other_layers_are_left_alone(one_thread: None) -> None:
    elsewhere = nn.Linear(4, 4, device="meta")
    layers = nn.Sequential(Quantised(4, 4), nn.Linear(4, 4, dtype=torch.float16), elsewhere, nn.Embedding(4, 4))
    before = list(layers)
    assert pack(layers) == 0
    assert list(layers) == before
