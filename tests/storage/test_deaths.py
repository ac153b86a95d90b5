"""Whoever ends its worker is found and set aside, and nobody else pays for it."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import recovery, tables
from defsurvey.storage.runs.ledger import Ledger, StaleLease
from defsurvey.storage.runs.outbox import mark_published, outgoing
from defsurvey.storage.runs.run import Participant
from tests.storage.small_run import answer, claimed, finish, new_cell, started
from tests.storage.what_is_there import answers_of, participants_by_state

NOBODY = recovery.Freed()


def standing(database: Database, participant: int) -> tuple[Any, ...]:
    """Status, suspicion, trial, deaths and owner of a participant, as the table has them."""
    p = tables.participant.c
    return tuple(
        *database.rows(select(p.status, p.suspect, p.on_trial, p.deaths, p.lease_owner).where(p.id == participant))
    )


def worker(database: Database, number: int, *, ttl: float = 90.0) -> Ledger:
    return Ledger(database, owner=f"host:{number}:worker", ttl=ttl)


def on_trial(ledger: Ledger, participant: int) -> Participant:
    """A participant that this ledger holds and asks alone."""
    held = claimed(ledger, participant)
    ledger.begin_trial(held)
    return held


def test_those_in_flight_when_a_worker_dies_are_suspect_and_no_more(database: Database) -> None:
    """Each of them is to be asked alone from now on; no death counts against any, and who waited is as before."""
    first, second, waiting = started(database, new_cell(participants=3))
    gone = worker(database, 1)
    mark_published(database, [first, second, waiting])
    claimed(gone, first)
    claimed(gone, second)
    assert recovery.free_owned(database, gone.owner) == recovery.Freed(participants=2)
    assert [standing(database, who) for who in (first, second)] == 2 * [("open", True, False, 0, None)]
    assert standing(database, waiting) == ("open", False, False, 0, None)
    assert [message.participant for message in outgoing(database)] == [first, second]
    assert claimed(worker(database, 2), first).suspect


def test_a_death_counts_only_while_a_participant_is_asked_alone(database: Database) -> None:
    first, second, third = started(database, new_cell(participants=3))
    gone = worker(database, 1)
    claimed(gone, first)
    on_trial(gone, second)
    claimed(gone, third)
    assert recovery.free_owned(database, gone.owner) == recovery.Freed(participants=3)
    assert standing(database, second) == ("open", True, False, 1, None)
    assert [standing(database, who) for who in (first, third)] == 2 * [("open", False, False, 0, None)]


def test_whose_trial_ended_in_a_death_is_tried_after_the_others(database: Database) -> None:
    """Workers that are killed one soon after the other must not always be asking the same participant."""
    first, second, third = started(database, new_cell(participants=3))
    gone = worker(database, 1)
    claimed(gone, second)
    on_trial(gone, first)
    assert recovery.free_owned(database, gone.owner) == recovery.Freed(participants=2)
    assert [message.participant for message in outgoing(database)] == [second, third, first]


def test_a_worker_that_dies_before_it_asks_condemns_nobody(database: Database) -> None:
    """Held alone is not asked alone: a machine too small to load the model kills its workers without any question."""
    first, _ = started(database)
    for number in range(2 * recovery.QUARANTINE_AFTER):
        gone = worker(database, number)
        claimed(gone, first)
        assert recovery.free_owned(database, gone.owner) == recovery.Freed(participants=1)
    assert standing(database, first) == ("open", True, False, 0, None)


def test_the_third_death_while_alone_sets_a_participant_aside(database: Database) -> None:
    poison, mate = started(database)
    before = worker(database, 0)
    held = claimed(before, poison)
    before.checkpoint(held, answer(held, 0), (0,))
    before.release(held)
    for number in range(1, recovery.QUARANTINE_AFTER + 1):
        gone = worker(database, number)
        on_trial(gone, poison)
        claimed(gone, mate)
        aside = (poison,) if number == recovery.QUARANTINE_AFTER else ()
        assert recovery.free_owned(database, gone.owner) == recovery.Freed(participants=2, quarantined=aside)
    assert standing(database, poison) == ("quarantined", True, False, recovery.QUARANTINE_AFTER, None)
    last = worker(database, 9)
    assert last.claim(poison) is None
    finish(last, mate)
    assert len(answers_of(database, poison)) == 1
    assert participants_by_state(database, "first") == {"waiting": 0, "running": 0, "finished": 1, "quarantined": 1}


def test_an_answer_clears_a_participant_of_everything(database: Database) -> None:
    first, _ = started(database)
    for number in range(recovery.QUARANTINE_AFTER - 1):
        gone = worker(database, number)
        on_trial(gone, first)
        recovery.free_owned(database, gone.owner)
    claimed(gone, first)  # held, and not asked alone
    assert recovery.free_owned(database, gone.owner).quarantined == ()
    alive = worker(database, 8)
    held = on_trial(alive, first)
    alive.checkpoint(held, answer(held, 0), (0,))
    assert standing(database, first) == ("open", False, False, 0, alive.owner)
    alive.release(held)
    assert not claimed(worker(database, 9), first).suspect


def test_only_leases_that_ran_out_are_freed(database: Database) -> None:
    lapsed, held, done = started(database, new_cell(participants=3))
    claimed(worker(database, 1, ttl=-1.0), lapsed)
    claimed(worker(database, 2), held)
    finish(worker(database, 1, ttl=-1.0), done)
    assert recovery.free_expired(database) == recovery.Freed(participants=1)
    assert standing(database, lapsed) == ("open", True, False, 0, None)
    assert standing(database, held) == ("open", False, False, 0, "host:2:worker")
    assert standing(database, done)[0] == "finished"
    assert recovery.free_expired(database) == NOBODY


def test_workers_of_machines_that_are_gone_are_forgotten(database: Database) -> None:
    for number, ago in ((1, recovery.FORGOTTEN_AFTER + 60), (2, recovery.FORGOTTEN_AFTER - 60)):
        worker(database, number).beat("", {})
        own = tables.worker.c.owner == f"host:{number}:worker"
        change = tables.worker.update().where(own).values(beat_at=tables.worker.c.beat_at - ago)
        database.write(lambda connection, change=change: connection.execute(change))
    assert recovery.free_expired(database) == NOBODY
    with database.read() as connection:
        assert connection.execute(select(tables.worker.c.owner)).scalars().all() == ["host:2:worker"]


def test_whoever_was_thought_dead_commits_nothing_once_another_has_claimed(database: Database) -> None:
    first, _ = started(database)
    slow = worker(database, 1)
    held = on_trial(slow, first)
    recovery.free_owned(database, slow.owner)
    claimed(worker(database, 2), first)
    with pytest.raises(StaleLease):
        slow.checkpoint(held, answer(held, 0), (0,))
    with pytest.raises(StaleLease, match=f"participant {first}: not held under epoch 1 any more"):
        slow.begin_trial(held)
    assert standing(database, first) == ("open", True, False, 1, "host:2:worker")


def test_an_answer_that_comes_after_all_brings_a_participant_back(database: Database) -> None:
    """Set aside while its worker only seemed dead, it is open again with the answer that worker commits."""
    first, _ = started(database)
    for number in range(recovery.QUARANTINE_AFTER - 1):
        on_trial(worker(database, number), first)
        recovery.free_owned(database, f"host:{number}:")
    slow = worker(database, 8)
    held = on_trial(slow, first)
    assert recovery.free_owned(database, slow.owner).quarantined == (first,)
    slow.checkpoint(held, answer(held, 0), (0,))
    assert standing(database, first) == ("open", False, False, 0, None)
    assert replace(claimed(worker(database, 9), first), draws=held.draws).next_item == 1


def test_who_cannot_be_asked_is_set_aside_after_as_many_attempts(database: Database) -> None:
    first, second = started(database)
    mark_published(database, [first, second])
    stale = claimed(worker(database, 1, ttl=-1.0), first)
    held = claimed(worker(database, 2), first)
    assert not recovery.count_failure(database, stale)
    assert standing(database, first) == ("open", False, False, 0, "host:2:worker")
    assert not recovery.count_failure(database, held)
    assert not recovery.count_failure(database, held)
    assert standing(database, first) == ("open", False, False, 1, None)
    assert [message.participant for message in outgoing(database)] == [first]
    told = [
        recovery.count_failure(database, claimed(worker(database, 3), first))
        for _ in range(recovery.QUARANTINE_AFTER - 1)
    ]
    assert told == [False, True]
    assert standing(database, first) == ("quarantined", False, False, recovery.QUARANTINE_AFTER, None)
    assert outgoing(database) == []
