"""How far a run has come, as numbers and on the terminal.

Knows the store's counts and rich. Deliberately changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage import budget, judgements, outbox, steps, store
from storage.database import Database
from storage.run import Method, Progress
from storage.visible import in_one_line, visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

#: Seconds between two looks.
LOOK_SECONDS = 0.5
#: Seconds between two looks once every answer is there: a report takes little longer than a look.
LAST_LOOKS_SECONDS = 0.1
#: Seconds between two lines where the output is no terminal.
LINE_SECONDS = 10.0
_STATES = ("answered", "refused", "unparsable", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class CellProgress:
    """How far one cell has come."""

    model: str
    culture: str
    condition: str
    language: str
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How far a run has come at one moment."""

    run: str
    state: str  #: waiting, running, judging, finished, cancelled or budget reached
    progress: Progress
    participants: dict[str, int]
    cells: tuple[CellProgress, ...]
    rate_per_second: float
    report: str | None  #: path of the newest HTML report
    reported: bool = False  #: whether that report shows all that there is
    missing: bool = False  #: whether that report has been written and its file is not there any more
    budget: float | None = None  #: US dollars that the run may cost; None: whatever it costs
    spent: float = 0.0  #: US dollars, where there is a budget
    unweighed: int = 0  #: questions whose options could not be weighed; they are no planned answers

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until everything has ended at the present rate, or None where nothing moves."""
        if self.progress.remaining == 0:
            return 0.0
        return self.progress.remaining / self.rate_per_second if self.rate_per_second > 0 else None

    @property
    def complete(self) -> bool:
        """Whether all that was planned is there, nothing failed, and there was money left to judge it.

        Who weighs options has no planned answers, and is missed by no count of them where it was set aside.
        """
        without = self.participants["quarantined"] + self.unweighed + self.progress.failed + self.progress.remaining
        return without == 0 and self.state != "budget reached"

    @property
    def reporting(self) -> bool:
        """Whether nothing is left to be asked, or no money for it, so that only the report is still to come."""
        open_ = self.participants["waiting"] + self.participants["running"]
        return not open_ and self.state in ("finished", "budget reached")

    def to_json(self) -> dict[str, Any]:
        """What ``status --json`` prints."""
        eta = self.eta_seconds
        return {
            "run": self.run,
            "name": self.run,
            "state": self.state,
            **_counts(self.progress),
            "participants": self.participants,
            "cells": [
                {
                    "model": cell.model,
                    "culture": cell.culture,
                    "condition": cell.condition,
                    "language": cell.language,
                    **_counts(cell.progress),
                }
                for cell in self.cells
            ],
            "rate_per_second": round(self.rate_per_second, 3),
            "eta_seconds": None if eta is None else round(eta, 1),
            "report": None if self.missing else self.report,
            **({} if self.budget is None else {"budget": self.budget, "spent": round(self.spent, 6)}),
            **({"unweighed": self.unweighed} if self.unweighed else {}),
        }


def _counts(progress: Progress) -> dict[str, int]:
    ended = {state: getattr(progress, state) for state in _STATES}
    return {"planned": progress.planned, **ended, "remaining": progress.remaining}


def snapshot(database: Database, run_id: str) -> Snapshot:
    """How far a run has come now; raises ``storage.store.UnknownRun``."""
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


def _line(current: Snapshot, speed: float) -> str:
    progress = current.progress
    ended = ", ".join(f"{getattr(progress, state)} {state}" for state in _STATES)
    told = [f"{progress.done}/{progress.planned} ({ended})", *_moving(current, speed)]
    without = set_aside(current)
    return f"{in_one_line(current.run)}: {', '.join(told)}" + (f"; {without}" if without else "")


def render(current: Snapshot, speed: float) -> RenderableType:
    """A bar, the run's state, a table of cells, and who was set aside."""
    from rich.console import Group
    from rich.text import Text

    from jobs.progress_shown import cells_shown, head

    progress = current.progress
    facts = [f"{progress.done:,}/{progress.planned:,}", *_moving(current, speed)]
    without = set_aside(current)
    shown = (head(in_one_line(current.run), progress, facts), cells_shown(current.cells, _STATES))
    return Group(*shown, *([Text(without)] if without else []))
