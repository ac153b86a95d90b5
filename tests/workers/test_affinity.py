"""Affinity: a worker stays with its model to the end, then goes where it is needed most."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from defsurvey.storage.database import Database
from defsurvey.storage.runs.ledger import Backlog
from defsurvey.workers.runner.participant_runner import Outcome, ParticipantRunner
from defsurvey.workers.runner.queue_affinity import FIRST, MOST, affinity_step, at_once, choose
from defsurvey.workers.runner.resident import Resident
from tests.workers.working import add_run, change, make_stage, respondent, rows


@pytest.fixture(autouse=True)
def run(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("defsurvey.workers.runner.queue_affinity.LOOK_SECONDS", 0.01)
    add_run(database, models=("a", "b"), participants=2)


def backlog(model: str, claimable: int, workers: int = 0) -> Backlog:
    return Backlog(model=model, claimable=claimable, workers=workers)


@pytest.mark.parametrize(
    ("candidates", "current", "chosen"),
    [
        ([], "a", "a"),
        ([backlog("a", 1), backlog("b", 900)], "a", "a"),
        ([backlog("a", 5), backlog("b", 9)], "", "b"),
        ([backlog("a", 5, 0), backlog("b", 9, 1)], "", "a"),
        ([backlog("b", 5), backlog("a", 5)], "", "a"),
        ([backlog("b", 5)], "a", "b"),
    ],
    ids=["stays idle", "to the end", "largest", "fewest workers", "by name", "moves on"],
)
def test_which_model_is_drained_next(candidates: list[Backlog], current: str, chosen: str) -> None:
    assert choose(candidates, current) == chosen


class Consumer:
    """Stands for Celery's consumer: notes which queues it listens to."""

    def __init__(self) -> None:
        self.queues: list[str] = []
        self.heard: list[str] = []
        self.initial_prefetch_count = 0
        self.qos = SimpleNamespace(value=FIRST)

    def call_soon(self, do: Any, queue: str) -> None:
        do(queue)

    def add_task_queue(self, queue: str) -> None:
        self.queues.append(queue)
        self.heard.append(f"+{queue}")

    def cancel_task_queue(self, queue: str) -> None:
        self.queues.remove(queue)
        self.heard.append(f"-{queue}")


@contextmanager
def listening(stage: ParticipantRunner, *, resident: Resident | None = None, **options: Any) -> Iterator[Consumer]:
    consumer = Consumer()
    options = {"database": stage.database, "models": (), "queue_of": str} | options
    step = affinity_step(stage.leases, resident or stage.resident, **options)(consumer)
    step.start(consumer)
    try:
        yield consumer
    finally:
        step.stop(consumer)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(400):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never was so")


def test_a_worker_changes_its_queue_when_its_model_has_no_work_left(database: Database) -> None:
    """It listens to one queue at a time, and not while a participant of the old model is in flight."""
    stage = make_stage(database, {}, [])
    with listening(stage) as consumer:
        wait_for(lambda: consumer.heard == ["+a"])
        assert stage.leases.model == "a"
        held = stage.ledger.claim(1)
        assert held is not None
        with stage.leases.hold(held):
            change(database, "UPDATE participant SET status = 'finished' WHERE id IN (1, 2)")
            threading.Event().wait(0.1)
            assert consumer.heard == ["+a"]
        wait_for(lambda: consumer.heard == ["+a", "-a", "+b"])
        change(database, "UPDATE participant SET status = 'finished'")
        threading.Event().wait(0.1)
        assert consumer.queues == ["b"]


def test_a_connection_that_comes_back_takes_the_queue_up_again(database: Database) -> None:
    """Celery forgets queues that were added; the model stays the same."""
    stage = make_stage(database, {}, [])
    stage.leases.model = "b"
    with listening(stage, models=("b",)) as consumer:
        pass
    assert consumer.heard == ["+b"]


def test_only_the_work_of_the_one_run_is_seen(database: Database) -> None:
    """A worker of ``defsurvey run`` does not stay with a model for the sake of another run."""
    add_run(database, "other", models=("c",), participants=1)
    with listening(make_stage(database, {}, []), run="other") as consumer:
        assert consumer.heard == ["+c"]


@pytest.mark.parametrize("run_of_worker", ["other", None])
def test_a_worker_whose_only_run_is_done_gives_its_memory_back(database: Database, run_of_worker: str | None) -> None:
    """The judge of that run may need it; who works on every run keeps its model for the next one."""
    add_run(database, "other", models=("quick",), participants=1)
    stage = make_stage(database, {"quick": respondent("quick")}, [])
    with listening(stage, models=("quick",), run=run_of_worker):
        (who,) = [participant for (participant,) in rows(database, "SELECT id FROM participant WHERE run = 'other'")]
        assert stage.simulate(who) is Outcome.FINISHED
        if run_of_worker is None:
            threading.Event().wait(0.2)
            assert stage.resident.now[1] is not None
        else:
            wait_for(lambda: stage.resident.now[1] is None)
    stage.close()


def test_only_the_models_that_were_named_are_drained(database: Database) -> None:
    """``--models b``: the work of others is not seen; an outage of the database is waited out."""
    change(database, "ALTER TABLE participant RENAME TO away")
    with listening(make_stage(database, {}, []), models=("b",)) as consumer:
        threading.Event().wait(0.1)
        assert consumer.heard == []
        change(database, "ALTER TABLE away RENAME TO participant")
        wait_for(lambda: consumer.heard == ["+b"])


@pytest.mark.parametrize(("said", "expected"), [(None, FIRST), (3, 3), (0, 1), (10_000, MOST)])
def test_the_engine_says_how_many(said: int | None, expected: int) -> None:
    assert at_once(SimpleNamespace(at_once=said)) == expected
    assert at_once(None) == at_once(object()) == FIRST


def test_a_consumer_is_opened_and_closed_as_engines_come(database: Database) -> None:
    """Few at first; then what the first engine has room for, then what the next one has."""
    resident = SimpleNamespace(now=("", None))
    with listening(make_stage(database, {}, []), resident=cast(Resident, resident), by_room=True) as consumer:
        assert consumer.initial_prefetch_count == FIRST
        for room in (41, 5):
            resident.now = ("a", SimpleNamespace(at_once=room))
            wait_for(lambda room=room: consumer.qos.value == room)
