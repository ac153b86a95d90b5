"""Which models the batch serves, found out by trying, and what happens to the others."""

from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from defsurvey.workers.engines.transformers.core import forward
from defsurvey.workers.engines.transformers.core.adoption import UnsupportedModel, adopt
from defsurvey.workers.engines.transformers.core.forward import LayerShape
from tests.workers.engine.tiny_models import HEADS, SIZES, built


def spread(model: Any, std: float = 0.1) -> Any:
    """The model with weights that are all random: some of them the library leaves as they come."""
    numbers = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=std, generator=numbers)
    return model


def alone(model: Any, length: int) -> torch.Tensor:
    """Logits behind a prompt of so many tokens, as the first token's are asked for; shape (vocabulary,)."""
    ids = torch.randint(50, (1, length), generator=torch.Generator().manual_seed(length))
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1]
    return logits


def replied(model: Any) -> list[int]:
    """What the library's own ``generate`` goes on with, without beams and then with two."""
    prompt = (torch.arange(40) % 50)[None]
    told = [
        model.generate(
            prompt, generation_config=GenerationConfig(max_new_tokens=12, num_beams=beams, pad_token_id=0)
        ).tolist()[0]
        for beams in (1, 2)
    ]
    return [token for tokens in told for token in tokens]


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("Llama", {}),
        ("Gemma2", {"head_dim": 4, "sliding_window": 6}),
        ("Mixtral", {"num_local_experts": 3}),
        ("Qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
        ("Qwen2", {"use_sliding_window": False, "sliding_window": 6}),
        ("Mistral", {"sliding_window": 6}),
    ],
    ids=["plain", "capped scores", "experts", "window of one layer", "window switched off", "window of all layers"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_models_that_attend_by_tokens_and_positions_are_served(
    one_thread: None, architecture: str, settings: dict[str, Any], dtype: torch.dtype
) -> None:
    model = built(architecture, **HEADS, **settings).to(dtype)
    layout = adopt(model)
    assert layout.layers == (LayerShape(2, 4),) * 2
    assert layout.bytes_per_token == 2 * 2 * 8 * dtype.itemsize
    assert model.config._attn_implementation == forward.NAME


@pytest.mark.parametrize(
    ("architecture", "settings", "reason"),
    [
        ("Mamba", SIZES, "of its 2 layers 0 attend"),
        (
            "Llama",
            HEADS | {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            r"its positions \(dynamic\) depend on the longest of a batch",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_other_models_are_refused_with_a_reason_and_left_as_they_were(
    one_thread: None, architecture: str, settings: dict[str, Any], reason: str
) -> None:
    model = built(architecture, **settings)
    before = model.config._attn_implementation
    with pytest.raises(UnsupportedModel, match=reason):
        adopt(model)
    assert model.config._attn_implementation == before


@pytest.mark.parametrize(
    ("architecture", "settings", "name"),
    [
        ("Doge", {}, "sliding_window"),
        ("Llama4", {"head_dim": 4, "intermediate_size_mlp": 24, "num_local_experts": 2}, "attention_chunk_size"),
    ],
)
def test_a_window_that_no_layer_asks_for_is_refused(
    one_thread: None, architecture: str, settings: dict[str, Any], name: str
) -> None:
    model = spread(built(architecture, **HEADS, **settings, **{"max_position_embeddings": 512, name: 511}))
    with pytest.raises(UnsupportedModel, match=f"its {name} of 511 tokens is only in its mask"):
        adopt(model)
    setattr(model.config, name, 512)
    assert adopt(model).layers == (LayerShape(2, 4),) * 2


#: Sizes of models whose layers choose which tokens each token sees, 30 of them here.
CHOOSING: dict[str, Any] = {
    **HEADS,
    "num_key_value_heads": 4,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 4,
    "v_head_dim": 16,
    "index_head_dim": 8,
    "index_n_heads": 2,
    "index_topk": 30,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 8,
    "first_k_dense_replace": 1,
}


def test_attention_that_is_told_which_tokens_to_see_is_refused_and_chooses_again(one_thread: None) -> None:
    model = spread(built("DeepseekV32", **CHOOSING), std=0.3)
    long, replies = alone(model, 60), replied(model)
    with pytest.raises(UnsupportedModel, match="its attention asks for indices"):
        adopt(model)
    assert torch.equal(alone(model, 60), long)
    assert replied(model) == replies


@pytest.mark.parametrize("window", [None, 12])
def test_an_adopted_model_goes_on_computing_what_it_did(one_thread: None, window: int | None) -> None:
    model = built("Mistral", **HEADS, sliding_window=window)
    before, replies = alone(model, 60), replied(model)
    adopt(model)
    torch.testing.assert_close(alone(model, 60), before)
    assert replied(model) == replies


@pytest.mark.parametrize("packed", [True, False], ids=["also packed", "only by itself"])
def test_a_model_that_computes_something_else_under_our_attention_is_refused(
    one_thread: None, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    model = built("Llama", **HEADS)
    own, forward = model.config._attn_implementation, model.forward

    def another(**settings: Any) -> Any:
        told = forward(**settings)
        if model.config._attn_implementation != own and (packed or "blocks" not in settings):
            told.logits = told.logits + 0.5
        return told

    monkeypatch.setattr(model, "forward", another)
    with pytest.raises(UnsupportedModel, match=r"logits of a sequence by itself differ from plain ones by 0\.5 of"):
        adopt(model)
    assert model.config._attn_implementation == own


def test_a_model_whose_tokens_know_their_neighbours_is_refused(
    one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built("Llama", **HEADS)
    embed = model.model.embed_tokens.forward
    monkeypatch.setattr(model.model.embed_tokens, "forward", lambda ids: embed(ids) + 0.05 * ids.shape[1])
    with pytest.raises(UnsupportedModel, match="packed logits differ from plain ones by"):
        adopt(model)


def test_a_model_without_the_interface_is_refused(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = built("Llama", **HEADS)
    monkeypatch.setattr(model, "_can_set_attn_implementation", lambda: False)
    with pytest.raises(UnsupportedModel, match="does not attend through the library's attention interface"):
        adopt(model)
    monkeypatch.undo()
    monkeypatch.setattr(model, "forward", lambda **_: {}["nothing"])
    with pytest.raises(UnsupportedModel, match="a packed forward fails with KeyError"):
        adopt(model)
