"""What a worker process has: the ledger, its leases, and one resident engine that all participants share.

Takes a participant from its claim to its last answer: load, interview, commit each step.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from enum import Enum, auto
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from defsurvey.storage.database import Database
from defsurvey.storage.runs import budget, outbox, store
from defsurvey.storage.runs.ledger import Ledger, StaleLease
from defsurvey.storage.runs.run import CompletedStep, Participant, Run
from defsurvey.storage.runs.steps import commit_probabilities, commit_step, steps_of
from defsurvey.storage.runs.store import record_served
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Engine, EngineUnavailable, Mortal
from defsurvey.workers.engines.machine import versions
from defsurvey.workers.engines.opening import describe_engine, open_engine
from defsurvey.workers.models import ModelCard, find_card
from defsurvey.workers.runner.faults import OUTAGE, GaveUp, Quarantine, blame, patiently
from defsurvey.workers.runner.lease import Leases
from defsurvey.workers.runner.resident import Resident
from defsurvey.workers.runner.watchdog import Watchdog, Watched
from defsurvey.workers.simulation.interview import ask_again, interview
from defsurvey.workers.simulation.methods import questionnaire
from defsurvey.workers.simulation.methods.method import Notes

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Outcome(Enum):
    """What became of a message."""

    FINISHED = auto()  #: the participant has answered everything
    NOT_CLAIMED = auto()  #: finished, cancelled or held by another worker
    LOST = auto()  #: another worker took it, or its run was cancelled, while it was asked
    HALTED = auto()  #: its run has spent its budget
    RELEASED = auto()  #: this worker stops; the message is to go back to the queue


class ParticipantRunner:
    """The process-wide state of a worker.

    ``on_close`` is called with a model and its engine before that is closed, ``on_run_finished`` with a run after the
    commit that finished its last participant, ``on_beat`` when the database has taken a sign of life of this process.
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
        hang_seconds: float = 1800.0,
        on_close: Callable[[str, Engine], None] = lambda _model, _engine: None,
        on_run_finished: Callable[[str], None],
        on_beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.database = database
        self.ledger = ledger
        self.leases = Leases(ledger, on_beat=on_beat)
        self.watchdog = Watchdog(hang_seconds)
        self.resident = Resident(on_close)
        self._cards = cards
        self._opening: dict[str, Any] = {"device": device, "cache": cache, "threads": threads}
        self._on_run_finished = on_run_finished
        self._stopping = threading.Event()
        self._cannot_open: dict[tuple[str, str], str] = {}  #: key of an engine -> why
        self._quarantine = Quarantine()
        self.run = lru_cache(maxsize=32)(lambda run: store.load_run(database, run))
        self._money = lru_cache(maxsize=32)(lambda run: budget.BudgetWatch(partial(budget.left, database, run)))
        self.survey = lru_cache(maxsize=8)(lambda fingerprint: store.load_survey(database, fingerprint))

    def simulate(self, participant: int) -> Outcome:
        """Claim a participant and ask it everything it has not answered yet.

        An outage of the database is waited out with whatever is in hand.
        """
        if self._stopping.is_set():
            return Outcome.RELEASED
        try:
            held = self.patiently(lambda: self.ledger.claim(participant))
            if held is None:
                return Outcome.NOT_CLAIMED
            outcome = self._hold(held)
            if outcome is Outcome.FINISHED and not self.patiently(lambda: outbox.unfinished(self.database, held.run)):
                self._on_run_finished(held.run)
        except GaveUp:
            return Outcome.RELEASED
        return outcome

    def stop(self) -> None:
        """Ask for nothing more; participants in hand are let go of where they stand."""
        self._stopping.set()
        self.resident.cancel()

    def let_go(self) -> None:
        """Set every participant in hand free as it stands, for a process that ends without waiting for its threads."""
        for held in self.leases.holding():
            self._release(held)

    def close(self) -> None:
        """Give the engine's memory back; nothing is asked any more."""
        self._stopping.set()
        self.resident.close()

    def patiently(self, work: Callable[[], _T]) -> _T:
        """Do database work; an outage is waited out until this process is to stop."""
        return patiently(work, stopping=self._stopping)

    def _hold(self, held: Participant) -> Outcome:
        outcome = None
        with self.leases.hold(held):
            try:
                outcome = self._interview(held)
            except StaleLease as stale:
                log.warning("%s", stale)
                return Outcome.LOST
            except CancelledError:
                return Outcome.RELEASED
            except EngineUnavailable:
                if not self._stopping.is_set():
                    raise
                return Outcome.RELEASED  # the engine was closed between two questions
            except Exception as error:
                self.patiently(partial(blame, self.database, held, error))  # or it would be asked for ever
                raise
            finally:
                if outcome is not Outcome.FINISHED:
                    self._release(held)
        return outcome

    def _release(self, held: Participant) -> None:
        """Let go at once; where the database is not there, the lease runs out by itself."""
        try:
            self.ledger.release(held)
        except OUTAGE as error:
            log.warning("participant %d not released, its lease will run out: %s", held.id, error)

    def _interview(self, held: Participant) -> Outcome:
        run = self.patiently(lambda: self.run(held.run))
        survey = self.patiently(lambda: self.survey(run.survey))
        with self._engine(run, held.cell.model, survey) as engine:
            self.leases.begin(run.id)
            for _ in self._answers(held, run, survey, engine):
                self.leases.count(run.id)
                if self.leases.lost(held):
                    return Outcome.LOST
                if self._spent(held):
                    return Outcome.HALTED
                if self._stopping.is_set():
                    return Outcome.RELEASED
        return Outcome.FINISHED

    def _spent(self, held: Participant) -> bool:
        """Whether the run has no money left for this model; asked only where the model costs any."""
        if not find_card(held.cell.model, self._cards).costs:
            return False
        empty = self.patiently(self._money(held.run).is_spent)
        return empty and self.patiently(lambda: budget.halt_if_spent(self.database, held.run))

    def _answers(self, held: Participant, run: Run, survey: Survey, engine: Engine) -> Iterator[None]:
        """Ask and commit, one answer after the other: what is left of the interview, then what is to be asked again."""
        if self._stopping.is_set():  # told to stop while the engine was loading
            raise CancelledError
        asking = questionnaire(held, survey=survey, questions=run.questions, protocol=run.protocol)
        told: dict[str, Any] = {"engine": engine, "notes": _LedgerNotes(self, held)}
        suspect = held.suspect
        steps = interview(asking, recall=self._recall(held, held.memory), **told)
        while True:
            with self._turn(held, alone=suspect):
                step = next(steps, None)
            if step is None:
                break
            if step.answers:
                first, *more = step.answers
                self.patiently(partial(self.ledger.checkpoint, held, first, step.memory, more))
            else:
                self.patiently(partial(commit_probabilities, self.database, held, step.item, step.probabilities))
            suspect = False
            yield
        while orders := self.patiently(lambda: self.ledger.to_ask_again(held)):  # more may come meanwhile
            for answer, attempt in orders:
                recall = self._recall(held, answer.memory)
                with self._turn(held, alone=suspect):
                    fresh = ask_again(answer, asking, recall=recall, attempt=attempt, **told)
                self.patiently(partial(self.ledger.replace, held, fresh))
                suspect = False
                yield

    def _recall(self, held: Participant, items: tuple[int, ...]) -> Mapping[int, str]:
        return self.patiently(lambda: store.recall(self.database, held.id, items))

    @contextmanager
    def _turn(self, held: Participant, *, alone: bool) -> Iterator[None]:
        """One answer's turn; a suspect is asked while nobody else in this process is."""
        with self._quarantine.turn(alone=alone):
            if alone:
                self.patiently(lambda: self.ledger.begin_trial(held))
            yield

    @contextmanager
    def _engine(self, run: Run, model: str, survey: Survey) -> Iterator[Engine]:
        card = find_card(model, self._cards)
        key = (model, survey.fingerprint if card.capabilities.knows_survey else "")

        def open_it() -> Engine:
            if key in self._cannot_open:  # whoever waited for it would load it in vain, one after the other
                raise EngineUnavailable(self._cannot_open[key])
            log.info("loading %s", model)
            try:
                return open_engine(card, survey=survey, **self._opening)
            except EngineUnavailable as error:
                self._cannot_open[key] = str(error)
                raise

        with self.resident.use(key, open_it) as engine:

            def note() -> None:
                served = (run.id, model, {**describe_engine(model, engine), **card.facts}, versions())
                self.patiently(lambda: record_served(self.database, *served))

            self.resident.note_once(run.id, note)
            with self._while_it_lives(engine):
                # Whoever asks a server gives each request up in time by itself, which may take longer than engines may.
                yield engine if card.hosted else Watched(engine, self.watchdog)

    @contextmanager
    def _while_it_lives(self, engine: Engine) -> Iterator[None]:
        """End the process where the engine dies by itself; whoever asked it is held until then, to be a suspect."""
        try:
            yield
        except (CancelledError, EngineUnavailable) as error:
            closed = isinstance(error, CancelledError) or (isinstance(engine, Mortal) and engine.closed)
            if closed and not self._stopping.is_set():
                self.watchdog.give_up("the engine has died under those who asked it")
            raise


class _LedgerNotes(Notes):
    """Commits each step of one participant's answers before the next is asked."""

    def __init__(self, runner: ParticipantRunner, held: Participant) -> None:
        self._ledger, self._held, self._patiently = runner.ledger, held, runner.patiently

    def done(self, item: int, attempt: int) -> Sequence[CompletedStep]:
        """The steps that were committed before, by whichever worker."""
        return self._patiently(lambda: steps_of(self._ledger.database, self._held.id, item, attempt))

    def keep(self, step: CompletedStep) -> None:
        """Commit a step; raises ``StaleLease``."""
        self._patiently(lambda: commit_step(self._ledger.database, self._ledger.owner, self._held, step))
