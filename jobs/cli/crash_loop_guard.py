"""Keeps a daemon that cannot serve from being started again without end.

A container engine starts again whatever ends. Where that cannot mend anything (a model that cannot be loaded, a name
that is wrong), the process stays instead: idle, unhealthy, its reason in the log, until somebody who has read it stops
or restarts it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from defsurvey.jobs.cli.exits import exit_code
from defsurvey.jobs.daemons.startup import when_told_to_end
from defsurvey.jobs.system import UNAVAILABLE, USAGE
from defsurvey.storage.schema import SchemaTooNew

log = logging.getLogger(__name__)

#: Exit statuses that starting again does not change: bad input, and an engine that cannot serve. So is a database of a
#: newer version, of which the status, 1, does not tell.
PERMANENT = (USAGE, UNAVAILABLE)


def stay(work: Callable[[], int]) -> int:
    """Do a daemon's work; where it ends for a reason that stays, wait to be told to end. Returns the exit status.

    Args:
        work: the daemon, to be called in the main thread. Returns the exit status.

    Raises:
        Exception: whatever ``work`` raises that starting again might mend, or that is a defect.
    """
    try:
        status: int | None = work()
        stays = status in PERMANENT
    except (ValueError, LookupError, RuntimeError) as error:
        status = exit_code(error)
        stays = status in PERMANENT or isinstance(error, SchemaTooNew)
        if not stays:
            raise
        log.error("%s", error)
    assert status is not None
    if not stays:
        return status
    told = threading.Event()
    when_told_to_end(lambda *_: told.set())
    log.critical(
        "to be started again would not mend this: it stays idle and unhealthy until it is stopped or restarted"
    )
    told.wait()
    return status
