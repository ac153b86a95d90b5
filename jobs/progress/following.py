"""Showing how far a run has come, once or until it is over; outages are outlived, and a signal is never lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import redis
from rich.console import Group
from rich.live import Live
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from defsurvey.jobs.daemons.health import Pulse
from defsurvey.jobs.progress.snapshot import CellProgress, Snapshot, duration, set_aside, snapshot
from defsurvey.jobs.queue.celery_app import report_failure_key
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import why_unwritable
from defsurvey.storage.database import Database
from defsurvey.storage.errors import Failure
from defsurvey.storage.runs import outbox
from defsurvey.storage.runs.run import AnswerState, Progress
from defsurvey.storage.visible import in_one_line
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
#: Seconds without a sign of life after which the reporter of a finished run is given up.
SILENT_SECONDS = 300.0
#: Seconds between two words on a report that takes long.
WORD_SECONDS = 300.0
#: Seconds of work after which an unfinished run gets its first report; each further one after three times as long.
FIRST_REPORT_SECONDS = 60.0
#: Seconds between two looks at whether there is room on the disk.
DISK_SECONDS = 10.0

_NAMES = ("model", "culture", "condition", "language")
#: Columns of a terminal in which everything has room.
_WIDE = 1000


class RunFailed(Failure, RuntimeError):
    """The run cannot go on, or not here; the message says why."""


def say(console: Console, line: str) -> None:
    """Print a line as it is: not coloured, not broken, and a name in it is no markup."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def render(current: Snapshot, speed: float) -> RenderableType:
    """A bar, the run's state, a table of cells, and who was set aside."""
    progress, run, without = current.progress, in_one_line(current.run), set_aside(current)
    facts = [_done(progress), *_moving(current, speed)]
    row = Table.grid(padding=(0, 2), expand=False)
    row.add_column(no_wrap=True)
    row.add_column(max_width=40)
    for fact in facts:
        row.add_column(no_wrap=True, min_width=len(fact))
    bar = ProgressBar(total=max(progress.planned, 1), completed=progress.done)
    row.add_row(Text(run, style="bold"), bar, *map(Text, facts))
    head = _Fitting((row, Text(f"{run}: {', '.join(facts)}", overflow="fold")))
    return Group(head, _cells(current.cells), *([Text(without)] if without else []))


