"""What a reporter does with requests to judge: one run at a time, and none that keeps a thread waiting."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from defsurvey.jobs.broker import JUDGE, make_app
from defsurvey.jobs.daemons import tasks
from defsurvey.jobs.judging import judge
from defsurvey.jobs.settings import Settings
from defsurvey.storage.database import Database

PATIENCE = 20.0


def test_a_second_run_is_let_be_while_one_is_judged(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that waited for each other would leave no thread for reports; asked again later, it is judged."""
    judged: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def judge_run(_settings: Settings, _database: Database, run: str, **_: object) -> str:
        judged.append(run)
        begun.set()
        assert go_on.wait(PATIENCE)
        return run

    monkeypatch.setattr(tasks.judgements, "is_due", lambda _database, _run: True)
    monkeypatch.setattr(judge, "judge_run", judge_run)
    monkeypatch.setattr(judge, "in_words", str)
    app = make_app("redis://nowhere")
    tasks.register_judging(app, Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), database)
    with ThreadPoolExecutor(2) as pool:
        try:
            first = pool.submit(app.tasks[JUDGE], "first")
            assert begun.wait(PATIENCE)
            pool.submit(app.tasks[JUDGE], "second").result(PATIENCE)
            assert (judged, first.done()) == (["first"], False)
        finally:
            go_on.set()
    app.tasks[JUDGE]("second")
    assert judged == ["first", "second"]


def test_the_reporter_of_one_run_judges_no_other(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that an interrupted ``defsurvey run`` left with the broker costs the next one nothing."""
    judged: list[str] = []
    monkeypatch.setattr(tasks.judgements, "is_due", lambda _database, _run: True)
    monkeypatch.setattr(judge, "judge_run", lambda _settings, _database, run, **_: judged.append(run))
    monkeypatch.setattr(judge, "in_words", str)
    app = make_app("redis://nowhere")
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)})
    tasks.register_judging(app, settings, database, only="second")
    app.tasks[JUDGE]("first")
    app.tasks[JUDGE]("second")
    assert judged == ["second"]
