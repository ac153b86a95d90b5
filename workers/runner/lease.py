"""Holds the leases of a process and says that it lives, in one thread for all."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.run import Participant

log = logging.getLogger(__name__)

#: Seconds between two signs of life.
BEAT_SECONDS = 2.0
#: Beats of the leases within one time-to-live: two may be missed.
BEATS_PER_LEASE = 3
#: Seconds over which answers are counted.
WINDOW_SECONDS = 60.0


class Leases:
    """The participants that this process holds; ``on_beat`` is called after each beat that the database took.

    Each claim counts by itself: a process may take a participant up again, under another epoch, before the thread that
    asked it has noticed that it lost it.
    """

    def __init__(
        self, ledger: Ledger, *, clock: Callable[[], float] = time.monotonic, on_beat: Callable[[], None] = lambda: None
    ) -> None:
        self.ledger = ledger
        self.model = ""  #: the model whose queue is drained now, for the list of workers
        self._on_beat, self._clock = on_beat, clock
        self._held: dict[tuple[int, int], Participant] = {}
        self._lost: set[tuple[int, int]] = set()
        self._made_at = clock()
        self._begun: dict[str, float] = {}  #: when the runs counted now could first be asked
        self._answers: dict[str, deque[float]] = {}  #: when the answers of the last minute came
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more and leave the list of workers; where the database is not there, others will notice."""
        self._stopped.set()
        self._thread.join()
        try:
            self.ledger.leave()
        except SQLAlchemyError as error:
            log.warning("still on the list of workers: %s", error)

    @contextmanager
    def hold(self, participant: Participant) -> Iterator[None]:
        """Keep a participant's lease alive for as long as the block runs."""
        with self._lock:
            self._held[_claim(participant)] = participant
            self._lost.discard(_claim(participant))
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(_claim(participant), None)

    def lost(self, participant: Participant) -> bool:
        """Whether the lease was taken under another epoch, or the run was cancelled."""
        return _claim(participant) in self._lost

    def holding(self) -> list[Participant]:
        """The participants that this process holds, under each epoch under which it asks them."""
        with self._lock:
            return list(self._held.values())

    def begin(self, run: str) -> None:
        """Note that this run can be asked from now on, if not before: what came before it is none of its time."""
        with self._lock:
            self._begun.setdefault(run, self._clock())

    def count(self, run: str) -> None:
        """Note that an answer of this run was committed."""
        with self._lock:
            self._answers.setdefault(run, deque()).append(self._clock())

    def beat(self) -> None:
        """Say that this process lives and how fast it is."""
        with self._lock:
            rates = self._rates()
        self.ledger.beat(self.model, rates)

    def _rates(self) -> dict[str, float]:
        """Run -> answers per second over ``WINDOW_SECONDS``, or since it began where that is less; none without any."""
        now = self._clock()
        since = now - WINDOW_SECONDS
        for times in self._answers.values():
            while times and times[0] <= since:
                times.popleft()
        self._answers = {run: times for run, times in self._answers.items() if times}
        self._begun = {run: at for run, at in self._begun.items() if run in self._answers or at > since}
        seconds = {run: now - max(since, self._begun.get(run, self._made_at)) for run in self._answers}
        return {run: len(times) / max(seconds[run], 1e-9) for run, times in self._answers.items()}

    def renew(self) -> None:
        """Renew every lease held, and note which are lost."""
        held = self.holding()
        newest = {each.id: each for each in sorted(held, key=lambda each: each.epoch)}
        if held:
            gone = self.ledger.heartbeat(list(newest.values()))
            lost = {_claim(each) for each in held if each.id in gone or each.epoch < newest[each.id].epoch}
            with self._lock:
                self._lost |= lost
            if lost:
                log.warning("leases lost or runs cancelled: participants %s", sorted({who for who, _ in lost}))

    def _run(self) -> None:
        renew_every = self.ledger.ttl / BEATS_PER_LEASE
        due = self._clock() + renew_every
        while not self._stopped.wait(min(BEAT_SECONDS, renew_every)):
            try:
                if self._clock() >= due:
                    self.renew()
                    due = self._clock() + renew_every
                self.beat()
                self._on_beat()
            except SQLAlchemyError as error:  # an outage: the next beat tries again, the fence protects meanwhile
                log.warning("heartbeat: %s", error)


def _claim(participant: Participant) -> tuple[int, int]:
    return participant.id, participant.epoch
