"""One machine, nothing installed: broker, workers, reporter and reconciler around one run.

Whatever ends it, what was committed stays: the same command goes on from there.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import redis

from defsurvey.jobs import system
from defsurvey.jobs.broker import EmbeddedBroker, client_of, make_app, report_failure_key
from defsurvey.jobs.daemons.reconciler import Reconciler, ask_for_report, release_dead
from defsurvey.jobs.daemons.startup import broker_url, when_told_to_end
from defsurvey.jobs.progress import Look, Snapshot, say, watch
from defsurvey.jobs.settings import Settings
from defsurvey.storage.database import Database
from defsurvey.storage.errors import Failure
from defsurvey.storage.runs import judgements, outbox, store
from defsurvey.storage.runs.recovery import QUARANTINE_AFTER
from defsurvey.workers.engines import machine
from defsurvey.workers.engines.machine import AUTO, expected
from defsurvey.workers.models import read_cards
from defsurvey.workers.runner.faults import OUTAGE

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

#: Deaths of worker processes in a row, without any progress between them, after which a run is given up: more
#: than it takes to find out which participant causes them and to set it aside, which is progress.
DEATHS_WITHOUT_PROGRESS = QUARANTINE_AFTER + 2
GRACE_SECONDS = 20.0  #: seconds that a process may take to end after SIGTERM
LOGS_SECONDS = 10.0  #: seconds between two looks at how long the logs have grown
WORD_SECONDS = 300.0  #: seconds between two words on a report that takes long
#: Seconds of work after which an unfinished run gets its first report; each further one after three times as long.
FIRST_REPORT_SECONDS = 60.0
DISK_SECONDS = 10.0  #: seconds between two looks at whether there is room on the disk
PATIENCE_SECONDS = 3.0  #: seconds to wait for the workers of a killed ``defsurvey run`` to clear up after it


class RunFailed(Failure, RuntimeError):
    """The run cannot go on, or not here; the message says why."""


@dataclass
class _Process:
    """One child process that is started again when it dies."""

    name: str
    arguments: Sequence[str]
    log: Path
    popen: subprocess.Popen[bytes] | None = None
    deaths: int = 0  #: in a row, without progress between them
    done_at_death: int = -1  #: how far the run was at the last of them


@dataclass
class Crew:
    """The worker and reporter processes of ``defsurvey run``, to which settings are handed on by the environment."""

    settings: Settings
    workers: int  #: how many worker processes
    device: str = AUTO  #: where models run; a judge whose weights are here runs there too
    concurrency: int | None = None  #: participants at once in each worker; None: as many as there is room for
    models: Sequence[str] = ()  #: only these; empty: all
    only: str | None = None  #: the one run that they work on; None: whatever is in the queues of their models
    _processes: list[_Process] = field(default_factory=list)
    _logs_seen_at: float = -math.inf

    def start(self) -> None:
        """Start every process."""
        self.settings.logs.mkdir(parents=True, exist_ok=True)
        only = [] if self.only is None else ["--only", self.only]
        kinds = {"reporter": ["reporter", "--device", self.device, *only]}
        kinds |= {f"worker-{n + 1}": ["worker", *self._options(n), *only] for n in range(self.workers)}
        for name, arguments in kinds.items():
            self._processes.append(_Process(name, arguments, self.settings.logs / f"{name}.log"))
            self._launch(self._processes[-1])

    def _options(self, number: int) -> list[str]:
        shared = self.workers > 1 and self.device == AUTO  # the GPUs
        options = ["--device", f"{AUTO}:{number}" if shared else self.device]
        if "OMP_NUM_THREADS" not in os.environ:  # else the number of threads is set already
            options += ["--threads", str(max(1, machine.cores() // self.workers))]
        if self.concurrency is not None:
            options += ["--concurrency", str(self.concurrency)]
        return options + (["--models", ",".join(self.models)] if self.models else [])

    def look(self, done: int) -> None:
        """Start again what died, unless that is in vain (RunFailed); now and then begin logs anew that have grown long.

        Deaths are survived while ``done``, answers that have ended and participants set aside, grows between them.
        """
        for process in self._processes:
            if process.popen is not None and process.popen.poll() is not None:
                self._survive(process, process.popen.returncode, done)
        if time.monotonic() - self._logs_seen_at >= LOGS_SECONDS:  # after they are read for reasons
            self._logs_seen_at = time.monotonic()
            for path in (*self.settings.logs.glob("*.log"), *self.settings.home.glob("broker/*.log")):
                system.keep_short(path)

    def _survive(self, process: _Process, status: int, done: int) -> None:
        if status == system.UNAVAILABLE:
            raise RunFailed(system.last_error(process.log))
        if status == system.USAGE:
            raise RunFailed(f"{process.name}: {system.last_line(process.log)}")
        process.deaths = process.deaths + 1 if done == process.done_at_death else 1
        process.done_at_death = done
        killed = " (killed, as where memory runs out)" if status == -signal.SIGKILL else ""
        if process.deaths >= DEATHS_WITHOUT_PROGRESS:
            if why := system.why_unwritable(self.settings.home):  # in which case no log says so either
                raise RunFailed(f"{self.settings.home}: {why}; what was committed is kept")
            raise RunFailed(f"{process.name} died {process.deaths} times without progress{killed}; see {process.log}")
        log.warning("%s ended with status %d and is started again%s", process.name, status, killed)
        self._launch(process)

    def stop(self) -> None:
        """Tell every process to end, and end those that do not."""
        running = [p.popen for p in self._processes if p.popen is not None and p.popen.poll() is None]
        for popen in running:
            popen.send_signal(signal.SIGTERM)
        for popen in running:
            with suppress(subprocess.TimeoutExpired):
                popen.wait(timeout=GRACE_SECONDS)
            popen.kill()  # which does nothing to one that has ended
            popen.wait()

    def _launch(self, process: _Process) -> None:
        with process.log.open("ab") as output:
            process.popen = subprocess.Popen(  # noqa: S603  # this very program, and no shell
                [sys.executable, "-P", "-m", "defsurvey", *process.arguments, "--parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.settings.for_children()},
                start_new_session=True,  # Ctrl-C reaches this process alone, which ends them in order
            )


@dataclass
class Follower:
    """Shows a run that a crew works on, until it is finished and its report shows everything, or it was stopped."""

    database: Database
    run: str
    crew: Crew
    console: Console
    broker: redis.Redis  #: where a report that cannot be built is noted
    #: Whether this process was told to end. It is asked besides, since what a signal raises is lost where the
    #: interpreter happens to be in a destructor or a callback.
    stopped: Callable[[], bool] = lambda: False
    ask_report: Callable[[str], None] = lambda _run: None  #: asks a reporter for the report of a run as it is now

    def __post_init__(self) -> None:
        """Look at the run, which has to be there."""
        self._look = Look(self.database, self.run)
        self._begun = time.monotonic()
        self._disk_seen_at, self._disk_full = -math.inf, False
        self._report_after = FIRST_REPORT_SECONDS
        self._older: outbox.BuiltReport | None = None  #: the newest report when another one was asked for
        self._asked = 0  #: answers that there were then; 0: none is asked for
        self._waiting_since: float | None = None  #: from when only the report is still to come
        self._said_at = 0.0  #: when a word was said of a report that takes long

    def follow(self) -> Snapshot:
        """Show progress. Returns the look that ended it: what it says of the report and of the run belongs together."""
        return watch(self._look, self._is_over, self.console, each=self._between_looks)

    def _is_over(self, current: Snapshot) -> bool:
        if not current.reporting:
            return current.state in ("cancelled", "budget reached")
        if self._waiting_since is None:
            with outages_survived("reports"):
                self.broker.delete(report_failure_key(self.run))  # of a report so far, which this one replaces
            self._waiting_since = self._said_at = time.monotonic()
        return current.reported

    def _between_looks(self) -> None:
        if self.stopped():
            raise KeyboardInterrupt
        now = self._look.latest
        self._look_at_disk()
        self.crew.look(now.progress.done + now.participants["quarantined"])
        if self._waiting_since is None:
            self._report_so_far(now)
        else:
            self._wait_for_report(time.monotonic() - self._waiting_since)

    def _look_at_disk(self) -> None:
        """Say, once each time, that nothing can be written any more, which no log can."""
        if time.monotonic() - self._disk_seen_at < DISK_SECONDS:
            return
        self._disk_seen_at = time.monotonic()
        home = self.crew.settings.home
        why = system.why_unwritable(home)
        if why and not self._disk_full:
            say(self.console, f"{home}: {why}; waiting for room, what was committed is kept")
        self._disk_full = bool(why)

    def _report_so_far(self, now: Snapshot) -> None:
        """Ask for a report if it is time, or say once that the one asked for is there."""
        due = now.progress.done > 0 and time.monotonic() - self._begun >= self._report_after
        if not due and not self._asked:
            return
        with outages_survived("reports"):
            newest = outbox.latest_report(self.database, self.run)
            if due:
                self.ask_report(self.run)
                self._older, self._asked, self._report_after = newest, now.progress.done, self._report_after * 3
            elif newest is not None and newest != self._older:
                say(self.console, f"report so far ({self._asked} of {now.progress.planned} answers): {newest.html}")
                self._asked = 0

    def _wait_for_report(self, seconds: float) -> None:
        """Go on however long it takes, and say now and then that it takes long."""
        log_file, failure = self.crew.settings.logs / "reporter.log", None
        with outages_survived("reports"):
            failure = self.broker.get(report_failure_key(self.run))
        if isinstance(failure, bytes):
            problem = f"run {self.run}: every answer is there, but its report cannot be built: {failure.decode()}"
            raise RunFailed(f"{problem}; see {log_file}, then: defsurvey report {self.run}")
        if time.monotonic() - self._said_at >= WORD_SECONDS:
            self._said_at = time.monotonic()
            taken = f"the report has taken {system.duration(seconds)} so far"
            say(self.console, f"every answer is there; {taken}, see {log_file}")


@contextmanager
def outages_survived(what: str) -> Iterator[None]:
    """Whoever watches a run outlives its database and its broker: the block is left where one of them is away."""
    try:
        yield
    except (*OUTAGE, redis.RedisError) as error:
        log.warning("%s: %s", what, getattr(error, "orig", None) or error)


def work(
    settings: Settings,
    database: Database,
    run: str,
    prepare: Callable[[], object],
    *,
    workers: int,
    device: str,
    concurrency: int | None,
    console: Console,
) -> Snapshot:
    """Do everything that a run needs on this machine, once ``prepare`` has written it to the outbox; returns its end.

    Raises HomeInUse where another ``defsurvey run`` works in the home, and RunFailed where the workers cannot go on.
    """
    signals: list[int] = []

    def interrupted(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    when_told_to_end(interrupted)
    settings.make_home()
    remedy = (
        "wait until it has ended; or keep this study for later (defsurvey enqueue STUDY, then defsurvey resume RUN "
        f"--wait); or run it in a home of its own: DEFSURVEY_HOME=FOLDER DEFSURVEY_CACHE={settings.cache}"
    )
    lock = system.exclusive(settings.home / "run.lock", "defsurvey run", patience=PATIENCE_SECONDS, remedy=remedy)
    own = EmbeddedBroker(settings.home) if settings.broker_url is None else None
    with lock, own or nullcontext():
        url = broker_url(settings)
        app, broker = make_app(url, visibility_timeout=settings.visibility_timeout), client_of(url)
        settings.logs.mkdir(parents=True, exist_ok=True)
        logging.raiseExceptions = False  # a line that a full disk does not take is lost, and nothing said of it:
        handler = logging.FileHandler(settings.logs / "run.log")  # the terminal belongs to the progress display
        handler.setFormatter(logging.Formatter(system.LOG_FORMAT))
        logging.getLogger().addHandler(handler)
        release_dead(database)
        prepare()
        cards, judge = read_cards(settings.models), judgements.wanted(database, run)
        # but for models that are done and whose cards are gone since
        models = {cell.model: None for cell in store.load_run(database, run).cells if cell.model in cards}
        asked = [*outbox.unfinished_models(database, run), *([judge.model] if judge else ())]
        if any(cards[model].capabilities.on_device for model in asked if model in cards):
            say(console, f"device: {expected(device, workers=workers)}")
        broker.delete(report_failure_key(run))
        reconciler = Reconciler(database=database, app=app, broker=broker, only=run)
        crew = Crew(settings, workers, device, concurrency, list(models))
        if own is not None:
            reconciler.revive = own.ensure
            crew.only = run
        else:
            for other in outbox.unfinished_beside(database, run):  # others may share the broker
                shared = f"{other} is unfinished and has models of {run}: what the broker holds of it is worked on"
                say(console, f"{shared} as well, unless: defsurvey cancel {other}")
        stop = threading.Event()
        thread = threading.Thread(target=reconciler.run, args=(stop,), name="reconciler", daemon=True)
        try:
            crew.start()
            thread.start()  # its first pass publishes the run while the workers come up
            ask_report = partial(ask_for_report, app, database)
            return Follower(database, run, crew, console, broker, lambda: bool(signals), ask_report).follow()
        finally:
            stop.set()
            if thread.ident is not None:
                thread.join()
            crew.stop()
            with outages_survived("leases of ended workers"):
                release_dead(database)
