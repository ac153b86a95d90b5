"""Shows how far a run has come, once or until it is over; while its database is away, what was seen last."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from defsurvey.jobs.progress.snapshot import CellProgress, Snapshot, set_aside, snapshot
from defsurvey.jobs.system import duration
from defsurvey.storage.database import Database
from defsurvey.storage.runs.run import AnswerState, Progress
from defsurvey.storage.text import in_one_line
from defsurvey.workers.runner.faults import OUTAGE

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

log = logging.getLogger(__name__)

#: Seconds between two looks.
LOOK_SECONDS = 0.5
#: Seconds between two looks once every answer is there: a report takes little longer than a look.
LAST_LOOKS_SECONDS = 0.1
#: Seconds between two lines where the output is no terminal.
LINE_SECONDS = 10.0
#: Seconds over which the answers per second are counted.
_RATE_SECONDS = 30.0

#: Columns of a terminal in which everything has room.
_WIDE = 1000


def say(console: Console, line: str) -> None:
    """Print a line as it is: not coloured, not broken, and a name in it is no markup."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def render(current: Snapshot, speed: float) -> RenderableType:
    """A bar, the run's state, a table of cells, and who was set aside."""
    progress, run, without = current.progress, in_one_line(current.run), set_aside(current)
    facts = [_done(progress), *_moving(current, speed)]
    columns = [Column(no_wrap=True), Column(max_width=40)]
    columns += [Column(no_wrap=True, min_width=len(fact)) for fact in facts]
    row = Table.grid(*columns, padding=(0, 2))
    bar = ProgressBar(total=max(progress.planned, 1), completed=progress.done)
    row.add_row(Text(run, style="bold"), bar, *map(Text, facts))
    head = _Fitting(row, f"{run}: {', '.join(facts)}")
    return Group(head, _cells(current.cells), *([Text(without)] if without else []))


@dataclass(frozen=True, slots=True)
class _Fitting:
    """A table, or sentences where the terminal is so narrow that it would break a word."""

    table: Table
    sentences: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        least = Measurement.get(console, options.update(max_width=_WIDE), self.table).minimum
        yield self.table if least <= options.max_width else Text(self.sentences, overflow="fold")


def _cells(cells: Sequence[CellProgress]) -> _Fitting:
    """For each cell its names, and how many answers ended in each state that any cell has."""
    states = [state.value for state in AnswerState if any(getattr(cell.progress, state) for cell in cells)]
    columns = [Column(state, justify="right", no_wrap=True) for state in ("done", *states)]
    table = Table("model", "culture", "condition", "language", *columns, box=None, padding=(0, 1), header_style="dim")
    sentences = []
    for cell, progress in cells:
        names = [in_one_line(name) for name in cell.names.values()]
        counts = [f"{getattr(progress, state):,}" for state in states]
        table.add_row(*map(Text, names), _done(progress), *counts)  # Text: a name is no markup
        ended = ", ".join(f"{count} {state}" for count, state in zip(counts, states, strict=True))
        sentences.append(f"{', '.join(names)}: {_done(progress)}" + (f" ({ended})" if ended else ""))
    return _Fitting(table, "\n".join(sentences))


def _done(progress: Progress) -> str:
    return f"{progress.done:,}/{progress.planned:,}"


def _moving(current: Snapshot, speed: float) -> list[str]:
    """How fast it goes, how long it still takes while it goes at all, and the run's state."""
    left = duration(current.progress.remaining / speed if speed > 0 else current.eta_seconds)
    return [f"{speed:.1f}/s", *([f"{left} left"] if current.state == "running" else []), current.state]


def _line(current: Snapshot, speed: float) -> str:
    progress, without = current.progress, set_aside(current)
    ended = ", ".join(f"{getattr(progress, state)} {state}" for state in AnswerState)
    facts = [f"{progress.done}/{progress.planned} ({ended})", *_moving(current, speed)]
    return f"{in_one_line(current.run)}: {', '.join(facts)}" + (f"; {without}" if without else "")


def watch(
    look: Callable[[], Snapshot],
    until: Callable[[Snapshot], bool],
    console: Console,
    *,
    each: Callable[[], None] = lambda: None,
) -> Snapshot:
    """Show snapshots, which ``look`` takes, until one is the last by ``until``; a bar on a terminal, lines elsewhere.

    ``each`` is called between two looks; what it raises ends the watch.
    """
    rate = _Rate()
    with _shown(console) as show:
        while True:
            current = look()
            speed, last = rate(current), until(current)
            show(current, speed, last)
            if last:
                return current
            each()
            time.sleep(LAST_LOOKS_SECONDS if current.reporting else LOOK_SECONDS)


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[Snapshot, float, bool], None]]:
    """A function that shows a look at a run, how many answers come per second, and whether it is the last look."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            yield lambda current, speed, _last: live.update(render(current, speed), refresh=True)
        return
    said_at, said = -LINE_SECONDS, (-1, "")

    def show(current: Snapshot, speed: float, last: bool) -> None:
        nonlocal said_at, said
        now, this = time.monotonic(), (current.progress.done, current.state)
        if this != said and (last or now - said_at >= LINE_SECONDS):
            say(console, _line(current, speed))
            said_at, said = now, this

    yield show


class _Rate:
    """Answers per second as this process sees them: over the last half minute, once answers come."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []
        self._waited = True  # the first of these is the end of a wait: a model was loading, say

    def __call__(self, current: Snapshot) -> float:
        now, done = time.monotonic(), current.progress.done
        if len(self._seen) == 1 and done == self._seen[0][1]:
            self._seen.clear()
        self._seen.append((now, done))
        # The first answers tell when answering began, and only those after them how fast it goes.
        if self._waited and len(self._seen) > 2 and done > self._seen[1][1]:
            self._seen.pop(0)
            self._waited = False
        while len(self._seen) > 2 and now - self._seen[0][0] > _RATE_SECONDS:
            self._seen.pop(0)
        since, before = self._seen[0]
        return (done - before) / (now - since) if now > since else current.rate_per_second


class Look:
    """Looks at a run: how far it has come, or while its database is away, had come before. It has to be there first."""

    def __init__(self, database: Database, run: str) -> None:
        self.latest = snapshot(database, run)
        self._database = database
        self._away = False

    def __call__(self) -> Snapshot:
        """Look once more; an outage is logged once."""
        try:
            self.latest = snapshot(self._database, self.latest.run)
        except OUTAGE as error:
            if not self._away:
                why = " ".join(str(getattr(error, "orig", None) or error).split())
                log.warning("progress: %s; looking again until the database is back", why)
            self._away = True
        else:
            self._away = False
        return self.latest


def watch_run(database: Database, run_id: str, shown: Console) -> Snapshot:
    """Show a run's progress until it is finished, cancelled or out of budget. Returns the last look at it."""
    return watch(Look(database, run_id), lambda now: now.state in ("finished", "cancelled", "budget reached"), shown)
