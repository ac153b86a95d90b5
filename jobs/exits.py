"""Which expected error ends the command line with which exit code.

Imported only when there is an error, so that it may know every room's.
"""

from __future__ import annotations

from jobs.audit import BadAudit
from jobs.broker import BrokerUnavailable, HomeInUse
from jobs.flowering import FlowerMissing
from jobs.judge_lease import BeingJudged
from jobs.local import RunFailed
from jobs.outputs import BadOutput
from jobs.serving import DatabaseUnavailable
from jobs.settings import BadSetting
from jobs.study import StudyError
from storage.bundle import BadBundle
from storage.database import BadDatabaseUrl
from storage.schema import SchemaTooNew
from storage.served import OtherEngine
from storage.store import UnknownRun
from storage.survey import SurveyError
from workers.engines.base import EngineUnavailable
from workers.models import ModelError
from workers.telemetry import MetricsUnavailable

_USAGE = (
    BadAudit,
    BadOutput,
    BadSetting,
    StudyError,
    BadDatabaseUrl,
    UnknownRun,
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
        return 2
    if isinstance(error, OSError) and error.filename is not None:
        return 1  # a file or folder that cannot be read or written
    return 1 if isinstance(error, _ERROR) else None
