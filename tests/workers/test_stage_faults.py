"""A worker's stage when database, engine or lease fail under it: what is in hand is neither lost nor asked twice."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.exc import OperationalError

from defsurvey.storage.database import Database
from defsurvey.storage.runs import recovery, store, tables
from defsurvey.storage.runs.ledger import Ledger, owners
from defsurvey.storage.runs.recovery import free_owned
from defsurvey.storage.runs.run import AnswerState
from defsurvey.workers import models
from defsurvey.workers.runner import faults as patience
from defsurvey.workers.runner.lease import Leases
from defsurvey.workers.runner.participant_runner import Outcome
from defsurvey.workers.runner.watchdog import Watchdog
from tests.chaos.machine import follow
from tests.chaos.stages import CARDS, PATIENCE, QUESTIONS, RUN, TO_OPEN, Gated, stage_of, started
from tests.storage.what_is_there import answers_of


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.005)
    monkeypatch.setattr(patience, "LAST_PAUSE", 0.02)
    TO_OPEN.clear()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Gated]:
    made = Gated(tmp_path)
    yield made
    made.close()


def gone() -> OperationalError:
    return OperationalError("", {}, sqlite3.OperationalError("unable to open database file"))


def standing(database: Database, participant: int) -> tuple[Any, ...]:
    """Status, position, owner, suspicion and deaths of a participant."""
    p = tables.participant.c
    with database.read() as connection:
        query = select(p.status, p.next_item, p.lease_owner, p.suspect, p.deaths).where(p.id == participant)
        return tuple(connection.execute(query).one())


def whole(database: Database, participants: int = 1) -> bool:
    """Whether every answer is there and hangs on the one before."""
    chained = follow(database, RUN)
    return chained.breaks == () and chained.kept == participants * len(QUESTIONS) and chained.linked > 0


class Mortal(Gated):
    closed = property(lambda self: self._closed)


@pytest.mark.parametrize("after", [False, True], ids=["undone", "done and its word lost"])
def test_every_other_commit_fails_and_nothing_is_asked_twice(
    database: Database, engine: Gated, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Each completion is kept until it is saved, as one that is asked for again; a lost claim is the lease's matter."""
    (who,) = started(database)
    commits, failed = [0], list[bool]()
    commit = DefaultDialect.do_commit

    def failing(dialect: DefaultDialect, connection: Any) -> None:
        fails = not finished and commits[0] % 2 == after
        commits[0] += 1
        failed.append(fails)
        if fails and not after:
            connection.rollback()
            raise sqlite3.OperationalError("disk I/O error")
        commit(dialect, connection)
        if fails:
            raise sqlite3.OperationalError("the word of the commit was lost")

    finished: list[str] = []
    monkeypatch.setattr(DefaultDialect, "do_commit", failing)
    stage = stage_of(database, engine, on_run_finished=finished.append)
    assert stage.simulate(who) is Outcome.FINISHED
    assert sum(failed) > len(QUESTIONS)
    assert [question for question, _ in engine.asked] == list(QUESTIONS)
    assert whole(database)
    assert recovery.ask_again(database, RUN, [AnswerState.ANSWERED]) == len(QUESTIONS)
    finished.clear()
    commits[0] = 0
    assert stage.simulate(who) is Outcome.FINISHED
    finished.append(RUN)
    assert len(engine.asked) == 2 * len(QUESTIONS)
    assert {answer.attempt for answer in answers_of(database, who)} == {1}


def test_orders_that_come_while_others_are_served_are_served_too(database: Database, engine: Gated) -> None:
    """Asked again once more while it is asked again: the participant is not left with an order."""
    (who,) = started(database)
    stage = stage_of(database, engine)
    stage.simulate(who)
    failed = tables.answer.update().where(tables.answer.c.item == 0).values(state="failed")
    database.write(lambda connection: connection.execute(failed))
    recovery.ask_again(database, RUN, [AnswerState.FAILED])
    engine.held, engine.arrived = {"Q1"}, threading.Event()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(stage.simulate, who)
        assert engine.arrived.wait(PATIENCE)
        assert recovery.ask_again(database, RUN, [AnswerState.ANSWERED]) == len(QUESTIONS) - 1
        engine.let_go()
        assert asking.result(PATIENCE) is Outcome.FINISHED
    assert standing(database, who)[:3] == ("finished", len(QUESTIONS), None)
    assert all(answer.out_of_sequence for answer in answers_of(database, who))


