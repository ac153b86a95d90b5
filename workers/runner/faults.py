"""What a worker does where something fails: it waits for the database, and finds out which participant is at fault."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy.exc import DataError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from defsurvey.storage.database import Database
from defsurvey.storage.runs.recovery import QUARANTINE_AFTER, count_failure
from defsurvey.storage.runs.run import Participant
from defsurvey.storage.runs.store import OtherEngine
from defsurvey.workers.models import ModelError

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Errors of an outage: no connection, a server that starts or stops, a full disk, a busy file.
OUTAGE = (OperationalError, InterfaceError, PoolTimeout)
#: Seconds between attempts: doubled from the first to the last, which then repeats.
FIRST_PAUSE, LAST_PAUSE = 0.25, 15.0


class GaveUp(RuntimeError):
    """The process was told to stop while it waited for the database."""


def patiently(work: Callable[[], T], *, stopping: threading.Event) -> T:
    """Do database work until no outage keeps it from being done; it has to be safe to do twice. Raises ``GaveUp``."""
    pause = FIRST_PAUSE
    while True:
        try:
            return work()
        except OUTAGE as error:
            log.warning("database: %s; trying again in %.1f s", getattr(error, "orig", None) or error, pause)
            if stopping.wait(pause):
                raise GaveUp("told to stop while waiting for the database") from error
            pause = min(2 * pause, LAST_PAUSE)


#: What the weights, the cards, the database, the machine (files, memory) or the end of the process are at fault for.
_OTHERS_FAULT = (OtherEngine, ModelError, SQLAlchemyError, OSError, MemoryError, GaveUp)


def blame(database: Database, held: Participant, error: Exception) -> None:
    """Count an error against the participant that was asked, unless others are at fault; the third sets it aside."""
    if isinstance(error, _OTHERS_FAULT) and not isinstance(error, DataError):
        return
    if count_failure(database, held):
        last = f"{type(error).__name__}: {error}"
        log.error("participant %d is set aside, %d attempts to ask it failed: %s", held.id, QUARANTINE_AFTER, last)


class Quarantine:
    """Participants are asked side by side; a suspect waits until nobody is asked, and is asked alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shared = 0
        self._alone = False
        self._waiting = 0  #: suspects; no shared turn begins before theirs

    @contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Hold a turn while the block runs."""
        with self._changed:
            if alone:
                self._waiting += 1
                try:
                    self._changed.wait_for(lambda: not self._alone and self._shared == 0)
                    self._alone = True
                finally:
                    self._waiting -= 1
            else:
                self._changed.wait_for(lambda: not self._alone and not self._waiting)
                self._shared += 1
        try:
            yield
        finally:
            with self._changed:
                if alone:
                    self._alone = False
                else:
                    self._shared -= 1
                self._changed.notify_all()
