"""How fast answers came, and the tokens they took, by the newest run that has enough."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from defsurvey.storage.database import Database
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.pilot import FEWEST, PAUSE_SECONDS, TokensSeen, paces, tokens_seen
from defsurvey.storage.runs.store import add_run
from tests.storage.small_run import SURVEY, finish, new_cell, new_run, started


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


def test_tokens_are_means_per_answer_by_condition_of_the_run_that_is_named(database: Database) -> None:
    """The named run goes before a newer one; failed answers took none, and a run with few answers says nothing."""
    ledger = Ledger(database, owner="host:1:here")
    for at, (run, participants) in enumerate((("pilot", 7), ("newer", 8), ("newest", 2))):
        cells = (new_cell(participants=participants), new_cell(participants=2, condition="none"))
        for who in started(database, *cells, id=run):
            finish(ledger, who)
        _change(database, f"UPDATE run SET created_at = {at} WHERE id = '{run}'")
    _change(database, "UPDATE answer SET prompt_tokens = 400 WHERE participant = 1")
    _change(database, "UPDATE answer SET state = 'failed', prompt_tokens = NULL WHERE participant = 2 AND item = 0")

    def seen(run: str, *questions: str) -> dict[tuple[str, str, str], TokensSeen]:
        return tokens_seen(database, ["model-a"], survey=SURVEY.id, questions=questions, run=run)

    pilot = seen("pilot", "A", "B", "C")
    assert pilot["model-a", "def", "en"] == TokensSeen(
        run="pilot", answers=20, prompt=(3 * 400 + 17 * 100) / 20, completion=7
    )
    assert pilot["model-a", "none", "en"] == TokensSeen(run="pilot", answers=6, prompt=100, completion=7)
    assert {each.run for each in seen("another", "A", "B", "C").values()} == {"newer"}
    assert seen("pilot", "A", "B") == {}
