"""Holds the leases of a process and says that it lives, in one thread for all.

Knows when to beat. Deliberately knows nothing of what the participants do meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from storage.ledger import Ledger
from storage.run import Participant

log = logging.getLogger(__name__)

#: Seconds between two signs of life.
BEAT_SECONDS = 2.0
#: Beats of the leases within one time-to-live: two may be missed.
BEATS_PER_LEASE = 3


class Leases:
    """The participants that this process holds.

    Args:
        ledger: where the leases are kept.
        model: tells the model that is drained now, for the list of workers.
        clock: seconds that never run backward.
    """

    def __init__(
        self, ledger: Ledger, *, model: Callable[[], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ledger = ledger
        self._model = model
        self._clock = clock
        self._held: dict[int, Participant] = {}
        self._lost: set[int] = set()
        self._committed: Counter[str] = Counter()
        self._counted_since = clock()
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
            self._held[participant.id] = participant
            self._lost.discard(participant.id)
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(participant.id, None)

    def lost(self, participant: int) -> bool:
        """Whether the lease was taken by another, or the run was cancelled."""
        return participant in self._lost

    def held(self) -> int:
        """How many participants this process holds."""
        return len(self._held)

    def holding(self) -> list[Participant]:
        """The participants that this process holds."""
        with self._lock:
            return list(self._held.values())

    def count(self, run: str) -> None:
        """Note that an answer of this run was committed."""
        with self._lock:
            self._committed[run] += 1

    def beat(self) -> None:
        """Say that this process lives and how fast it is."""
        now = self._clock()
        with self._lock:
            elapsed = max(now - self._counted_since, 1e-9)
            rates = {run: count / elapsed for run, count in self._committed.items()}
            self._committed.clear()
            self._counted_since = now
        self.ledger.beat(self._model(), rates)

    def renew(self) -> None:
        """Renew every lease held, and note which are lost."""
        held = self.holding()
        if held:
            lost = self.ledger.heartbeat(held)
            with self._lock:
                self._lost |= lost
            if lost:
                log.warning("leases lost or runs cancelled: participants %s", sorted(lost))

    def _run(self) -> None:
        renewed = self._clock()
        renew_every = self.ledger.ttl / BEATS_PER_LEASE
        while not self._stopped.wait(min(BEAT_SECONDS, renew_every)):
            try:
                self.beat()
                if self._clock() - renewed >= renew_every:
                    self.renew()
                    renewed = self._clock()
            except SQLAlchemyError as error:  # an outage: the next beat tries again, the fence protects meanwhile
                log.warning("heartbeat: %s", error)
