"""What goes into a request by either protocol, and how a reply is read."""

import json
import re
from typing import Any

import anthropic
import httpx2
import pytest

from defsurvey.storage.runs.run import Decoding, UsedDecoding
from defsurvey.workers.engines.base import ClosedReply, Completion, EngineUnavailable, FinishReason, Message, Request
from defsurvey.workers.engines.http import Client
from defsurvey.workers.engines.openai import OpenAIProvider
from defsurvey.workers.models import ModelCard
from tests.workers.api.conftest import ANTHROPIC, KEY, OPENAI, Protocol, ask
from tests.workers.api.server import ANTHROPIC_PATH, OPENAI_PATH, Got, Reply, chat, message

USUAL = ("temperature", "top_p", "seed")
TURNS = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="One?"),
    Message(role="assistant", content="Two."),
    Message(role="user", content="Three?"),
)


def exchange(protocol: Protocol, reply: Reply, request: Request, **card: Any) -> tuple[Completion, Got]:
    """A completion and the request that the server got for it."""
    with protocol.engine(lambda got, before: reply, **card) as (engine, server):
        completion = engine.submit(request).result(20)
        return completion, server.got[0]


def test_a_request_to_anthropic_as_it_is_sent() -> None:
    request = Request(messages=TURNS, decoding=Decoding(), seed=1)
    _, got = exchange(ANTHROPIC, message(), request, body={"thinking": {"type": "disabled"}})
    assert (got.path, got.headers["authorization"]) == (ANTHROPIC_PATH, f"Bearer {KEY}")
    assert got.body == {
        "model": "some-model",
        "max_tokens": 512,
        "system": "Be brief.",
        "messages": [{"role": turn.role, "content": turn.content} for turn in TURNS[1:]],
        "thinking": {"type": "disabled"},
    }


