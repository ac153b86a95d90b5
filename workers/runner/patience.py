"""Waits out an outage of the database with what is in hand.

A completion that took a minute to generate is not generated again because the database was restarted meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Errors of an outage: no connection, a server that starts or stops, a full disk, a busy file.
OUTAGE = (OperationalError, InterfaceError, PoolTimeout)
#: Seconds between attempts: doubled from the first to the last, which then repeats.
FIRST_PAUSE, LAST_PAUSE = 0.25, 15.0


class GaveUp(RuntimeError):
    """The process was told to stop while it waited for the database."""


def patiently(work: Callable[[], T], *, stopping: threading.Event) -> T:
    """Do database work, again and again until no outage keeps it from being done.

    Args:
        work: safe to do again when it is not known whether it was done.
        stopping: set when the process is to end.

    Raises:
        GaveUp: the process is to end, and the database is still not there.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            return work()
        except OUTAGE as error:
            log.warning("database: %s; trying again in %.1f s", getattr(error, "orig", None) or error, pause)
            if stopping.wait(pause):
                raise GaveUp("told to stop while waiting for the database") from error
            pause = min(2 * pause, LAST_PAUSE)
