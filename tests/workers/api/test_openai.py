"""What goes into a chat completion, and how one is read."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from defsurvey.storage.runs.run import Decoding, UsedDecoding
from defsurvey.workers.engines.base import Completion, EngineUnavailable, FinishReason, Message, Request
from defsurvey.workers.engines.http import Client
from defsurvey.workers.engines.openai import OpenAIProvider
from defsurvey.workers.models import ModelCard
from tests.workers.api.conftest import KEY, Protocol, ask
from tests.workers.api.server import OPENAI_PATH, Got, Reply, chat

USUAL = ("temperature", "top_p", "seed")


def exchange(protocol: Protocol, reply: Reply, request: Request, **card: Any) -> tuple[Completion, Got]:
    """A completion and the request that the server got for it."""
    with protocol.engine(lambda got, before: reply, **({"takes": USUAL} | card)) as (engine, server):
        completion = engine.submit(request).result(20)
        return completion, server.got[0]


@pytest.fixture
def protocol(openai_protocol: Protocol) -> Protocol:
    """OpenAI's alone."""
    return openai_protocol


def test_a_request_as_it_is_sent(protocol: Protocol) -> None:
    """All turns, the decoding, a seed of 31 bits, and what the card puts into every request; no streaming."""
    turns = (Message(role="system", content="Be brief."), Message(role="user", content="One?"))
    request = Request(messages=turns, decoding=ask().decoding, seed=(5 << 31) + 12)
    completion, got = exchange(protocol, chat(), request, body={"top_k": 0})
    assert got.path == OPENAI_PATH
    assert got.headers["authorization"] == f"Bearer {KEY}"
    assert got.body == {
        "model": "some-model",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One?"}],
        "max_tokens": 64,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 12,
        "top_k": 0,
    }
    assert completion == Completion(
        text="Answer: 1",
        finish=FinishReason.STOP,
        used=UsedDecoding(num_beams=None, do_sample=True, temperature=0.7, top_p=0.9, max_new_tokens=64),
        prompt_tokens=20,
        completion_tokens=5,
    )


def test_what_the_server_does_not_take_is_not_sent(protocol: Protocol) -> None:
    """And recorded as its default."""
    completion, got = exchange(protocol, chat(), ask(), takes=())
    assert got.body.keys() == {"model", "messages", "max_tokens"}
    assert completion.used == UsedDecoding(
        num_beams=None, do_sample=None, temperature=None, top_p=None, max_new_tokens=64
    )


def test_a_structured_reply_is_asked_for_where_a_request_has_a_schema(protocol: Protocol) -> None:
    """Under the protocol's own name for it."""
    schema = {"type": "object", "properties": {}}
    _, got = exchange(protocol, chat("{}"), ask(schema=schema))
    told = {"name": "reply", "schema": schema, "strict": True}
    assert got.body["response_format"] == {"type": "json_schema", "json_schema": told}


@pytest.mark.parametrize(("top_k", "sent"), [(50, 50), (0, -1)])
def test_a_server_that_takes_a_top_k_is_given_one(protocol: Protocol, top_k: int, sent: int) -> None:
    """No limit is -1, as vLLM, SGLang and llama.cpp have it; a server that is told nothing takes the model's own."""
    decoding = Decoding(do_sample=True, top_k=top_k, max_new_tokens=64)
    completion, got = exchange(protocol, chat(), ask(decoding=decoding), takes=(*USUAL, "top_k"))
    assert got.body["top_k"] == sent
    assert completion.used.top_k == top_k
    completion, got = exchange(protocol, chat(), ask(decoding=decoding))
    assert "top_k" not in got.body
    assert completion.used.top_k is None


@pytest.mark.parametrize("beams", [1, 3])
def test_a_server_that_searches_beams_is_asked_to(protocol: Protocol, beams: int) -> None:
    """It cannot sample at the same time, and the record says so; one beam is no search."""
    decoding = Decoding(num_beams=beams, do_sample=True, max_new_tokens=64)
    completion, got = exchange(protocol, chat(), ask(decoding=decoding), takes=(*USUAL, "beams"))
    searched = beams > 1
    assert (got.body.get("use_beam_search"), got.body.get("n")) == ((True, 3) if searched else (None, None))
    assert got.body["temperature"] == (0.0 if searched else 1.0)
    assert (completion.used.num_beams, completion.used.do_sample) == (beams, not searched)


