"""Progress: counts, rates and times as a person and as a program read them."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import event

from defsurvey.jobs import progress, runs
from defsurvey.jobs.progress import CellProgress, Snapshot, render, report_line, snapshot, watch
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.producer import enqueue
from defsurvey.jobs.study.study import BUILT_IN_CONDITIONS
from defsurvey.jobs.system import duration
from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox, store
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.run import AnswerState, Cell, Progress
from tests.jobs.ledger_rows import answer_to, change, finish
from tests.jobs.small_study import study

CELL = Cell(
    id=1,
    model="[bold]m",
    culture="us",
    condition=BUILT_IN_CONDITIONS["def"],
    language="en",
    participants=1,
)
HALF = Snapshot(
    run="first",
    state="running",
    progress=Progress(planned=2000, answered=900, refused=60, unparsable=30, failed=10),
    participants={"waiting": 1, "running": 1, "finished": 1, "quarantined": 0},
    cells=(CellProgress(CELL, Progress(planned=2000, answered=900, refused=60, unparsable=30, failed=10)),),
    rate_per_second=2.5,
    report=None,
)
WHOLE = replace(HALF, state="finished", progress=Progress(planned=2000, answered=2000), report="report.html")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "?"),
        (0.0, "0 s"),
        (12.4, "12 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_said_in_two_units_at_most(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_the_json_has_the_fields_of_the_contract() -> None:
    assert HALF.to_json() == {
        "run": "first",
        "name": "first",
        "state": "running",
        "planned": 2000,
        "answered": 900,
        "refused": 60,
        "unparsable": 30,
        "failed": 10,
        "remaining": 1000,
        "participants": {"waiting": 1, "running": 1, "finished": 1, "quarantined": 0},
        "cells": [
            {
                "model": "[bold]m",
                "culture": "us",
                "condition": "def",
                "language": "en",
                "planned": 2000,
                "answered": 900,
                "refused": 60,
                "unparsable": 30,
                "failed": 10,
                "remaining": 1000,
            }
        ],
        "rate_per_second": 2.5,
        "eta_seconds": 400.0,
        "report": None,
    }


def test_the_time_left_is_unknown_where_nothing_moves() -> None:
    assert replace(HALF, rate_per_second=0.0).to_json()["eta_seconds"] is None
    assert replace(WHOLE, rate_per_second=0.0).eta_seconds == 0.0


def test_a_run_is_complete_when_nothing_failed_or_is_missing() -> None:
    assert WHOLE.complete
    assert replace(HALF, progress=Progress(planned=3, answered=1, refused=1, unparsable=1)).complete
    assert not replace(HALF, progress=Progress(planned=3, answered=2, failed=1)).complete
    assert not replace(HALF, progress=Progress(planned=3, answered=2)).complete


def test_a_run_without_an_answer_is_complete_where_everything_was_weighed() -> None:
    whole = replace(WHOLE, progress=Progress(planned=0))
    assert whole.complete
    assert not replace(whole, participants=whole.participants | {"quarantined": 1}).complete
    without = replace(whole, unweighed=2)
    assert (without.complete, without.to_json()["unweighed"]) == (False, 2)
    for text in _said(without):
        assert "2 questions not weighed, its workers' logs say why: defsurvey retry first --state missing" in text
    assert "unweighed" not in whole.to_json()


def test_what_was_not_weighed_counts_as_missing(database: Database, tmp_path: Path) -> None:
    enqueue(database, None, study(models="[human]", cultures="[us]", conditions="[first-token]"))
    assert snapshot(database, "first").unweighed == 0
    change(database, "UPDATE participant SET next_item = questions, status = 'finished'")
    now = snapshot(database, "first")
    assert (now.state, now.progress.planned, now.unweighed, now.complete) == ("finished", 0, 4, False)
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)})
    assert runs.ask_again(settings, database, "first", states=["missing"], rewind=False) == 1
    assert snapshot(database, "first").state == "waiting"


def test_a_run_waits_runs_and_finishes(database: Database) -> None:
    enqueue(database, None, study(models="[human]", participants="1"))
    assert snapshot(database, "first").state == "waiting"
    held = Ledger(database, owner="host:1:token").claim(1)
    assert held is not None
    Ledger(database, owner="host:1:token").checkpoint(held, answer_to(held, "Q1", state=AnswerState.REFUSED), ())
    now = snapshot(database, "first")
    assert (now.state, now.participants) == ("running", {"waiting": 1, "running": 1, "finished": 0, "quarantined": 0})
    assert (now.progress.planned, now.progress.refused, now.progress.remaining) == (6, 1, 5)
    assert [(cell.culture, progress.done) for cell, progress in now.cells] == [("us", 1), ("cn", 0)]
    store.cancel(database, "first")
    assert snapshot(database, "first").state == "cancelled"
    store.cancel(database, "first", cancelled=False)
    change(database, "UPDATE participant SET lease_until = NULL, lease_owner = NULL")
    finish(database)
    outbox.record_report(database, outbox.BuiltReport(run="first", revision=5, html="old.html", markdown="old.md"))
    before = snapshot(database, "first")
    assert (before.state, before.report, before.reported) == ("finished", "old.html", False)
    outbox.record_report(database, outbox.BuiltReport(run="first", revision=6, html="r.html", markdown="r.md"))
    after = snapshot(database, "first")
    assert (after.state, after.progress.remaining, after.report, after.reported) == ("finished", 0, "r.html", True)
    assert after.eta_seconds == 0.0


def test_the_rate_is_the_sum_of_the_living_workers(database: Database) -> None:
    enqueue(database, None, study(models="[human]", participants="1"))
    for owner, rate in (("a:1:x", 2.0), ("b:2:x", 3.0), ("c:3:x", 100.0)):
        Ledger(database, owner=owner).beat("human", {"first": rate, "other": 7.0})
    change(database, "UPDATE worker SET beat_at = beat_at - 60 WHERE owner = 'c:3:x'")
    assert snapshot(database, "first").rate_per_second == 5.0


def _watched(console: Console, shown: list[Snapshot], looks: list[int]) -> Snapshot:
    moments = iter(shown)
    return watch(
        lambda: next(moments), lambda now: now.state == "finished", console, each=lambda: looks.append(len(looks))
    )


def test_a_stream_that_is_no_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.001)
    written, looks = io.StringIO(), list[int]()
    assert _watched(Console(file=written, width=40), [HALF, HALF, HALF, WHOLE], looks) is WHOLE
    first, last = written.getvalue().splitlines()
    assert first.startswith("first: 1000/2000 (900 answered, 60 refused, 30 unparsable, 10 failed), 2.5/s, ")
    assert last.startswith("first: 2000/2000 (2000 answered, 0 refused, 0 unparsable, 0 failed), ")
    assert last.endswith("/s, finished")
    assert looks == [0, 1, 2]


def test_long_work_is_told_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    more = replace(HALF, progress=replace(HALF.progress, answered=950))
    written = io.StringIO()
    _watched(Console(file=written, width=40), [HALF, HALF, more, WHOLE], [])
    assert [line.split()[1] for line in written.getvalue().splitlines()] == ["1000/2000", "1050/2000", "2000/2000"]


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def test_the_time_before_the_first_answer_says_nothing_of_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "time", Clock())
    monkeypatch.setattr(progress, "LOOK_SECONDS", 20.0)
    monkeypatch.setattr(progress, "LINE_SECONDS", 20.0)

    def at(done: int) -> Snapshot:
        return replace(HALF, rate_per_second=0.0, progress=Progress(planned=2000, answered=done))

    written = io.StringIO()
    _watched(Console(file=written, width=40), [*[at(0)] * 60, at(200), at(400), at(600), WHOLE], [])
    lines = [line.partition("failed), ")[2] for line in written.getvalue().splitlines()]
    assert lines == [
        "0.0/s, ? left, running",
        "10.0/s, 3 min 00 s left, running",
        "10.0/s, 2 min 40 s left, running",
        "10.0/s, 2 min 20 s left, running",
        "70.0/s, finished",
    ]


def test_a_terminal_gets_a_bar_and_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.001)
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=120, legacy_windows=False)
    assert _watched(console, [HALF, WHOLE], []) is WHOLE
    assert "1,000/2,000" in written.getvalue()
    assert "[bold]m" in written.getvalue()


def test_a_run_from_elsewhere_may_be_called_whatever_it_is() -> None:
    cells = (HALF.cells[0]._replace(cell=replace(CELL, model="m\x1b[2J", culture="[/red]")),)
    for text in _said(replace(HALF, run="x[/red]y\x1b]0;z\x07", cells=cells)):
        assert "x[/red]y⟨U+001B⟩]0;z⟨U+0007⟩" in text
        assert "\x1b" not in text
    assert "m⟨U+001B⟩[2J" in _said(replace(HALF, cells=cells))[0]
    assert report_line(replace(WHOLE, report="a\x1bb")) == "report: a⟨U+001B⟩b"


def test_what_is_rendered_says_how_long_it_takes_or_how_it_ended() -> None:
    plain = Console(width=120, record=True, file=io.StringIO())
    plain.print(render(HALF, 5.0))
    plain.print(render(WHOLE, 0.0))
    text = plain.export_text()
    assert "5.0/s  3 min 20 s left" in text
    assert "finished" in text


def _said(current: Snapshot) -> tuple[str, str]:
    shown, written = Console(width=120, record=True, file=io.StringIO()), io.StringIO()
    shown.print(render(current, 0.0))
    watch(lambda: current, lambda now: True, Console(file=written, width=40), each=lambda: None)
    return shown.export_text(), written.getvalue()


def test_who_was_set_aside_is_told_with_the_command_that_asks_again() -> None:
    without = replace(WHOLE, participants={"waiting": 0, "running": 0, "finished": 2, "quarantined": 3})
    for text in _said(without):
        assert "3 set aside: defsurvey retry first --state missing" in text
    assert not any("set aside" in text for text in _said(WHOLE))


def test_a_run_that_was_stopped_is_told_where_no_answer_came_since(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.001)
    written, moments = io.StringIO(), iter([HALF, replace(HALF, state="cancelled")])
    watch(
        lambda: next(moments), lambda now: now.state == "cancelled", Console(file=written, width=40), each=lambda: None
    )
    first, last = written.getvalue().splitlines()
    assert first.endswith(", running")
    assert last.endswith("/s, cancelled")


def test_what_goes_wrong_meanwhile_ends_the_watch() -> None:
    def fail() -> None:
        raise RuntimeError("worker died")

    with pytest.raises(RuntimeError, match="worker died"):
        watch(lambda: HALF, lambda now: False, Console(file=io.StringIO()), each=fail)


def test_counts_and_states_are_of_one_moment(database: Database) -> None:
    enqueue(database, None, study(models="[human]", participants="1"))
    looking = True

    @event.listens_for(database.engine, "after_cursor_execute")
    def meanwhile(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        nonlocal looking
        if looking and "sum(participant.planned)" in statement:
            looking = False
            finish(database)

    now = snapshot(database, "first")
    assert not looking
    assert (now.progress.remaining, now.participants["waiting"], now.state) == (6, 2, "waiting")
    now = snapshot(database, "first")
    assert (now.progress.remaining, now.participants["finished"], now.complete) == (0, 2, True)


MODELS = ("smollm2-135m-instruct", "own-server-with-a-long-name-of-its-own")
CONDITIONS = ("def", "multilingual-without-memory")
ALL_STATES = Progress(planned=57_600, answered=41_234, refused=1_111, unparsable=2_222, failed=333)


def look(progress: Progress, run: str = "first") -> Snapshot:
    cells = tuple(
        CellProgress(replace(CELL, model=model, condition=replace(CELL.condition, name=condition)), progress)
        for model in MODELS
        for condition in CONDITIONS
    )
    whole = Progress(**{state: 4 * getattr(progress, state) for state in Progress.__dataclass_fields__})
    return Snapshot(
        run=run,
        state="running",
        progress=whole,
        participants={"waiting": 1, "running": 1, "finished": 0, "quarantined": 0},
        cells=cells,
        rate_per_second=12.5,
        report=None,
    )


def shown(current: Snapshot, width: int) -> list[str]:
    written = io.StringIO()
    Console(file=written, width=width).print(render(current, 12.5))
    return written.getvalue().splitlines()


@pytest.mark.parametrize("progress", [ALL_STATES, Progress(planned=267, answered=255, unparsable=12)])
@pytest.mark.parametrize("run", ["first", "a-rather-long-name-of-a-study-with-a-number-0123456789"])
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_names_and_figures_are_whole(width: int, run: str, progress: Progress) -> None:
    lines = shown(look(progress, run=run), width)
    text = "\n".join(lines)
    assert "…" not in text
    assert max(map(len, lines)) <= width
    joined = "".join(text.split())
    for name in (run, *MODELS, *CONDITIONS):
        assert name in joined
    for figure in (f"{4 * progress.done:,}/{4 * progress.planned:,}", "12.5/s", "running"):
        assert figure in text
    counts = (getattr(progress, state) for state in ("answered", "refused", "unparsable", "failed"))
    for figure in (f"{progress.done:,}/{progress.planned:,}", *(f"{count:,}" for count in counts if count)):
        assert len(re.findall(rf"(?<![\d,]){figure}(?![\d,.])", text)) == 4


def test_a_narrow_terminal_gets_sentences() -> None:
    lines = shown(look(ALL_STATES), 80)
    assert lines[1].startswith("smollm2-135m-instruct, us, def, en: 44,900/57,600 (41,234 answered, 1,111")


def test_a_wide_terminal_has_a_column_for_each_name() -> None:
    lines = shown(look(Progress(planned=100, answered=50)), 120)
    assert lines[1].split() == ["model", "culture", "condition", "language", "done", "answered"]
    assert lines[2].split() == [MODELS[0], "us", "def", "en", "50/100", "50"]
    assert len(lines) == 6


def test_states_that_no_answer_has_take_no_room() -> None:
    def states(progress: Progress) -> list[str]:
        return shown(look(progress), 200)[1].split()[4:]

    assert states(Progress(planned=100)) == ["done"]
    assert states(Progress(planned=100, answered=50, failed=1)) == ["done", "answered", "failed"]
    assert states(ALL_STATES) == ["done", "answered", "refused", "unparsable", "failed"]
