"""What either engine does when a server goes wrong: asks again, waits, gives up, or ends."""

from __future__ import annotations

import json
import logging
import threading
import time
from concurrent.futures import CancelledError, wait
from email.utils import formatdate

import pytest

from defsurvey.workers.engines import api
from defsurvey.workers.engines.base import NO_DECODING, EngineUnavailable, FinishReason
from tests.workers.api.conftest import KEY, Protocol, ask
from tests.workers.api.server import CUT, Got, Reply, error

PATIENCE = 20.0


@pytest.mark.parametrize(
    "hiccup",
    [
        error(500),
        error(529, "overloaded"),
        error(503),
        error(408),
        error(429, "slow down"),
        CUT,
        Reply(body='{"choices": [{"mess'),
        Reply(body="[1, 2]"),
        Reply(body='{"type": "message", "content": null, "choices": []}'),
        Reply(status=502, body="<html>bad gateway</html>", headers={"content-type": "text/html"}),
    ],
    ids=["500", "529", "503", "408", "429", "cut", "malformed", "no object", "no message", "html"],
)
def test_what_passes_is_asked_again_until_it_is_answered(protocol: Protocol, hiccup: Reply) -> None:
    """Twice it goes wrong, the third time it is answered; then it is not asked again."""
    with protocol.engine(lambda got, before: hiccup if before < 2 else protocol.says("fine")) as (engine, server):
        completion = engine.submit(ask()).result(PATIENCE)
        assert (completion.text, completion.finish, completion.error) == ("fine", FinishReason.STOP, "")
        time.sleep(0.05)
        assert len(server.got) == 3


def test_a_slow_server_is_given_up_for_this_attempt_only(protocol: Protocol) -> None:
    """An attempt that takes longer than the card's timeout is made again."""

    def behave(got: Got, before: int) -> Reply:
        return Reply(body=protocol.says().body, seconds=0.0 if before else 1.0)

    with protocol.engine(behave, timeout_seconds=0.2) as (engine, server):
        assert engine.submit(ask()).result(PATIENCE).finish is FinishReason.STOP
        assert len(server.got) == 2


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_is_wrong_fails_with_the_servers_words_and_is_not_repeated(
    protocol: Protocol, status: int
) -> None:
    """Asking again would be refused again; others are not affected."""

    def behave(got: Got, before: int) -> Reply:
        return error(status, "temperature: too hot") if got.prompt == "hot" else protocol.says()

    with protocol.engine(behave) as (engine, server):
        hot = engine.submit(ask("hot")).result(PATIENCE)
        assert hot.finish is FinishReason.ERROR
        assert hot.error == f"the server says {status}: temperature: too hot"
        assert (hot.text, hot.used) == ("", NO_DECODING)
        assert engine.submit(ask("cool")).result(PATIENCE).finish is FinishReason.STOP
        assert server.asked == {"hot": 1, "cool": 1}


@pytest.mark.parametrize(("last", "words"), [(error(500, "on fire"), "500: on fire"), (CUT, "was not reached")])
def test_what_does_not_pass_is_given_up_after_the_cards_attempts(protocol: Protocol, last: Reply, words: str) -> None:
    """The completion is an error with the last failure and how often it was tried."""
    with protocol.engine(lambda got, before: last, attempts=3) as (engine, server):
        completion = engine.submit(ask()).result(PATIENCE)
        assert completion.finish is FinishReason.ERROR
        assert words in completion.error
        assert completion.error.endswith("(asked 3 times)")
        assert len(server.got) == 3


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_without_a_right_to_ask_the_engine_ends(protocol: Protocol, status: int) -> None:
    """The future raises; nothing that comes later is sent at all."""
    with protocol.engine(lambda got, before: error(status, "not you"), concurrency=1) as (engine, server):
        futures = [engine.submit(ask(str(number))) for number in range(5)]
        for future in futures:
            with pytest.raises(EngineUnavailable, match=f"^model some: the server says {status}: not you$"):
                future.result(PATIENCE)
        assert len(server.got) == 1


