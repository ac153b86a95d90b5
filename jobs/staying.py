"""Keeps a daemon that cannot serve from being started again without end.

A container engine starts again whatever ends. Where that cannot mend anything (a model that
cannot be loaded, a name that is wrong), the process stays instead: idle, unhealthy, its
reason in the log, until somebody who has read it stops or restarts it. Knows exit statuses
and signals. Deliberately knows no daemon.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType

from jobs.exits import exit_code
from jobs.tasks import EXIT_UNAVAILABLE

log = logging.getLogger(__name__)

#: Exit statuses that starting again does not change: bad input, and an engine that cannot serve.
PERMANENT = (2, EXIT_UNAVAILABLE)


def stay(work: Callable[[], int]) -> int:
    """Do a daemon's work; where it ends for a reason that stays, wait for SIGTERM or SIGINT. Returns the exit status.

    Args:
        work: the daemon, to be called in the main thread. Returns the exit status.

    Raises:
        Exception: whatever ``work`` raises that starting again might mend, or that is a defect.
    """
    try:
        status = work()
    except (ValueError, LookupError, RuntimeError) as error:
        if exit_code(error) not in PERMANENT:
            raise
        log.error("%s", error)
        status = 2
    if status not in PERMANENT:
        return status
    told = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        told.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    log.critical(
        "to be started again would not mend this: it stays idle and unhealthy until it is stopped or restarted"
    )
    told.wait()
    return status
