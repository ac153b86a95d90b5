"""Models behind the API of Anthropic, by its own client.

Retries are not the client's but those of ``workers.engines.api``, so that requests that wait do not count as under way.
Beams do not exist there: what was used is recorded as the provider's default, and so is every parameter that the
model's card does not say it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anthropic
import httpx2

from defsurvey.workers.engines.api import ApiEngine, Provider
from defsurvey.workers.engines.base import Completion, FinishReason, Request
from defsurvey.workers.engines.http import Client, Retryable, failure, json_object, not_reached, tokens
from defsurvey.workers.engines.keys import find_key, without_key
from defsurvey.workers.models import ModelCard

#: The last version of the API that takes sampling parameters; later ones refuse them whatever the model.
SAMPLING_VERSION = "2023-06-01"

_FINISHES = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.REFUSAL,
}


def open_anthropic(card: ModelCard) -> ApiEngine:
    """An engine for a card; raises EngineUnavailable where there is no key."""
    return ApiEngine(card, AnthropicProvider(card, find_key(card)))


class AnthropicProvider(Provider):
    """Asks a model of Anthropic; ``client`` tries everything once."""

    #: The client's environment variable for the address is not read: a card says who is asked.
    BASE_URL, CLIENT = "https://api.anthropic.com", {"anthropic": anthropic.__version__}

    def __init__(self, card: ModelCard, key: str | None) -> None:
        super().__init__(card, key)
        self.client = anthropic.Anthropic(
            api_key=key or "none",  # without any, the client would look for one by itself
            base_url=self._url,
            max_retries=0,
            http_client=Client(seconds=card.timeout_seconds, limits=httpx2.Limits()),
        )
        # Not by the client's own option, which adds what ANTHROPIC_CUSTOM_HEADERS says: keys, maybe of another server.
        self.client._custom_headers = {"anthropic-version": SAMPLING_VERSION} if card.takes else {}

    def ask(self, request: Request) -> Completion:
        """Ask once; see ``Provider``."""
        body = self.body(request)
        try:
            response = self.client.messages.with_raw_response.create(
                model=self._card.model,
                max_tokens=body["max_tokens"],
                messages=body["messages"],
                extra_body=body,
            )
            text = response.http_response.text
        except anthropic.APIStatusError as error:
            went_wrong = failure(error.status_code, error.response.headers, error.response.text, self._key)
        except anthropic.APIConnectionError as error:
            cause = error.__cause__
            went_wrong = not_reached(cause if isinstance(cause, Exception) else error, self._key)
        else:
            return self.completion(json_object(text), request)
        raise went_wrong  # out here, so that no traceback leads to the client's request and its headers

    def body(self, request: Request) -> dict[str, Any]:
        """What is sent for a request, as JSON; alone, or as one of a batch."""
        messages = request.messages
        turns: list[Any] = [{"role": turn.role, "content": turn.content} for turn in messages if turn.role != "system"]
        system = "\n\n".join(turn.content for turn in messages if turn.role == "system")
        if start := self._start(request):
            turns.append({"role": "assistant", "content": start})
        body: dict[str, Any] = {"model": self._card.model, "max_tokens": self._most(request), "messages": turns}
        if system:
            body["system"] = system
        body |= self._sampling(request) | self._card.body
        if (schema := self._schema(request)) is not None:  # beside what else the card says of the output
            form = {"type": "json_schema", "schema": dict(schema)}
            body["output_config"] = {**body.get("output_config", {}), "format": form}
        return body

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _sampling(self, request: Request) -> dict[str, float]:
        """What the model takes of the decoding; it has no switch for sampling, but at temperature 0 there is none."""
        decoding = request.decoding
        wanted = {"temperature": decoding.temperature if decoding.do_sample else 0.0, "top_p": decoding.top_p}
        if decoding.do_sample and decoding.top_k:
            wanted["top_k"] = decoding.top_k  # no limit has no number there: it is the default
        return {name: value for name, value in wanted.items() if name in self._card.takes}

    def completion(self, body: Mapping[str, object], request: Request) -> Completion:
        """What a message says that answers a request; raises Retryable where it is none."""
        blocks = body.get("content")
        if not isinstance(blocks, list):
            raise Retryable("the server's reply is no message: it has no content")
        texts = [block.get("text") for block in blocks if isinstance(block, dict) and block.get("type") == "text"]
        said = "".join(text for text in texts if isinstance(text, str))
        usage, finish = body.get("usage"), _FINISHES.get(str(body.get("stop_reason")), FinishReason.STOP)
        said = self._start(request) + said if said else ""
        return Completion(
            text=without_key(self._in_words(said, request) if finish is FinishReason.STOP else said, self._key),
            finish=finish,
            used=self._used(request, self._sampling(request), sampled=request.decoding.do_sample),
            prompt_tokens=tokens(usage, "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"),
            completion_tokens=tokens(usage, "output_tokens"),
        )
