"""How long the report of a finished run is waited for: as long as its reporter lives."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from rich.console import Console

from defsurvey.jobs import local
from defsurvey.jobs.daemons.health import Pulse
from defsurvey.jobs.daemons.reports import write_report
from defsurvey.jobs.progress import watching
from defsurvey.jobs.progress.snapshot import Snapshot, snapshot
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.producer import enqueue
from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox
from defsurvey.storage.runs.ledger import Ledger
from tests.jobs.ledger_rows import answer_to, finish
from tests.jobs.small_study import study
from tests.jobs.test_progress import Clock

Follow = Callable[..., tuple[Snapshot, str]]


@pytest.fixture
def follow(database: Database, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Follow:
    """Follows a finished run, a look a minute, whose reporter beats in some of them and is done after as many."""
    enqueue(database, None, study(models="[human]", participants="1"))
    finish(database)
    clock = Clock()
    monkeypatch.setattr(local, "time", clock)
    monkeypatch.setattr(watching, "time", clock)
    monkeypatch.setattr(watching, "LAST_LOOKS_SECONDS", 60.0)
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

        monkeypatch.setattr(watching, "snapshot", look)
        written = io.StringIO()
        crew = local.Crew(settings, workers=0)
        return local.Follower(
            database, "first", crew, Console(file=written, width=40), client
        ).follow(), written.getvalue()

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
    with pytest.raises(local.RunFailed, match=told):
        follow(beats=8, looks=20)
    ended, _ = follow(beats=8, looks=13)
    assert ended.reported


def test_a_run_that_goes_on_shows_a_report_of_what_is_there(
    database: Database, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute, and again after three; each is said once, and says that the run is unfinished."""
    enqueue(database, None, study(models="[human]", participants="2"))
    ledger = Ledger(database, owner="host:1:token")
    held = ledger.claim(1)
    assert held is not None
    ledger.checkpoint(held, answer_to(held, "Q1"), ())
    clock = Clock()
    monkeypatch.setattr(local, "time", clock)
    monkeypatch.setattr(watching, "time", clock)
    monkeypatch.setattr(watching, "LOOK_SECONDS", 20.0)
    shown: list[tuple[float, str]] = []

    def ask(run: str) -> None:
        built = write_report(database, run, tmp_path / "reports")
        shown.append((clock.monotonic(), Path(built.html).read_text()))

    def stopped() -> bool:
        return clock.monotonic() > 300

    written = io.StringIO()
    crew = local.Crew(Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), workers=0)
    with pytest.raises(KeyboardInterrupt):
        local.Follower(database, "first", crew, Console(file=written, width=400), client, stopped, ask).follow()
    assert [60 <= when < 90 or 180 <= when < 210 for when, _ in shown] == [True, True]
    assert all("The run is unfinished: 1 of 12 planned answers" in html for _, html in shown)
    assert written.getvalue().count("report so far (1 of 12 answers): ") == 1  # the second is the same report
