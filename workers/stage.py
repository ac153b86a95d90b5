"""What a worker process has: the ledger, its leases, and one resident engine that all participants share.

Takes a participant from its claim to its last answer: load, interview, commit each step.
Deliberately knows nothing of Celery; what happens when a run is finished is handed in.
"""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from enum import Enum, auto
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from storage import outbox, store
from storage.database import Database
from storage.ledger import Ledger, StaleLease
from storage.run import Participant, Run
from storage.survey import Survey
from workers.engines.base import Engine, EngineUnavailable
from workers.engines.opening import open_engine
from workers.lease import Leases
from workers.models import ModelCard, find_card
from workers.simulation.interview import interview

log = logging.getLogger(__name__)

#: Packages whose versions a report names.
_PROVENANCE = ("defsurvey", "torch", "transformers", "numpy", "celery")


class Outcome(Enum):
    """What became of a message."""

    FINISHED = auto()  #: the participant has answered everything
    NOT_CLAIMED = auto()  #: finished, cancelled or held by another worker
    LOST = auto()  #: another worker took it, or its run was cancelled, while it was asked
    RELEASED = auto()  #: this worker stops; the message is to go back to the queue


class Stage:
    """The process-wide state of a worker.

    Args:
        database: where runs are.
        ledger: claims under this process's name.
        cards: models that can be served.
        cache: where weights are kept.
        device: ``cpu`` or ``cuda:N``.
        threads: CPU threads of a model; None: as many as the library likes.
        on_run_finished: called with a run's id after the commit that finished its last participant.
    """

    def __init__(
        self,
        *,
        database: Database,
        ledger: Ledger,
        cards: Mapping[str, ModelCard],
        cache: Path,
        device: str = "cpu",
        threads: int | None = None,
        on_run_finished: Callable[[str], None],
    ) -> None:
        self.database = database
        self.ledger = ledger
        self.leases = Leases(ledger, model=lambda: self.model)
        self.model = ""  #: the model whose queue is drained now, set by ``workers.affinity``
        self._cards = cards
        self._cache = cache
        self._device = device
        self._threads = threads
        self._on_run_finished = on_run_finished
        self._stopping = threading.Event()
        self._resident = _Resident()
        self.run = lru_cache(maxsize=32)(lambda run: store.load_run(database, run))
        self.survey: Callable[[str], Survey] = lru_cache(maxsize=8)(
            lambda fingerprint: store.load_survey(database, fingerprint)
        )

    @property
    def loads(self) -> int:
        """How many engines have been opened since the process began."""
        return self._resident.loads

    @property
    def in_flight(self) -> int:
        """How many participants are being asked now."""
        return self.leases.held()

    def simulate(self, participant: int) -> Outcome:
        """Claim a participant and ask it everything it has not answered yet."""
        if self._stopping.is_set():
            return Outcome.RELEASED
        held = self.ledger.claim(participant)
        if held is None:
            return Outcome.NOT_CLAIMED
        with self.leases.hold(held):
            try:
                outcome = self._interview(held)
            except StaleLease as stale:
                log.warning("%s", stale)
                return Outcome.LOST
            except BaseException:
                self.ledger.release(held)
                raise
            if outcome is not Outcome.FINISHED:
                self.ledger.release(held)
                return outcome
        if outbox.unfinished(self.database, held.run) == 0:
            self._on_run_finished(held.run)
        return outcome

    def stop(self) -> None:
        """Ask for nothing more; participants in hand are let go of where they stand."""
        self._stopping.set()
        self._resident.cancel()

    def close(self) -> None:
        """Give the engine's memory back."""
        self._resident.close()

    def _interview(self, held: Participant) -> Outcome:
        run = self.run(held.run)
        survey = self.survey(run.survey)
        with self._engine(run, held.cell.model, survey) as engine:
            if self._stopping.is_set():  # told to stop while the engine was loading
                return Outcome.RELEASED
            steps = interview(
                held,
                survey=survey,
                questions=run.questions,
                protocol=run.protocol,
                engine=engine,
                recall=store.recall(self.database, held.id, held.memory),
            )
            try:
                for step in steps:
                    self.ledger.checkpoint(held, step.answer, step.memory)
                    self.leases.count(run.id)
                    if self.leases.lost(held.id):
                        return Outcome.LOST
                    if self._stopping.is_set():
                        return Outcome.RELEASED
            except CancelledError:
                return Outcome.RELEASED
            except EngineUnavailable:
                if not self._stopping.is_set():
                    raise
                return Outcome.RELEASED  # the engine was closed between two questions
        return Outcome.FINISHED

    @contextmanager
    def _engine(self, run: Run, model: str, survey: Survey) -> Iterator[Engine]:
        card = find_card(model, self._cards)
        key = (model, survey.fingerprint if card.engine == "scripted" else "")

        def open_it() -> Engine:
            log.info("loading %s", model)
            return open_engine(card, survey=survey, device=self._device, cache=self._cache, threads=self._threads)

        with self._resident.use(key, open_it) as engine:
            if self._resident.first_use(run.id):
                store.record_served(self.database, run.id, model, engine.describe(), versions())
            yield engine


class _Resident:
    """The one engine in memory. It is exchanged only while nobody uses it."""

    def __init__(self) -> None:
        self.loads = 0
        self._key: tuple[str, str] | None = None
        self._engine: Engine | None = None
        self._users = 0
        self._served: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def use(self, key: tuple[str, str], open_it: Callable[[], Engine]) -> Iterator[Engine]:
        with self._changed:
            while self._users and self._key != key:
                self._changed.wait()
            if self._engine is None or self._key != key:
                self._exchange(key, open_it)
            engine = self._engine
            assert engine is not None
            self._users += 1
        try:
            yield engine
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def _exchange(self, key: tuple[str, str], open_it: Callable[[], Engine]) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = self._key = None
        self._engine, self._key = open_it(), key
        self._served.clear()
        self.loads += 1

    def first_use(self, run: str) -> bool:
        """Whether the engine now in memory serves this run for the first time."""
        with self._changed:
            first = run not in self._served
            self._served.add(run)
            return first

    def cancel(self) -> None:
        """Close the engine under its users: their pending futures are cancelled."""
        engine = self._engine
        if engine is not None:
            engine.close()

    def close(self) -> None:
        with self._changed:
            if self._engine is not None:
                self._engine.close()
            self._engine = self._key = None


def versions() -> dict[str, str]:
    """Versions of what computes the answers, for provenance."""
    found = {"python": platform.python_version()}
    for package in _PROVENANCE:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
