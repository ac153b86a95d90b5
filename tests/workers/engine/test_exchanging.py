"""What is put in the place of a model's own modules computes the same, and nothing else is exchanged."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama import modeling_llama
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from defsurvey.workers.engines.transformers.core import support
from defsurvey.workers.engines.transformers.core.attention import forward
from defsurvey.workers.engines.transformers.core.batch import Piece, build
from defsurvey.workers.engines.transformers.core.kv import LayerShape, Layout
from defsurvey.workers.engines.transformers.cpu import exchanging, linear, matrix
from defsurvey.workers.engines.transformers.cpu.buffers import Buffers
from defsurvey.workers.engines.transformers.cpu.comparing import same
from defsurvey.workers.engines.transformers.cpu.exchanging import GatedLayers, Layer, Norm, exchange
from defsurvey.workers.engines.transformers.cpu.fused import FusedLayer
from defsurvey.workers.engines.transformers.cpu.linear import IN_MATRIX_UNITS, IN_REGISTERS, Way
from defsurvey.workers.engines.transformers.cpu.packing import can_pack, pack
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


def exchanged_layers(model: Any) -> list[int]:
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


def test_positions_of_another_format_are_the_layers_own_business(
    one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built("Llama", **HEADS).bfloat16()
    layout = support.adopt(model)
    pack(model)
    exchange(model, layout)
    angles = model.model.rotary_emb
    turn, apply = angles.forward, modeling_llama.apply_rotary_pos_emb
    turned: list[Any] = []

    def long(*given: Any, **named: Any) -> tuple[Tensor, ...]:
        return tuple(one.float() for one in turn(*given, **named))

    def rotated(query: Tensor, key: Tensor, *angles: Tensor) -> tuple[Tensor, ...]:
        return tuple(one.to(query.dtype) for one in apply(query, key, *angles))

    monkeypatch.setattr(angles, "forward", long)
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", rotated)
    monkeypatch.setattr(exchanging, "rotate", lambda *given: turned.append(given))
    difference, largest = support._differ(support.packed_logits(model, layout), support.plain_logits(model))
    assert difference <= 0.1 * largest
    assert not turned


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


# A layer as one sequence of loops against the library's layer, in float32.


LARGER: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_hidden_layers": 2,
    "vocab_size": 320,
}
FUSED: list[tuple[str, dict[str, Any]]] = [
    ("Llama", LARGER),
    ("Llama", LARGER | {"attention_bias": True}),
    ("Mistral", LARGER | {"sliding_window": 9}),
    ("Qwen2", LARGER),
]
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
@pytest.mark.usefixtures("compiled_anew")
@pytest.mark.parametrize(("architecture", "settings"), FUSED)
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
@pytest.mark.usefixtures("compiled_anew")
def test_how_many_threads_there_are_changes_nothing(how: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    model, layout = made(*FUSED[0], how, monkeypatch)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(torch.cat([each.flatten() for each in decoded(model, layout)]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
