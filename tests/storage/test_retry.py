"""Answers asked again and participants taken back, also where transactions meet."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event, get_ident
from typing import Any

import pytest
from sqlalchemy import Connection, event, select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import budget, recovery, store, tables
from defsurvey.storage.runs.archive import BadBundle, export_bundle, import_bundle
from defsurvey.storage.runs.ledger import Ledger, StaleLease
from defsurvey.storage.runs.outbox import mark_published, outgoing, reports_due, revision
from defsurvey.storage.runs.run import Answer, AnswerState, Participant, Progress
from defsurvey.storage.runs.store import record_served
from tests.jobs.small_study import change, rows
from tests.storage.small_run import answer, claimed, finish, new_cell, new_run, participant_ids, started
from tests.storage.what_is_there import answers_of, progress_of

FAILED, REFUSED, UNPARSABLE = AnswerState.FAILED, AnswerState.REFUSED, AnswerState.UNPARSABLE


def answered_as(ledger: Ledger, participant: int, *states: AnswerState) -> list[Answer]:
    """Let a participant's answers end in these states, each with the memory of all before it."""
    held = claimed(ledger, participant)
    said = [
        answer(held, item, state=state, memory=tuple(range(item)), completion=f"said {item}")
        for item, state in enumerate(states)
    ]
    for done in said:
        ledger.checkpoint(held, done, tuple(range(done.item + 1)))
    ledger.release(held)
    return said


def again(said: Answer, **changes: Any) -> Answer:
    """What a participant says when it is asked once more."""
    fields: dict[str, Any] = {"state": AnswerState.ANSWERED, "choices": (1,), "completion": "asked again"}
    return replace(said, **{**fields, "attempt": said.attempt + 1, "out_of_sequence": True, "seed": 99, **changes})


def standing(database: Database, participant: int) -> tuple[Any, ...]:
    """Status, position, memory and attempts of a participant, as the table has them."""
    p = tables.participant.c
    return tuple(*database.rows(select(p.status, p.next_item, p.memory, p.attempts).where(p.id == participant)))


def test_only_answers_in_the_states_named_are_asked_again(database: Database, ledger: Ledger) -> None:
    first, second = started(database)
    mark_published(database, [first, second])
    said = answered_as(ledger, first, FAILED, REFUSED, UNPARSABLE)
    finish(ledger, second)
    assert recovery.ask_again(database, "first", [FAILED, UNPARSABLE]) == 2
    assert recovery.ask_again(database, "first", [FAILED, UNPARSABLE]) == 0
    assert [message.participant for message in outgoing(database)] == [first]
    assert standing(database, first)[:2] == ("open", 3)
    assert standing(database, second)[0] == "finished"
    held = claimed(ledger, first)
    assert ledger.to_ask_again(held) == [(said[0], 1), (said[2], 1)]


def test_other_runs_are_left_alone(database: Database, ledger: Ledger) -> None:
    (first,) = started(database, new_cell(participants=1))
    (other,) = started(database, new_cell(participants=1), id="second")
    for who in (first, other):
        answered_as(ledger, who, FAILED, FAILED, FAILED)
    assert recovery.ask_again(database, "first", [FAILED]) == 3
    assert recovery.rewind(database, "first", [FAILED]) == 3
    assert standing(database, other)[:2] == ("finished", 3)
    assert len(answers_of(database, other)) == 3


def test_an_answer_asked_again_takes_the_place_of_the_first(database: Database, ledger: Ledger) -> None:
    (first,) = started(database, new_cell(participants=1))
    said = answered_as(ledger, first, FAILED, AnswerState.ANSWERED, REFUSED)
    before = revision(database, "first")
    recovery.ask_again(database, "first", [FAILED, REFUSED])
    held = claimed(ledger, first)
    ledger.replace(held, again(said[0]))
    assert progress_of(database, "first") == Progress(planned=3, answered=2, refused=1)
    assert standing(database, first) == ("open", 3, (0, 1, 2), {})
    ledger.replace(held, again(said[2], state=REFUSED, choices=()))
    assert answers_of(database, first) == [again(said[0]), said[1], again(said[2], state=REFUSED, choices=())]
    assert progress_of(database, "first") == Progress(planned=3, answered=2, refused=1)
    assert standing(database, first) == ("finished", 3, (0, 1, 2), {})
    assert revision(database, "first") == before + 2
    assert ledger.heartbeat([held]) == set()
    assert outgoing(database) == []


