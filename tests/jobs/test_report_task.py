"""What a reporter makes of a report that cannot be built: now, or at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import redis
from celery import Celery
from sqlalchemy.exc import IntegrityError, OperationalError

from defsurvey.jobs.broker import REPORT, report_failure_key
from defsurvey.jobs.daemons import tasks
from defsurvey.jobs.daemons.tasks import register_reports
from defsurvey.jobs.study.producer import enqueue
from defsurvey.storage.database import Database
from tests.jobs.small_study import study

PASSING = {
    "the database is away": OperationalError("SELECT", {}, Exception("the server is starting up")),
    "the broker is away": redis.ConnectionError("connection refused"),
    "the disk is full": OSError(errno.ENOSPC, "No space left on device"),
    "the quota is used up": OSError(errno.EDQUOT, "Disk quota exceeded"),
    "the disk fails": OSError(errno.EIO, "Input/output error"),
}
LASTING = {
    "a defect": ValueError("no such section"),
    "a row that should not be": IntegrityError("SELECT", {}, Exception("UNIQUE constraint failed")),
    "a folder of another account": PermissionError(errno.EACCES, "Permission denied"),
}


@pytest.mark.parametrize("why", [*PASSING, *LASTING])
def test_a_report_is_given_up_only_where_asking_again_mends_nothing(
    database: Database,
    app: Celery,
    client: redis.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    why: str,
) -> None:
    """Whoever follows the run waits through an outage, since the reconciler asks again; a defect is told at once."""
    error = (PASSING | LASTING)[why]

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(tasks, "write_report", fail)
    enqueue(database, None, study())
    register_reports(app, database, tmp_path, client)
    assert app.tasks[REPORT].apply(args=("first", 1)).failed()
    told = client.get(report_failure_key("first"))
    assert told == (None if why in PASSING else str(error).encode())
    assert "report of first: " in caplog.text


@pytest.mark.parametrize("run", ["nobody", "../nobody", "/tmp/nobody", ".", "..", "x" * 300, "a\0b"])
def test_a_report_of_a_run_that_is_not_there_leaves_no_trace(
    database: Database, app: Celery, client: redis.Redis, tmp_path: Path, run: str
) -> None:
    """Whatever name a message has: the run is looked up before a folder is made, inside or outside the home."""
    reports = tmp_path / "home" / "reports"
    before = sorted(tmp_path.iterdir())
    register_reports(app, database, reports, client)
    assert app.tasks[REPORT].apply(args=(run, 1, 0)).successful()
    assert sorted(tmp_path.iterdir()) == before
    assert client.keys() == []