def test_told_to_stop_during_an_outage_it_stops(
    database: Database, engine: Gated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The completion in hand is given up, the message goes back, and the lease is left to run out."""
    (who,) = started(database)
    stage = stage_of(database, engine)

    def away(*_arguments: Any) -> None:
        raise gone()

    def stop_at_the_second(*_arguments: Any) -> None:
        if len(engine.asked) == 2:
            monkeypatch.setattr(Ledger, "release", away)
            stage.stop()
            raise gone()
        checkpoint(*_arguments)

    checkpoint = Ledger.checkpoint
    monkeypatch.setattr(Ledger, "checkpoint", stop_at_the_second)
    assert stage.simulate(who) is Outcome.RELEASED
    assert standing(database, who)[:3] == ("open", 1, "host:1:one")
    assert f"participant {who} not released, its lease will run out" in caplog.text
    assert stage.simulate(who) is Outcome.RELEASED
    assert len(engine.asked) == 2


@pytest.mark.parametrize("told", [True, False])
def test_told_to_stop_mid_answer_it_lets_go_at_once(database: Database, tmp_path: Path, told: bool) -> None:
    """Nobody is suspected, and the next worker goes on with the question that was cut off; no engine has died of it.

    So it is where the process ends without having been told to.
    """
    (who,) = started(database)
    first, second = Gated(tmp_path, "Q3"), Gated(tmp_path)
    stage, other = stage_of(database, first), stage_of(database, second, name="two")
    stage.watchdog = Watchdog(1800.0, end=lambda: pytest.fail("the engine counts as dead"))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(stage.simulate, who)
        assert first.arrived.wait(PATIENCE)
        (stage.stop if told else stage.close)()
        assert asking.result(PATIENCE) is Outcome.RELEASED
    assert standing(database, who) == ("open", 2, None, False, 0)
    assert stage.simulate(who) is Outcome.RELEASED
    assert other.simulate(who) is Outcome.FINISHED
    assert [question for question, _ in second.asked] == list(QUESTIONS[2:])
    assert whole(database)
    second.close()


@pytest.mark.parametrize("hosted", [False, True], ids=["engine", "server"])
def test_a_server_may_take_longer_than_an_engine(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hosted: bool
) -> None:
    """Ten attempts of five minutes are more than the half hour after which an engine counts as hung."""
    (who,) = started(database)
    gated = replace(CARDS["citizen"].capabilities, hosted=hosted)
    monkeypatch.setattr(models, "ENGINES", {CARDS["citizen"].engine: gated})
    slow = Gated(tmp_path, "Q1")
    stage = stage_of(database, slow)
    now = [0.0]
    stage.watchdog = Watchdog(1800.0, clock=lambda: now[0])
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(stage.simulate, who)
        assert slow.arrived.wait(PATIENCE)
        now[0] = 3000.0
        assert stage.watchdog.hung() == (not hosted)
        slow.let_go()
        assert asking.result(PATIENCE) is Outcome.FINISHED
    slow.close()


@pytest.mark.parametrize("how", ["cancelled", "closed"])
def test_an_engine_that_dies_ends_the_process(database: Database, tmp_path: Path, how: str) -> None:
    """Under a request, or before the next: it is started again, and who was asked is a suspect, as after any death."""
    first, second = started(database, participants=2)
    engine = Gated(tmp_path, "Q2") if how == "cancelled" else Mortal(tmp_path)
    stage = stage_of(database, engine)
    ended: list[tuple[str, str]] = []

    def end() -> None:
        ended.append((standing(database, first)[2], standing(database, second)[2]))

    stage.watchdog = Watchdog(1800.0, end=end)
    other = stage.ledger.claim(second)
    assert other is not None
    with stage.leases.hold(other), ThreadPoolExecutor(1) as pool:
        if how == "closed":
            stage.leases.count = lambda run: engine.close()  # type: ignore[method-assign]  # between two questions
        asking = pool.submit(stage.simulate, first)
        if how == "cancelled":
            assert engine.arrived.wait(PATIENCE)
            engine.close()
        asking.exception(PATIENCE)
    assert ended == [("host:1:one", "host:1:one")]


def test_a_cancelled_run_is_left_at_the_next_answer(database: Database, tmp_path: Path) -> None:
    (who,) = started(database)
    engine = Gated(tmp_path, "Q2")
    stage = stage_of(database, engine)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(stage.simulate, who)
        assert engine.arrived.wait(PATIENCE)
        store.cancel(database, RUN)
        stage.leases.renew()
        engine.let_go()
        assert asking.result(PATIENCE) is Outcome.LOST
    assert standing(database, who)[:3] == ("open", 2, None)
    assert stage.simulate(who) is Outcome.NOT_CLAIMED
    assert len(engine.asked) == 2
    engine.close()


def test_a_suspect_is_asked_while_nobody_else_is(database: Database, tmp_path: Path) -> None:
    suspect, other = started(database, participants=2)
    died = Ledger(database, owner="host:9:died")
    assert died.claim(suspect) is not None
    assert free_owned(database, died.owner).participants == 1
    engine = Gated(tmp_path, "Q1")
    stage = stage_of(database, engine)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(stage.simulate, suspect)
        assert engine.arrived.wait(PATIENCE)
        second = pool.submit(stage.simulate, other)
        while len(stage.leases.holding()) < 2:
            assert not second.done()
        assert not threading.Event().wait(0.2)
        assert engine.waiting() == 1
        p = tables.participant.c
        with database.read() as connection:
            trial = connection.execute(select(p.id).where(p.on_trial)).scalars().all()
        assert trial == [suspect]
        engine.let_go()
        assert [first.result(PATIENCE), second.result(PATIENCE)] == 2 * [Outcome.FINISHED]
    assert standing(database, suspect) == ("finished", len(QUESTIONS), None, False, 0)
    assert whole(database, participants=2)
    engine.close()


def test_a_heartbeat_outlives_an_outage(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread goes on, leases are renewed as soon as the database is back, and leaving never fails."""
    (who,) = started(database)
    ledger = Ledger(database, owner="host:1:one", ttl=0.3)
    held = ledger.claim(who)
    assert held is not None
    leases, away, beats, beat = Leases(ledger), [True], threading.Semaphore(0), Ledger.beat

    def lossy(*arguments: Any) -> None:
        beats.release()
        if away[0]:
            raise gone()
        beat(*arguments)

    monkeypatch.setattr(Ledger, "beat", lossy)
    monkeypatch.setattr(Ledger, "leave", lambda _self: (_ for _ in ()).throw(gone()))
    leases.start()
    with leases.hold(held):
        for outage in (True, False):
            away[0] = outage
            for _ in range(5):
                assert beats.acquire(timeout=PATIENCE)
        assert ledger.heartbeat([held]) == set()
        assert leases.holding() == [held]
    leases.stop()
    assert owners(database) == {ledger.owner}
    assert not leases.lost(held)