@dataclass(frozen=True, slots=True)
class _Fitting:
    """The first of some layouts in which no word is broken, and the last where there is none."""

    layouts: tuple[RenderableType, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for layout in self.layouts[:-1]:
            if Measurement.get(console, options.update(max_width=_WIDE), layout).minimum <= options.max_width:
                yield layout
                return
        yield self.layouts[-1]


def _cells(cells: Sequence[CellProgress]) -> _Fitting:
    """A row for each cell: its names, and how many answers ended in each state that any cell has.

    Where the terminal is too narrow for a column of each name they share one; where it is for that, each cell is a
    sentence.
    """
    states = [state.value for state in AnswerState if any(getattr(cell.progress, state) for cell in cells)]
    named = [[in_one_line(getattr(cell, name)) for name in _NAMES] for cell in cells]
    apart = _table(_NAMES, named, cells, states)
    together = _table(("cell",), [[", ".join(names)] for names in named], cells, states)
    sentences = []
    for names, cell in zip(named, cells, strict=True):
        ended = ", ".join(f"{getattr(cell.progress, state):,} {state}" for state in states)
        sentences.append(f"{', '.join(names)}: {_done(cell.progress)}" + (f" ({ended})" if ended else ""))
    return _Fitting((apart, together, Text("\n".join(sentences), overflow="fold")))


def _table(
    names: Sequence[str], named: Sequence[Sequence[str]], cells: Sequence[CellProgress], states: Sequence[str]
) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in names:
        table.add_column(name)
    for state in ("done", *states):
        table.add_column(state, justify="right", no_wrap=True)
    for its, cell in zip(named, cells, strict=True):
        counts = (f"{getattr(cell.progress, state):,}" for state in states)
        table.add_row(*map(Text, its), _done(cell.progress), *counts)  # Text: a name is no markup
    return table


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
    """Show progress until ``until`` says that a snapshot is the last; a bar on a terminal, lines elsewhere.

    Args:
        look: takes a snapshot.
        until: whether this snapshot is the last.
        console: where it is shown.
        each: called between two looks; what it raises ends the watch.
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


class AtWork(Protocol):
    """Whoever works on a run while it is followed."""

    @property
    def settings(self) -> Settings:
        """Where their logs and pulses are."""
        ...

    def look(self, done: int) -> None:
        """See that they go on, with so many answers and participants done with; raises RunFailed where they cannot."""
        ...


def follow(
    database: Database,
    run: str,
    crew: AtWork,
    console: Console,
    broker: redis.Redis,
    stopped: Callable[[], bool] = lambda: False,
    ask_report: Callable[[str], None] = lambda _run: None,
) -> Snapshot:
    """Show progress until the run is finished and its report shows everything, or until it was stopped.

    Args:
        database: where the run is.
        run: which run.
        crew: works on it.
        console: where progress is shown.
        broker: where a report that cannot be built is noted.
        stopped: whether this process was told to end. It is asked besides, since what a signal raises is lost where the
            interpreter happens to be in a destructor or a callback.
        ask_report: asks a reporter for the report of a run as it is now.

    Returns:
        The look at the run that decided so: what it says of the report and of the run belongs together.

    Raises:
        KeyboardInterrupt: it was told to end.
        RunFailed: the workers cannot go on, or the report cannot be built.
    """
    look = Look(database, run)
    disk = Disk(crew.settings.home, console)
    early = ReportsSoFar(ask_report, database, console)
    waiting: list[Waiting] = []  # from when only the report is still to come
    log_file = crew.settings.logs / "reporter.log"

    def each() -> None:
        if stopped():
            raise KeyboardInterrupt
        disk.look()
        crew.look(look.latest.progress.done + look.latest.participants["quarantined"])
        if not waiting:
            early.look(look.latest)
            return
        failure = None
        with outages_survived("reports"):
            failure = broker.get(report_failure_key(run))
        if isinstance(failure, bytes):
            failed = f"its report cannot be built: {failure.decode()}"
        elif waiting[0].in_vain():
            failed = f"its reporter has given no sign of life for {SILENT_SECONDS:.0f} s"
        else:
            return
        raise RunFailed(f"run {run}: every answer is there, but {failed}; see {log_file}, then: defsurvey report {run}")

    def over(current: Snapshot) -> bool:
        if current.reporting and not waiting:
            with outages_survived("reports"):
                broker.delete(report_failure_key(run))  # of a report so far, which this one replaces
            waiting.append(Waiting(Pulse(crew.settings, "reporter"), log_file, console))
        return current.reported if current.reporting else current.state in ("cancelled", "budget reached")

    return watch(look, over, console, each=each)


class ReportsSoFar:
    """Has the report of an unfinished run built now and then by ``ask``, and says once where each one is."""

    def __init__(self, ask: Callable[[str], None], database: Database, console: Console) -> None:
        self._ask, self._database, self._console = ask, database, console
        self._begun = time.monotonic()
        self._after = FIRST_REPORT_SECONDS
        self._older: outbox.BuiltReport | None = None  #: the newest report when another one was asked for
        self._asked = 0  #: answers that there were then; 0: none is asked for

    def look(self, now: Snapshot) -> None:
        """Ask for a report if it is time, or say that the one asked for is there."""
        due = now.progress.done > 0 and time.monotonic() - self._begun >= self._after
        if not due and not self._asked:
            return
        with outages_survived("reports"):
            newest = outbox.latest_report(self._database, now.run)
            if due:
                self._ask(now.run)
                self._older, self._asked, self._after = newest, now.progress.done, self._after * 3
            elif newest is not None and newest != self._older:
                say(self._console, f"report so far ({self._asked} of {now.progress.planned} answers): {newest.html}")
                self._asked = 0


class Waiting:
    """Waits for a report however long it takes, as long as its reporter lives; says now and then that it takes long.

    When the reporter's pulse beat last is compared with itself only, never with this machine's clock.
    """

    def __init__(self, pulse: Pulse, log_file: Path, console: Console) -> None:
        self._pulse, self._log_file, self._console = pulse, log_file, console
        self._beat = self._last_beat()
        self._since = self._said_at = self._alive_at = time.monotonic()

    def in_vain(self) -> bool:
        """Whether the reporter has given no sign of life for too long."""
        now, beat = time.monotonic(), self._last_beat()
        if beat != self._beat:
            self._beat, self._alive_at = beat, now
        if now - self._alive_at > SILENT_SECONDS:
            return True
        if now - self._said_at >= WORD_SECONDS:
            self._said_at = now
            taken = f"the report has taken {duration(now - self._since)} so far"
            say(self._console, f"every answer is there; {taken}, see {self._log_file}")
        return False

    def _last_beat(self) -> float:
        with suppress(OSError):
            return self._pulse.path.stat().st_mtime
        return 0.0


class Disk:
    """Says once, each time, that nothing can be written to a folder any more, which no log can."""

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder = folder
        self._console = console
        self._looked_at = -DISK_SECONDS
        self._full = False

    def look(self) -> None:
        """Look whether there is room, unless that was looked at a moment ago."""
        if time.monotonic() - self._looked_at < DISK_SECONDS:
            return
        self._looked_at = time.monotonic()
        why = why_unwritable(self._folder)
        if why and not self._full:
            say(self._console, f"{self._folder}: {why}; waiting for room, what was committed is kept")
        self._full = bool(why)


@contextmanager
def outages_survived(what: str) -> Iterator[None]:
    """Whoever watches a run outlives its database and its broker: the block is left where one of them is away."""
    try:
        yield
    except (*OUTAGE, redis.RedisError) as error:
        log.warning("%s: %s", what, getattr(error, "orig", None) or error)