def test_a_used_up_quota_is_not_a_rate_limit(openai_protocol: Protocol) -> None:
    """OpenAI says 429 for both; no waiting helps against this one."""
    spent = error(429, "you exceeded your quota", code="insufficient_quota")
    with openai_protocol.engine(lambda got, before: spent) as (engine, server):
        with pytest.raises(EngineUnavailable, match="you exceeded your quota"):
            engine.submit(ask()).result(PATIENCE)
        assert len(server.got) == 1


@pytest.mark.parametrize("header", [{"retry_after": "0.4"}, {"retry_after_ms": "400"}, {"retry_after": "date"}])
def test_retry_after_is_honoured_by_all_requests(protocol: Protocol, header: dict[str, str]) -> None:
    """Nothing at all is sent before the wait is over, neither the refused request nor others."""

    def behave(got: Got, before: int) -> Reply:
        if got.prompt == "first" and not before:
            named = {
                name: formatdate(time.time() + 1.6, usegmt=True) if value == "date" else value
                for name, value in header.items()
            }  # fmt: skip -- a date has whole seconds
            return error(429, "slow down", **named)
        return protocol.says()

    with protocol.engine(behave) as (engine, server):
        first = engine.submit(ask("first"))
        while not server.got:
            time.sleep(0.005)
        time.sleep(0.1)
        others = [engine.submit(ask(f"other {number}")) for number in range(8)]
        assert all(future.result(PATIENCE).finish is FinishReason.STOP for future in [first, *others])
        begun = server.got[0].at
        least = 0.4 if "date" not in header.values() else 0.55
        assert len(server.got) == 10
        assert all(got.at - begun >= least for got in server.got[1:])


def test_a_wait_of_hours_is_left_to_whoever_resumes_the_run(protocol: Protocol) -> None:
    """A worker does not sleep through a daily limit: it ends, and says how long the server asks to wait."""
    with protocol.engine(lambda got, before: error(429, "daily limit", retry_after="7200")) as (engine, server):
        with pytest.raises(EngineUnavailable, match="daily limit; it asks to wait 7200 s: resume later"):
            engine.submit(ask()).result(PATIENCE)
        assert len(server.got) == 1


