"""Tiny models in memory, and what the library itself makes of the requests that several tests put to them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from defsurvey.workers.engines.transformers import opening
from defsurvey.workers.engines.transformers.core.adoption import UnsupportedModel, adopt
from defsurvey.workers.engines.transformers.core.engine import TransformersEngine
from defsurvey.workers.engines.transformers.core.forward import Layout
from defsurvey.workers.engines.transformers.core.loaded import LoadedModel
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest
from defsurvey.workers.models import ModelCard
from tests.workers.engine.scripted_logits import generated
from tests.workers.engine.tiny_models import ARCHITECTURES, mixed_requests, tiny_model

#: How many requests are compared with ``generate``; `make exact` asks for ten times as many.
REQUESTS = int(os.environ.get("DEFSURVEY_EXACT_REQUESTS", "20"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiny:
    model: Any
    layout: Layout
    requests: list[ResolvedRequest]
    replies: list[list[int]]  #: what ``generate`` alone gives to each request


@pytest.fixture(scope="session", params=ARCHITECTURES)
def tiny(request: pytest.FixtureRequest, one_thread: None) -> Tiny:
    model = tiny_model(request.param)
    requests = mixed_requests(REQUESTS, seed=3)
    # Before the batch touches the model: the oracle is the library as it comes.
    replies = [generated(model, asked) for asked in requests]
    layout = adopt(model)
    return Tiny(model=model, layout=layout, requests=requests, replies=replies)


@pytest.fixture(scope="session")
def llama(one_thread: None) -> Tiny:
    """The tiny model without a window, with no requests of its own."""
    model = tiny_model("llama")
    return Tiny(model=model, layout=adopt(model), requests=[], replies=[])


@pytest.fixture(params=["batch", "alone"])
def served(
    request: pytest.FixtureRequest, tiny_card: ModelCard, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., TransformersEngine]]:
    """Opens an engine with what its card says besides: one that has a batch, and one that takes a request at a time."""

    def refuse(_model: object) -> None:
        raise UnsupportedModel("it is said so in this test")

    if request.param == "alone":
        monkeypatch.setattr(opening, "adopt", refuse)
    opened: list[TransformersEngine] = []

    def opens(**fields: object) -> TransformersEngine:
        opened.append(opening.serve(tiny_card.model_copy(update=fields), opening.in_memory(tiny_loaded), threads=1))
        return opened[-1]

    yield opens
    for engine in opened:
        engine.close()


@pytest.fixture
def engine(served: Callable[..., TransformersEngine]) -> TransformersEngine:
    return served()
