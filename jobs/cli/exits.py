"""Which error ends the command line with which exit code, and in which words; imported once something has failed."""

from __future__ import annotations

import redis
from sqlalchemy.exc import DatabaseError

from defsurvey.jobs.daemons.startup import unavailable
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import DISK, ERROR, USAGE
from defsurvey.storage.address import shown
from defsurvey.storage.errors import BadInput, Failure
from defsurvey.storage.runs.store import UnknownRun
from defsurvey.storage.text import visible
from defsurvey.workers.runner.faults import OUTAGE


def told(error: BaseException, settings: Settings | None) -> tuple[int, str] | None:
    """The exit code and the line of an expected error; None for a defect. ``settings`` may not be known yet."""
    if isinstance(error, redis.RedisError):
        return ERROR, f"broker: {error}"
    # Of the database's errors those that are not about what it was given: it, or its disk, is at fault.
    if settings and (isinstance(error, OUTAGE) or type(error) is DatabaseError):
        return ERROR, str(unavailable(settings, error))
    where = f" (in {shown(settings.database_url)})" if settings and isinstance(error, UnknownRun) else ""
    line = visible(str(error)) + where
    if isinstance(error, BadInput):
        return USAGE, line
    of_file = isinstance(error, OSError) and (error.filename is not None or error.errno in DISK)
    return (ERROR, line) if of_file or isinstance(error, Failure) else None