@pytest.mark.parametrize(
    ("reply", "finish", "text"),
    [
        (chat("Half an", finish="length"), FinishReason.LENGTH, "Half an"),
        (chat("Half an", finish="content_filter"), FinishReason.REFUSAL, "Half an"),
        (chat(None, refusal="I must not."), FinishReason.REFUSAL, "I must not."),
        (chat(None, finish="length", reasoning_content="Hm"), FinishReason.LENGTH, ""),
        (chat(""), FinishReason.STOP, ""),
        (chat("So", finish="something_new"), FinishReason.STOP, "So"),
    ],
)
def test_finish_reasons(protocol: Protocol, reply: Reply, finish: FinishReason, text: str) -> None:
    """Why it ended decides on the state of the answer; an empty reply is a reply."""
    completion, _ = exchange(protocol, reply, ask())
    assert (completion.finish, completion.text) == (finish, text)


def broken_off(text: str, finish: str, error: object = None) -> Reply:
    """A chat completion that ended before the model had, told as a success."""
    body = json.loads(chat(text, finish=finish).body)
    if error is not None:
        body["choices"][0]["error"] = error
    return Reply(body=json.dumps(body))


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (broken_off("", "error", {"code": 502, "message": "Provider disconnected"}), "Provider disconnected"),
        (broken_off("Answer: 2", "error", {"code": 502, "message": "Provider disconnected"}), "Provider disconnected"),
        (broken_off("Answer: 2", "stop", {"message": "Provider disconnected"}), "Provider disconnected"),
        (broken_off("Ans", "error"), "the reply broke off: error"),
        (broken_off("Ans", "insufficient_system_resource"), "the reply broke off: insufficient_system_resource"),
        (broken_off("Ans", "abort"), "the reply broke off: abort"),
    ],
)
def test_a_reply_that_broke_off_is_asked_for_again(protocol: Protocol, reply: Reply, words: str) -> None:
    """What there is of it is no answer, although it comes as a success; where none ends well, its words are told."""
    with protocol.engine(lambda got, before: reply if got.prompt == "never" or not before else chat("All")) as (
        engine,
        server,
    ):
        assert engine.submit(ask()).result(20).text == "All"
        assert len(server.got) == 2
        never = engine.submit(ask("never")).result(20)
        assert (never.text, never.finish) == ("", FinishReason.ERROR)
        assert never.error == f"the server says 200: {words} (asked 8 times)"


def test_a_reply_that_broke_off_for_good_is_not_asked_for_again(protocol: Protocol) -> None:
    """Its error's code decides, as it does where there is no reply at all."""
    completion, _ = exchange(protocol, broken_off("", "error", {"code": 400, "message": "too long"}), ask())
    assert completion.error == "the server says 200: too long"
    with pytest.raises(EngineUnavailable, match="no credits"):
        exchange(protocol, broken_off("", "error", {"code": 402, "message": "no credits"}), ask())


@pytest.mark.parametrize("said", [" 2", "Answer: 2"])
def test_the_beginning_of_a_reply_is_told_once_whatever_the_server_repeats(protocol: Protocol, said: str) -> None:
    """It is given as a turn of the assistant only where the card says so."""
    completion, got = exchange(protocol, chat(said), ask(reply_start="Answer: "), answer_prefix=True)
    assert got.body["messages"][-1] == {"role": "assistant", "content": "Answer:"}
    assert completion.text == "Answer: 2"
    completion, got = exchange(protocol, chat(said), ask(reply_start="Answer: "))
    assert len(got.body["messages"]) == 1
    assert completion.text == said


