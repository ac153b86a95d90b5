"""What a worker process has: the ledger, its leases, and one resident engine that all participants share.

Takes a participant from its claim to its last answer: load, interview, commit each step.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from enum import Enum, auto
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

from defsurvey.storage.database import Database
from defsurvey.storage.runs import budget, outbox, store
from defsurvey.storage.runs.ledger import Ledger, StaleLease
from defsurvey.storage.runs.run import Method, Participant, Run
from defsurvey.storage.runs.served import record_served
from defsurvey.storage.runs.steps import commit_probabilities
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Engine, EngineUnavailable, Mortal
from defsurvey.workers.engines.opening import describe_engine, open_engine
from defsurvey.workers.engines.versions import versions
from defsurvey.workers.models import ModelCard, find_card
from defsurvey.workers.runner.budget import Purse
from defsurvey.workers.runner.faults import blame
from defsurvey.workers.runner.lease import Leases
from defsurvey.workers.runner.notes import LedgerNotes
from defsurvey.workers.runner.patience import OUTAGE, GaveUp, patiently
from defsurvey.workers.runner.quarantine import Turns
from defsurvey.workers.runner.resident import Resident
from defsurvey.workers.runner.watchdog import Watchdog, Watched
from defsurvey.workers.simulation.interview import ask_again, interview
from defsurvey.workers.simulation.methods.first_token import weigh_options

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Outcome(Enum):
    """What became of a message."""

    FINISHED = auto()  #: the participant has answered everything
    NOT_CLAIMED = auto()  #: finished, cancelled or held by another worker
    LOST = auto()  #: another worker took it, or its run was cancelled, while it was asked
    HALTED = auto()  #: its run has spent its budget
    RELEASED = auto()  #: this worker stops; the message is to go back to the queue


class Stage:
    """The process-wide state of a worker.

    Args:
        database: where runs are.
        ledger: claims under this process's name.
        cards: models that can be served.
        cache: where weights are kept.
        device: see ``workers.engines.device.resolved``.
        threads: CPU threads of a model; None: as many as the library likes.
        hang_seconds: after how long without a completion the engine counts as hung.
        on_close: called with a model and its engine before the engine is closed.
        on_run_finished: called with a run's id after the commit that finished its last participant.
        on_beat: called when the database has taken a sign of life of this process.
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
        self.leases = Leases(ledger, model=lambda: self.model, on_beat=on_beat)
        self.watchdog = Watchdog(hang_seconds)
        self.model = ""  #: the model whose queue is drained now, set by ``workers.runner.affinity``
        self._cards = cards
        self._cache = cache
        self._device = device
        self._threads = threads
        self._on_run_finished = on_run_finished
        self._stopping = threading.Event()
        self._resident = Resident(on_close)
        self.rest = self._resident.rest  #: gives the engine's memory back, while nobody uses it
        self._cannot_open: dict[tuple[str, str], str] = {}  #: key of an engine -> why
        self._turns = Turns()
        self.run = lru_cache(maxsize=32)(lambda run: store.load_run(database, run))
        self._purse = lru_cache(maxsize=32)(lambda run: Purse(partial(budget.left, database, run)))
        self.survey: Callable[[str], Survey] = lru_cache(maxsize=8)(
            lambda fingerprint: store.load_survey(database, fingerprint)
        )

    @property
    def loads(self) -> int:
        """How many engines have been opened since the process began."""
        return self._resident.loads

    @property
    def resident(self) -> tuple[str, Engine | None]:
        """The model in memory and the engine that serves it; ``("", None)`` while there is none."""
        return self._resident.now

    @property
    def in_flight(self) -> int:
        """How many participants are being asked now."""
        return self.leases.held()

    def simulate(self, participant: int) -> Outcome:
        """Claim a participant and ask it everything it has not answered yet.

        An outage of the database is waited out with whatever is in hand.
        """
        if self._stopping.is_set():
            return Outcome.RELEASED
        try:
            held = self._patiently(lambda: self.ledger.claim(participant))
            if held is None:
                return Outcome.NOT_CLAIMED
            outcome = self._hold(held)
            if outcome is Outcome.FINISHED and not self._patiently(lambda: outbox.unfinished(self.database, held.run)):
                self._on_run_finished(held.run)
        except GaveUp:
            return Outcome.RELEASED
        return outcome

    def stop(self) -> None:
        """Ask for nothing more; participants in hand are let go of where they stand."""
        self._stopping.set()
        self._resident.cancel()

    def let_go(self) -> None:
        """Set every participant in hand free as it stands, for a process that ends without waiting for its threads."""
        for held in self.leases.holding():
            self._release(held)

    def close(self) -> None:
        """Give the engine's memory back; nothing is asked any more."""
        self._stopping.set()
        self._resident.close()

    def _patiently(self, work: Callable[[], _T]) -> _T:
        return patiently(work, stopping=self._stopping)

    def _hold(self, held: Participant) -> Outcome:
        with self.leases.hold(held):
            finished = False
            try:
                outcome = self._interview(held)
                finished = outcome is Outcome.FINISHED
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
                self._patiently(partial(blame, self.database, held, error))  # or it would be asked for ever
                raise
            else:
                return outcome
            finally:
                if not finished:
                    self._release(held)

    def _release(self, held: Participant) -> None:
        """Let go at once; where the database is not there, the lease runs out by itself."""
        try:
            self.ledger.release(held)
        except OUTAGE as error:
            log.warning("participant %d not released, its lease will run out: %s", held.id, error)

    def _interview(self, held: Participant) -> Outcome:
        run = self._patiently(lambda: self.run(held.run))
        survey = self._patiently(lambda: self.survey(run.survey))
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
        api = find_card(held.cell.model, self._cards).api
        if api is None or not api.costs:
            return False
        empty = self._patiently(self._purse(held.run).is_empty)
        return empty and self._patiently(lambda: budget.halt_if_spent(self.database, held.run))

    def _answers(self, held: Participant, run: Run, survey: Survey, engine: Engine) -> Iterator[None]:
        """Ask and commit, one answer after the other: what is left of the interview, then what is to be asked again."""
        if self._stopping.is_set():  # told to stop while the engine was loading
            raise CancelledError
        if held.cell.condition.method is Method.FIRST_TOKEN:
            yield from self._weights(held, run, survey, engine)
            return
        notes, protocol = LedgerNotes(self.ledger, held, self._patiently), run.protocol
        recall = self._patiently(lambda: store.recall(self.database, held.id, held.memory))
        steps = interview(
            held, survey=survey, questions=run.questions, protocol=protocol, engine=engine, recall=recall, notes=notes
        )
        anew = partial(ask_again, survey=survey, questions=run.questions, protocol=protocol, engine=engine, notes=notes)
        suspect = held.suspect
        while True:
            with self._turn(held, alone=suspect):
                step = next(steps, None)
            if step is None:
                break
            self._patiently(partial(self.ledger.checkpoint, held, step.answer, step.memory, step.more))
            suspect = False
            yield
        while orders := self._patiently(lambda: self.ledger.to_ask_again(held)):  # more may come meanwhile
            for answer, attempt in orders:
                recall = self._patiently(partial(store.recall, self.database, held.id, answer.memory))
                with self._turn(held, alone=suspect):
                    fresh = anew(answer, participant=held, recall=recall, attempt=attempt)
                self._patiently(partial(self.ledger.replace, held, fresh))
                suspect = False
                yield

    def _weights(self, held: Participant, run: Run, survey: Survey, engine: Engine) -> Iterator[None]:
        """Weigh and commit the options of one question after the other."""
        weights = weigh_options(held, survey=survey, questions=run.questions, engine=engine)
        suspect = held.suspect
        while True:
            with self._turn(held, alone=suspect):
                weighed = next(weights, None)
            if weighed is None:
                return
            self._patiently(partial(commit_probabilities, self.database, held, weighed.item, weighed.found))
            suspect = False
            yield

    @contextmanager
    def _turn(self, held: Participant, *, alone: bool) -> Iterator[None]:
        """One answer's turn; a suspect is asked while nobody else in this process is."""
        with self._turns.take(alone=alone):
            if alone:
                self._patiently(lambda: self.ledger.begin_trial(held))
            yield

    @contextmanager
    def _engine(self, run: Run, model: str, survey: Survey) -> Iterator[Engine]:
        card = find_card(model, self._cards)
        key = (model, "" if card.engine == "transformers" or card.api is not None else survey.fingerprint)

        def open_it() -> Engine:
            if key in self._cannot_open:  # whoever waited for it would load it in vain, one after the other
                raise EngineUnavailable(self._cannot_open[key])
            log.info("loading %s", model)
            try:
                return open_engine(card, survey=survey, device=self._device, cache=self._cache, threads=self._threads)
            except EngineUnavailable as error:
                self._cannot_open[key] = str(error)
                raise

        with self._resident.use(key, open_it) as engine:

            def note() -> None:
                served = (run.id, model, {**describe_engine(model, engine), **card.facts}, versions())
                self._patiently(lambda: record_served(self.database, *served))

            self._resident.note_once(run.id, note)
            with self._while_it_lives(engine):
                # Whoever asks a server gives each request up in time by itself, which may take longer than engines may.
                yield engine if card.api is not None else Watched(engine, self.watchdog)

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
