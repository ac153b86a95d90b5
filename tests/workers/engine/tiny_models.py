"""Two language models of a few thousand random weights, one with a sliding window, and requests of every kind."""

import random
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from transformers import GenerationConfig

from defsurvey.workers.engines.transformers.core.decoder import Decoder
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest, Sampling

VOCABULARY = 98
#: How many tokens back the model with a window sees.
WINDOW = 12
ARCHITECTURES = ("llama", "mistral")
#: Sizes of models of other architectures.
SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "initializer_range": 0.6,  # wide enough that no two continuations are nearly alike
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
HEADS: dict[str, Any] = {**SIZES, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
#: And of the two.
_SIZES = HEADS | {"vocab_size": VOCABULARY, "intermediate_size": 32, "max_position_embeddings": 512}


def built(architecture: str, seed: int = 0, **settings: Any) -> Any:
    """A random model of an architecture, named as the library's classes are, always the same one."""
    own = {"Llama4": "Llama4TextConfig", "Gemma3": "Gemma3TextConfig"}.get(architecture, f"{architecture}Config")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return getattr(transformers, f"{architecture}ForCausalLM")(getattr(transformers, own)(**settings)).eval()


def tiny_model(architecture: str) -> Any:
    """A random model in evaluation mode that ends nowhere of its own accord."""
    window = {"sliding_window": WINDOW} if architecture == "mistral" else {}
    model = built(architecture.capitalize(), seed=5, **_SIZES, **window)
    model.generation_config = GenerationConfig()
    return model


def mixed_requests(count: int, seed: int) -> list[ResolvedRequest]:
    """Requests over beams, sampling, ends that come early, late and never, and prompts that begin alike."""
    rng = random.Random(seed)
    common = [rng.randrange(VOCABULARY) for _ in range(60)]
    requests = []
    for number in range(count):
        sampling = Sampling(
            temperature=rng.choice([1.0, 0.7, 1.3]), top_k=rng.choice([0, 0, 3, 50]), top_p=rng.choice([1.0, 1.0, 0.9])
        )
        own = [rng.randrange(VOCABULARY) for _ in range(rng.choice([1, 3, 8, 40]))]
        requests.append(
            ResolvedRequest(
                prompt=tuple(common[: rng.choice([0, 0, 5, 30, 50])] + own),
                num_beams=1 + number % 5,
                sampling=sampling if (number // 5) % 2 else None,
                max_new_tokens=rng.choice([1, 2, 7, 20, 45]),
                ends=rng.choice([(), (1,), (1, 2), tuple(range(10))]),
                seed=rng.randrange(2**62),
            )
        )
    return requests


class Caught:
    def __init__(self) -> None:
        self.tokens: list[int] | None = None
        self.error: Exception | None = None
        self.gone = False

    def cancelled(self) -> bool:
        return self.gone

    def reply(self, tokens: list[int], probabilities: Sequence[float]) -> None:
        self.tokens, self.probabilities = tokens, probabilities

    def fail(self, error: Exception) -> None:
        self.error = error


def decode(decoder: Decoder, requests: list[ResolvedRequest], rng: random.Random | None = None) -> list[Caught]:
    """All replies, in the order of the requests; with ``rng`` they arrive in any order, now and then."""
    caught = [Caught() for _ in requests]
    order = list(range(len(requests)))
    if rng is not None:
        rng.shuffle(order)
    while order or decoder.unfinished:
        for _ in range(len(order) if rng is None else rng.choice([0, 0, 1, 3])):
            if order:
                number = order.pop(0)
                decoder.add(requests[number], caught[number])
        decoder.step()
    return caught
