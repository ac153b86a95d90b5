"""Progress: counts, rates and times as a person and as a program read them."""

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
from tests.jobs.small_study import answer_to, change, finish, study

DEF = BUILT_IN_CONDITIONS["def"]
CELL = Cell(id=1, model="[bold]m", culture="us", condition=DEF, language="en", participants=1)
SOME = Progress(planned=2000, answered=900, refused=60, unparsable=30, failed=10)
HALF = Snapshot(
    run="first",
    state="running",
    progress=SOME,
    participants={"waiting": 1, "running": 1, "finished": 1, "quarantined": 0},
    cells=(CellProgress(CELL, SOME),),
    rate_per_second=2.5,
    report=None,
)
WHOLE = replace(HALF, state="finished", progress=Progress(planned=2000, answered=2000), report="report.html")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.001)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "?"),
        (12.4, "12 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3600, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_said_in_two_units_at_most(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_the_time_left_follows_from_the_rate() -> None:
    assert HALF.to_json()["eta_seconds"] == 400.0
    assert replace(HALF, rate_per_second=0.0).to_json()["eta_seconds"] is None
    assert replace(WHOLE, rate_per_second=0.0).eta_seconds == 0.0


def test_a_run_is_complete_when_nothing_failed_or_is_missing() -> None:
    """This decides between the exit codes 0 and 3. Refusals are answers; of weighed options no answer is planned."""
    for counts, complete in (
        ({"planned": 3, "answered": 1, "refused": 1, "unparsable": 1}, True),
        ({"planned": 3, "answered": 2, "failed": 1}, False),
        ({"planned": 3, "answered": 2}, False),
        ({"planned": 0}, True),
    ):
        assert replace(WHOLE, progress=Progress(**counts)).complete == complete
    assert not replace(WHOLE, participants=WHOLE.participants | {"quarantined": 1}).complete
    without = replace(WHOLE, unweighed=2)
    assert (without.complete, without.to_json()["unweighed"]) == (False, 2)
    assert "unweighed" not in WHOLE.to_json()


def test_what_was_not_weighed_counts_as_missing(database: Database, tmp_path: Path) -> None:
    """A participant that has passed its questions without probabilities; ``retry --state missing`` sends it again."""
    enqueue(database, None, study(models="[human]", cultures="[us]", conditions="[first-token]"))
    assert snapshot(database, "first").unweighed == 0
    change(database, "UPDATE participant SET next_item = questions, status = 'finished'")
    now = snapshot(database, "first")
    assert (now.state, now.progress.planned, now.unweighed, now.complete) == ("finished", 0, 4, False)
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)})
    assert runs.ask_again(settings, database, "first", states=["missing"], rewind=False) == 1
    assert snapshot(database, "first").state == "waiting"


def test_a_run_waits_runs_and_finishes(database: Database) -> None:
    """The state follows from its participants, and the cells add up to the whole."""
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


def test_the_rate_is_the_sum_of_the_living_workers(database: Database) -> None:
    enqueue(database, None, study(models="[human]", participants="1"))
    for owner, rate in (("a:1:x", 2.0), ("b:2:x", 3.0), ("c:3:x", 100.0)):
        Ledger(database, owner=owner).beat("human", {"first": rate, "other": 7.0})
    change(database, "UPDATE worker SET beat_at = beat_at - 60 WHERE owner = 'c:3:x'")
    assert snapshot(database, "first").rate_per_second == 5.0


def test_counts_and_states_are_of_one_moment(database: Database) -> None:
    """The last answers come between the two: a run that is finished lacks none of them."""
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


def watched(moments: list[Snapshot], looks: list[int] | None = None, **terminal: object) -> str:
    """What is written of looks at a run, the last of which ends the watch; on no terminal if not otherwise said."""
    written, remaining, looks = io.StringIO(), iter(moments), [] if looks is None else looks
    console = Console(file=written, legacy_windows=False, **({"width": 40} | terminal))  # type: ignore[arg-type]
    ended = watch(
        lambda: next(remaining), lambda now: now is moments[-1], console, each=lambda: looks.append(len(looks))
    )
    assert ended is moments[-1]
    return written.getvalue()


def test_a_stream_that_is_no_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """One at the beginning, one every ``LINE_SECONDS``, one at the end; none where nothing has changed."""
    looks = list[int]()
    first, last = watched([HALF, HALF, HALF, WHOLE], looks).splitlines()
    assert first.startswith("first: 1000/2000 (900 answered, 60 refused, 30 unparsable, 10 failed), 2.5/s, ")
    assert last.startswith("first: 2000/2000 (2000 answered, 0 refused, 0 unparsable, 0 failed), ")
    assert last.endswith("/s, finished")
    assert looks == [0, 1, 2]
    assert watched([HALF, replace(HALF, state="cancelled")]).endswith("/s, cancelled\n")
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    more = replace(HALF, progress=replace(SOME, answered=950))
    assert [line.split()[1] for line in watched([HALF, HALF, more, WHOLE]).splitlines()] == [
        "1000/2000",
        "1050/2000",
        "2000/2000",
    ]


