"""One machine around one run: what its end is decided by."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import redis
from rich.console import Console

from jobs import local
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

    monkeypatch.setattr(local, "snapshot", look)
    crew = local.Crew(Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), workers=0)
    ended = local.follow(database, "first", crew, Console(file=io.StringIO()), client)
    assert (ended.state, ended.report, looks) == ("finished", "r.html", 3)
