"""How far a run has come: in numbers and sentences at one moment, or shown until it is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import redis
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from defsurvey.jobs.broker import BrokerUnavailable, EmbeddedBroker, check_reachable, client_of
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import duration
from defsurvey.storage.database import Database
from defsurvey.storage.runs import budget, judgements, outbox, steps, store
from defsurvey.storage.runs.run import AnswerState, Cell, Progress
from defsurvey.storage.text import in_one_line, visible
from defsurvey.workers.runner.dead_letters import counts
from defsurvey.workers.runner.faults import OUTAGE

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5  #: seconds between two looks
#: Seconds between two looks once every answer is there: a report takes little longer than a look.
LAST_LOOKS_SECONDS = 0.1
LINE_SECONDS = 10.0  #: seconds between two lines where the output is no terminal
_RATE_SECONDS = 30.0  #: seconds over which the answers per second are counted

_WIDE = 1000  #: columns of a terminal in which everything has room


class CellProgress(NamedTuple):
    """How far one cell has come."""

    cell: Cell
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
        """Whether all that was planned is there, nothing failed, and there was money left to judge it."""
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
            "cells": [{**cell.names, **_counts(progress)} for cell, progress in self.cells],
            "rate_per_second": round(self.rate_per_second, 3),
            "eta_seconds": None if eta is None else round(eta, 1),
            "report": None if self.missing else self.report,
            **({} if self.budget is None else {"budget": self.budget, "spent": round(self.spent, 6)}),
            **({"unweighed": self.unweighed} if self.unweighed else {}),
        }


def _counts(progress: Progress) -> dict[str, int]:
    ended = {state.value: getattr(progress, state.value) for state in AnswerState}
    return {"planned": progress.planned, **ended, "remaining": progress.remaining}


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
        cells=tuple(CellProgress(cell, by_cell[cell.id]) for cell in run.cells),
        rate_per_second=store.rate(database, run_id),
        report=None if report is None else report.html,
        reported=report is not None and outbox.is_current(database, report),
        missing=report is not None and not Path(report.html).is_file(),
        unweighed=steps.unweighed(database, [c.id for c in run.cells if c.condition.slots == 0]),
        budget=allowed,
        spent=0.0 if allowed is None else budget.spent(database, run_id),
    )


def set_aside(current: Snapshot) -> str:
    """What a run goes without, participants or weighed questions, and what asks again; nothing where it has all."""
    number = current.participants["quarantined"]
    missing = [f"{number} set aside"] if number else []
    if current.unweighed:
        missing.append(f"{current.unweighed} questions not weighed, its workers' logs say why")
    return f"{'; '.join(missing)}: defsurvey retry {in_one_line(current.run)} --state missing" if missing else ""


def report_line(current: Snapshot) -> str:
    """Where a run's report is; where its file is gone, what writes it again."""
    again = f"defsurvey report {in_one_line(current.run)}"
    gone = f" is not there any more; write it again: {again}" if current.missing else ""
    return f"report: {visible(current.report or 'none yet')}{gone}"


def notes(run: str, before: Mapping[str, int], dead: Mapping[str, int] | None) -> Iterator[str]:
    """Which runs a run waits for, with their participants, and what in the broker's queues was no message of ours."""
    if before:
        runs = f"run{'s' if len(before) > 1 else ''} {', '.join(map(in_one_line, before))}"
        yield f"{in_one_line(run)} waits behind {runs}: {sum(before.values()):,} participants before it"
    if dead:
        queues = ", ".join(f"{in_one_line(queue)}: {number:,}" for queue, number in dead.items())
        yield f"dead letters: {sum(dead.values()):,} items in the broker were not messages of defsurvey ({queues})"


def unpublished(settings: Settings, database: Database, run_id: str) -> str:
    """Why messages of a run have not reached a broker and what sends them; nothing where all have."""
    number = outbox.waiting(database, run_id)
    if not number:
        return ""
    waiting = f"{number} messages wait in the outbox"
    if settings.broker_url is None:
        return f"no broker: {waiting} until defsurvey reconciler runs beside a worker"
    try:
        check_reachable(settings.broker_url)
    except BrokerUnavailable as error:
        return f"{error}; {waiting} until it answers and defsurvey reconciler runs"
    return f"{waiting} for defsurvey reconciler"


def dead_letters(settings: Settings) -> dict[str, int] | None:
    """Queue -> how many of its items were put aside as dead letters; None where the broker does not answer."""
    embedded = EmbeddedBroker(settings.home)
    if settings.broker_url is None and not embedded.alive():
        return None
    try:
        with client_of(settings.broker_url or embedded.url) as client:
            return counts(client)
    except (redis.RedisError, ValueError):  # ValueError: a port that is none
        return None


def waits_behind(settings: Settings, database: Database, now: Snapshot) -> dict[str, int]:
    """Other run -> participants that workers take up before this run, where nobody of it is asked yet."""
    shared = settings.broker_url is not None  # ``defsurvey run`` keeps others out of the embedded one
    return outbox.ahead_of(database, now.run) if shared and now.state == "waiting" else {}


def named_or_newest(database: Database, run_id: str | None) -> str:
    """The run named, or the newest; raises ``UnknownRun`` where there is none."""
    if run_id is None and not (runs := store.run_ids(database)):
        raise store.UnknownRun(None)
    return runs[0] if run_id is None else run_id


def say(console: Console, line: str) -> None:
    """Print a line as it is: not coloured, not broken, and a name in it is no markup."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def render(current: Snapshot, speed: float) -> RenderableType:
    """A bar, the run's state, a table of cells, and who was set aside."""
    progress, run, without = current.progress, in_one_line(current.run), set_aside(current)
    facts = [_done(progress), *_moving(current, speed)]
    whole = [Column(no_wrap=True, min_width=len(fact)) for fact in facts]
    row = Table.grid(Column(no_wrap=True), Column(max_width=40), *whole, padding=(0, 2))
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
    look: Callable[[], Snapshot], until: Callable[[Snapshot], bool], console: Console, *, each: Callable[[], None]
) -> Snapshot:
    """Show looks until one is the last by ``until``; ``each`` is called in between, and ends the watch by raising."""
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
            self.latest, self._away = snapshot(self._database, self.latest.run), False
        except OUTAGE as error:
            if not self._away:
                why = " ".join(str(getattr(error, "orig", None) or error).split())
                log.warning("progress: %s; looking again until the database is back", why)
            self._away = True
        return self.latest


def watch_run(database: Database, run_id: str, shown: Console) -> Snapshot:
    """Show a run's progress until it is finished, cancelled or out of budget. Returns the last look at it."""
    ended = ("finished", "cancelled", "budget reached")
    return watch(Look(database, run_id), lambda now: now.state in ended, shown, each=lambda: None)
