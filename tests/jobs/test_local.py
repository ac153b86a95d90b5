"""One machine around one run: what its end is decided by."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from rich.console import Console
from sqlalchemy.exc import OperationalError

from jobs import following, local, verbs
from jobs.producer import enqueue
from jobs.progress import Snapshot, snapshot
from jobs.settings import Settings
from storage import outbox
from storage.database import Database
from tests.jobs.ledger_rows import finish
from tests.jobs.small_study import study


def test_a_report_that_comes_right_after_a_look_is_named(
    database: Database, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look that ends the watch is one that has seen the report, not the one before it."""
    enqueue(database, None, study(models="[human]", participants="1"))
    finish(database)
    report = outbox.BuiltReport(run="first", revision=6, html="r.html", markdown="r.md")
    looks = 0

    def look(of: Database, run: str) -> Snapshot:
        nonlocal looks
        seen = snapshot(of, run)
        looks += 1
        if looks == 2:
            outbox.record_report(of, report)
        return seen

    monkeypatch.setattr(following, "snapshot", look)
    crew = local.Crew(Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), workers=0)
    ended = following.follow(database, "first", crew, Console(file=io.StringIO()), client)
    assert (ended.state, ended.report, looks) == ("finished", "r.html", 3)


def test_a_signal_that_was_lost_on_its_way_ends_a_run_all_the_same(
    database: Database, client: redis.Redis, tmp_path: Path
) -> None:
    """What a handler raises does not get out of a destructor, so that it is asked whether it was called."""
    enqueue(database, None, study(models="[human]", participants="1"))
    crew = local.Crew(Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), workers=0)
    told = iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        following.follow(database, "first", crew, Console(file=io.StringIO()), client, lambda: next(told))


class Ending(local.Crew):
    """A crew whose processes end at once with the status of bad input, which the last line of their log names."""

    def _launch(self, process: Any) -> None:
        process.log.write_text("... ERROR jobs.tasks: of yesterday\ndefsurvey: there is no model 'gone'\n\n")
        process.popen = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(2)"])
        process.popen.wait()


def test_a_worker_that_was_given_bad_input_ends_a_run_at_once(tmp_path: Path) -> None:
    """It would be given the same again; what it said is told, not how often it died."""
    crew = Ending(Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), workers=1)
    crew.start()
    with pytest.raises(local.RunFailed, match=r"^reporter: there is no model 'gone'$"):
        crew.look(0)


def test_who_watches_a_run_outlives_an_outage(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """``status --watch``: what was seen last is shown, the outage is told once, and the next is told again."""
    enqueue(database, None, study(models="[human]", participants="1"))
    now = snapshot(database, "first")
    away = OperationalError("", {}, Exception("the server\nis gone"))
    looks: list[Snapshot | Exception] = [now, away, away, away, now, away, replace(now, state="finished")]

    def look(_database: Database, _run: str) -> Snapshot:
        seen = looks.pop(0)
        if isinstance(seen, Exception):
            raise seen
        return seen

    monkeypatch.setattr(following, "snapshot", look)
    monkeypatch.setattr("jobs.progress.LOOK_SECONDS", 0.0)
    with caplog.at_level(logging.WARNING):
        assert verbs.watch_run(database, "first", Console(file=io.StringIO())).state == "finished"
    assert looks == []
    told = "progress: the server is gone; looking again until the database is back"
    assert [record.getMessage() for record in caplog.records] == [told] * 2


def test_what_else_a_shared_broker_may_have_work_for_is_told(database: Database) -> None:
    """Every other run of the same models that is unfinished, and how to keep it from being worked on."""
    enqueue(database, None, study(models="[human]", participants="1"))
    enqueue(database, None, study(name="older", models="[human, tiny-model]", participants="1"))
    enqueue(database, None, study(name="elsewhere", models="[tiny-model]", participants="1"))
    written = io.StringIO()
    local._tell_others(database, "first", Console(file=written, width=40))
    assert written.getvalue() == (
        "older is unfinished and has models of first: what the broker holds of it is worked on as well, "
        "unless: defsurvey cancel older\n"
    )
