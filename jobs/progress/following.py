"""Watching a run that others work on, until it is over: outages are outlived, and a signal is never lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import redis

from defsurvey.jobs.daemons.health import Pulse
from defsurvey.jobs.progress.progress import duration, snapshot, watch
from defsurvey.jobs.progress.snapshot import Snapshot
from defsurvey.jobs.queue.celery_app import report_failure_key
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import why_unwritable
from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox
from defsurvey.workers.runner.faults import OUTAGE

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

#: Seconds without a sign of life after which the reporter of a finished run is given up.
SILENT_SECONDS = 300.0
#: Seconds between two words on a report that takes long.
WORD_SECONDS = 300.0
#: Seconds of work after which an unfinished run gets its first report; each further one after three times as long.
FIRST_REPORT_SECONDS = 60.0
#: Seconds between two looks at whether there is room on the disk.
DISK_SECONDS = 10.0


class RunFailed(RuntimeError):
    """The run cannot go on, or not here; the message says why."""


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
        broker: where a report that cannot be built is told.
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


class Look:
    """Looks at a run: how far it has come, or while its database is away, had come before.

    Args:
        database: has to be there to begin with.
        run: which run.
    """

    def __init__(self, database: Database, run: str) -> None:
        self.latest = snapshot(database, run)
        self._database = database
        self._away = False

    def __call__(self) -> Snapshot:
        """Look once more; of an outage is told once."""
        try:
            self.latest = snapshot(self._database, self.latest.run)
        except OUTAGE as error:
            if not self._away:
                told = " ".join(str(getattr(error, "orig", None) or error).split())
                log.warning("progress: %s; looking again until the database is back", told)
            self._away = True
        else:
            self._away = False
        return self.latest


class ReportsSoFar:
    """Has the report of an unfinished run built now and then, and says once where each one is.

    Args:
        ask: asks a reporter for the report of a run as it is now.
        database: where built reports are noted.
        console: where it is said.
    """

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
                told = f"report so far ({self._asked} of {now.progress.planned} answers): {newest.html}"
                self._console.print(told, highlight=False, markup=False, soft_wrap=True)
                self._asked = 0


class Waiting:
    """Waits for a report however long it takes, as long as its reporter lives; tells now and then that it takes long.

    Args:
        pulse: of the reporter. When it beat last is compared with itself only, never with this machine's clock.
        log_file: where the reporter says what it does.
        console: where it is told.
    """

    def __init__(self, pulse: Pulse, log_file: Path, console: Console) -> None:
        self._pulse = pulse
        self._log_file = log_file
        self._console = console
        self._beat = self._last_beat()
        self._since = self._told_at = self._alive_at = time.monotonic()

    def in_vain(self) -> bool:
        """Whether the reporter has given no sign of life for too long."""
        now, beat = time.monotonic(), self._last_beat()
        if beat != self._beat:
            self._beat, self._alive_at = beat, now
        if now - self._alive_at > SILENT_SECONDS:
            return True
        if now - self._told_at >= WORD_SECONDS:
            self._told_at = now
            told = f"every answer is there; the report has taken {duration(now - self._since)} so far"
            self._console.print(f"{told}, see {self._log_file}", highlight=False, markup=False, soft_wrap=True)
        return False

    def _last_beat(self) -> float:
        with suppress(OSError):
            return self._pulse.path.stat().st_mtime
        return 0.0


class Disk:
    """Tells whoever watches that nothing can be written any more, which no log can.

    Args:
        folder: where everything is written.
        console: where it is told, once for each time.
    """

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
            told = f"{self._folder}: {why}; waiting for room, what was committed is kept"
            self._console.print(told, highlight=False, markup=False, soft_wrap=True)
        self._full = bool(why)


@contextmanager
def outages_survived(what: str) -> Iterator[None]:
    """Whoever watches a run outlives its database and its broker: the block is left where one of them is away."""
    try:
        yield
    except (*OUTAGE, redis.RedisError) as error:
        log.warning("%s: %s", what, getattr(error, "orig", None) or error)
