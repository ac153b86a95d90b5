"""Models behind the API of Anthropic, by its own client.

Retries are not the client's but those of ``workers.engines.api``, so that requests that wait do not count as under way.
Beams do not exist there: what was used is recorded as the provider's default, and so is every parameter that the
model's card does not say it takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import anthropic

from defsurvey.storage.runs.run import EngineDescription, UsedDecoding
from defsurvey.workers.engines.api import ApiEngine
from defsurvey.workers.engines.base import Completion, FinishReason, Request
from defsurvey.workers.engines.exchange import Rejected, Retryable, failure, json_object, tokens
from defsurvey.workers.engines.in_time import InTime, TooLong
from defsurvey.workers.engines.keys import find_key, redacted, without_key
from defsurvey.workers.models import ModelCard

#: The provider's own address; the client's environment variable for it is not read: a card says who is asked.
BASE_URL = "https://api.anthropic.com"
#: The last version of the API that takes sampling parameters; later ones refuse them whatever the model.
SAMPLING_VERSION = "2023-06-01"

_FINISHES = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.REFUSAL,
}


def open_anthropic(card: ModelCard) -> ApiEngine:
    """An engine for a card.

    Raises:
        EngineUnavailable: there is no key.
    """
    key = find_key(card)
    return ApiEngine(card, AnthropicProvider(card, open_client(card, key), key))


class _InTime(InTime, anthropic.DefaultHttpxClient):
    """The client that the provider's own would open, but for that."""


def open_client(card: ModelCard, key: str | None) -> anthropic.Anthropic:
    """The provider's client for a card; it tries everything once, and each reply has to be there in time."""
    api = card.api
    assert api is not None
    in_time = _InTime(follow_redirects=False)  # whom the card names is asked, nobody else
    in_time.seconds = api.timeout_seconds
    headers = {"anthropic-version": SAMPLING_VERSION} if api.takes else {}
    client = anthropic.Anthropic(
        api_key=key or "none",  # without any, the client would look for one by itself
        base_url=api.base_url or BASE_URL,
        timeout=anthropic.Timeout(api.timeout_seconds, connect=10.0),
        max_retries=0,
        http_client=in_time,
    )
    # Not by the client's own option, which adds what ANTHROPIC_CUSTOM_HEADERS says: keys, maybe of another server.
    client._custom_headers = headers
    return client


class AnthropicProvider:
    """Asks a model of Anthropic.

    Args:
        card: The model.
        client: Asks; it is closed with the engine.
        key: What the client sends as its key, to be kept out of messages.
    """

    def __init__(self, card: ModelCard, client: anthropic.Anthropic, key: str | None) -> None:
        assert card.api is not None
        self._api = card.api
        self._prefills = card.answer_prefix
        self._client = client
        self._key = key

    def ask(self, request: Request) -> Completion:
        """Ask once; see ``workers.engines.api.Provider``."""
        told = self.body(request)
        try:
            response = self._client.messages.with_raw_response.create(
                model=self._api.model,
                max_tokens=request.decoding.max_new_tokens,
                messages=told["messages"],
                extra_body=told,
            )
            body = response.http_response.text
        except anthropic.APIStatusError as error:
            went_wrong = failure(error.status_code, error.response.headers, error.response.text, self._key)
        except anthropic.APIConnectionError as error:
            went_wrong = self._not_reached(error)
        else:
            return self.completion(json_object(body), request)
        raise went_wrong  # out here, so that no traceback leads to the client's request and its headers

    def _not_reached(self, error: anthropic.APIConnectionError) -> Exception:
        """What follows where no reply came, or more of one than is read; the client knows both as one."""
        cause = error.__cause__
        if isinstance(cause, TooLong):
            return Rejected(str(cause))
        told = f"{type(cause).__name__}: {cause}" if cause else str(error)
        return Retryable(redacted(f"the server was not reached: {told}", self._key))

    def body(self, request: Request) -> dict[str, Any]:
        """What is sent for a request, as JSON; alone, or as one of a batch."""
        start = self._start(request)
        told: list[Any] = [{"role": turn.role, "content": turn.content} for turn in request.messages]
        turns = [turn for turn in told if turn["role"] != "system"]
        system = "\n\n".join(turn["content"] for turn in told if turn["role"] == "system")
        if start:
            turns.append({"role": "assistant", "content": start})
        schema = {"type": "json_schema", "schema": dict(request.schema)} if request.schema is not None else None
        return {
            "model": self._api.model,
            "max_tokens": request.decoding.max_new_tokens,
            "messages": turns,
            **({"system": system} if system else {}),
            **({"output_config": {"format": schema}} if schema else {}),
            **self._sampling(request),
            **self._api.body,
        }

    def describe(self) -> EngineDescription:
        """Model, address, what it takes and what is put into every request."""
        return {
            "engine": "anthropic",
            "model": self._api.model,
            "server": self._api.base_url or BASE_URL,
            "takes": ", ".join(self._api.takes) or "no decoding parameters",
            "body": json.dumps(dict(self._api.body), sort_keys=True),
            "answer_prefix": str(self._prefills).lower(),
            "anthropic": anthropic.__version__,
        }

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _sampling(self, request: Request) -> dict[str, float]:
        """What the model takes of the decoding; it has no switch for sampling, but at temperature 0 there is none."""
        decoding = request.decoding
        wanted = {"temperature": decoding.temperature if decoding.do_sample else 0.0, "top_p": decoding.top_p}
        if decoding.do_sample and decoding.top_k:
            wanted["top_k"] = decoding.top_k  # no limit has no number there: it is the default
        return {name: value for name, value in wanted.items() if name in self._api.takes}

    def _used(self, request: Request) -> UsedDecoding:
        sent = self._sampling(request)
        return UsedDecoding(
            top_k=request.decoding.top_k if "top_k" in sent else None,
            num_beams=None,
            do_sample=request.decoding.do_sample if "temperature" in sent else None,
            temperature=sent.get("temperature"),
            top_p=sent.get("top_p"),
            max_new_tokens=request.decoding.max_new_tokens,
        )

    def _start(self, request: Request) -> str:
        return request.reply_start.rstrip() if self._prefills else ""

    def completion(self, body: Mapping[str, object], request: Request) -> Completion:
        """What a message says that answers a request.

        Raises:
            Retryable: it is no message.
        """
        blocks = body.get("content")
        if not isinstance(blocks, list):
            raise Retryable("the server's reply is no message: it has no content")
        said = "".join(
            block["text"]
            for block in blocks
            if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str)
        )
        usage = body.get("usage")
        return Completion(
            text=without_key(self._start(request) + said if said else "", self._key),
            finish=_FINISHES.get(str(body.get("stop_reason")), FinishReason.STOP),
            used=self._used(request),
            prompt_tokens=tokens(usage, "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"),
            completion_tokens=tokens(usage, "output_tokens"),
        )
