"""What either engine does when a server goes wrong: asks again, waits, gives up, or ends."""

import json
import logging
import re
import threading
import time
import traceback
from concurrent.futures import CancelledError, wait
from contextlib import ExitStack, suppress
from email.utils import formatdate

import pytest

from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.runs.run import Protocol as RunProtocol
from defsurvey.workers.engines import api
from defsurvey.workers.engines.base import NO_DECODING, EngineUnavailable, FinishReason
from defsurvey.workers.engines.http import MOST_TOKENS, Retryable, tokens, wait_asked
from defsurvey.workers.simulation.interview import interview
from defsurvey.workers.simulation.methods import questionnaire
from tests.workers.api.conftest import KEY, OPENAI, Protocol, ask
from tests.workers.api.server import CUT, Got, Reply, error, serving
from tests.workers.citizens import SURVEY, citizen

#: Seconds that something may take which is to happen.
PATIENCE = 20.0
#: Seconds within which whoever waits is told that an engine has ended; servers here ask to wait for longer.
SOON = 5.0


@pytest.mark.parametrize(
    "hiccup",
    [
        error(500),
        error(529, "overloaded"),
        error(408),
        CUT,
        Reply(body='{"choices": [{"mess'),
        Reply(body="[1, 2]"),
        Reply(body='{"type": "message", "content": null, "choices": []}'),
        Reply(body="[" * 100_000),
        Reply(status=502, body="<html>bad gateway</html>", headers={"content-type": "text/html"}),
    ],
    ids=["500", "529", "408", "cut", "malformed", "no object", "no message", "nested", "html"],
)
def test_what_passes_is_asked_again_until_it_is_answered(protocol: Protocol, hiccup: Reply) -> None:
    with protocol.engine(lambda got, before: hiccup if before < 2 else protocol.says("fine")) as (engine, server):
        completion = engine.submit(ask()).result(PATIENCE)
        assert (completion.text, completion.finish, completion.error) == ("fine", FinishReason.STOP, "")
        time.sleep(0.05)
        assert len(server.got) == 3


@pytest.mark.parametrize(("last", "words"), [(error(500, "on fire"), "500: on fire"), (CUT, "was not reached")])
def test_what_does_not_pass_is_given_up_after_the_cards_attempts(protocol: Protocol, last: Reply, words: str) -> None:
    with protocol.engine(lambda got, before: last, attempts=3) as (engine, server):
        completion = engine.submit(ask()).result(PATIENCE)
        assert completion.finish is FinishReason.ERROR
        assert words in completion.error
        assert completion.error.endswith("(asked 3 times)")
        assert len(server.got) == 3


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_is_wrong_fails_with_the_servers_words_and_is_not_repeated(
    protocol: Protocol, status: int
) -> None:
    def behave(got: Got, before: int) -> Reply:
        return error(status, "temperature: too hot") if got.prompt == "hot" else protocol.says()

    with protocol.engine(behave) as (engine, server):
        hot = engine.submit(ask("hot")).result(PATIENCE)
        assert hot.finish is FinishReason.ERROR
        assert hot.error == f"the server says {status}: temperature: too hot"
        assert (hot.text, hot.used) == ("", NO_DECODING)
        assert engine.submit(ask("cool")).result(PATIENCE).finish is FinishReason.STOP
        assert server.asked == {"hot": 1, "cool": 1}


FILTERED = {"message": "The response was filtered", "type": None, "param": "prompt", "status": 400}


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (400, {"code": "content_filter"}),
        (400, {"code": "content_policy_violation"}),
        (400, {"innererror": {"code": "ResponsibleAIPolicyViolation"}}),
        (403, {"code": 403, "metadata": {"reasons": ["x"], "flagged_input": "I"}}),
        (200, {"code": "content_filter"}),
    ],
    ids=["Azure", "OpenAI", "inner", "OpenRouter", "as a success"],
)
def test_a_prompt_that_the_providers_filter_declines_is_refused(status: int, told: dict[str, object]) -> None:
    reply = Reply(status=status, body=json.dumps({"error": FILTERED | told}))
    words = f"the server says {status}: The response was filtered"
    with OPENAI.engine(lambda got, before: reply, attempts=3) as (engine, server):
        completion = engine.submit(ask()).result(PATIENCE)
        assert (completion.finish, completion.text, completion.error) == (FinishReason.REFUSAL, "", words)
        assert len(server.got) == 1
        plan = RunProtocol(seed=7)
        asked = questionnaire(citizen(plan), survey=SURVEY, questions=("family",), protocol=plan)
        (step,) = interview(asked, engine=engine, recall={})
    answer = step.answers[0]
    assert (answer.state, answer.choices, answer.reason) == (AnswerState.REFUSED, (), words)


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_without_a_right_to_ask_the_engine_ends(protocol: Protocol, status: int) -> None:
    with protocol.engine(lambda got, before: error(status, "not you"), concurrency=1) as (engine, server):
        futures = [engine.submit(ask(str(number))) for number in range(5)]
        for future in futures:
            with pytest.raises(EngineUnavailable, match=f"^model some: the server says {status}: not you$"):
                future.result(PATIENCE)
        assert len(server.got) == 1


