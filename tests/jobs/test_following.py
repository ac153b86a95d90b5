"""How long the report of a finished run is waited for: as long as its reporter lives."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from rich.console import Console

from jobs import following, local, progress
from jobs.health import Pulse
from jobs.producer import enqueue
from jobs.progress import snapshot
from jobs.settings import Settings
from jobs.snapshot import Snapshot
from storage import outbox
from storage.database import Database
from tests.jobs.ledger_rows import finish
from tests.jobs.small_study import study
from tests.jobs.test_progress import Clock

Follow = Callable[..., tuple[Snapshot, str]]


@pytest.fixture
def follow(database: Database, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Follow:
    """Follows a finished run, a look a minute, whose reporter beats in some of them and is done after as many."""
    enqueue(database, None, study(models="[human]", participants="1"))
    finish(database)
    clock = Clock()
    monkeypatch.setattr(following, "time", clock)
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress, "LAST_LOOKS_SECONDS", 60.0)
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)})
    pulse = Pulse(settings, "reporter")

    def run(*, beats: int, looks: int) -> tuple[Snapshot, str]:
        looked = 0

        def look(of: Database, run: str) -> Snapshot:
            nonlocal looked
            looked += 1
            if looked <= beats:
                pulse.beat()
                os.utime(pulse.path, (looked, looked))  # of a clock that has nothing to do with this machine's
            if looked == looks:
                outbox.record_report(of, outbox.BuiltReport(run=run, revision=6, html="r.html", markdown="r.md"))
            return snapshot(of, run)

        monkeypatch.setattr(following, "snapshot", look)
        written = io.StringIO()
        crew = local.Crew(settings, workers=0)
        return following.follow(database, "first", crew, Console(file=written, width=40), client), written.getvalue()

    return run


def test_a_report_that_takes_long_is_waited_for(follow: Follow) -> None:
    """Eleven minutes, of which the user hears twice; nobody ends the reporter that builds it."""
    ended, written = follow(beats=13, looks=13)
    assert (ended.state, ended.report) == ("finished", "r.html")
    told = [line for line in written.splitlines() if "the report has taken" in line]
    assert [line.partition(" so far, see ")[0] for line in told] == [
        "every answer is there; the report has taken 5 min 00 s",
        "every answer is there; the report has taken 10 min 00 s",
    ]
    assert all(line.endswith("reporter.log") for line in told)


def test_a_reporter_without_a_sign_of_life_is_given_up(follow: Follow) -> None:
    """Five minutes behind its last one, and no earlier; how to build the report is told."""
    told = r"every answer is there, but its reporter has given no sign of life for 300 s; .*: defsurvey report first"
    with pytest.raises(following.RunFailed, match=told):
        follow(beats=8, looks=20)
    ended, _ = follow(beats=8, looks=13)
    assert ended.reported
