"""Affinity: a worker stays with its model to the end, then goes where it is needed most."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from defsurvey.storage.database import Database
from defsurvey.storage.runs.ledger import Backlog
from defsurvey.storage.schema import migrate
from defsurvey.workers.runner.participant_runner import Outcome
from defsurvey.workers.runner.queue_affinity import FIRST, MOST, affinity_step, at_once, choose
from defsurvey.workers.runner.resident import Resident
from tests.workers.working import add_run, change, make_stage, respondent, rows


def backlog(model: str, claimable: int, workers: int = 0) -> Backlog:
    """A model's open work."""
    return Backlog(model=model, claimable=claimable, workers=workers)


@pytest.mark.parametrize(
    ("candidates", "current", "chosen"),
    [
        ([], "", ""),
        ([], "a", "a"),
        ([backlog("a", 1), backlog("b", 900)], "a", "a"),
        ([backlog("a", 5), backlog("b", 9)], "", "b"),
        ([backlog("a", 5, 0), backlog("b", 9, 1)], "", "a"),
        ([backlog("b", 5), backlog("a", 5)], "", "a"),
        ([backlog("b", 5)], "a", "b"),
    ],
    ids=["nothing", "stays idle", "to the end", "largest", "fewest workers", "by name", "moves on"],
)
def test_which_model_is_drained_next(candidates: list[Backlog], current: str, chosen: str) -> None:
    """The present one while it has work; then the fewest workers, then the largest backlog, then the name."""
    assert choose(candidates, current) == chosen


class Consumer:
    """Stands for Celery's consumer: notes which queues it listens to."""

    def __init__(self) -> None:
        self.queues: list[str] = []
        self.heard: list[str] = []
        self.initial_prefetch_count = 0
        self.qos = SimpleNamespace(value=FIRST)

    def call_soon(self, do: Any, queue: str) -> None:
        """Celery would do it in its own thread."""
        do(queue)

    def add_task_queue(self, queue: str) -> None:
        """Listen to a queue."""
        self.queues.append(queue)
        self.heard.append(f"+{queue}")

    def cancel_task_queue(self, queue: str) -> None:
        """Listen to it no more."""
        self.queues.remove(queue)
        self.heard.append(f"-{queue}")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database with a run of two models."""
    with Database(f"sqlite:///{tmp_path / 'x.db'}", synchronous="off") as opened:
        migrate(opened)
        add_run(opened, models=("a", "b"), participants=2)
        yield opened


def wait_for(condition: Callable[[], bool]) -> None:
    """Look until it is so, for four seconds at most."""
    for _ in range(400):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never was so")


def test_a_worker_changes_its_queue_when_its_model_has_no_work_left(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It listens to one queue at a time, and not while a participant of the old model is in flight."""
    monkeypatch.setattr("defsurvey.workers.runner.queue_affinity.LOOK_SECONDS", 0.01)
    stage = make_stage(database, {}, [])
    consumer = Consumer()
    step = affinity_step(
        stage.leases, stage.resident, database=database, models=(), queue_of=lambda model: f"q.{model}"
    )(consumer)
    step.start(consumer)
    try:
        wait_for(lambda: consumer.heard == ["+q.a"])
        assert stage.leases.model == "a"
        held = stage.ledger.claim(1)
        assert held is not None
        with stage.leases.hold(held):
            change(database, "UPDATE participant SET status = 'finished' WHERE id IN (1, 2)")
            threading.Event().wait(0.1)
            assert consumer.heard == ["+q.a"]
        wait_for(lambda: consumer.heard == ["+q.a", "-q.a", "+q.b"])
        assert consumer.queues == ["q.b"]
        change(database, "UPDATE participant SET status = 'finished'")
        threading.Event().wait(0.1)
        assert consumer.queues == ["q.b"]
    finally:
        step.stop(consumer)


def test_a_connection_that_comes_back_takes_the_queue_up_again(database: Database) -> None:
    """Celery forgets queues that were added; the model stays the same."""
    stage = make_stage(database, {}, [])
    stage.leases.model = "b"
    consumer = Consumer()
    step = affinity_step(
        stage.leases, stage.resident, database=database, models=("b",), queue_of=lambda model: f"q.{model}"
    )(consumer)
    step.start(consumer)
    step.stop(consumer)
    assert consumer.heard == ["+q.b"]