def test_a_request_to_openai_as_it_is_sent() -> None:
    request = Request(messages=TURNS, decoding=ask().decoding, seed=(5 << 31) + 12)
    completion, got = exchange(OPENAI, chat(), request, body={"top_k": 0}, takes=USUAL)
    assert (got.path, got.headers["authorization"]) == (OPENAI_PATH, f"Bearer {KEY}")
    assert got.body == {
        "model": "some-model",
        "messages": [{"role": turn.role, "content": turn.content} for turn in TURNS],
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


def test_what_the_server_does_not_take_is_not_sent_and_recorded_as_its_default(protocol: Protocol) -> None:
    completion, got = exchange(protocol, protocol.says(), ask())
    assert got.body.keys() == {"model", "messages", "max_tokens"}
    assert completion.used == UsedDecoding(
        num_beams=None, do_sample=None, temperature=None, top_p=None, max_new_tokens=64
    )
    assert (completion.prompt_tokens, completion.completion_tokens) == (20, 5)
    assert got.headers.get("anthropic-version") in (None, anthropic._constants.ANTHROPIC_API_VERSION)


@pytest.mark.parametrize(("do_sample", "temperature", "top_k"), [(True, 0.7, 50), (False, 0.0, None)])
def test_a_model_of_anthropic_is_given_what_it_takes_under_the_last_version_that_has_it(
    do_sample: bool, temperature: float, top_k: int | None
) -> None:
    decoding = Decoding(num_beams=3, do_sample=do_sample, temperature=0.7, top_p=0.9, top_k=50, max_new_tokens=64)
    completion, got = exchange(ANTHROPIC, message(), ask(decoding=decoding), takes=("temperature", "top_k"))
    assert got.headers["anthropic-version"] == "2023-06-01"
    assert (got.body["temperature"], got.body.get("top_k"), "top_p" in got.body) == (temperature, top_k, False)
    assert completion.used == UsedDecoding(
        num_beams=None, do_sample=do_sample, temperature=temperature, top_p=None, top_k=top_k, max_new_tokens=64
    )


def test_no_limit_of_tokens_is_the_default_of_anthropic_and_a_number_elsewhere(protocol: Protocol) -> None:
    decoding = Decoding(do_sample=True, top_k=0, max_new_tokens=64)
    _, got = exchange(protocol, protocol.says(), ask(decoding=decoding), takes=("temperature", "top_k"))
    assert got.body.get("top_k") == (None if protocol is ANTHROPIC else -1)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_server_that_searches_beams_is_asked_to_and_cannot_sample_meanwhile(beams: int) -> None:
    decoding = Decoding(num_beams=beams, do_sample=True, max_new_tokens=64)
    completion, got = exchange(OPENAI, chat(), ask(decoding=decoding), takes=(*USUAL, "beams"))
    searched = beams > 1
    assert (got.body.get("use_beam_search"), got.body.get("n")) == ((True, 3) if searched else (None, None))
    assert got.body["temperature"] == (0.0 if searched else 1.0)
    assert (completion.used.num_beams, completion.used.do_sample) == (beams, not searched)


def test_a_structured_reply_is_asked_for_where_a_request_has_a_schema(protocol: Protocol) -> None:
    schema = {"type": "object", "properties": {}}
    _, got = exchange(protocol, protocol.says("{}"), ask(schema=schema))
    if protocol is ANTHROPIC:
        assert got.body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    else:
        told = {"name": "reply", "schema": schema, "strict": True}
        assert got.body["response_format"] == {"type": "json_schema", "json_schema": told}


@pytest.mark.parametrize(
    ("protocol", "reply", "finish", "text"),
    [
        (ANTHROPIC, message("Half an", stop="stop_sequence"), FinishReason.STOP, "Half an"),
        (ANTHROPIC, message("Half an", stop="max_tokens"), FinishReason.LENGTH, "Half an"),
        (ANTHROPIC, message("Half an", stop="model_context_window_exceeded"), FinishReason.LENGTH, "Half an"),
        (ANTHROPIC, message("Half an", stop="refusal"), FinishReason.REFUSAL, "Half an"),
        (OPENAI, chat("Half an", finish="length"), FinishReason.LENGTH, "Half an"),
        (OPENAI, chat("Half an", finish="content_filter"), FinishReason.REFUSAL, "Half an"),
        (OPENAI, chat(None, refusal="I must not."), FinishReason.REFUSAL, "I must not."),
        (OPENAI, chat(None, finish="length", reasoning_content="Hm"), FinishReason.LENGTH, ""),
        (OPENAI, chat("So", finish="something_new"), FinishReason.STOP, "So"),
    ],
)
def test_why_it_ended_is_told(protocol: Protocol, reply: Reply, finish: FinishReason, text: str) -> None:
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
        (broken_off("Answer: 2", "error", {"code": 502, "message": "disconnected"}), "disconnected"),
        (broken_off("Answer: 2", "stop", {"message": "disconnected"}), "disconnected"),
        (broken_off("Ans", "abort"), "the reply broke off: abort"),
    ],
)
def test_a_reply_that_broke_off_is_asked_for_again(reply: Reply, words: str) -> None:
    def behave(got: Got, before: int) -> Reply:
        return reply if got.prompt == "never" or not before else chat("All")

    with OPENAI.engine(behave) as (engine, server):
        assert engine.submit(ask()).result(20).text == "All"
        assert len(server.got) == 2
        never = engine.submit(ask("never")).result(20)
        assert (never.text, never.finish) == ("", FinishReason.ERROR)
        assert never.error == f"the server says 200: {words} (asked 8 times)"


@pytest.mark.parametrize("begun", [False, True])
def test_a_reply_is_begun_only_where_the_card_says_so_and_told_once(protocol: Protocol, begun: bool) -> None:
    for said in (" 2",) if protocol is ANTHROPIC else (" 2", "Answer: 2"):  # some servers repeat the beginning
        completion, got = exchange(protocol, protocol.says(said), ask(reply_start="Answer: "), answer_prefix=begun)
        assert got.body["messages"][1:] == ([{"role": "assistant", "content": "Answer:"}] if begun else [])
        assert completion.text == ("Answer: 2" if begun else said)


def test_only_text_is_read_and_cached_tokens_count() -> None:
    texts = [{"type": "text", "text": "Answer: "}, {"type": "text", "text": "3"}]
    body = json.loads(message().body)
    body["content"] = [{"type": "thinking", "thinking": "Hm.", "signature": "x"}, *texts]
    body["usage"] = {"input_tokens": 3, "cache_read_input_tokens": 100, "output_tokens": 9}
    completion, _ = exchange(ANTHROPIC, Reply(body=json.dumps(body)), ask())
    assert completion.text == "Answer: 3"
    assert (completion.prompt_tokens, completion.completion_tokens) == (103, 9)
    body = json.loads(chat().body)
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    body["choices"][0]["message"]["content"] = [thought, *texts, "not a part"]
    completion, _ = exchange(OPENAI, Reply(body=json.dumps(body)), ask())
    assert (completion.text, completion.finish) == ("Answer: 3", FinishReason.STOP)


