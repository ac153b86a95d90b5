"""Worker processes without the process: stages in threads, whose engines answer when a test says so."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from sqlalchemy import select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.run import Condition, Protocol
from defsurvey.storage.runs.store import NewCell, NewRun, add_run
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Completion, EngineUnavailable, FinishReason, Request
from defsurvey.workers.models import ModelCard
from defsurvey.workers.runner.participant_runner import ParticipantRunner
from defsurvey.workers.simulation.draws import draw_axes
from tests.chaos.engines import Chain
from tests.jobs.small_study import SURVEY

RUN = "first"
QUESTIONS = ("Q1", "Q2", "Q3", "Q4", "Q6")
PROTOCOL = Protocol(seed=11)
PATIENCE = 20.0  #: seconds that something may take which is to happen
TO_OPEN: "list[Gated]" = []  #: engines to be opened, in order; a test puts them here


class Gated(Chain):
    def __init__(self, folder: Path, *held: str, cannot_open: str = "") -> None:
        super().__init__(folder)
        self.held = set(held)
        self.cannot_open = cannot_open
        self.asked: list[tuple[str, int]] = []  #: (question, seed), in order
        self.arrived = threading.Event()  #: a request is held
        self._waiting: list[tuple[Future[Completion], Request]] = []
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, request: Request) -> Future[Completion]:
        assert request.asked is not None
        with self._lock:
            if self._closed:
                raise EngineUnavailable("the engine is closed")
            question = request.asked.question.id
            self.asked.append((question, request.seed))
            if question in self.held:
                future: Future[Completion] = Future()
                self._waiting.append((future, request))
                self.arrived.set()
                return future
        return super().submit(request)

    def waiting(self) -> int:
        return len(self._waiting)

    def let_go(self) -> None:
        with self._lock:
            self.held.clear()
            waiting, self._waiting = self._waiting, []
        for future, request in waiting:
            answered = super().submit(request).result(PATIENCE)
            assert answered.finish is FinishReason.STOP
            future.set_result(answered)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, []
        for future, _ in waiting:
            future.cancel()
        super().close()


def gated(card: ModelCard, *, survey: Survey, device: str) -> Gated:
    engine = TO_OPEN.pop(0)
    if engine.cannot_open:
        raise EngineUnavailable(engine.cannot_open)
    return engine


CARDS = {"citizen": ModelCard(name="citizen", engine="tests.chaos.stages:gated", path=Path("nowhere"))}


def started(database: Database, *, participants: int = 1) -> list[int]:
    condition, culture = Condition(name="def"), SURVEY.culture("us")
    drawn = (draw_axes(PROTOCOL, condition, culture, index) for index in range(participants))
    draws = tuple(replace(draws, memory_capacity=15) for draws in drawn)
    cell = NewCell(model="citizen", culture="us", condition=condition, language="en", draws=draws)
    design = {"questions": QUESTIONS, "protocol": PROTOCOL, "design": "design", "study": "", "cells": (cell,)}
    add_run(database, NewRun(id=RUN, survey=SURVEY, **design))
    with database.read() as connection:
        return list(connection.execute(select(tables.participant.c.id).order_by(tables.participant.c.id)).scalars())


def stage_of(
    database: Database,
    engine: Gated,
    *,
    name: str = "one",
    ttl: float = 90.0,
    on_run_finished: Callable[[str], None] = lambda run: None,
) -> ParticipantRunner:
    TO_OPEN.append(engine)
    return ParticipantRunner(
        database=database,
        ledger=Ledger(database, owner=f"host:1:{name}", ttl=ttl),
        cards=CARDS,
        cache=Path("nowhere"),
        on_run_finished=on_run_finished,
    )