def of_anthropic(status: int, kind: str, text: str, **details: str) -> Reply:
    told = {"type": kind, "message": text, "details": details or None}
    return Reply(status=status, body=json.dumps({"type": "error", "error": told, "request_id": "req_1"}))


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (error(429, "you exceeded your quota", code="insufficient_quota"), "429: you exceeded your quota"),
        (
            of_anthropic(429, "rate_limit_error", "monthly limit", error_code="enforced_spend_limit_reached"),
            "429: monthly limit",
        ),
        (
            of_anthropic(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
            "400: Your credit balance is too low",
        ),
        (Reply(status=405, body='{"detail": "Method Not Allowed"}'), r"405: Method Not Allowed; is base_url right\?"),
    ],
    ids=["quota", "spend limit", "credit", "address"],
)
def test_what_no_waiting_helps_against_ends_the_engine(protocol: Protocol, reply: Reply, words: str) -> None:
    with protocol.engine(lambda got, before: reply) as (engine, server):
        with pytest.raises(EngineUnavailable, match=f"^model some: the server says {words}"):
            engine.submit(ask()).result(SOON)
        assert len(server.got) == 1


@pytest.mark.parametrize("status", [301, 308])
def test_a_redirect_ends_the_engine_and_names_where_to(protocol: Protocol, status: int) -> None:
    with serving(lambda got, before: protocol.says()) as elsewhere:
        moved = Reply(status=status, body="", headers={"location": f"{elsewhere.url}/v1/there"})
        with protocol.engine(lambda got, before: moved) as (engine, server):
            told = f"the server says {status}: it redirects to {elsewhere.url}/v1/there; base_url must name who answers"
            with pytest.raises(EngineUnavailable, match=told):
                engine.submit(ask()).result(SOON)
            assert len(server.got) == 1
        assert not elsewhere.got


def test_whoever_waits_is_told_when_the_engine_ends_and_what_is_under_way_is_answered(protocol: Protocol) -> None:
    def behave(got: Got, before: int) -> Reply:
        if got.prompt == "again":
            return error(500, retry_after="60")
        if got.prompt == "ends":
            return Reply(status=401, body='{"error": {"message": "withdrawn"}}', seconds=0.1)
        return Reply(body=protocol.says().body, seconds=0.4)

    with protocol.engine(behave, concurrency=3) as (engine, server):
        under_way, *told = [engine.submit(ask(prompt)) for prompt in ("slow", "again", "ends", "later", "last")]
        for future in told:
            with pytest.raises(EngineUnavailable, match="the server says 401: withdrawn"):
                future.result(SOON)
        assert under_way.result(SOON).text == "Answer: 1"  # it was paid for
        assert server.asked == {"slow": 1, "again": 1, "ends": 1}


@pytest.mark.parametrize("header", ["retry-after", "retry-after-ms", "date"])
def test_retry_after_is_honoured_by_all_requests(protocol: Protocol, header: str) -> None:
    def behave(got: Got, before: int) -> Reply:
        if got.prompt != "first" or before:
            return protocol.says()
        if header == "date":  # which has whole seconds
            return error(429, "slow down", retry_after=formatdate(time.time() + 1.6, usegmt=True))
        return error(429, "slow down", **{header: "400" if header.endswith("ms") else "0.4"})

    with protocol.engine(behave) as (engine, server):
        first = engine.submit(ask("first"))
        while not server.got:
            time.sleep(0.005)
        time.sleep(0.1)
        others = [engine.submit(ask(f"other {number}")) for number in range(8)]
        assert all(future.result(PATIENCE).finish is FinishReason.STOP for future in [first, *others])
        assert len(server.got) == 10
        assert all(got.at - server.got[0].at >= (0.55 if header == "date" else 0.4) for got in server.got[1:])


def test_a_wait_of_hours_is_left_to_whoever_resumes_the_run(protocol: Protocol) -> None:
    def behave(got: Got, before: int) -> Reply:
        if len(server.got) <= 8:
            return Reply(status=429, body="{}", seconds=0.05)
        return error(429, "daily limit", retry_after="7200")

    with protocol.engine(behave, concurrency=8) as (engine, server):
        for future in [engine.submit(ask(str(number))) for number in range(8)]:
            with pytest.raises(EngineUnavailable, match="daily limit; it asks to wait 7200 s: resume later"):
                future.result(SOON)


