"""Claims, fences, checkpoints, steps, panels and probabilities: nothing is lost and nothing is written twice."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox, store, tables
from defsurvey.storage.runs.export import PROBABILITIES, probability_rows
from defsurvey.storage.runs.ledger import Backlog, Ledger, StaleLease, backlogs, owners
from defsurvey.storage.runs.outbox import mark_published, outgoing, waiting
from defsurvey.storage.runs.recovery import free_owned, rewind
from defsurvey.storage.runs.results import read_results
from defsurvey.storage.runs.rows import answer_columns
from defsurvey.storage.runs.run import AnswerState, CompletedStep, Condition, OptionProbabilities, Participant, Progress
from defsurvey.storage.runs.steps import commit_probabilities, commit_step, read_probabilities, steps_of
from tests.storage.small_run import DRAWS, USED, answer, claimed, finish, new_cell, new_run, participant_ids, started
from tests.storage.what_is_there import answers_of, participants_by_state, progress_of

REPOSITORY = Path(__file__).parents[2]


def dead(database: Database) -> Ledger:
    """The ledger of a process whose leases have run out as soon as they are taken."""
    return Ledger(database, owner="host:2:dead", ttl=-1.0)


def row_of(database: Database, participant: int) -> tuple[int, tuple[int, ...], str, int, str | None]:
    """Position, memory, status, answers counted and owner of a participant, as the table has them."""
    p = tables.participant.c
    counted = p.answered + p.refused + p.unparsable + p.failed
    return tuple(
        *database.rows(select(p.next_item, p.memory, p.status, counted, p.lease_owner).where(p.id == participant))
    )


def test_claim_gives_the_participant_as_it_was_written(database: Database, ledger: Ledger) -> None:
    _, second = started(database)
    held = claimed(ledger, second)
    cell = store.load_run(database, "first").cells[0]
    assert (held.id, held.index, held.run, held.epoch) == (second, 1, "first", 1)
    assert (held.cell.id, held.cell.model, held.cell.condition) == (cell.id, "model-a", cell.condition)
    assert (held.draws.region, held.draws.memory_capacity) == (DRAWS.region, 1)
    assert (held.next_item, held.memory) == (0, ())


def test_an_expired_lease_can_be_claimed_under_a_higher_epoch(database: Database, ledger: Ledger) -> None:
    first, _ = started(database)
    claimed(dead(database), first)
    assert claimed(ledger, first).epoch == 2
    assert ledger.claim(first) is None


def test_a_cancelled_run_is_not_claimed_until_it_is_resumed(database: Database, ledger: Ledger) -> None:
    first, _ = started(database)
    store.cancel(database, "first")
    assert ledger.claim(first) is None
    store.cancel(database, "first", cancelled=False)
    assert claimed(ledger, first).id == first


def test_what_is_finished_quarantined_or_unknown_is_not_claimed(database: Database, ledger: Ledger) -> None:
    first, second = started(database)
    finish(ledger, first)
    p = tables.participant.c
    database.change(update(tables.participant).where(p.id == second).values(status="quarantined"))
    assert [ledger.claim(who) for who in (first, second, second + 1000)] == [None, None, None]


def test_one_of_many_claims_wins(database: Database) -> None:
    first, _ = started(database)
    start = Barrier(16)

    def claim(number: int) -> Participant | None:
        start.wait()
        return Ledger(database, owner=f"host:{number}:thread").claim(first)

    with ThreadPoolExecutor(16) as pool:
        won = [held for held in pool.map(claim, range(16)) if held is not None]
    assert [held.epoch for held in won] == [1]


def test_a_checkpoint_commits_answer_memory_and_position(database: Database, ledger: Ledger) -> None:
    first, second = started(database)
    held = claimed(ledger, first)
    said = answer(held, 0, memory=(), remembered="2: option 2")
    ledger.checkpoint(held, said, (0,))
    assert answers_of(database, first) == [said]
    assert row_of(database, first) == (1, (0,), "open", 1, "host:1:here")
    assert row_of(database, second) == (0, (), "open", 0, None)


def test_a_stale_worker_writes_nothing(database: Database, ledger: Ledger) -> None:
    first, _ = started(database)
    stale = claimed(dead(database), first)
    fresh = claimed(ledger, first)
    with pytest.raises(StaleLease, match=f"participant {first}: not held under epoch 1 at item 0"):
        dead(database).checkpoint(stale, answer(stale, 0, completion="late"), (0,))
    assert answers_of(database, first) == []
    assert row_of(database, first) == (0, (), "open", 0, "host:1:here")
    ledger.checkpoint(fresh, answer(fresh, 0), (0,))
    assert [said.completion for said in answers_of(database, first)] == ["2: option 2"]


@pytest.mark.parametrize("item", [0, 2])
def test_an_item_is_neither_answered_twice_nor_skipped(database: Database, ledger: Ledger, item: int) -> None:
    first, _ = started(database)
    held = claimed(ledger, first)
    ledger.checkpoint(held, answer(held, 0), (0,))
    with pytest.raises(StaleLease, match=f"at item {item}"):
        ledger.checkpoint(held, answer(held, item, completion="again"), (0,))
    assert [said.completion for said in answers_of(database, first)] == ["2: option 2"]
    assert row_of(database, first)[:2] == (1, (0,))


def test_an_answer_that_cannot_be_written_takes_the_advance_back(database: Database, ledger: Ledger) -> None:
    first, _ = started(database)
    held = claimed(ledger, first)
    there = {**answer_columns(answer(held, 0, completion="there")), "worker": "w", "committed_at": 0.0}
    database.change(insert(tables.answer).values(there))
    with pytest.raises(IntegrityError):
        ledger.checkpoint(held, answer(held, 0), (0,))
    assert row_of(database, first) == (0, (), "open", 0, "host:1:here")
    assert [said.completion for said in answers_of(database, first)] == ["there"]


def test_the_last_item_finishes_and_frees(database: Database, ledger: Ledger) -> None:
    first, _ = started(database)
    held = claimed(ledger, first)
    for item in range(3):
        assert participants_by_state(database, "first")["running"] == 1
        ledger.checkpoint(held, answer(held, item), (item,))
    assert row_of(database, first) == (3, (2,), "finished", 3, None)
    expected = {"waiting": 1, "running": 0, "finished": 1, "quarantined": 0}
    assert participants_by_state(database, "first") == expected
    assert ledger.heartbeat([held]) == set()
    assert participants_by_state(database, "first") == expected


def test_a_heartbeat_extends_the_lease(database: Database, ledger: Ledger) -> None:
    first, _ = started(database)
    held = claimed(Ledger(database, owner=ledger.owner, ttl=-1.0), first)
    assert ledger.heartbeat([held]) == set()
    assert Ledger(database, owner="host:3:other").claim(first) is None


def test_a_heartbeat_tells_what_is_lost_or_cancelled(database: Database, ledger: Ledger) -> None:
    taken, kept, let_go = started(database, new_cell(participants=3))
    (of_other,) = started(database, new_cell(participants=1), id="second")
    lapsing = Ledger(database, owner=ledger.owner, ttl=-1.0)
    held = [claimed(lapsing, taken), *(claimed(ledger, who) for who in (kept, let_go, of_other))]
    claimed(Ledger(database, owner="host:3:other"), taken)
    ledger.release(held[2])
    store.cancel(database, "second")
    assert ledger.heartbeat(held) == {taken, let_go, of_other}
    assert ledger.heartbeat([]) == set()


def test_release_frees_at_once_and_publishes_again(database: Database, ledger: Ledger) -> None:
    first, second = started(database)
    mark_published(database, [first, second])
    held = claimed(ledger, first)
    ledger.checkpoint(held, answer(held, 0), (0,))
    ledger.release(held)
    assert [message.participant for message in outgoing(database)] == [first]
    assert claimed(Ledger(database, owner="host:3:other"), first).next_item == 1


def test_a_stale_release_changes_nothing(database: Database, ledger: Ledger) -> None:
    first, _ = started(database)
    stale = claimed(dead(database), first)
    claimed(ledger, first)
    dead(database).release(stale)
    assert row_of(database, first)[4] == "host:1:here"
    assert Ledger(database, owner="host:3:other").claim(first) is None


def test_free_owned_frees_what_the_dead_held(database: Database) -> None:
    first, second, third = started(database, new_cell(participants=3))
    gone, other = Ledger(database, owner="h_st:7:gone"), Ledger(database, owner="hast:7:alive")
    for ledger in (gone, other):
        ledger.beat("model-a", {})
    finish(gone, first)
    claimed(gone, second)
    held = claimed(other, third)
    assert owners(database) == {"h_st:7:gone", "hast:7:alive"}
    assert free_owned(database, "h_st:7:").participants == 1  # "_" is a letter here, not a pattern
    assert (row_of(database, first)[2], row_of(database, third)[4]) == ("finished", "hast:7:alive")
    other.release(held)
    assert owners(database) == {"hast:7:alive"}


def test_backlogs_are_ordered_and_counted(database: Database, ledger: Ledger) -> None:
    big, small = new_cell("model-c", participants=3), new_cell("model-b", participants=1)
    ids = started(database, small, big, new_cell("model-a", participants=1), new_cell("model-d", participants=1))
    Ledger(database, owner="host:5:one").beat("model-a", {})
    Ledger(database, owner="host:6:two").beat("model-a", {})
    ledger.beat("model-c", {})
    by_model = [(backlog.model, backlog.claimable, backlog.workers) for backlog in backlogs(database)]
    assert by_model == [("model-c", 3, 1), ("model-b", 1, 0), ("model-d", 1, 0), ("model-a", 1, 2)]
    assert backlogs(database, models=["model-a"]) == [Backlog(model="model-a", claimable=1, workers=2, answers=3)]
    claimed(ledger, ids[1])
    finish(ledger, ids[0])
    assert [(b.model, b.claimable) for b in backlogs(database, models=["model-b", "model-c"])] == [("model-c", 2)]
    assert {b.workers for b in backlogs(database, alive_within=-60.0)} == {0}
    store.cancel(database, "first")
    assert backlogs(database) == []


def test_processes_that_checkpoint_at_once_lose_nothing(url: str, database: Database) -> None:
    store.add_run(database, new_run(new_cell(participants=20), questions=[f"Q{number}" for number in range(12)]))
    ids = participant_ids(database)
    command = [sys.executable, "-m", "tests.storage.small_run", url]
    workers = [
        subprocess.Popen([*command, f"host:{part}:w", "12", *map(str, ids[part::2])], cwd=REPOSITORY) for part in (0, 1)
    ]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    assert progress_of(database, "first") == Progress(planned=240, answered=240)
    assert waiting(database, "first") == 0
    a = tables.answer.c
    with database.read() as connection:
        by_worker = {row[0]: row[1] for row in connection.execute(select(a.worker, func.count()).group_by(a.worker))}
    assert by_worker == {"host:0:w": 120, "host:1:w": 120}


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
            assert [entry.answers for entry in backlogs(database)] == [40]
            held = claimed(ledger, who)
    progress = progress_of(database, "first")
    assert (progress.planned, progress.answered, progress.refused, progress.remaining) == (60, 30, 30, 0)
    assert outbox.unfinished(database, "first") == 0
    assert outbox.revision(database, "first") == 60
    assert read_results(database, "first").answers.slot.tolist() == 3 * list(range(20))
    assert [(a.item, a.slot) for a in answers_of(database, who)] == [(i, s) for i in range(3) for s in range(20)]


def test_probabilities_stand_outside_the_answers(database: Database) -> None:
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
    assert read_results(database, "first").probabilities == tuple(rows)
    found = [(r.cell, r.question, r.order, r.option, r.probability) for r in rows[3:5]]
    assert found == [(1, "A", 0, 4, 0.125), (1, "A", 1, 2, 0.5)]
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
