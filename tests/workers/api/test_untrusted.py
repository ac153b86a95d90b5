"""What servers say of errors and of tokens is not believed to be harmless."""

from __future__ import annotations

import json
import logging
import re

import pytest

from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.http import MOST_TOKENS, tokens
from tests.workers.api.conftest import KEY, Protocol, ask
from tests.workers.api.server import Reply

PATIENCE = 20.0
ODD = "bad\x1b[31m\n2026-01-01 00:00:00,000 INFO defsurvey: run finished"
WRITTEN = "bad⟨U+001B⟩[31m 2026-01-01 00:00:00,000 INFO defsurvey: run finished"


@pytest.mark.parametrize("body", [ODD, json.dumps({"error": {"message": ODD}}), json.dumps({"detail": ODD})])
def test_no_message_of_a_server_forges_a_line_or_reaches_a_terminal_raw(
    protocol: Protocol, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Be it the reason of a failed answer, what is logged before it is asked again, or what a worker ends with."""
    caplog.set_level(logging.INFO)
    statuses = iter((500, 400, 401))
    with protocol.engine(lambda got, before: Reply(status=next(statuses), body=body)) as (engine, _):
        assert engine.submit(ask()).result(PATIENCE).error == f"the server says 400: {WRITTEN}"
        with pytest.raises(EngineUnavailable, match=re.escape(f"the server says 401: {WRITTEN}")):
            engine.submit(ask()).result(PATIENCE)
    assert f"the server says 500: {WRITTEN}; asking again" in caplog.text
    assert ODD not in caplog.text


def test_a_key_that_is_echoed_in_a_reply_is_not_kept(protocol: Protocol) -> None:
    """Replies end in the database, in exports and in reports; a placeholder for a key may be an answer."""
    with protocol.engine(lambda got, before: protocol.says(f"Answer: 1. I was asked with {KEY}.")) as (engine, _):
        assert engine.submit(ask()).result(PATIENCE).text == "Answer: 1. I was asked with [key]."
    with protocol.engine(lambda got, before: protocol.says("Answer: EMPTY"), key="EMPTY") as (engine, _):
        assert engine.submit(ask()).result(PATIENCE).text == "Answer: EMPTY"


def test_json_that_is_nested_too_deeply_is_asked_again(protocol: Protocol) -> None:
    """As a success and as an error; it ends no thread of the engine."""
    nested = "[" * 100_000
    replies = [Reply(body=nested), Reply(status=500, body=nested), protocol.says("Answer: 2")]
    with protocol.engine(lambda got, before: replies[before]) as (engine, _):
        assert engine.submit(ask()).result(PATIENCE).text == "Answer: 2"


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"read": 20}, 20),
        ({"read": 0, "cached": 5}, 5),
        ({"read": 20, "cached": None}, 20),
        ({"read": MOST_TOKENS}, MOST_TOKENS),
        ({"read": -1}, None),
        ({"read": 20, "cached": -(10**8)}, None),
        ({"read": 10**30}, None),
        ({"read": MOST_TOKENS + 1}, None),
        ({"read": MOST_TOKENS, "cached": 1}, None),
        ({"read": True}, None),
        ({"read": 20.5}, None),
        ({"read": "20"}, None),
        ({}, None),
        ([], None),
    ],
)
def test_counts_that_cannot_be_are_none(usage: object, counted: int | None) -> None:
    """A negative one would give money back to a budget, one that is too large has no room in the ledger."""
    assert tokens(usage, "read", "cached") == counted