def test_only_the_work_of_the_one_run_is_seen(database: Database) -> None:
    """A worker of ``defsurvey run`` does not stay with a model for the sake of another run."""
    add_run(database, "other", models=("b",), participants=1)
    add_run(database, "third", models=("c",), participants=9)
    stage = make_stage(database, {}, [])
    consumer = Consumer()
    options: dict[str, Any] = {"database": database, "models": (), "queue_of": lambda model: f"q.{model}"}
    step = affinity_step(stage.leases, stage.resident, **options, run="other")(consumer)
    step.start(consumer)
    heard = list(consumer.heard)
    step.stop(consumer)
    assert heard == ["+q.b"]


@pytest.mark.parametrize("run", ["other", None])
def test_a_worker_whose_only_run_is_done_gives_its_memory_back(
    database: Database, monkeypatch: pytest.MonkeyPatch, run: str | None
) -> None:
    """The judge of that run may need it; who works on every run keeps its model for the next one."""
    monkeypatch.setattr("defsurvey.workers.runner.queue_affinity.LOOK_SECONDS", 0.01)
    add_run(database, "other", models=("quick",), participants=1)
    stage = make_stage(database, {"quick": respondent("quick")}, [])
    options: dict[str, Any] = {"database": database, "models": ("quick",), "queue_of": lambda model: f"q.{model}"}
    consumer = Consumer()
    step = affinity_step(stage.leases, stage.resident, **options, run=run)(consumer)
    step.start(consumer)
    try:
        (who,) = [participant for (participant,) in rows(database, "SELECT id FROM participant WHERE run = 'other'")]
        assert stage.simulate(who) is Outcome.FINISHED
        for _ in range(20 if run is None else 400):
            if stage.resident.now[1] is None:
                break
            threading.Event().wait(0.01)
        assert (stage.resident.now[1] is None) == (run is not None)
    finally:
        step.stop(consumer)
        stage.close()


def test_only_the_models_that_were_named_are_drained(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--models b``: the work of others is not seen; an outage of the database is waited out."""
    monkeypatch.setattr("defsurvey.workers.runner.queue_affinity.LOOK_SECONDS", 0.01)
    change(database, "ALTER TABLE participant RENAME TO away")
    stage = make_stage(database, {}, [])
    consumer = Consumer()
    step = affinity_step(
        stage.leases, stage.resident, database=database, models=("b",), queue_of=lambda model: f"q.{model}"
    )(consumer)
    step.start(consumer)
    try:
        threading.Event().wait(0.1)
        assert consumer.heard == []
        change(database, "ALTER TABLE away RENAME TO participant")
        wait_for(lambda: consumer.heard == ["+q.b"])
    finally:
        step.stop(consumer)


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (None, FIRST),
        (object(), FIRST),
        (SimpleNamespace(at_once=None), FIRST),
        (SimpleNamespace(at_once=3), 3),
        (SimpleNamespace(at_once=0), 1),
        (SimpleNamespace(at_once=10_000), MOST),
    ],
    ids=["none", "silent", "says none", "three", "at least one", "at most the threads"],
)
def test_the_engine_says_how_many(engine: object | None, expected: int) -> None:
    """Its own number within bounds; a usual one where it says nothing."""
    assert at_once(engine) == expected


def test_a_consumer_is_opened_and_closed_as_engines_come(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few at first; then what the first engine has room for, then what the next one has."""
    monkeypatch.setattr("defsurvey.workers.runner.queue_affinity.LOOK_SECONDS", 0.005)
    stage, consumer, resident = make_stage(database, {}, []), Consumer(), SimpleNamespace(now=("", None))
    options: dict[str, Any] = {"database": database, "models": (), "queue_of": str}
    step = affinity_step(stage.leases, cast(Resident, resident), **options, by_room=True)(consumer)
    assert consumer.initial_prefetch_count == FIRST
    step.start(consumer)
    try:
        for room in (41, 5):
            resident.now = ("a", SimpleNamespace(at_once=room))
            wait_for(lambda room=room: consumer.qos.value == room)
    finally:
        step.stop(consumer)
