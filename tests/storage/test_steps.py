"""Steps, panels and probabilities in the ledger: committed once, fenced, taken back and moved with the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox, store, tables
from defsurvey.storage.runs.archive import export_bundle, import_bundle
from defsurvey.storage.runs.export import PROBABILITIES, probability_rows
from defsurvey.storage.runs.ledger import Ledger, StaleLease
from defsurvey.storage.runs.outbox import waiting_by_model
from defsurvey.storage.runs.recovery import rewind
from defsurvey.storage.runs.run import AnswerState, CompletedStep, Condition, OptionProbabilities
from defsurvey.storage.runs.steps import commit_probabilities, commit_step, read_probabilities, steps_of
from defsurvey.storage.schema import migrate
from tests.storage.small_run import USED, answer, claimed, new_cell, started
from tests.storage.what_is_there import answers_of, progress_of

PANEL = replace(new_cell(participants=1), condition=Condition(name="panel", method="ccsv-list", slots=20))
READ = replace(new_cell(participants=1), condition=Condition(name="read", method="first-token", slots=0))


def _step(participant: int, number: int, *, item: int = 0, attempt: int = 0) -> CompletedStep:
    return CompletedStep(
        participant=participant,
        item=item,
        attempt=attempt,
        number=number,
        completion=f"step {number}\x00",
        finish="stop",
        seed=2**62 + number,
        used=USED,
        prompt_tokens=3,
        completion_tokens=None,
        seconds=0.5,
    )


def _found(participant: int, item: int) -> list[OptionProbabilities]:
    orders = enumerate([(1, 2, 3, 4), (2, 3, 4, 1)])
    return [
        OptionProbabilities(
            participant=participant,
            item=item,
            question="ABC"[item],
            order=order,
            shown=shown,
            probabilities=(0.5, 0.25, 0.125, 0.125),
        )
        for order, shown in orders
    ]


def test_a_step_is_there_once_it_is_committed(database: Database) -> None:
    """In order, by attempt; a second time changes nothing; text that a database cannot hold is made storable."""
    who = started(database)[0]
    ledger = Ledger(database, owner="one")
    held = claimed(ledger, who)
    for number in (1, 0, 1):
        commit_step(database, ledger.owner, held, _step(who, number))
    commit_step(database, ledger.owner, held, _step(who, 0, attempt=1))
    first = [replace(_step(who, number), completion=f"step {number}␀") for number in (0, 1)]
    assert steps_of(database, who, 0, 0) == first
    assert [step.number for step in steps_of(database, who, 0, 1)] == [0]
    assert steps_of(database, who, 1, 0) == []


def test_who_lost_the_lease_commits_no_step(database: Database) -> None:
    """A step, a panel's answers and probabilities are fenced by the epoch."""
    who = started(database, PANEL)[0]
    late = claimed(Ledger(database, owner="late"), who)
    Ledger(database, owner="late").release(late)
    claimed(Ledger(database, owner="next"), who)
    with pytest.raises(StaleLease):
        commit_step(database, "late", late, _step(who, 0))
    with pytest.raises(StaleLease):
        commit_probabilities(database, late, 0, _found(who, 0))
    assert steps_of(database, who, 0, 0) == []
    with pytest.raises(StaleLease):
        Ledger(database, owner="late").checkpoint(late, answer(late, 0), (), [answer(late, 0, slot=1)])
    assert answers_of(database, who) == []


