"""How many participants are let in: as many as the engine says, from the moment there is one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from defsurvey.workers.runner.queue_affinity import FIRST, MOST, at_once, room_step


@dataclass
class Consumer:
    """Stands for Celery's consumer: how many messages it takes before the first is done."""

    initial_prefetch_count: int = MOST
    qos: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(value=FIRST))


@dataclass
class Stage:
    """Stands for the stage: which engine is in memory."""

    engine: object | None = None

    @property
    def resident(self) -> tuple[str, object | None]:
        """The engine, under a name."""
        return "model", self.engine


@contextmanager
def watched(stage: Stage, consumer: Consumer) -> Iterator[None]:
    """The step at work."""
    step: Any = room_step(stage)(consumer)  # type: ignore[arg-type]
    step.start(consumer)
    try:
        yield
    finally:
        step.stop(consumer)


def wait_for(condition: Callable[[], bool]) -> None:
    """Look until it is so, for four seconds at most."""
    for _ in range(400):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never was so")


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


def test_a_consumer_is_opened_and_closed_as_engines_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few at first; then what the first engine has room for, then what the next one has."""
    monkeypatch.setattr("defsurvey.workers.runner.queue_affinity.LOOK_SECONDS", 0.005)
    stage, consumer = Stage(), Consumer()
    with watched(stage, consumer):
        assert consumer.initial_prefetch_count == FIRST
        threading.Event().wait(0.05)
        assert consumer.qos.value == FIRST
        stage.engine = SimpleNamespace(at_once=41)
        wait_for(lambda: consumer.qos.value == 41)
        stage.engine = SimpleNamespace(at_once=5)
        wait_for(lambda: consumer.qos.value == 5)