def test_an_answer_that_nobody_ordered_is_not_replaced(database: Database, ledger: Ledger) -> None:
    (first,) = started(database, new_cell(participants=1))
    said = answered_as(ledger, first, FAILED, FAILED, FAILED)
    recovery.ask_again(database, "first", [FAILED])
    stale = claimed(Ledger(database, owner="host:2:dead", ttl=-1.0), first)
    held = claimed(ledger, first)
    for who, refused in [(stale, again(said[0])), (held, again(said[0], attempt=2)), (held, again(said[0], item=7))]:
        with pytest.raises(StaleLease, match=f"participant {first}: not held under epoch"):
            ledger.replace(who, refused)
    assert answers_of(database, first) == said
    ledger.replace(held, again(said[0]))
    with pytest.raises(StaleLease):
        ledger.replace(held, again(said[0], completion="a second time"))
    assert answers_of(database, first)[0].completion == "asked again"
    assert [wanted for _, wanted in ledger.to_ask_again(held)] == [1, 1]


def test_a_replacement_whose_commit_was_not_heard_of_is_recognised(database: Database, ledger: Ledger) -> None:
    (first,) = started(database, new_cell(participants=1))
    said = answered_as(ledger, first, FAILED, FAILED, FAILED)
    recovery.ask_again(database, "first", [FAILED])
    held = claimed(ledger, first)
    for done in said:
        ledger.replace(held, again(done))
        ledger.replace(held, again(done))
    assert progress_of(database, "first") == Progress(planned=3, answered=3)
    assert revision(database, "first") == 6
    with pytest.raises(StaleLease):
        Ledger(database, owner="host:2:other").replace(held, again(said[0]))


def test_a_participant_in_hand_is_asked_again_before_it_is_finished(database: Database, ledger: Ledger) -> None:
    (first,) = started(database, new_cell(participants=1))
    held = claimed(ledger, first)
    failed = answer(held, 0, state=FAILED)
    ledger.checkpoint(held, failed, ())
    assert recovery.ask_again(database, "first", [FAILED]) == 1
    ledger.checkpoint(held, answer(held, 1), ())
    ledger.checkpoint(held, answer(held, 2), ())
    assert standing(database, first)[0] == "open"
    assert ledger.to_ask_again(held) == [(failed, 1)]
    ledger.replace(held, again(failed))
    assert standing(database, first)[0] == "finished"


def test_an_order_that_was_overtaken_after_all_is_found(database: Database, ledger: Ledger) -> None:
    """Where the last answer was committed at the moment of the order, the next look opens the participant again."""
    first, second = started(database)
    (failed, *_) = answered_as(ledger, first, FAILED, AnswerState.ANSWERED, AnswerState.ANSWERED)
    finish(ledger, second)
    mark_published(database, [first, second])
    assert recovery.reopen_asked_again(database) == 0
    row = {"participant": first, "item": 0, "slot": 0, "attempt": 1}
    database.change(tables.again.insert().values(row))
    assert recovery.reopen_asked_again(database) == 1
    assert recovery.reopen_asked_again(database) == 0
    assert standing(database, second)[0] == "finished"
    assert [message.participant for message in outgoing(database)] == [first]
    assert ledger.to_ask_again(claimed(ledger, first)) == [(failed, 1)]


def test_two_orders_at_once_are_one(database: Database, ledger: Ledger) -> None:
    (first,) = started(database, new_cell(participants=1))
    answered_as(ledger, first, FAILED, FAILED, FAILED)
    start = Barrier(8)

    def order(_: int) -> int:
        start.wait()
        return recovery.ask_again(database, "first", [FAILED])

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(order, range(8))) == [0, 0, 0, 0, 0, 0, 0, 3]


