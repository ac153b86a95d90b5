"""Two that build a run's report at the same moment: the one that shows more is there in the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from celery import Celery

from defsurvey.jobs.broker import REPORT
from defsurvey.jobs.daemons.reports import write_report
from defsurvey.jobs.daemons.tasks import register_reports
from defsurvey.jobs.study.producer import enqueue
from defsurvey.jobs.system import exclusive
from defsurvey.reports import build
from defsurvey.reports.build import ReportPaths
from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox
from defsurvey.storage.runs.outbox import BuiltReport
from defsurvey.storage.runs.results import Results
from tests.jobs.ledger_rows import change, finish
from tests.jobs.small_study import study

PATIENCE = 20.0
Between = Callable[[], object]


@contextmanager
def building(between: Between) -> Iterator[None]:
    """Reports are one page, which tells the revision that was read; ``between`` comes before it is written."""

    def build_report(results: Results, folder: Path, **_: object) -> ReportPaths:
        between()
        folder.mkdir(parents=True, exist_ok=True)
        page = folder / "report.html"
        page.write_text(str(results.revision))
        return ReportPaths(html=page, markdown=page)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(build, "build_report", build_report)
        yield


@pytest.fixture
def half_done(database: Database) -> Database:
    """A run of which one of two participants has answered."""
    enqueue(database, None, study(models="[human]", cultures="[us]", participants="2"))
    change(database, "UPDATE participant SET lease_until = 1e12 WHERE number = 1")
    finish(database)
    change(database, "UPDATE participant SET lease_until = NULL")
    return database


def recorded(database: Database) -> int:
    """The revision of the run's report, as the ledger knows it."""
    report = outbox.latest_report(database, "first")
    assert report is not None
    return report.revision


def test_an_older_report_is_not_written_over_a_newer_one(half_done: Database, tmp_path: Path) -> None:
    """``report`` is typed while the last answers come: whoever builds the report of the end waits for its end."""
    read, go_on, busy = threading.Event(), threading.Event(), threading.Lock()

    def between() -> None:
        assert busy.acquire(blocking=False), "two write the same files"
        first, _ = not read.is_set(), read.set()
        assert not first or go_on.wait(PATIENCE)
        busy.release()

    with building(between), ThreadPoolExecutor(2) as pool:
        older = pool.submit(write_report, half_done, "first", tmp_path)
        assert read.wait(PATIENCE)
        finish(half_done)
        newer = pool.submit(write_report, half_done, "first", tmp_path)
        threading.Event().wait(0.2)
        go_on.set()
        assert older.result(PATIENCE).revision < newer.result(PATIENCE).revision == recorded(half_done)
    assert (tmp_path / "report.html").read_text() == str(recorded(half_done))


def test_a_report_that_another_machine_has_overtaken_is_built_again(half_done: Database, tmp_path: Path) -> None:
    """Its lock does not reach this one; the ledger does."""
    built: list[int] = []

    def between() -> None:
        built.append(outbox.revision(half_done, "first"))
        if len(built) == 1:
            finish(half_done)
            end = outbox.revision(half_done, "first")
            outbox.record_report(half_done, BuiltReport(run="first", revision=end, html="there", markdown="there"))

    with building(between):
        written = write_report(half_done, "first", tmp_path)
    assert (tmp_path / "report.html").read_text() == str(written.revision) == str(recorded(half_done))
    assert len(built) == 2


def test_a_report_that_somebody_else_builds_holds_up_no_other(
    half_done: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that was suspended in the middle of it has the run's lock; whoever comes meanwhile is told."""
    monkeypatch.setattr("defsurvey.jobs.daemons.tasks._REPORT_PATIENCE", 0.0)
    app, broker = Celery("reports", broker="memory://"), MagicMock()
    register_reports(app, half_done, tmp_path, broker)
    with building(lambda: None):
        with exclusive(tmp_path / "first" / ".lock", "report"):
            app.tasks[REPORT]("first", 1)
            assert outbox.latest_report(half_done, "first") is None
        app.tasks[REPORT]("first", 1)
    assert recorded(half_done) > 0
    broker.set.assert_not_called()


def test_a_report_of_the_users_own_place_is_nobodys_concern(half_done: Database, tmp_path: Path) -> None:
    """It is written once, as of then, whatever the ledger knows; nothing else is left in its folder."""
    outbox.record_report(half_done, BuiltReport(run="first", revision=99, html="there", markdown="there"))
    with building(lambda: None):
        written = write_report(half_done, "first", tmp_path / "own", record=False)
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["report.html"]
    assert written.revision < recorded(half_done) == 99