@pytest.mark.parametrize("key", [None, KEY])
def test_nothing_of_the_environment_is_sent_wherever_the_card_points(
    protocol: Protocol, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "Authorization: Bearer others-token\nX-Gateway-Key: others-key")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "others-token")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9/others-address")
    monkeypatch.setenv("OPENAI_API_KEY", "others-key")
    completion, got = exchange(protocol, protocol.says(), ask(), key=key, takes=("temperature",))
    assert completion.text == "Answer: 1"
    assert "others" not in str(got.headers)
    nothing = "Bearer none" if protocol is ANTHROPIC else ""
    assert got.headers.get("authorization", "") == (f"Bearer {key}" if key else nothing)


@pytest.mark.parametrize(
    ("address", "takes", "limit"),
    [
        (None, USUAL, "max_completion_tokens"),
        ("https://EU.api.openai.com:443/v1/", USUAL, "max_completion_tokens"),
        ("https://mine.openai.azure.com/openai/v1", USUAL, "max_completion_tokens"),
        ("https://proxy.example.org/v1", ("max_completion_tokens",), "max_completion_tokens"),
        ("https://api.openai.com.example.org/v1", USUAL, "max_tokens"),
        ("https://notapi.openai.com/v1", USUAL, "max_tokens"),
    ],
)
def test_openai_is_told_the_limit_by_its_new_name_and_others_where_the_card_says_so(
    address: str | None, takes: tuple[str, ...], limit: str
) -> None:
    sent = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append((str(request.url), json.loads(request.content)))
        return httpx2.Response(200, text=chat().body)

    provider = OpenAIProvider(ModelCard(name="some", engine="openai", model="m", base_url=address, takes=takes), KEY)
    provider._mine.client = Client(seconds=20.0, transport=httpx2.MockTransport(answer))
    provider.ask(ask())
    [(url, body)] = sent
    assert address is not None or url == "https://api.openai.com/v1/chat/completions"
    assert {name: value for name, value in body.items() if name.startswith("max_")} == {limit: 64}


def test_an_error_is_found_wherever_the_server_puts_it() -> None:
    told = {
        '{"error": {"message": "too long"}}': ": too long",
        '{"object": "error", "message": "too long"}': ": too long",
        '{"detail": [{"loc": "messages"}]}': ': [{"loc": "messages"}]',
        '{"error": "too long"}': ": too long",
        "too\nlong": ": too long",
        "": "",
    }
    for body, words in told.items():
        completion, _ = exchange(OPENAI, Reply(status=400, body=body), ask())
        assert completion.error == f"the server says 400{words}"


@pytest.mark.parametrize(
    ("told", "words", "asked"),
    [
        ({"message": "Insufficient credits", "code": 402}, "Insufficient credits", 1),
        ({"message": "no such model", "code": "404"}, "no such model", 1),
        ({"message": "too long", "code": 400}, "too long", 1),
        ({"message": "slow down", "code": 429}, "slow down", 2),
        ("on fire", "on fire", 2),
    ],
)
def test_an_error_that_comes_as_a_success_is_what_it_says(told: object, words: str, asked: int) -> None:
    for reply in (Reply(body=json.dumps({"error": told})), broken_off("", "error", told)):
        with OPENAI.engine(lambda got, before, reply=reply: reply, attempts=2) as (engine, server):
            try:
                said = engine.submit(ask()).result(20).error
            except EngineUnavailable as error:
                said = str(error)
            assert f"the server says 200: {words}" in said
            assert len(server.got) == asked


def test_a_description_says_what_is_asked_and_how(protocol: Protocol) -> None:
    with protocol.engine(lambda got, before: protocol.says(), takes=("temperature",), body={"top_k": 0}) as (engine, _):
        described = dict(engine.describe())
    client = {"anthropic": anthropic.__version__} if protocol is ANTHROPIC else {"httpx2": httpx2.__version__}
    assert described.pop("server").startswith("http://127.0.0.1:")
    assert described == {
        "engine": protocol.name,
        "model": "some-model",
        "takes": "temperature",
        "body": '{"top_k": 0}',
        "answer_prefix": "false",
        "structured": "json_schema",
        **client,
    }


# Replies that can name options alone.

ONE = ClosedReply(options=("0", "4", "11"))
TWO = ClosedReply(options=("7", "1", "10"), most=2, separator="、")
BRIEF = Decoding(num_beams=3, max_new_tokens=1)
OF_TWO = {"answer_1": ["7", "1", "10"], "answer_2": ["7", "1", "10", "none"]}
BOTH_FORMS = [
    (ONE, {"answer": ["0", "4", "11"]}, '{"answer": "11"}', "答案：11"),
    (TWO, OF_TWO, '{"answer_1": "10", "answer_2": "7"}', "答案：10、7"),
    (TWO, OF_TWO, '{"answer_1": "7", "answer_2": "none"}', "答案：7"),
    (TWO, OF_TWO, '{"answer_1": "7", "answer_2": "7"}', "答案：7"),
]