def test_rewinding_against_a_worker_that_answers_leaves_no_answer_behind(database: Database, ledger: Ledger) -> None:
    store.add_run(database, new_run(new_cell(participants=16), questions=[f"Q{number}" for number in range(30)]))
    ids = participant_ids(database)
    first_answers = Barrier(17)

    def work(who: int) -> bool:
        held = claimed(ledger, who)
        ledger.checkpoint(held, answer(held, 0, state=FAILED), ())
        first_answers.wait()
        try:
            for item in range(1, 30):
                ledger.checkpoint(held, answer(held, item), ())
        except StaleLease:
            return True
        return False

    with ThreadPoolExecutor(16) as pool:
        working = [pool.submit(work, who) for who in ids]
        first_answers.wait()
        assert recovery.rewind(database, "first", [FAILED]) >= 16
        assert sum(future.result() for future in working) > 0
    for who in ids:
        position = standing(database, who)[1]
        assert [said.item for said in answers_of(database, who)] == list(range(position))


def test_rewinding_takes_back_everything_from_the_first_such_answer(database: Database, ledger: Ledger) -> None:
    questions = [f"Q{number}" for number in range(5)]
    store.add_run(database, new_run(new_cell(participants=2), questions=questions))
    first, second = participant_ids(database)
    states = [AnswerState.ANSWERED, REFUSED, FAILED, AnswerState.ANSWERED, FAILED]
    said = answered_as(ledger, first, *states)
    finish(ledger, second, questions=5)
    mark_published(database, [first, second])
    before = revision(database, "first")
    assert recovery.rewind(database, "first", [FAILED]) == 3
    assert answers_of(database, first) == said[:2]
    assert standing(database, first) == ("open", 2, (0, 1), {"2": 1})
    assert progress_of(database, "first") == Progress(planned=10, answered=6, refused=1)
    assert [message.participant for message in outgoing(database)] == [first]
    assert revision(database, "first") == before + 1
    held = claimed(ledger, first)
    assert (held.next_item, held.memory, held.attempts) == (2, (0, 1), {2: 1})
    for item in range(2, 5):
        ledger.checkpoint(held, answer(held, item), (item,))
    assert standing(database, first) == ("finished", 5, (4,), {"2": 1})
    assert reports_due(database) == [("first", before + 4, 0)]


def test_a_second_rewind_counts_attempts_on(database: Database, ledger: Ledger) -> None:
    (first,) = started(database, new_cell(participants=1))
    answered_as(ledger, first, AnswerState.ANSWERED, AnswerState.ANSWERED, FAILED)
    recovery.rewind(database, "first", [FAILED])
    held = claimed(ledger, first)
    ledger.checkpoint(held, answer(held, 2, state=FAILED), ())
    with_attempt = {"attempt": 1}
    database.change(tables.answer.update().where(tables.answer.c.item == 2).values(with_attempt))
    recovery.rewind(database, "first", [FAILED])
    assert standing(database, first)[3] == {"2": 2}
    held = claimed(ledger, first)
    ledger.checkpoint(held, replace(answer(held, 2, state=FAILED), attempt=2), ())
    recovery.rewind(database, "first", [AnswerState.ANSWERED])
    assert standing(database, first)[:2] == ("open", 0)
    assert standing(database, first)[3] == {"0": 1, "2": 2}


def test_rewinding_fences_off_whoever_holds_the_participant(database: Database, ledger: Ledger) -> None:
    (first,) = started(database, new_cell(participants=1))
    held = claimed(ledger, first)
    ledger.checkpoint(held, answer(held, 0, state=FAILED), ())
    assert recovery.rewind(database, "first", [FAILED]) == 1
    for item in (0, 1):
        with pytest.raises(StaleLease):
            ledger.checkpoint(held, answer(held, item), ())
    assert ledger.heartbeat([held]) == {first}
    assert claimed(Ledger(database, owner="host:2:other"), first).next_item == 0


