"""What a reply says that no database can keep is replaced where it comes in."""

from __future__ import annotations

from defsurvey.workers.engines.base import FinishReason
from tests.workers.api.conftest import Protocol, ask
from tests.workers.api.server import error

PATIENCE = 20.0
ODD, KEPT = "half a sign \ud83d, and \x00", "half a sign ?, and ␀"


def test_a_reply_is_as_the_ledger_keeps_it_and_can_be_shown_in_a_prompt(protocol: Protocol) -> None:
    """Half a surrogate pair can stand in JSON, and cannot be sent."""
    with protocol.engine(lambda got, before: protocol.says(ODD)) as (engine, server):
        said = engine.submit(ask()).result(PATIENCE)
        assert said.text == KEPT
        assert engine.submit(ask(said.text)).result(PATIENCE).finish is FinishReason.STOP
        assert server.asked == {"How?": 1, KEPT: 1}


def test_so_is_what_a_server_says_of_an_error(protocol: Protocol) -> None:
    """It becomes the reason of a failed answer."""
    with protocol.engine(lambda got, before: error(400, ODD)) as (engine, _):
        assert engine.submit(ask()).result(PATIENCE).error == f"the server says 400: {KEPT}"