def test_many_short_waits_without_an_answer_are_a_long_one(protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is how long the server has answered nothing; an answer between begins the count anew."""
    monkeypatch.setattr(api, "LONGEST_WAIT_ASKED", 0.5)
    limited = error(429, "slow down", retry_after="0.2")
    with protocol.engine(lambda got, before: limited, attempts=50) as (engine, server):
        with pytest.raises(EngineUnavailable, match="slow down; it asks to wait 0 s: resume later"):
            engine.submit(ask()).result(PATIENCE)
        assert 2 <= len(server.got) <= 3
    with protocol.engine(lambda got, before: protocol.says() if before else limited) as (engine, server):
        for number in range(4):
            assert engine.submit(ask(str(number))).result(PATIENCE).finish is FinishReason.STOP


def test_waits_grow_and_are_spread(protocol: Protocol) -> None:
    """Each wait is about twice the one before, between half of it and all of it."""
    with protocol.engine(lambda got, before: error(500), first_wait=0.1, attempts=4) as (engine, server):
        engine.submit(ask()).result(PATIENCE)
        gaps = [later.at - earlier.at for earlier, later in zip(server.got, server.got[1:], strict=False)]
        for gap, longest in zip(gaps, (0.1, 0.2, 0.4), strict=True):
            assert longest / 2 <= gap <= longest + 0.15


def test_no_more_are_under_way_than_the_card_says(protocol: Protocol) -> None:
    """Sixty at once for a card that says four."""

    def behave(got: Got, before: int) -> Reply:
        return Reply(body=protocol.says().body, seconds=0.02)

    with protocol.engine(behave, concurrency=4) as (engine, server):
        futures = [engine.submit(ask(str(number))) for number in range(60)]
        assert all(future.result(PATIENCE).finish is FinishReason.STOP for future in futures)
        assert server.most_at_once == 4


def test_an_overloaded_server_is_asked_less_at_once(protocol: Protocol) -> None:
    """It bears three at once and refuses the fourth; before long hardly anything is refused, and all is answered."""
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
        futures = [engine.submit(ask(str(number))) for number in range(200)]
        assert all(future.result(PATIENCE).finish is FinishReason.STOP for future in futures)
        assert engine._pace.limit < 16
        assert 1 <= len(refused) < 150  # sixteen at once would be refused thirteen times in sixteen
        assert sum(server.succeeded.values()) == 200


def test_closing_cancels_everything_within_a_second(protocol: Protocol) -> None:
    """What is under way, what waits for its turn and what waits to be asked again: all at once."""

    def behave(got: Got, before: int) -> Reply:
        if got.prompt == "again":
            return error(429, "slow down", retry_after="60")
        return Reply(body=protocol.says().body, seconds=1.5)

    with protocol.engine(behave, concurrency=4) as (engine, server):
        slow = [engine.submit(ask(f"slow {number}")) for number in range(3)]
        while len(server.got) < 3:
            time.sleep(0.005)
        others = [engine.submit(ask("again")), *(engine.submit(ask(f"later {number}")) for number in range(20))]
        while len(server.got) < 4:
            time.sleep(0.005)
        assert others[-1].cancel()
        begun = time.monotonic()
        engine.close()
        assert not wait([*slow, *others], 1.0).not_done
        for future in [*slow, *others]:
            with pytest.raises(CancelledError):
                future.result(1.0)
        assert time.monotonic() - begun < 1.0
        with pytest.raises(EngineUnavailable, match="model some is closed"):
            engine.submit(ask())
        engine.close()


def test_a_future_cancelled_by_its_owner_is_not_asked(protocol: Protocol) -> None:
    """Nobody pays for what nobody wants."""

    def behave(got: Got, before: int) -> Reply:
        return Reply(body=protocol.says().body, seconds=0.1)

    with protocol.engine(behave, concurrency=1) as (engine, server):
        first, second, third = (engine.submit(ask(str(number))) for number in range(3))
        assert second.cancel()
        assert wait([second], PATIENCE).done
        assert first.result(PATIENCE).finish is third.result(PATIENCE).finish is FinishReason.STOP
        assert server.asked == {"0": 1, "2": 1}


def test_two_thousand_requests_with_every_kind_of_failure(protocol: Protocol) -> None:
    """10% go wrong by 500 and 5% by a cut connection before they succeed, 5% are refused: each ends exactly once."""
    wrong = {str(number) for number in range(0, 2000, 20)}

    def behave(got: Got, before: int) -> Reply:
        number = int(got.prompt)
        if number % 20 == 0:
            return error(400, f"prompt {number} is not allowed")
        if number % 20 in (1, 2) and not before:
            return error(500)
        if number % 20 == 3 and not before:
            return CUT
        return protocol.says(f"reply {number}")

    with protocol.engine(behave) as (engine, server):
        futures = [engine.submit(ask(str(number))) for number in range(2000)]
        completions = [future.result(60) for future in futures]
        for number, completion in enumerate(completions):
            if str(number) in wrong:
                assert completion.finish is FinishReason.ERROR
                assert completion.error == f"the server says 400: prompt {number} is not allowed"
            else:
                assert (completion.finish, completion.text) == (FinishReason.STOP, f"reply {number}")
        assert not server.after_success
        assert set(server.succeeded.values()) == {1}
        assert len(server.succeeded) == 1900
        assert all(server.asked[number] == 1 for number in wrong)
        assert sum(server.asked.values()) == 2000 + 200 + 100


def test_no_key_is_ever_shown(protocol: Protocol, caplog: pytest.LogCaptureFixture) -> None:
    """Servers repeat keys in their messages, libraries log headers: nothing of it gets out, whatever goes wrong."""
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
                shown.append("".join(_traceback(failed)) if failed else str(future.result()))
    assert sum("[key]" in text for text in shown) == 3
    for text in [*shown, caplog.text, *(str(record.args) for record in caplog.records)]:
        assert KEY not in text
        assert other not in text


def _traceback(failed: BaseException) -> list[str]:
    """A traceback with the values of all local variables, as an error collector would take it."""
    import traceback

    return list(traceback.TracebackException.from_exception(failed, capture_locals=True).format())
