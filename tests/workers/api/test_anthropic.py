"""What goes into a message for Anthropic, and how a message is read."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest

from defsurvey.storage.runs.run import Decoding, UsedDecoding
from defsurvey.workers.engines.base import Completion, FinishReason, Message, Request
from tests.workers.api.conftest import KEY, Protocol, ask
from tests.workers.api.server import ANTHROPIC_PATH, Got, Reply, message


def exchange(protocol: Protocol, reply: Reply, request: Request, **card: Any) -> tuple[Completion, Got]:
    """A completion and the request that the server got for it."""
    with protocol.engine(lambda got, before: reply, **card) as (engine, server):
        completion = engine.submit(request).result(20)
        return completion, server.got[0]


@pytest.fixture
def protocol(anthropic_protocol: Protocol) -> Protocol:
    """Anthropic's alone."""
    return anthropic_protocol


def test_a_request_as_it_is_sent(protocol: Protocol) -> None:
    """System turns apart, model and limit from card and request, the key as a bearer token, no streaming."""
    turns = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="One?"),
        Message(role="assistant", content="Two."),
        Message(role="user", content="Three?"),
    )
    thinking = {"thinking": {"type": "disabled"}}
    _, got = exchange(protocol, message(), Request(messages=turns, decoding=Decoding(), seed=1), body=thinking)
    assert got.path == ANTHROPIC_PATH
    assert got.headers["authorization"] == f"Bearer {KEY}"
    assert got.body == {
        "model": "some-model",
        "max_tokens": 512,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "Two."},
            {"role": "user", "content": "Three?"},
        ],
        "thinking": {"type": "disabled"},
    }


def test_without_a_word_of_the_card_no_sampling_parameter_is_sent(protocol: Protocol) -> None:
    """Newer models refuse them, and what is not sent is the provider's default."""
    completion, got = exchange(protocol, message(prompt=31, completion=7), ask())
    assert got.body.keys().isdisjoint({"temperature", "top_p", "top_k"})
    assert got.headers["anthropic-version"] == anthropic._constants.ANTHROPIC_API_VERSION
    assert completion == Completion(
        text="Answer: 1",
        finish=FinishReason.STOP,
        used=UsedDecoding(num_beams=None, do_sample=None, temperature=None, top_p=None, max_new_tokens=64),
        prompt_tokens=31,
        completion_tokens=7,
    )


@pytest.mark.parametrize(("do_sample", "temperature"), [(True, 0.7), (False, 0.0)])
def test_a_model_that_takes_a_temperature_is_given_one(protocol: Protocol, do_sample: bool, temperature: float) -> None:
    """Under the last version of the API that has it; without sampling it is 0. Beams stay the provider's default."""
    decoding = Decoding(num_beams=3, do_sample=do_sample, temperature=0.7, top_p=0.9, max_new_tokens=64)
    completion, got = exchange(protocol, message(), ask(decoding=decoding), takes=("temperature",))
    assert got.body["temperature"] == temperature
    assert "top_p" not in got.body
    assert got.headers["anthropic-version"] == "2023-06-01"
    assert completion.used == UsedDecoding(
        num_beams=None, do_sample=do_sample, temperature=temperature, top_p=None, max_new_tokens=64
    )


@pytest.mark.parametrize(("do_sample", "top_k", "sent"), [(True, 50, 50), (True, 0, None), (False, 50, None)])
def test_a_model_that_takes_a_top_k_is_given_one(
    protocol: Protocol, do_sample: bool, top_k: int, sent: int | None
) -> None:
    """Where it limits anything; the API has no number for no limit, which is its default."""
    decoding = Decoding(do_sample=do_sample, top_k=top_k, max_new_tokens=64)
    completion, got = exchange(protocol, message(), ask(decoding=decoding), takes=("temperature", "top_k"))
    assert got.body.get("top_k") == completion.used.top_k == sent


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("refusal", FinishReason.REFUSAL),
        ("something_new", FinishReason.STOP),
    ],
)
def test_stop_reasons(protocol: Protocol, stop: str, finish: FinishReason) -> None:
    """Why it ended decides on the state of the answer."""
    completion, _ = exchange(protocol, message("Half an ans", stop=stop), ask())
    assert (completion.finish, completion.text) == (finish, "Half an ans")


def test_the_beginning_of_a_reply_is_given_only_where_the_card_says_so(protocol: Protocol) -> None:
    """Without the blank at its end, which the provider refuses, and the reply is told as a whole."""
    plain, got = exchange(protocol, message(" 2"), ask(reply_start="Answer: "))
    assert [turn["role"] for turn in got.body["messages"]] == ["user"]
    assert plain.text == " 2"
    begun, got = exchange(protocol, message(" 2"), ask(reply_start="Answer: "), answer_prefix=True)
    assert got.body["messages"][-1] == {"role": "assistant", "content": "Answer:"}
    assert begun.text == "Answer: 2"


def test_only_text_is_read_and_cached_tokens_count(protocol: Protocol) -> None:
    """Thinking is not the answer; a prompt that came from a cache was read as well."""
    body = json.loads(message().body)
    body["content"] = [
        {"type": "thinking", "thinking": "Hm.", "signature": "x"},
        {"type": "text", "text": "Answer: "},
        {"type": "text", "text": "3"},
    ]
    body["usage"] = {"input_tokens": 3, "cache_read_input_tokens": 100, "output_tokens": 9}
    completion, _ = exchange(protocol, Reply(body=json.dumps(body)), ask())
    assert completion.text == "Answer: 3"
    assert (completion.prompt_tokens, completion.completion_tokens) == (103, 9)


@pytest.mark.parametrize("key", [None, KEY])
def test_nothing_of_the_clients_own_environment_is_sent(
    protocol: Protocol, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """Neither headers nor a token nor an address, wherever the card points: they may be secrets of another server."""
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "Authorization: Bearer others-token\nX-Gateway-Key: others-key")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "others-token")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9/others-address")
    monkeypatch.setenv("ANTHROPIC_PROFILE", "others-profile")
    completion, got = exchange(protocol, message(), ask(), key=key, takes=("temperature",))
    assert completion.text == "Answer: 1"
    assert "others" not in str(got.headers)
    assert got.headers["authorization"] == f"Bearer {key or 'none'}"
    assert got.headers["anthropic-version"] == "2023-06-01"


def test_a_description_says_what_is_asked_and_how(protocol: Protocol) -> None:
    """For provenance: address, model, what is put into every request and by which client."""
    with protocol.engine(lambda got, before: message(), takes=("temperature",), body={"thinking": 1}) as (
        engine,
        server,
    ):
        assert engine.describe() == {
            "engine": "anthropic",
            "model": "some-model",
            "server": server.url,
            "takes": "temperature",
            "body": '{"thinking": 1}',
            "answer_prefix": "false",
            "anthropic": anthropic.__version__,
        }
