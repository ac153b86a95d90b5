"""What ends an engine at once, and that nobody who waits for it waits on."""

from __future__ import annotations

import json
import threading
import time

import pytest

from defsurvey.workers.engines.base import EngineUnavailable
from tests.workers.api.conftest import Protocol, ask
from tests.workers.api.server import Got, Reply, error, serving

#: Seconds within which whoever waits is told; servers here ask to wait for longer.
SOON = 5.0


def of_anthropic(status: int, kind: str, text: str, **details: str) -> Reply:
    """An error with details, as Anthropic sends it."""
    told = {"type": kind, "message": text, "details": details or None}
    return Reply(status=status, body=json.dumps({"type": "error", "error": told, "request_id": "req_1"}))


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            of_anthropic(429, "rate_limit_error", "monthly limit", error_code="enforced_spend_limit_reached"),
            "429: monthly limit",
        ),
        (
            of_anthropic(429, "rate_limit_error", "contract's limit", error_code="contract_spend_limit_reached"),
            "429: contract's limit",
        ),
        (
            of_anthropic(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
            "400: Your credit balance is too low",
        ),
        (error(429, "your account is not active", code="billing_not_active"), "429: your account is not active"),
    ],
    ids=["spend limit", "contract", "credit", "billing"],
)
def test_an_account_that_is_used_up_ends_the_engine(protocol: Protocol, reply: Reply, words: str) -> None:
    """Under whatever status it comes: no request can succeed until somebody pays, and none fails for it."""
    with protocol.engine(lambda got, before: reply) as (engine, server):
        with pytest.raises(EngineUnavailable, match=f"^model some: the server says {words}"):
            engine.submit(ask()).result(SOON)
        assert len(server.got) == 1


def test_another_limit_in_an_errors_details_passes(protocol: Protocol) -> None:
    """What the details name is not always money."""
    limited = of_anthropic(429, "rate_limit_error", "slow down", error_code="something_else")
    with protocol.engine(lambda got, before: protocol.says() if before else limited) as (engine, server):
        assert engine.submit(ask()).result(SOON).text == "Answer: 1"
        assert len(server.got) == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_ends_the_engine_and_names_where_to(protocol: Protocol, status: int) -> None:
    """Nothing is sent where the card does not point; the card is to name the address itself."""
    with serving(lambda got, before: protocol.says()) as elsewhere:
        moved = Reply(status=status, body="", headers={"location": f"{elsewhere.url}/v1/there"})
        with protocol.engine(lambda got, before: moved) as (engine, server):
            told = f"the server says {status}: it redirects to {elsewhere.url}/v1/there; base_url must name who answers"
            with pytest.raises(EngineUnavailable, match=told):
                engine.submit(ask()).result(SOON)
            assert len(server.got) == 1
        assert not elsewhere.got


def test_an_address_that_takes_no_posts_ends_the_engine(protocol: Protocol) -> None:
    """It is wrong for one as for all."""
    wrong = Reply(status=405, body='{"detail": "Method Not Allowed"}')
    with protocol.engine(lambda got, before: wrong) as (engine, server):
        with pytest.raises(EngineUnavailable, match=r"the server says 405: Method Not Allowed; is base_url right\?"):
            engine.submit(ask()).result(SOON)
        assert len(server.got) == 1


def test_whoever_waits_for_a_turn_is_told_when_the_engine_ends(protocol: Protocol) -> None:
    """A burst of refusals has lowered the pace when the daily limit is told: none of the others sleeps it out."""
    count, lock = 0, threading.Lock()

    def behave(got: Got, before: int) -> Reply:
        nonlocal count
        with lock:
            count += 1
            first = count <= 8
        if first:
            return Reply(status=429, body="{}", seconds=0.05)
        return Reply(status=429, body='{"error": {"message": "daily limit"}}', headers={"retry-after": "3600"})

    with protocol.engine(behave, concurrency=8) as (engine, _):
        futures = [engine.submit(ask(str(number))) for number in range(8)]
        for future in futures:
            with pytest.raises(EngineUnavailable, match="daily limit; it asks to wait 3600 s: resume later"):
                future.result(SOON)


def test_whoever_waits_to_be_asked_again_is_told_when_the_engine_ends(protocol: Protocol) -> None:
    """The key is withdrawn while another request waits for a minute."""

    def behave(got: Got, before: int) -> Reply:
        if got.prompt == "waits":
            return error(500, retry_after="60")
        return Reply(status=401, body='{"error": {"message": "withdrawn"}}', seconds=0.2)

    with protocol.engine(behave, concurrency=2) as (engine, server):
        futures = [engine.submit(ask(prompt)) for prompt in ("waits", "ends")]
        for future in futures:
            with pytest.raises(EngineUnavailable, match="the server says 401: withdrawn"):
                future.result(SOON)
        assert server.asked == {"waits": 1, "ends": 1}


def test_a_server_that_asks_for_no_wait_is_not_hurried(protocol: Protocol) -> None:
    """``retry-after: 0`` makes waits no shorter than they are without it, and an outage no shorter either."""
    down = error(503, "restarting", retry_after="0")
    with protocol.engine(lambda got, before: down, first_wait=0.1, attempts=4) as (engine, server):
        engine.submit(ask()).result(SOON)
        gaps = [later.at - earlier.at for earlier, later in zip(server.got, server.got[1:], strict=False)]
        for gap, longest in zip(gaps, (0.1, 0.2, 0.4), strict=True):
            assert longest / 2 <= gap <= longest + 0.15


def test_what_is_under_way_when_the_engine_ends_is_still_answered(protocol: Protocol) -> None:
    """It was paid for."""

    def behave(got: Got, before: int) -> Reply:
        return error(402, "no money") if got.prompt == "ends" else Reply(body=protocol.says().body, seconds=0.3)

    with protocol.engine(behave, concurrency=2) as (engine, server):
        slow = engine.submit(ask("slow"))
        while not server.got:
            time.sleep(0.005)
        with pytest.raises(EngineUnavailable, match="no money"):
            engine.submit(ask("ends")).result(SOON)
        assert slow.result(SOON).text == "Answer: 1"
