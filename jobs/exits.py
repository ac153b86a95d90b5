"""Which expected error ends the command line with which exit code.

Knows every room's errors. A verb imports it only once it has failed, so that none waits for all the rooms to load; a
daemon that stays does so from the start, since it needs them in any case.
"""

from __future__ import annotations

import redis
from sqlalchemy.exc import DatabaseError

from jobs.audit import BadAudit
from jobs.broker import BrokerUnavailable
from jobs.exit_codes import ERROR, USAGE
from jobs.flowering import FlowerMissing
from jobs.following import RunFailed
from jobs.judge_lease import BeingJudged
from jobs.locks import HomeInUse
from jobs.outputs import DISK, BadOutput
from jobs.serving import DatabaseUnavailable, NothingHere, unavailable
from jobs.settings import BadSetting, Settings
from jobs.study import StudyError
from storage.address import shown
from storage.bundle import BadBundle
from storage.database import BadDatabaseUrl, LogMissing
from storage.schema import SchemaTooNew
from storage.served import OtherEngine
from storage.store import UnknownRun
from storage.survey import SurveyError
from storage.visible import visible
from workers.engines.base import EngineUnavailable
from workers.models import ModelError
from workers.patience import OUTAGE
from workers.telemetry import MetricsUnavailable

_USAGE = (
    BadAudit,
    BadOutput,
    BadSetting,
    StudyError,
    BadDatabaseUrl,
    UnknownRun,
    NothingHere,
    LogMissing,
    SurveyError,
    BadBundle,
    ModelError,
    EngineUnavailable,
    OtherEngine,
    MetricsUnavailable,
)
_ERROR = (BeingJudged, BrokerUnavailable, FlowerMissing, DatabaseUnavailable, HomeInUse, RunFailed, SchemaTooNew)


def exit_code(error: BaseException) -> int | None:
    """2 for bad input, 1 for what went wrong although the input was good, None for a defect of ours."""
    if isinstance(error, _USAGE):
        return USAGE
    if isinstance(error, OSError) and (error.filename is not None or error.errno in DISK):
        return ERROR  # a file or folder that cannot be read or written
    return ERROR if isinstance(error, (*_ERROR, redis.RedisError)) or _of_database(error) else None


def in_words(error: BaseException, settings: Settings | None) -> str:
    """The line that tells of an expected error.

    Args:
        error: one that has an exit code.
        settings: where everything is; None: that is not known yet.
    """
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
