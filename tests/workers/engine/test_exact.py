"""Every architecture, by every runner: mixed requests in one batch against ``generate`` alone, token for token."""

import random
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest
from transformers import GenerationConfig

from defsurvey.workers.engines.transformers.core.adoption import adopt
from defsurvey.workers.engines.transformers.core.decoder import Decoder
from defsurvey.workers.engines.transformers.core.drawing import Draws
from defsurvey.workers.engines.transformers.core.forward import TorchRunner
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest
from defsurvey.workers.engines.transformers.core.runner import Runner
from defsurvey.workers.engines.transformers.core.scheduler import Limits
from tests.workers.engine.conftest import REQUESTS
from tests.workers.engine.scripted_logits import generated
from tests.workers.engine.tiny_models import HEADS, VOCABULARY, built, decode, mixed_requests

_SIZES = HEADS | {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "initializer_range": 0.3,
    "max_position_embeddings": 512,
}
#: By name, and what their configurations have beside the usual sizes.
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Mistral": {"sliding_window": 12},
    "Mixtral": {"num_local_experts": 4, "sliding_window": None},
    "Qwen2": {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1},
    "Qwen3": {"head_dim": 16},
    "SmolLM3": {},
    "Olmo2": {},
    "Phi3": {},
    "Gemma2": {"head_dim": 16, "sliding_window": 12},
    "Gemma3": {"head_dim": 16, "sliding_window": 12},
    "Granite": {},
    "Glm": {"head_dim": 16},
    "GPTNeoX": {"num_key_value_heads": 4},
}
WITHOUT_OPENVINO = {"Gemma2", "Mixtral"}
LIMITS = Limits(kv_bytes=1 << 24, keep=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    model: Any
    requests: list[ResolvedRequest]
    replies: list[list[int]]


@cache
def _known(name: str) -> Family:
    model = family(name)
    requests = mixed_requests(REQUESTS, seed=7)
    return Family(model=model, requests=requests, replies=[generated(model, request) for request in requests])


def family(name: str) -> Any:
    """A random model of an architecture, always the same one."""
    model = built(name, seed=1, **_SIZES | FAMILIES[name])
    model.generation_config = GenerationConfig()  # its own ends would count where a request has none
    return model


def _runner(way: str, model: Any) -> Runner:
    if way == "torch":
        return TorchRunner(model, adopt(model), LIMITS.kv_bytes)
    from defsurvey.workers.engines.transformers.cpu.graph import converted
    from defsurvey.workers.engines.transformers.cpu.runner import OpenVINORunner

    return OpenVINORunner(converted(model), dtype="float32", kv_bytes=LIMITS.kv_bytes, threads=1)


def _ways() -> list[Any]:
    there = find_spec("defsurvey.workers.engines.transformers.cpu") is not None
    ways = [pytest.param("torch", name, id=f"torch-{name}") for name in FAMILIES]
    skipped = pytest.mark.skipif(not there, reason="the folder cpu/ is not there")
    served = [name for name in FAMILIES if name not in WITHOUT_OPENVINO]
    return ways + [pytest.param("openvino", name, id=f"openvino-{name}", marks=skipped) for name in served]


@pytest.mark.parametrize(("way", "name"), _ways())
def test_a_batch_replies_as_generate_does_alone(one_thread: None, way: str, name: str) -> None:
    known = _known(name)
    decoder = Decoder(_runner(way, family(name)), LIMITS, Draws.LIBRARY)
    together = [one.tokens for one in decode(decoder, known.requests, random.Random(1))]
    some = [one.tokens for one in decode(decoder, known.requests[::3])]
    decoder.close()
    assert together == known.replies
    assert some == known.replies[::3]