def test_rewinding_keeps_what_is_to_be_asked_again_of_earlier_answers(database: Database, ledger: Ledger) -> None:
    (first,) = started(database, new_cell(participants=1))
    refused, *_ = answered_as(ledger, first, REFUSED, AnswerState.ANSWERED, FAILED)
    recovery.ask_again(database, "first", [REFUSED, FAILED])
    assert recovery.rewind(database, "first", [FAILED]) == 1
    held = claimed(ledger, first)
    ledger.checkpoint(held, answer(held, 2), ())
    assert standing(database, first)[0] == "open"
    assert ledger.to_ask_again(held) == [(refused, 1)]
    ledger.replace(held, again(refused))
    assert standing(database, first)[0] == "finished"


def set_aside(database: Database, participant: int) -> Participant:
    """A participant that ended its worker three times while it was asked alone."""
    held: Participant
    for number in range(recovery.QUARANTINE_AFTER):
        ledger = Ledger(database, owner=f"host:{number}:gone")
        held = claimed(ledger, participant)
        ledger.begin_trial(held)
        recovery.free_owned(database, ledger.owner)
    assert standing(database, participant)[0] == "quarantined"
    return held


def test_who_was_set_aside_gets_another_chance(database: Database, ledger: Ledger) -> None:
    first, second = started(database)
    mark_published(database, [first, second])
    set_aside(database, first)
    assert recovery.reopen_quarantined(database, "first") == 1
    assert [message.participant for message in outgoing(database)] == [first]
    held = claimed(ledger, first)
    assert held.suspect
    ledger.begin_trial(held)
    assert recovery.free_owned(database, ledger.owner).quarantined == ()
    assert standing(database, first)[0] == "open"


PATIENCE = 20.0


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


def failing(ledger: Ledger, participant: int) -> None:
    """Answer all questions of a participant, of which the last fails."""
    held = claimed(ledger, participant)
    for item in range(3):
        ledger.checkpoint(held, answer(held, item, state=FAILED if item == 2 else AnswerState.ANSWERED), ())


def test_an_answer_that_is_there_meanwhile_is_not_taken_back(database: Database, ledger: Ledger) -> None:
    """It had failed when the rewind began, and was being asked again: nobody loses it, nor the participant."""
    (who,) = started(database, new_cell(participants=1))
    failing(ledger, who)
    recovery.ask_again(database, "first", [FAILED])
    held = claimed(ledger, who)
    ((failed, attempt),) = ledger.to_ask_again(held)
    anew = replace(failed, state=AnswerState.ANSWERED, choices=(2,), attempt=attempt, out_of_sequence=True)
    with held_at_commit(database) as (there, go_on), ThreadPoolExecutor(2) as pool:
        asked = pool.submit(ledger.replace, held, anew)
        assert there.wait(PATIENCE)
        taken = pool.submit(recovery.rewind, database, "first", [FAILED])
        wait([taken], 0.2)
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
        wait([raised], 0.2)
        go_on.set()
        assert halted.result(PATIENCE)
        raised.result(PATIENCE)
    assert rows(database, "SELECT DISTINCT halted FROM cell") == [(False,)]


def test_a_run_that_is_imported_twice_at_once_is_there_once(database: Database, ledger: Ledger, tmp_path: Path) -> None:
    (who,) = started(database, new_cell(participants=1))
    finish(ledger, who)
    file = tmp_path / "run.bundle"
    export_bundle(database, "first", file)
    for table in ("answer", "participant", "cell", "run"):
        change(database, f"DELETE FROM {table}")
    with held_at_commit(database) as (there, go_on), ThreadPoolExecutor(2) as pool:
        first = pool.submit(import_bundle, database, file)
        assert there.wait(PATIENCE)
        second = pool.submit(import_bundle, database, file)
        wait([second], 0.2)
        go_on.set()
        assert first.result(PATIENCE) == "first"
        with pytest.raises(BadBundle, match="run first is here already"):
            second.result(PATIENCE)
    assert progress_of(database, "first").answered == 3