def test_many_short_waits_without_an_answer_are_a_long_one(protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "LONGEST_WAIT_ASKED", 0.5)
    limited = error(429, "slow down", retry_after="0.2")
    with protocol.engine(lambda got, before: limited, attempts=50) as (engine, server):
        with pytest.raises(EngineUnavailable, match="slow down; it asks to wait 0 s: resume later"):
            engine.submit(ask()).result(PATIENCE)
        assert 2 <= len(server.got) <= 3
    with protocol.engine(lambda got, before: protocol.says() if before else limited) as (engine, server):
        for number in range(4):
            assert engine.submit(ask(str(number))).result(PATIENCE).finish is FinishReason.STOP


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "60", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Mon, 01 Jan 2024 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_what_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_asked(headers) == seconds


@pytest.mark.parametrize("asked", [{}, {"retry_after": "0"}])
def test_waits_grow_and_are_spread(protocol: Protocol, asked: dict[str, str]) -> None:
    with protocol.engine(lambda got, before: error(503, **asked), first_wait=0.1, attempts=4) as (engine, server):
        engine.submit(ask()).result(PATIENCE)
        gaps = [later.at - earlier.at for earlier, later in zip(server.got, server.got[1:], strict=False)]
        for gap, longest in zip(gaps, (0.1, 0.2, 0.4), strict=True):
            assert longest / 2 <= gap <= longest + 0.15


def test_an_overloaded_server_is_asked_less_at_once(protocol: Protocol) -> None:
    busy = threading.BoundedSemaphore(3)
    refused: list[float] = []

    def behave(got: Got, before: int) -> Reply:
        if not busy.acquire(blocking=False):
            refused.append(got.at)
            return error(529, "overloaded")
        try:
            time.sleep(0.02)
        finally:
            busy.release()
        return protocol.says()

    with protocol.engine(behave, concurrency=16, first_wait=0.02, attempts=40) as (engine, server):
        futures = [engine.submit(ask(str(number))) for number in range(100)]
        assert all(future.result(PATIENCE).finish is FinishReason.STOP for future in futures)
        assert 1 <= len(refused) < 75  # sixteen at once would be refused thirteen times in sixteen
        assert sum(server.succeeded.values()) == 100


def test_a_burst_of_refusals_counts_once_and_what_goes_well_lets_more_through() -> None:
    pace, limit = api.Pace(12), lambda: int(pace._limit)
    with ExitStack() as burst:
        burst.enter_context(suppress(Retryable))
        for _ in range(12):
            turn = burst.enter_context(pace.turn())
        raise Retryable("too much", overloaded=True)
    assert (turn, limit()) == (None, 6)
    for _ in range(7):
        with pace.turn():
            pass
    assert limit() == 7


def test_five_hundred_requests_get_their_own_replies_a_few_at_once(protocol: Protocol) -> None:
    def behave(got: Got, before: int) -> Reply:
        number = int(got.prompt)
        if number % 20 == 0:
            return error(400, f"prompt {number} is not allowed")
        if number % 20 in (1, 2, 3) and not before:
            return CUT if number % 20 == 3 else error(500)
        return Reply(body=protocol.says(f"reply {number}").body, seconds=0.005)

    with protocol.engine(behave, concurrency=4) as (engine, server):
        futures = [engine.submit(ask(str(number))) for number in range(500)]
        for number, future in enumerate(futures):
            completion = future.result(60)
            if number % 20 == 0:
                assert completion.error == f"the server says 400: prompt {number} is not allowed"
            else:
                assert (completion.finish, completion.text) == (FinishReason.STOP, f"reply {number}")
        assert server.most_at_once == 4
        assert not server.after_success
        assert (len(server.succeeded), set(server.succeeded.values())) == (475, {1})
        assert sum(server.asked.values()) == 500 + 50 + 25


def test_closing_cancels_everything_within_a_second(protocol: Protocol) -> None:
    all_four = threading.Barrier(5)  # have come, and this test with them, before one of them is told to slow down

    def behave(got: Got, before: int) -> Reply:
        all_four.wait(PATIENCE)
        if got.prompt == "again":
            return error(429, "slow down", retry_after="60")
        return Reply(body=protocol.says().body, seconds=1.5)

    with protocol.engine(behave, concurrency=4) as (engine, _):
        prompts = [*(f"slow {number}" for number in range(3)), "again", *(f"later {number}" for number in range(20))]
        futures = [engine.submit(ask(prompt)) for prompt in prompts]
        all_four.wait(PATIENCE)
        assert futures[-1].cancel()
        begun = time.monotonic()
        engine.close()
        assert not wait(futures, 1.0).not_done
        for future in futures:
            with pytest.raises(CancelledError):
                future.result(1.0)
        assert time.monotonic() - begun < 1.0
        with pytest.raises(EngineUnavailable, match="model some is closed"):
            engine.submit(ask())
        engine.close()


