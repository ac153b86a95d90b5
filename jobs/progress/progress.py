"""How far a run has come, as numbers and on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from defsurvey.jobs.progress.snapshot import CellProgress, Snapshot
from defsurvey.storage.database import Database
from defsurvey.storage.runs import budget, judgements, outbox, steps, store
from defsurvey.storage.runs.run import AnswerState, Method
from defsurvey.storage.visible import in_one_line, visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

#: Seconds between two looks.
LOOK_SECONDS = 0.5
#: Seconds between two looks once every answer is there: a report takes little longer than a look.
LAST_LOOKS_SECONDS = 0.1
#: Seconds between two lines where the output is no terminal.
LINE_SECONDS = 10.0


def snapshot(database: Database, run_id: str) -> Snapshot:
    """How far a run has come now; raises ``storage.runs.store.UnknownRun``."""
    with database.read() as connection:  # of one moment: a run whose participants are done has all their answers
        run = store.run_in(connection, run_id)
        by_cell = store.progress_in(connection, run_id)
        participants = store.states_in(connection, run_id)
    report = outbox.latest_report(database, run_id)
    allowed = budget.budget_of(database, run_id)
    if participants["waiting"] + participants["running"] == 0:
        ended = "budget reached" if budget.is_judging_unpaid(database, run_id) else "finished"
        state = "judging" if judgements.is_due(database, run_id) else ended
    elif run.cancelled:
        state = "cancelled"
    elif not participants["running"] and budget.is_stopped(database, run_id):
        state = "budget reached"
    else:
        state = "running" if participants["running"] else "waiting"
    return Snapshot(
        run=run_id,
        state=state,
        progress=store.total(by_cell.values()),
        participants=participants,
        cells=tuple(
            CellProgress(
                model=cell.model,
                culture=cell.culture,
                condition=cell.condition.name,
                language=cell.language,
                progress=by_cell[cell.id],
            )
            for cell in run.cells
        ),
        rate_per_second=store.rate(database, run_id),
        report=None if report is None else report.html,
        reported=report is not None and outbox.is_current(database, report),
        missing=report is not None and not Path(report.html).is_file(),
        unweighed=steps.unweighed(database, [c.id for c in run.cells if c.condition.method is Method.FIRST_TOKEN]),
        budget=allowed,
        spent=0.0 if allowed is None else budget.spent(database, run_id),
    )


def watch(
    look: Callable[[], Snapshot], until: Callable[[Snapshot], bool], console: Console, *, each: Callable[[], None]
) -> Snapshot:
    """Show progress until told otherwise; a bar on a terminal, a line now and then elsewhere.

    Args:
        look: takes a snapshot.
        until: whether this snapshot is the last.
        console: where it is shown.
        each: called between two looks; what it raises ends the watch.
    """
    from rich.live import Live

    rate = _Rate()
    current = look()
    if not console.is_terminal:
        return _watch_lines(current, look, until, console, each, rate)
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            live.update(render(current, rate(current)), refresh=True)
            if until(current):
                return current
            each()
            _pause(current)
            current = look()


def _watch_lines(
    current: Snapshot,
    look: Callable[[], Snapshot],
    until: Callable[[Snapshot], bool],
    console: Console,
    each: Callable[[], None],
    rate: _Rate,
) -> Snapshot:
    said_at, said = -LINE_SECONDS, (-1, "")
    while True:
        speed, last = rate(current), until(current)
        now = time.monotonic()
        this = (current.progress.done, current.state)
        if this != said and (last or now - said_at >= LINE_SECONDS):
            console.print(_line(current, speed), highlight=False, markup=False, soft_wrap=True)
            said_at, said = now, this
        if last:
            return current
        each()
        _pause(current)
        current = look()


def _pause(current: Snapshot) -> None:
    time.sleep(LAST_LOOKS_SECONDS if current.reporting else LOOK_SECONDS)


class _Rate:
    """Answers per second as this process sees them: over the last half minute, once answers come."""

    def __init__(self, window: float = 30.0) -> None:
        self._window = window
        self._seen: list[tuple[float, int]] = []
        self._waited = True  # the first of these is the end of a wait: a model was loading, say

    def __call__(self, current: Snapshot) -> float:
        now, done = time.monotonic(), current.progress.done
        if len(self._seen) == 1 and done == self._seen[0][1]:
            self._seen.clear()
        self._seen.append((now, done))
        # The first answers tell when answering began, and only those behind them how fast it goes.
        if self._waited and len(self._seen) > 2 and done > self._seen[1][1]:
            self._seen.pop(0)
            self._waited = False
        while len(self._seen) > 2 and now - self._seen[0][0] > self._window:
            self._seen.pop(0)
        since, before = self._seen[0]
        return (done - before) / (now - since) if now > since else current.rate_per_second


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them: ``2 h 05 min``, ``3 min 20 s``, ``12 s``, or ``?``."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def _moving(current: Snapshot, speed: float) -> list[str]:
    """How fast it goes, how long it still takes while it goes at all, and the run's state."""
    left = duration(current.progress.remaining / speed if speed > 0 else current.eta_seconds)
    return [f"{speed:.1f}/s", *([f"{left} left"] if current.state == "running" else []), current.state]


def set_aside(current: Snapshot) -> str:
    """What a run goes without, participants or weighed questions, and what asks again; nothing where it has all."""
    number = current.participants["quarantined"]
    told = [f"{number} set aside"] if number else []
    if current.unweighed:
        told.append(f"{current.unweighed} questions not weighed, its workers' logs say why")
    return f"{'; '.join(told)}: defsurvey retry {in_one_line(current.run)} --state missing" if told else ""


def report_line(current: Snapshot) -> str:
    """Where a run's report is; where its file is gone, what writes it again."""
    again = f"defsurvey report {in_one_line(current.run)}"
    gone = f" is not there any more; write it again: {again}" if current.missing else ""
    return f"report: {visible(current.report or 'none yet')}{gone}"


def behind_line(run: str, before: Mapping[str, int]) -> str:
    """Which runs a run waits for; ``before`` has the participants of each that are asked first."""
    runs = f"run{'s' if len(before) > 1 else ''} {', '.join(map(in_one_line, before))}"
    return f"{in_one_line(run)} waits behind {runs}: {sum(before.values()):,} participants before it"


def dead_letters_line(counts: Mapping[str, int]) -> str:
    """What lay in the broker's queues and was no message of ours."""
    queues = ", ".join(f"{in_one_line(queue)}: {number:,}" for queue, number in counts.items())
    return f"dead letters: {sum(counts.values()):,} items in the broker were not messages of defsurvey ({queues})"


def _line(current: Snapshot, speed: float) -> str:
    progress = current.progress
    ended = ", ".join(f"{getattr(progress, state)} {state}" for state in AnswerState)
    told = [f"{progress.done}/{progress.planned} ({ended})", *_moving(current, speed)]
    without = set_aside(current)
    return f"{in_one_line(current.run)}: {', '.join(told)}" + (f"; {without}" if without else "")


def render(current: Snapshot, speed: float) -> RenderableType:
    """A bar, the run's state, a table of cells, and who was set aside."""
    from rich.console import Group
    from rich.text import Text

    from defsurvey.jobs.progress.display import cells_shown, head

    progress = current.progress
    facts = [f"{progress.done:,}/{progress.planned:,}", *_moving(current, speed)]
    without = set_aside(current)
    shown = (head(in_one_line(current.run), progress, facts), cells_shown(current.cells))
    return Group(*shown, *([Text(without)] if without else []))
