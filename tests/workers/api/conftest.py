"""Both protocols behind one face, so that what they have in common is tested on both."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from defsurvey.storage.runs.run import Decoding
from defsurvey.workers.engines.anthropic import AnthropicProvider
from defsurvey.workers.engines.api import ApiEngine
from defsurvey.workers.engines.base import Message, Request
from defsurvey.workers.engines.openai import OpenAIProvider
from defsurvey.workers.models import ModelCard
from tests.workers.api.server import Behaviour, LocalServer, Reply, chat, message, serving

#: A key that nothing may ever show.
KEY = "sk-marked-0123456789abcdef-KEY"


def ask(prompt: str = "How?", **fields: Any) -> Request:
    given = {"decoding": Decoding(do_sample=True, temperature=0.7, top_p=0.9, max_new_tokens=64), "seed": 11}
    return Request(messages=(Message(role="user", content=prompt),), **(given | fields))


@dataclass(frozen=True)
class Protocol:
    name: str

    def card(self, url: str, *, answer_prefix: bool = False, **fields: Any) -> ModelCard:
        """A card for a server at an address without a path."""
        base_url = url if self.name == "anthropic" else f"{url}/v1"
        card = ModelCard(
            name="some", engine=self.name, model="some-model", base_url=base_url, key="OWN_KEY", attempts=8
        )
        return card.model_copy(update={"answer_prefix": answer_prefix, "takes": ()} | fields)

    def says(self, text: str = "Answer: 1") -> Reply:
        return message(text) if self.name == "anthropic" else chat(text)

    @contextmanager
    def engine(self, behave: Behaviour, **fields: Any) -> Iterator[tuple[ApiEngine, LocalServer]]:
        with serving(behave) as server, self.engine_at(server.url, **fields) as engine:
            yield engine, server

    @contextmanager
    def engine_at(
        self, url: str, *, first_wait: float = 0.001, key: str | None = KEY, **fields: Any
    ) -> Iterator[ApiEngine]:
        """An engine that asks whatever server is at an address."""
        card = self.card(url, **fields)
        provider = (AnthropicProvider if self.name == "anthropic" else OpenAIProvider)(card, key)
        engine = ApiEngine(card, provider, first_wait=first_wait)
        try:
            yield engine
        finally:
            engine.close()
            for thread in engine.threads:
                thread.join(5)


ANTHROPIC, OPENAI = Protocol("anthropic"), Protocol("openai")


@pytest.fixture(params=[ANTHROPIC, OPENAI], ids=lambda protocol: protocol.name)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    given: Protocol = request.param
    return given