def test_a_server_without_a_key_is_sent_none(protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the environment has the provider's."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    _, got = exchange(protocol, chat(), ask(), key=None)
    assert "authorization" not in got.headers


@pytest.mark.parametrize(
    ("address", "takes", "limit"),
    [
        (None, USUAL, "max_completion_tokens"),
        ("https://api.openai.com/v1", USUAL, "max_completion_tokens"),
        ("https://EU.api.openai.com:443/v1/", USUAL, "max_completion_tokens"),
        ("https://mine.openai.azure.com/openai/v1", USUAL, "max_completion_tokens"),
        ("https://proxy.example.org/v1", USUAL, "max_tokens"),
        ("https://proxy.example.org/v1", ("max_completion_tokens",), "max_completion_tokens"),
        ("https://api.openai.com.example.org/v1", USUAL, "max_tokens"),
        ("https://notapi.openai.com/v1", USUAL, "max_tokens"),
    ],
)
def test_openai_is_told_the_limit_by_its_new_name_and_others_where_the_card_says_so(
    address: str | None, takes: tuple[str, ...], limit: str
) -> None:
    """OpenAI's newer models refuse ``max_tokens``, wherever they are asked; most other servers know nothing else."""
    sent = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append((str(request.url), json.loads(request.content)))
        return httpx2.Response(200, text=chat().body)

    card = ModelCard(name="some", engine="openai", model="some-model", base_url=address, takes=takes)
    provider = OpenAIProvider(card, KEY)
    provider._mine.client = Client(seconds=20.0, transport=httpx2.MockTransport(answer))
    provider.ask(ask())
    [(url, body)] = sent
    assert address is not None or url == "https://api.openai.com/v1/chat/completions"
    assert {name: value for name, value in body.items() if name.startswith("max_")} == {limit: 64}


def test_an_error_is_found_wherever_the_server_puts_it(protocol: Protocol) -> None:
    """Some servers wrap their errors, some do not, some send text."""
    told = {
        '{"error": {"message": "too long"}}': "too long",
        '{"object": "error", "message": "too long"}': "too long",
        '{"detail": [{"loc": "messages"}]}': '[{"loc": "messages"}]',
        '{"error": "too long"}': "too long",
        "too\nlong": "too long",
    }
    for body, words in told.items():
        completion, _ = exchange(protocol, Reply(status=400, body=body), ask())
        assert completion.error == f"the server says 400: {words}"
    completion, _ = exchange(protocol, Reply(status=400, body=""), ask())
    assert completion.error == "the server says 400"


@pytest.mark.parametrize(
    ("told", "words", "asked"),
    [
        ({"message": "Insufficient credits", "code": 402}, "Insufficient credits", 1),
        ({"message": "no such model", "code": "404"}, "no such model", 1),
        ({"message": "top up", "code": "insufficient_quota"}, "top up", 1),
        ({"message": "too long", "code": 400}, "too long", 1),
        ({"message": "slow down", "code": 429}, "slow down", 2),
        ({"message": "on fire", "code": "internal"}, "on fire", 2),
        ("on fire", "on fire", 2),
    ],
)
def test_an_error_that_comes_as_a_success_is_what_it_says(
    protocol: Protocol, told: object, words: str, asked: int
) -> None:
    """Proxies between several providers send errors so: the server's words are told, and nothing is asked in vain."""
    reply = Reply(body=json.dumps({"error": told}))
    with protocol.engine(lambda got, before: reply, attempts=2) as (engine, server):
        try:
            said = engine.submit(ask()).result(20).error
        except EngineUnavailable as error:
            said = str(error)
        assert f"the server says 200: {words}" in said
        assert len(server.got) == asked


def test_a_description_says_what_is_asked_and_how(protocol: Protocol) -> None:
    """For provenance: address, model, what is put into every request and by which client."""
    with protocol.engine(lambda got, before: chat(), body={"top_k": 0}) as (engine, server):
        assert engine.describe() == {
            "engine": "openai",
            "model": "some-model",
            "server": f"{server.url}/v1",
            "takes": "no decoding parameters",
            "body": '{"top_k": 0}',
            "answer_prefix": "false",
            "httpx2": httpx2.__version__,
        }


def test_content_in_parts_is_its_texts(protocol: Protocol) -> None:
    """Models that think send their thoughts beside the answer; those are not the answer."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "Answer: "},
        {"type": "text", "text": "3"},
        "not a part",
    ]
    body = json.loads(chat().body)
    body["choices"][0]["message"]["content"] = parts
    completion, _ = exchange(protocol, Reply(body=json.dumps(body)), ask())
    assert (completion.text, completion.finish) == ("Answer: 3", FinishReason.STOP)
