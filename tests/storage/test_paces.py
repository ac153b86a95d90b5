"""How fast answers came: gaps between them, without the pauses, by the newest run that has enough."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from storage.database import Database
from storage.ledger import Ledger
from storage.paces import FEWEST, PAUSE_SECONDS, paces
from storage.store import add_run
from tests.storage.small_run import finish, new_cell, new_run, started


def _change(database: Database, statement: str) -> None:
    database.write(lambda connection: connection.execute(text(statement)))


def _answered(database: Database, run: str, *models: str, participants: int = 10, every: float) -> None:
    """A run whose answers were committed so many seconds after each other, participant after participant."""
    ledger, at = Ledger(database, owner="host:1:here"), 1000.0
    for who in started(database, *(new_cell(model, participants=participants) for model in models), id=run):
        finish(ledger, who)
        for item in range(3):
            at += every
            _change(database, f"UPDATE answer SET committed_at = {at} WHERE participant = {who} AND item = {item}")


def test_a_pace_is_answers_by_seconds_between_them(database: Database) -> None:
    """Thirty answers, one every half second, of each of two models; of a third there are none."""
    _answered(database, "first", "model-a", "model-b", every=0.5)
    both = {"model-a": pytest.approx(2.0), "model-b": pytest.approx(2.0)}
    assert paces(database, ["model-a", "model-b", "model-c"]) == both


def test_a_pause_is_no_work(database: Database) -> None:
    """A worker was stopped in the middle, for a day."""
    _answered(database, "first", "model-a", every=0.5)
    _change(database, f"UPDATE answer SET committed_at = committed_at + {PAUSE_SECONDS + 86400} WHERE participant > 5")
    assert paces(database, ["model-a"]) == {"model-a": pytest.approx(2.0)}


def test_the_newest_run_with_enough_answers_tells(database: Database) -> None:
    """An older one may have been on another machine; a few answers tell nothing."""
    _answered(database, "older", "model-a", every=5.0)
    _answered(database, "newer", "model-a", every=0.25)
    _answered(database, "newest", "model-a", participants=FEWEST // 3, every=0.001)
    for at, run in enumerate(("older", "newer", "newest")):
        _change(database, f"UPDATE run SET created_at = {at} WHERE id = '{run}'")
    assert paces(database, ["model-a"]) == {"model-a": pytest.approx(4.0)}


def test_where_nothing_was_ever_asked_nothing_is_known(database: Database) -> None:
    """Also of a run that has only been enqueued."""
    assert Ledger(database, owner="host:1:a").claim(1) is None
    add_run(database, new_run(new_cell("model-a")))
    assert paces(database, ["model-a"]) == {}
