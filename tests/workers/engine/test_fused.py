"""A layer as one sequence of loops against the library's layer, in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from defsurvey.workers.engines.transformers import linear, matrix, support
from defsurvey.workers.engines.transformers.attention import forward
from defsurvey.workers.engines.transformers.batch import Piece, build
from defsurvey.workers.engines.transformers.buffers import Buffers
from defsurvey.workers.engines.transformers.exchanging import Layer, exchange
from defsurvey.workers.engines.transformers.fused import FusedLayer
from defsurvey.workers.engines.transformers.linear import IN_MATRIX_UNITS, IN_REGISTERS, Way
from defsurvey.workers.engines.transformers.packing import can_pack, pack
from tests.workers.engine.tiny_models import built

SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_hidden_layers": 2,
    "vocab_size": 320,
}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("Llama", SIZES),
    ("Llama", SIZES | {"attention_bias": True}),
    ("Mistral", SIZES | {"sliding_window": 9}),
    ("Qwen2", SIZES),
]
pytestmark = pytest.mark.usefixtures("compiled_anew")
ways = pytest.mark.parametrize(
    "how",
    [IN_REGISTERS, *([IN_MATRIX_UNITS] if matrix.available() else [])],
    ids=lambda how: "matrix" if how is IN_MATRIX_UNITS else "registers",
)


def made(
    architecture: str, settings: dict[str, Any], how: Way | None, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Any]:
    """A model in bfloat16 whose layers are exchanged, with products computed that way, and its layout."""
    if how is None:
        monkeypatch.setattr(linear, "way", lambda weight: None)
    if how is IN_REGISTERS:
        monkeypatch.setattr(matrix, "available", lambda: False)
        monkeypatch.setattr(linear, "can", lambda feature: True)
    model = built(architecture, **settings).bfloat16()
    layout = support.adopt(model)
    pack(model)
    exchange(model, layout)
    assert len(fused(model)) == (0 if how is None else of_ours(2))
    return model, layout


def of_ours(layers: int) -> int:
    """So many layers are fused where this processor computes their products: on AVX2 alone none is packed."""
    return layers if can_pack(torch.bfloat16) else 0


def fused(model: Any) -> list[FusedLayer]:
    """Those of a model."""
    layers = [module.forward for module in model.modules() if isinstance(module.forward, Layer)]
    return [layer.fused for layer in layers if layer.fused is not None]


def decoded(model: Any, layout: Any) -> list[Tensor]:
    """Logits of two requests: a prompt in two pieces beside a whole one, then three beams beside one token more."""
    store = Buffers(layout)
    one, other = store.open(40), store.open(60)
    found = []

    def step(*pieces: Piece) -> None:
        found.append(forward(model, build(pieces, device=torch.device("cpu"))).float())

    step(
        Piece(one, range(20, 40), one.extend(20), 0, tree=False, logits=True),
        Piece(other, range(50), other.extend(50), 0, tree=False, logits=True),
    )
    step(
        Piece(one, range(60, 77), one.extend(17), 20, tree=False, logits=True),
        Piece(other, [7, 8, 9], other.branch([0, 0, 0]), 50, tree=True, logits=True),
    )
    step(
        Piece(one, [11], one.branch([0]), 37, tree=True, logits=True),
        Piece(other, [1, 2, 3], other.branch([2, 0, 2]), 51, tree=True, logits=True),
    )
    one.close()
    other.close()
    return found


@ways
@pytest.mark.parametrize(("architecture", "settings"), MODELS)
def test_a_fused_layer_is_the_librarys(
    how: Way, architecture: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, layout = made(architecture, settings, how, monkeypatch)
    found = decoded(model, layout)
    monkeypatch.setattr(FusedLayer, "__call__", lambda self, *given: None)
    step_by_step = decoded(model, layout)
    truth = built(architecture, **settings).bfloat16().float()
    exact = decoded(truth, support.adopt(truth))
    for some, others, right in zip(found, step_by_step, exact, strict=True):
        assert some.shape == right.shape
        off, also = (float((each - right).norm() / right.norm()) for each in (some, others))
        assert off < 0.03
        assert off < 1.5 * also + 1e-3  # what rounding does to either


@ways
def test_how_many_threads_there_are_changes_nothing(how: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    model, layout = made(*MODELS[0], how, monkeypatch)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(torch.cat([each.flatten() for each in decoded(model, layout)]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
