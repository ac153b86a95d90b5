"""Which models the batch serves, found out by trying, and what happens to the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    DogeConfig,
    DogeForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PhimoeConfig,
    PhimoeForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from workers.engines.transformers import attention
from workers.engines.transformers.kv import LayerShape
from workers.engines.transformers.support import UnsupportedModel, adopt

SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "initializer_range": 0.6,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
HEADS: dict[str, Any] = {**SIZES, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}


def built(model_class: Any, config: Any) -> Any:
    """A random model of an architecture, always the same one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return model_class(config).eval()


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        (LlamaForCausalLM, LlamaConfig(**HEADS)),
        (MixtralForCausalLM, MixtralConfig(**HEADS, num_local_experts=3)),
        (Qwen2ForCausalLM, Qwen2Config(**HEADS, use_sliding_window=True, sliding_window=6, max_window_layers=1)),
    ],
    ids=["llama", "mixtral", "qwen2"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_models_that_attend_by_tokens_and_positions_are_served(
    one_thread: None, model_class: Any, config: Any, dtype: torch.dtype
) -> None:
    """Experts and windows in some layers only are no obstacle."""
    model = built(model_class, config).to(dtype)
    layout = adopt(model)
    assert layout.layers == (LayerShape(2, 4),) * 2
    assert layout.bytes_per_token == 2 * 2 * 8 * dtype.itemsize
    assert model.config._attn_implementation == attention.NAME


@pytest.mark.parametrize(
    ("model_class", "config", "reason"),
    [
        (MambaForCausalLM, MambaConfig(**SIZES), "of its 2 layers 0 attend"),
        (Gemma2ForCausalLM, Gemma2Config(**HEADS, head_dim=4), "softcap"),
        (
            LlamaForCausalLM,
            LlamaConfig(**HEADS, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}),
            r"its positions \(dynamic\) depend on the longest of a batch",
        ),
    ],
    ids=["recurrent", "soft-capped", "dynamic-positions"],
)
@pytest.mark.filterwarnings("ignore")
def test_other_models_are_refused_with_a_reason_and_left_as_they_were(
    one_thread: None, model_class: Any, config: Any, reason: str
) -> None:
    """Recurrent layers, capped scores and positions that depend on neighbours."""
    model = built(model_class, config)
    before = model.config._attn_implementation
    with pytest.raises(UnsupportedModel, match=reason):
        adopt(model)
    assert model.config._attn_implementation == before


#: Models whose layers leave it to a mask how far they see, by the name of what limits it.
MASKED: list[tuple[Any, Any, str]] = [
    (PhimoeForCausalLM, lambda **spans: PhimoeConfig(**HEADS, num_local_experts=3, **spans), "sliding_window"),
    (DogeForCausalLM, lambda **spans: DogeConfig(**HEADS, **spans), "sliding_window"),
    (
        Llama4ForCausalLM,
        lambda **spans: Llama4TextConfig(
            **HEADS, head_dim=4, intermediate_size_mlp=24, num_local_experts=2, no_rope_layers=[1, 0], **spans
        ),
        "attention_chunk_size",
    ),
]


@pytest.mark.parametrize(("model_class", "config", "name"), MASKED, ids=["phimoe", "doge", "llama4"])
def test_a_window_that_no_layer_asks_for_is_refused(one_thread: None, model_class: Any, config: Any, name: str) -> None:
    """However long it is, and not tried out; one that nothing can exceed is none."""
    spans = {"max_position_embeddings": 512, name: 511}
    model = built(model_class, config(**spans))
    numbers = torch.Generator().manual_seed(0)
    for weight in model.parameters():  # some of which the library leaves as they come
        torch.nn.init.normal_(weight, std=0.1, generator=numbers)
    with pytest.raises(UnsupportedModel, match=f"its {name} of 511 tokens is only in its mask"):
        adopt(model)
    setattr(model.config, name, 512)
    assert adopt(model).layers == (LayerShape(2, 4),) * 2


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        (Qwen2ForCausalLM, Qwen2Config(**HEADS, use_sliding_window=False, sliding_window=6)),
        (Qwen2ForCausalLM, Qwen2Config(**HEADS, use_sliding_window=True, sliding_window=6, max_window_layers=2)),
        (MistralForCausalLM, MistralConfig(**HEADS, sliding_window=6)),
        (MistralForCausalLM, MistralConfig(**HEADS, sliding_window=None)),
    ],
    ids=["off", "no-layers", "asked-for", "none"],
)
def test_windows_that_are_switched_off_or_asked_for_are_served(one_thread: None, model_class: Any, config: Any) -> None:
    """A number in a configuration is no window."""
    assert adopt(built(model_class, config)).layers == (LayerShape(2, 4),) * 2


def test_numbers_for_which_no_loop_is_compiled_are_refused(one_thread: None) -> None:
    """Nobody computes a language model in double precision, but who does learns why it is slow."""
    with pytest.raises(UnsupportedModel, match=r"on a CPU there is no attention for numbers of type torch\.float64"):
        adopt(built(LlamaForCausalLM, LlamaConfig(**HEADS)).double())


def test_a_model_whose_tokens_know_their_neighbours_is_refused(
    one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed logits are compared with plain ones: a leak between requests does not go unnoticed."""
    model = built(LlamaForCausalLM, LlamaConfig(**HEADS))
    embed = model.model.embed_tokens.forward
    monkeypatch.setattr(model.model.embed_tokens, "forward", lambda ids: embed(ids) + 0.05 * ids.shape[1])
    with pytest.raises(UnsupportedModel, match="packed logits differ from plain ones by"):
        adopt(model)


def test_a_model_without_the_interface_is_refused(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention that cannot be replaced, and errors of every other kind, are reasons too."""
    model = built(LlamaForCausalLM, LlamaConfig(**HEADS))
    monkeypatch.setattr(model, "_can_set_attn_implementation", lambda: False)
    with pytest.raises(UnsupportedModel, match="does not attend through the library's attention interface"):
        adopt(model)
    monkeypatch.undo()
    monkeypatch.setattr(model, "forward", lambda **_: {}["nothing"])
    with pytest.raises(UnsupportedModel, match="a packed forward fails with KeyError"):
        adopt(model)
