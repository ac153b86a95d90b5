"""Models behind any server that speaks OpenAI's chat protocol: vLLM, SGLang, llama.cpp, OpenAI itself."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx2

from defsurvey.workers.engines.api import ApiEngine, Provider
from defsurvey.workers.engines.base import Completion, FinishReason, Request
from defsurvey.workers.engines.http import Client, Retryable, failure, json_object, not_reached, tokens
from defsurvey.workers.engines.keys import find_key, without_key
from defsurvey.workers.engines.structured import of_vllm
from defsurvey.workers.models import ModelCard

#: Seeds are drawn from 63 bits; servers agree on 31.
_SEED_BITS = (1 << 31) - 1

_FINISHES = {"length": FinishReason.LENGTH, "content_filter": FinishReason.REFUSAL}
#: Reasons to finish that are the server's own and none of the model's: OpenRouter's, DeepSeek's, vLLM's and SGLang's.
_BROKEN_OFF = frozenset({"error", "insufficient_system_resource", "abort"})
#: Where OpenAI's own models are asked: at its own address or one below it, and at those of Azure.
_OF_OPENAI = re.compile(r"(.+\.)?api\.openai\.com|.+\.openai\.azure\.com")


def open_openai(card: ModelCard) -> ApiEngine:
    """An engine for a card; raises EngineUnavailable where a key is wanted and there is none."""
    return ApiEngine(card, OpenAIProvider(card, find_key(card)))


class OpenAIProvider(Provider):
    """Asks a server by OpenAI's protocol; the key is sent as a bearer token."""

    BASE_URL, CLIENT = "https://api.openai.com/v1", {"httpx2": httpx2.__version__}

    def __init__(self, card: ModelCard, key: str | None) -> None:
        super().__init__(card, key)
        # OpenAI has renamed the limit, and its newer models refuse the old name; most others know the old one alone.
        renamed = _OF_OPENAI.fullmatch((urlsplit(self._url).hostname or "").rstrip("."))
        self._limit = "max_completion_tokens" if renamed or "max_completion_tokens" in card.takes else "max_tokens"
        self._completions = httpx2.URL(f"{self._url.rstrip('/')}/chat/completions")
        self._headers = httpx2.Headers({"accept": "application/json", "user-agent": "defsurvey"})
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._tls = httpx2.create_ssl_context()
        self._clients: list[Client] = []
        self._mine = threading.local()

    def _client(self) -> Client:
        """Each thread has one of its own: they would wait for each other at the connections of a common one."""
        if not hasattr(self._mine, "client"):
            self._mine.client = Client(seconds=self._card.timeout_seconds, verify=self._tls)
            self._clients.append(self._mine.client)
        client: Client = self._mine.client
        return client

    def ask(self, request: Request) -> Completion:
        """Ask once; see ``Provider``."""
        try:
            sent = httpx2.Request("POST", self._completions, headers=self._headers, json=self._body(request))
            reply = self._client().send(sent)
        except httpx2.HTTPError as error:
            went_wrong = not_reached(error, self._key)
        else:
            text = reply.content.decode("utf-8", "replace")
            body = json_object(text) if reply.is_success else {}
            wrong = _error(body)
            if reply.is_success and not wrong:
                return self._completion(body, request)
            said = json.dumps({"error": wrong}) if wrong else text
            went_wrong = failure(reply.status_code, reply.headers, said, self._key)
        raise went_wrong  # out here, so that no traceback leads to the request's headers

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()

    def _body(self, request: Request) -> dict[str, object]:
        turns = [{"role": message.role, "content": message.content} for message in request.messages]
        if start := self._start(request):
            turns.append({"role": "assistant", "content": start})
        body = {"model": self._card.model, "messages": turns, self._limit: self._most(request)}
        body |= self._decoding(request)
        if request.closed is not None:  # whatever the card's own fields say
            return body | self._card.body | self._form(request)
        return body | self._form(request) | self._card.body

    def _form(self, request: Request) -> dict[str, object]:
        """What holds the reply to a form."""
        if (schema := self._schema(request)) is not None:
            told = {"name": "reply", "schema": dict(schema), "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": told}}
        if request.closed is None:
            return {}
        way, allowed = of_vllm(request.closed, request.reply_start.removeprefix(self._start(request)))
        older = self._card.structured == "guided_choice"
        return {f"guided_{way}": allowed} if older else {"structured_outputs": {way: allowed}}

    def _decoding(self, request: Request) -> dict[str, object]:
        """What the server takes of the decoding. Beams are searched, never sampled: it has no beam sampling."""
        decoding, takes = request.decoding, self._card.takes
        searches = "beams" in takes and self._beams(request) > 1
        wanted = {
            "temperature": decoding.temperature if decoding.do_sample and not searches else 0.0,
            "top_p": decoding.top_p,
            "top_k": decoding.top_k or -1,
            "seed": request.seed & _SEED_BITS,
        }
        sent: dict[str, object] = {name: value for name, value in wanted.items() if name in takes}
        if searches:
            sent |= {"use_beam_search": True, "n": decoding.num_beams}
        return sent

    def _completion(self, body: Mapping[str, object], request: Request) -> Completion:
        choice = _choice(body)
        message = choice.get("message")
        if not isinstance(message, dict):
            raise Retryable("the server's reply is no chat completion: it has no choices with a message")
        said, declined = _text(message.get("content")), _text(message.get("refusal"))
        start, usage, sent = self._start(request), body.get("usage"), self._decoding(request)
        if said and not said.lstrip().startswith(start):  # some servers repeat the beginning that they were given
            said = start + said
        finish = _FINISHES.get(str(choice.get("finish_reason")), FinishReason.STOP)
        if finish is FinishReason.STOP and not declined:
            said = self._in_words(said, request)
        return Completion(
            text=without_key(declined or said, self._key),
            finish=FinishReason.REFUSAL if declined else finish,
            used=self._used(request, sent, sampled=request.decoding.do_sample and "use_beam_search" not in sent),
            prompt_tokens=tokens(usage, "prompt_tokens"),
            completion_tokens=tokens(usage, "completion_tokens"),
        )


def _choice(body: Mapping[str, object]) -> Mapping[str, object]:
    """The one choice of a reply; empty where it has none."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) else {}


def _error(body: Mapping[str, object]) -> object:
    """What went wrong although the server tells a success: with no reply, or in the middle of it; None: nothing did."""
    choice = _choice(body)
    broken_off = str(choice.get("finish_reason")) in _BROKEN_OFF
    if error := choice.get("error") or (body.get("error") if broken_off or not choice else None):
        return error
    return {"message": f"the reply broke off: {choice['finish_reason']}"} if broken_off else None


def _text(value: object) -> str:
    """A content as a text; of one in parts those that are text."""
    if isinstance(value, list):
        parts = [part.get("text") for part in value if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(text for text in parts if isinstance(text, str))
    return value if isinstance(value, str) else ""
