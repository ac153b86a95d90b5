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


def exit_code(error: BaseException) -> int | None:
    """2 for bad input, 1 for what went wrong although the input was good, None for a defect of ours."""
    if isinstance(error, BadInput):
        return USAGE
    if isinstance(error, (Failure, redis.RedisError)) or _of_database(error):
        return ERROR
    # A file or folder that cannot be read or written.
    return ERROR if isinstance(error, OSError) and (error.filename is not None or error.errno in DISK) else None


def in_words(error: BaseException, settings: Settings | None) -> str:
    """The line that tells of an expected error; ``settings`` are None where they are not known yet."""
    if isinstance(error, redis.RedisError):
        return f"broker: {error}"
    if settings is not None and _of_database(error):
        return str(unavailable(settings, error))
    if settings is not None and isinstance(error, UnknownRun):
        return f"{visible(str(error))} (in {shown(settings.database_url)})"
    return visible(str(error))


def _of_database(error: BaseException) -> bool:
    """Whether the database, or its disk, is at fault: of its errors those that are not about what it was given."""
    return isinstance(error, OUTAGE) or type(error) is DatabaseError