def test_a_future_cancelled_by_its_owner_is_not_asked(protocol: Protocol) -> None:
    def behave(got: Got, before: int) -> Reply:
        return Reply(body=protocol.says().body, seconds=0.1)

    with protocol.engine(behave, concurrency=1) as (engine, server):
        first, second, third = (engine.submit(ask(str(number))) for number in range(3))
        assert second.cancel()
        assert wait([second], PATIENCE).done
        assert first.result(PATIENCE).finish is third.result(PATIENCE).finish is FinishReason.STOP
        assert server.asked == {"0": 1, "2": 1}


def test_no_key_is_ever_shown(protocol: Protocol, caplog: pytest.LogCaptureFixture) -> None:
    other = "sk-proj-abcdef0123456789"

    def behave(got: Got, before: int) -> Reply:
        assert KEY in got.headers["authorization"]
        told = f"your key {KEY}, or {other}, in header {got.headers['authorization']}"
        return {"0": error(400, told), "1": error(500, told), "2": error(401, told), "3": CUT}[got.prompt]

    shown = []
    with caplog.at_level(logging.DEBUG):
        for number in range(4):
            with protocol.engine(behave, attempts=2) as (engine, _):
                shown.append(json.dumps(dict(engine.describe())) + repr(engine.__dict__))
                future = engine.submit(ask(str(number)))
                failed = future.exception(PATIENCE)
                # as an error collector would take it, with the values of all local variables
                report = failed and traceback.TracebackException.from_exception(failed, capture_locals=True)
                shown.append("".join(report.format()) if report else str(future.result()))
    assert sum("[key]" in text for text in shown) == 3
    for text in [*shown, caplog.text, *(str(record.args) for record in caplog.records)]:
        assert KEY not in text
        assert other not in text


def test_a_key_that_is_echoed_in_a_reply_is_not_kept(protocol: Protocol) -> None:
    with protocol.engine(lambda got, before: protocol.says(f"Answer: 1. I was asked with {KEY}.")) as (engine, _):
        assert engine.submit(ask()).result(PATIENCE).text == "Answer: 1. I was asked with [key]."
    with protocol.engine(lambda got, before: protocol.says("Answer: EMPTY"), key="EMPTY") as (engine, _):
        assert engine.submit(ask()).result(PATIENCE).text == "Answer: EMPTY"


ODD = "bad\x1b[31m\n2026-01-01 00:00:00,000 INFO defsurvey: run finished"
WRITTEN = "bad⟨U+001B⟩[31m 2026-01-01 00:00:00,000 INFO defsurvey: run finished"


@pytest.mark.parametrize("body", [ODD, json.dumps({"error": {"message": ODD}}), json.dumps({"detail": ODD})])
def test_no_message_of_a_server_forges_a_line_or_reaches_a_terminal_raw(
    protocol: Protocol, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    statuses = iter((500, 400, 401))
    with protocol.engine(lambda got, before: Reply(status=next(statuses), body=body)) as (engine, _):
        assert engine.submit(ask()).result(PATIENCE).error == f"the server says 400: {WRITTEN}"
        with pytest.raises(EngineUnavailable, match=re.escape(f"the server says 401: {WRITTEN}")):
            engine.submit(ask()).result(PATIENCE)
    assert f"the server says 500: {WRITTEN}; asking again" in caplog.text
    assert ODD not in caplog.text


def test_what_no_database_can_keep_is_replaced_where_it_comes_in(protocol: Protocol) -> None:
    odd, kept = "half a sign \ud83d, and \x00", "half a sign ?, and ␀"
    with protocol.engine(lambda got, before: error(400, odd) if got.prompt == "fail" else protocol.says(odd)) as (
        engine,
        server,
    ):
        said = engine.submit(ask()).result(PATIENCE)
        assert said.text == kept
        assert engine.submit(ask(said.text)).result(PATIENCE).finish is FinishReason.STOP
        assert server.asked == {"How?": 1, kept: 1}
        assert engine.submit(ask("fail")).result(PATIENCE).error == f"the server says 400: {kept}"


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"read": 20}, 20),
        ({"read": MOST_TOKENS, "cached": None}, MOST_TOKENS),
        ({"read": 20, "cached": -(10**8)}, None),
        ({"read": MOST_TOKENS, "cached": 1}, None),
        ({"read": "20"}, None),
        ([], None),
    ],
)
def test_counts_that_cannot_be_are_none(usage: object, counted: int | None) -> None:
    assert tokens(usage, "read", "cached") == counted