@pytest.mark.parametrize(("closed", "places", "said", "text"), BOTH_FORMS)
def test_a_schema_holds_a_reply_to_options_and_its_json_comes_back_in_words(
    protocol: Protocol, closed: ClosedReply, places: dict[str, list[str]], said: str, text: str
) -> None:
    """It is begun for nobody and never cut off, and the card's own fields neither replace it nor are replaced."""
    asked = ask(closed=closed, reply_start="答案：", decoding=BRIEF)
    own = {"output_config": {"effort": "low"}, "response_format": {"type": "text"}}
    completion, got = exchange(protocol, protocol.says(said), asked, answer_prefix=True, body=own)
    schema = {
        "type": "object",
        "properties": {name: {"type": "string", "enum": options} for name, options in places.items()},
        "required": list(places),
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "schema": schema}
    if protocol is ANTHROPIC:
        assert got.body["output_config"] == {"effort": "low", "format": form}
    else:
        told = {"name": "reply", "schema": schema, "strict": True}
        assert got.body["response_format"] == {"type": "json_schema", "json_schema": told}
    assert [turn["role"] for turn in got.body["messages"]] == ["user"]
    assert got.body["max_tokens"] == completion.used.max_new_tokens >= len(said)
    assert (completion.text, completion.finish) == (text, FinishReason.STOP)


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("way", ["structured_outputs", "guided_choice"])
def test_vllm_is_given_the_replies_themselves_by_its_present_name_or_its_old_one(way: str, begun: bool) -> None:
    def sent(closed: ClosedReply, said: str) -> tuple[Any, str]:
        asked = ask(closed=closed, reply_start="Answer: ", decoding=BRIEF)
        takes = (*USUAL, "beams")
        completion, got = exchange(OPENAI, chat(said), asked, structured=way, answer_prefix=begun, takes=takes)
        assert (got.body.get("use_beam_search"), completion.used.num_beams) == (None, 1)
        assert [turn["content"] for turn in got.body["messages"]] == ["How?", "Answer:"][: 1 + begun]
        form = {name: value for name, value in got.body.items() if name.startswith(("structured", "guided"))}
        return form, completion.text

    beginning = " " if begun else "Answer: "
    form, text = sent(ONE, f"{beginning}4")
    choices = [f"{beginning}{option}" for option in ("0", "4", "11")]
    assert form == ({"guided_choice": choices} if way == "guided_choice" else {way: {"choice": choices}})
    assert text == "Answer: 4"
    form, text = sent(TWO, f"{beginning}10、7")
    (pattern,) = form.values() if way == "guided_choice" else form[way].values()
    assert text == "Answer: 10、7"
    fits = {said: bool(re.fullmatch(pattern, beginning + said)) for said in ("7", "10、1", "70", "7、", "1、7、10", "")}
    assert fits == {"7": True, "10、1": True, "70": False, "7、": False, "1、7、10": False, "": False}


@pytest.mark.parametrize("said", ["Answer: 4\nExplanation: So it is.", '{"answer": "5"}', '["4"]', "{}", ""])
def test_a_server_that_ignores_what_a_reply_is_held_to_is_told_with_the_field_that_helps(
    protocol: Protocol, said: str
) -> None:
    completion, _ = exchange(protocol, protocol.says(said), ask(closed=ONE, reply_start="Answer: "))
    assert (completion.text, completion.finish) == ("", FinishReason.ERROR)
    assert "the server did not hold its reply to the options" in completion.error
    assert completion.error.endswith("in the card's `structured`")


def test_what_is_cut_off_or_refused_stays_what_it_is(protocol: Protocol) -> None:
    """Neither is a reply that names options, and the server is not to blame."""
    stops = ("max_tokens", "refusal") if protocol is ANTHROPIC else ("length", "content_filter")
    for stop, finish in zip(stops, (FinishReason.LENGTH, FinishReason.REFUSAL), strict=True):
        reply = message('{"answ', stop=stop) if protocol is ANTHROPIC else chat('{"answ', finish=stop)
        completion, _ = exchange(protocol, reply, ask(closed=ONE, reply_start="Answer: "))
        assert (completion.text, completion.finish) == ('{"answ', finish)
