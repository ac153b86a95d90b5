"""Transactions that meet: what one has read, the other may have changed before it writes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event, get_ident
from typing import TypeVar

import pytest
from sqlalchemy import Connection, event

from defsurvey.storage.database import Database
from defsurvey.storage.runs import budget
from defsurvey.storage.runs.archive import BadBundle, export_bundle, import_bundle
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.recovery import ask_again, rewind
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.runs.store import record_served
from tests.jobs.ledger_rows import change, rows
from tests.storage.small_run import answer, claimed, finish, new_cell, started
from tests.storage.what_is_there import answers_of, progress_of

PATIENCE = 20.0
FAILED = AnswerState.FAILED
T = TypeVar("T")


@contextmanager
def held_at_commit(database: Database) -> Iterator[tuple[Event, Event]]:
    """Keep the next transaction that writes, of another thread than this one, from committing: (it is there, go on)."""
    there, go_on, here = Event(), Event(), get_ident()

    def hold(_connection: Connection) -> None:
        if get_ident() != here and not there.is_set():
            there.set()
            assert go_on.wait(PATIENCE)

    event.listen(database.engine, "commit", hold)
    try:
        yield there, go_on
    finally:
        go_on.set()
        event.remove(database.engine, "commit", hold)


def as_far_as_it_comes(begun: Future[T]) -> None:
    """Give what was begun the time to come as far as it can by itself."""
    wait([begun], 0.2)


def removed(database: Database) -> None:
    """Remove the run."""
    for table in ("answer", "participant", "cell", "served", "run"):
        change(database, f"DELETE FROM {table}")


def failing(ledger: Ledger, participant: int) -> None:
    """Answer all questions of a participant, of which the last fails."""
    held = claimed(ledger, participant)
    for item in range(3):
        ledger.checkpoint(held, answer(held, item, state=FAILED if item == 2 else AnswerState.ANSWERED), ())


def test_several_that_rewind_at_once_take_each_answer_back_once(database: Database, ledger: Ledger) -> None:
    """Whoever comes later finds what the first has taken back gone."""
    for who in (people := started(database, new_cell(participants=6))):
        failing(ledger, who)
    start = Barrier(6)

    def take_back(_: int) -> int:
        start.wait()
        return rewind(database, "first", [FAILED])

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(take_back, range(6))) == [0] * 5 + [6]
    assert rows(database, "SELECT next_item, lease_epoch FROM participant") == [(2, 2)] * 6
    assert [len(answers_of(database, who)) for who in people] == [2] * 6


def test_an_answer_that_is_there_meanwhile_is_not_taken_back(database: Database, ledger: Ledger) -> None:
    """It had failed when the rewind began, and was being asked again: nobody loses it, nor the participant."""
    (who,) = started(database, new_cell(participants=1))
    failing(ledger, who)
    ask_again(database, "first", [FAILED])
    held = claimed(ledger, who)
    ((failed, attempt),) = ledger.to_ask_again(held)
    anew = replace(failed, state=AnswerState.ANSWERED, choices=(2,), attempt=attempt, out_of_sequence=True)
    with held_at_commit(database) as (there, go_on), ThreadPoolExecutor(2) as pool:
        asked = pool.submit(ledger.replace, held, anew)
        assert there.wait(PATIENCE)
        taken = pool.submit(rewind, database, "first", [FAILED])
        as_far_as_it_comes(taken)
        go_on.set()
        asked.result(PATIENCE)
        assert taken.result(PATIENCE) == 0
    assert [said.state for said in answers_of(database, who)] == [AnswerState.ANSWERED] * 3
    assert rows(database, "SELECT status, lease_epoch FROM participant") == [("finished", held.epoch)]


def test_a_budget_that_is_raised_while_another_halts_holds(database: Database, ledger: Ledger) -> None:
    """A worker has found it spent, and halts by the old one: the raise comes behind it, and lets all go on."""
    (who, _) = started(database)
    record_served(database, "first", "model-a", {"input_price": "2", "output_price": "5"}, {})
    finish(ledger, who)
    budget.change_budget(database, "first", 1000.0)
    change(database, "UPDATE run SET budget = 0.0001")
    with held_at_commit(database) as (there, go_on), ThreadPoolExecutor(2) as pool:
        halted = pool.submit(budget.halt_if_spent, database, "first")
        assert there.wait(PATIENCE)
        raised = pool.submit(budget.change_budget, database, "first", 10.0)
        as_far_as_it_comes(raised)
        go_on.set()
        assert halted.result(PATIENCE)
        raised.result(PATIENCE)
    assert rows(database, "SELECT DISTINCT halted FROM cell") == [(False,)]


def test_a_run_that_is_imported_twice_at_once_is_there_once(database: Database, ledger: Ledger, tmp_path: Path) -> None:
    """The second is told what it would be told a moment later."""
    (who,) = started(database, new_cell(participants=1))
    finish(ledger, who)
    file = tmp_path / "run.bundle"
    export_bundle(database, "first", file)
    removed(database)
    with held_at_commit(database) as (there, go_on), ThreadPoolExecutor(2) as pool:
        first = pool.submit(import_bundle, database, file)
        assert there.wait(PATIENCE)
        second = pool.submit(import_bundle, database, file)
        as_far_as_it_comes(second)
        go_on.set()
        assert first.result(PATIENCE) == "first"
        with pytest.raises(BadBundle, match="run first is here already"):
            second.result(PATIENCE)
    assert progress_of(database, "first").answered == 3