class Clock:
    """Time that passes while one sleeps, and only then."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def test_the_time_before_the_first_answer_says_nothing_of_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty minutes of loading, then ten answers a second: nobody is told of days."""
    for name, value in {"time": Clock(), "LOOK_SECONDS": 20.0, "LINE_SECONDS": 20.0}.items():
        monkeypatch.setattr(progress, name, value)
    loading = replace(HALF, rate_per_second=0.0, progress=Progress(planned=2000))
    after = [replace(loading, progress=Progress(planned=2000, answered=done)) for done in (200, 400, 600)]
    lines = watched([*[loading] * 60, *after, WHOLE]).splitlines()
    assert [line.partition("failed), ")[2] for line in lines] == [
        "0.0/s, ? left, running",
        "10.0/s, 3 min 00 s left, running",
        "10.0/s, 2 min 40 s left, running",
        "10.0/s, 2 min 20 s left, running",
        "70.0/s, finished",
    ]


def said(current: Snapshot) -> list[str]:
    """What a terminal shows of a run, and the line that a stream gets."""
    return ["\n".join(shown(current, 120)), watched([current])]


def test_a_person_reads_how_long_it_takes_and_who_was_set_aside() -> None:
    """With the command that asks again; a terminal gets a bar and a table."""
    terminal = watched([HALF, WHOLE], force_terminal=True, width=120)
    assert "1,000/2,000" in terminal
    assert "[bold]m" in terminal
    assert "12.5/s  1 min 20 s left" in said(HALF)[0]
    for text in said(replace(WHOLE, participants=WHOLE.participants | {"quarantined": 3}, unweighed=2)):
        assert "finished" in text
        assert "3 set aside; 2 questions not weighed" in text
        assert "logs say why: defsurvey retry first --state missing" in text
    assert not any("set aside" in text for text in said(WHOLE))


def test_a_run_from_elsewhere_may_be_called_whatever_it_is() -> None:
    """Neither markup nor signs that a terminal obeys do anything, be it shown on one or line by line."""
    cells = (CellProgress(replace(CELL, model="m\x1b[2J", culture="[/red]"), SOME),)
    for text in said(replace(HALF, run="x[/red]y\x1b]0;z\x07", cells=cells)):
        assert "x[/red]y⟨U+001B⟩]0;z⟨U+0007⟩" in text
        assert "\x1b" not in text
    assert "m⟨U+001B⟩[2J" in said(replace(HALF, cells=cells))[0]
    assert report_line(replace(WHOLE, report="a\x1bb")) == "report: a⟨U+001B⟩b"


def test_what_goes_wrong_meanwhile_ends_the_watch() -> None:
    def fail() -> None:
        raise RuntimeError("worker died")

    with pytest.raises(RuntimeError, match="worker died"):
        watch(lambda: HALF, lambda now: False, Console(file=io.StringIO()), each=fail)


MODELS = ("smollm2-135m-instruct", "own-server-with-a-long-name-of-its-own")
CONDITIONS = ("def", "multilingual-without-memory")
ALL_STATES = Progress(planned=57_600, answered=41_234, refused=1_111, unparsable=2_222, failed=333)


def look(progress: Progress, run: str = "first") -> Snapshot:
    """A run of two models under two conditions, of which each cell has come as far."""
    cells = tuple(
        CellProgress(replace(CELL, model=model, condition=replace(DEF, name=condition)), progress)
        for model in MODELS
        for condition in CONDITIONS
    )
    whole = Progress(**{state: 4 * getattr(progress, state) for state in Progress.__dataclass_fields__})
    return replace(HALF, run=run, progress=whole, cells=cells)


def shown(current: Snapshot, width: int) -> list[str]:
    written = io.StringIO()
    Console(file=written, width=width).print(render(current, 12.5))
    return written.getvalue().splitlines()


@pytest.mark.parametrize("run", ["first", "a-rather-long-name-of-a-study-with-a-number-0123456789"])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_names_and_figures_are_whole(width: int, run: str) -> None:
    """Nothing is cut off, and no line is longer than the terminal is wide; a name may go on in the next line."""
    lines = shown(look(ALL_STATES, run=run), width)
    text = "\n".join(lines)
    assert "…" not in text
    assert max(map(len, lines)) <= width
    for name in (run, *MODELS, *CONDITIONS):
        assert name in "".join(text.split())
    for figure in ("179,600/230,400", "12.5/s", "running"):
        assert figure in text
    for figure in ("44,900/57,600", "41,234", "1,111", "2,222", "333"):
        assert len(re.findall(rf"(?<![\d,]){figure}(?![\d,.])", text)) == 4


def test_a_wide_terminal_gets_columns_and_a_narrow_one_sentences() -> None:
    """States that no answer has take no room."""
    assert shown(look(ALL_STATES), 80)[1].startswith("smollm2-135m-instruct, us, def, en: 44,900/57,600 (41,234 ans")
    lines = shown(look(Progress(planned=100, answered=50)), 120)
    assert lines[1].split() == ["model", "culture", "condition", "language", "done", "answered"]
    assert lines[2].split() == [MODELS[0], "us", "def", "en", "50/100", "50"]
    assert len(lines) == 6
    assert shown(look(Progress(planned=100)), 200)[1].split()[4:] == ["done"]