def test_a_panel_finishes_when_every_question_has_all_its_slots(database: Database) -> None:
    """Twenty answers and one step forward in one transaction; counts, revision and backlog are of answers."""
    who = started(database, PANEL)[0]
    ledger = Ledger(database, owner="one")
    held = claimed(ledger, who)
    for item in range(3):
        assert outbox.unfinished(database, "first") == 1
        ended = [answer(held, item, slot=slot, state=list(AnswerState)[slot % 2]) for slot in range(20)]
        ledger.checkpoint(held, ended[0], (), ended[1:])
        ledger.checkpoint(held, ended[0], (), ended[1:])  # the word of the first was lost
        if item == 0:
            ledger.release(held)
            assert [entry.answers for entry in waiting_by_model(database)] == [40]
            held = claimed(ledger, who)
    progress = progress_of(database, "first")
    assert (progress.planned, progress.answered, progress.refused, progress.remaining) == (60, 30, 30, 0)
    assert outbox.unfinished(database, "first") == 0
    assert outbox.revision(database, "first") == 60
    assert [(a.item, a.slot) for a in answers_of(database, who)] == [(i, s) for i in range(3) for s in range(20)]


def test_probabilities_stand_outside_the_answers(database: Database) -> None:
    """They plan no answer, finish a participant all the same, and are read back by cell and question."""
    plain, who = started(database, new_cell(participants=1), READ)
    assert progress_of(database, "first").planned == 3
    ledger = Ledger(database, owner="one")
    held = claimed(ledger, who)
    for item in range(3):
        commit_probabilities(database, held, item, _found(who, item))
        commit_probabilities(database, held, item, _found(who, item))
    assert ledger.claim(who) is None
    assert ledger.claim(plain) is not None
    assert outbox.revision(database, "first") == 3
    rows = read_probabilities(database, "first")
    assert [(r.cell, r.question, r.order, r.option, r.probability) for r in rows[:5]] == [
        (1, "A", 0, 1, 0.5),
        (1, "A", 0, 2, 0.25),
        (1, "A", 0, 3, 0.125),
        (1, "A", 0, 4, 0.125),
        (1, "A", 1, 2, 0.5),
    ]
    assert len(rows) == 24
    exported = list(probability_rows(database, "first"))
    assert {tuple(row) for row in exported} == {tuple(PROBABILITIES)}
    assert [(r["condition"], r["question"], r["order"], r["option"], r["probability"]) for r in exported[3:5]] == [
        ("read", "A", 0, 4, 0.125),
        ("read", "A", 1, 2, 0.5),
    ]
    with pytest.raises(store.UnknownRun):
        read_probabilities(database, "second")


def test_a_rewind_takes_the_steps_of_what_is_asked_anew_back(database: Database) -> None:
    """Else later answers would be made of steps that saw another memory."""
    who = started(database)[0]
    ledger = Ledger(database, owner="one")
    held = claimed(ledger, who)
    for item, state in enumerate([AnswerState.ANSWERED, AnswerState.FAILED, AnswerState.ANSWERED]):
        commit_step(database, ledger.owner, held, _step(who, 0, item=item))
        ledger.checkpoint(held, answer(held, item, state=state), ())
    assert rewind(database, "first", [AnswerState.FAILED]) == 2
    assert [len(steps_of(database, who, item, 0)) for item in range(3)] == [1, 0, 0]


def test_a_bundle_carries_steps_and_probabilities(database: Database, tmp_path: Path) -> None:
    """Under the keys that participants get where they arrive."""
    first, second = started(database, new_cell(participants=1), READ)
    ledger = Ledger(database, owner="one")
    commit_step(database, ledger.owner, claimed(ledger, first), _step(first, 0))
    commit_probabilities(database, claimed(ledger, second), 0, _found(second, 0))
    export_bundle(database, "first", tmp_path / "run.bundle")
    with Database(f"sqlite:///{tmp_path / 'other.db'}", synchronous="off") as other:
        migrate(other)
        started(other, id="there-before")
        import_bundle(other, tmp_path / "run.bundle")
        assert read_probabilities(other, "first") == read_probabilities(database, "first")
        with other.read() as connection:
            count = (
                select(func.count())
                .join_from(tables.step, tables.participant)
                .where(tables.participant.c.run == "first")
            )
            assert connection.execute(count).scalar_one() == 1
            run = store.run_in(connection, "first")
    assert run.cells[1].condition.slots == 0
