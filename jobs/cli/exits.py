"""Which expected error ends the command line with which exit code, and in which words.

It imports all the rooms, so that a verb imports it only once it has failed.
"""

from __future__ import annotations

import redis
from sqlalchemy.exc import DatabaseError

from defsurvey.jobs.daemons.serving import FlowerMissing
from defsurvey.jobs.daemons.startup import DatabaseUnavailable, NothingHere, unavailable
from defsurvey.jobs.judging.people import BadAudit
from defsurvey.jobs.judging.steps import BeingJudged
from defsurvey.jobs.progress.following import RunFailed
from defsurvey.jobs.queue.broker import BrokerUnavailable
from defsurvey.jobs.settings import BadSetting, Settings
from defsurvey.jobs.study.requirements import StudyError
from defsurvey.jobs.system import DISK, ERROR, USAGE, BadOutput, HomeInUse
from defsurvey.storage.address import shown
from defsurvey.storage.database import BadDatabaseUrl, LogMissing
from defsurvey.storage.runs.bundle import BadBundle
from defsurvey.storage.runs.served import OtherEngine
from defsurvey.storage.runs.store import UnknownRun
from defsurvey.storage.schema import SchemaTooNew
from defsurvey.storage.surveys.survey import SurveyError
from defsurvey.storage.visible import visible
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.models import ModelError
from defsurvey.workers.runner.faults import OUTAGE
from defsurvey.workers.runner.telemetry import MetricsUnavailable

_USAGE = (
    BadAudit,
    BadBundle,
    BadDatabaseUrl,
    BadOutput,
    BadSetting,
    EngineUnavailable,
    LogMissing,
    MetricsUnavailable,
    ModelError,
    NothingHere,
    OtherEngine,
    StudyError,
    SurveyError,
    UnknownRun,
)
_ERROR = (
    BeingJudged,
    BrokerUnavailable,
    DatabaseUnavailable,
    FlowerMissing,
    HomeInUse,
    RunFailed,
    SchemaTooNew,
    redis.RedisError,
)


def exit_code(error: BaseException) -> int | None:
    """2 for bad input, 1 for what went wrong although the input was good, None for a defect of ours."""
    if isinstance(error, _USAGE):
        return USAGE
    if isinstance(error, OSError) and (error.filename is not None or error.errno in DISK):
        return ERROR  # a file or folder that cannot be read or written
    return ERROR if isinstance(error, _ERROR) or _of_database(error) else None


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
