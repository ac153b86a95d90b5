"""What daemons and verbs begin with: a log, signals, and the database and the broker that the settings name.

A daemon also has a pulse: whether it lives and works shows in the age of a file that it touches.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from celery import Celery, bootsteps
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError

from defsurvey.jobs.broker import BrokerUnavailable, EmbeddedBroker, check_reachable, make_app
from defsurvey.jobs.settings import BadSetting, Settings
from defsurvey.jobs.system import LOG_FORMAT
from defsurvey.storage.address import in_words, shown
from defsurvey.storage.database import BadDatabaseUrl, Database
from defsurvey.storage.errors import BadInput, Failure
from defsurvey.storage.hosts import host
from defsurvey.storage.schema import HEAD, condition, migrate

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  #: seconds between two looks at a database that does not answer yet
BEAT_SECONDS = 2.0  #: seconds between two beats of the reporter's pulse
#: Seconds without a sign of life after which a daemon counts as ill; several beats of every role.
ILL_AFTER_SECONDS = 30.0
#: What a person can do about what SQLite says.
_REMEDIES = {
    "not a database": "move the file away and put a copy by defsurvey backup in its place",
    "malformed": "move the file away and put a copy by defsurvey backup in its place",
    "readonly": "make the file and its folder writable for this account, or set DEFSURVEY_HOME to a folder that is",
    "unable to open": "make its folder writable for this account, or set DEFSURVEY_HOME to a folder that is",
}


class DatabaseUnavailable(Failure, RuntimeError):
    """The database cannot be opened; the message says which and why."""


class NothingHere(BadInput, LookupError):
    """A verb needs a run, and there is no database yet; the message says where it looked and what to do."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            f"there is no run in {settings.home} (database {shown(settings.database_url)}): begin one with "
            "defsurvey run STUDY, or go to the folder where yours are, or name it by DEFSURVEY_HOME"
        )


def open_database(settings: Settings, *, threads: int = 4, make: bool = True, without_log: bool = False) -> Database:
    """The database that the settings name, brought up to date, and made where there is none, if that is to be.

    Raises BadSetting, NothingHere, DatabaseUnavailable, and LogMissing, unless a file may be ``without_log``.
    """
    try:
        database = Database(settings.database_url, threads=threads, synchronous=settings.synchronous)
    except BadDatabaseUrl as error:
        raise BadSetting(f"environment variable DEFSURVEY_DATABASE_URL: {error.told}") from None
    try:
        if database.file is not None and not database.file.exists():
            if not make:
                raise NothingHere(settings)
            settings.make_home()
        if not without_log:
            database.check_log()
        if not make and condition(database).revision is None:
            database.close()
            raise NothingHere(settings)
        migrate(database)
    except DBAPIError as error:
        database.close()
        if type(error) not in (OperationalError, DatabaseError):
            raise  # the schema's own fault, not the place's
        raise unavailable(settings, error) from None
    return database


def unavailable(settings: Settings, error: BaseException) -> DatabaseUnavailable:
    """An error of the database, as one line that names it without its password."""
    where = shown(settings.database_url)  # by which it is known whether the driver's words can be, too
    said = in_words(where, getattr(error, "orig", None) or error)
    remedy = next((f"; {remedy}" for sign, remedy in _REMEDIES.items() if sign in said), "")
    return DatabaseUnavailable(f"database {where}: {said}{remedy}")


def migrate_when_up(settings: Settings, *, patience: float) -> str:
    """Bring the database up to date once it answers, within ``patience`` seconds. Returns the schema's revision."""
    log_to_stderr()
    deadline, said = time.monotonic() + patience, ""
    while True:
        try:
            open_database(settings, without_log=True).close()
            return HEAD
        except DatabaseUnavailable as error:
            if time.monotonic() >= deadline:
                raise
            if str(error) != said:
                said = str(error)
                log.warning("waiting up to %.0f s: %s", patience, said)
            time.sleep(LOOK_SECONDS)


def broker_url(settings: Settings) -> str:
    """The broker's URL; the embedded one is started, or attached to, where none is named. Raises BrokerUnavailable."""
    if settings.broker_url is not None:
        check_reachable(settings.broker_url)
        return settings.broker_url
    settings.make_home()
    broker = EmbeddedBroker(settings.home)
    broker.ensure()
    return broker.url


def app_if_up(settings: Settings) -> Celery | None:
    """The broker's app; None where it does not answer, or, for the embedded one, where nobody would listen."""
    own = EmbeddedBroker(settings.home)
    try:
        if settings.broker_url is not None:
            check_reachable(settings.broker_url)
        elif not own.alive():
            return None
    except BrokerUnavailable:
        return None
    return make_app(settings.broker_url or own.url, visibility_timeout=settings.visibility_timeout)


def log_to_stderr() -> None:
    """Log lines of a daemon: time, level, logger, message."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT)
    for name in ("kombu", "celery", "alembic.runtime.plugins"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)  # a message given back is no news


def when_told_to_end(do: Callable[[int, FrameType | None], None]) -> None:
    """Have ``do`` called, in the main thread, on SIGINT, SIGTERM and, unless ignored as by ``nohup``, on SIGHUP."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, do)


class Pulse:
    """The file, under the home, that a daemon of this host touches when it has shown that it can work.

    Workers of one host and home share it. A container's health check looks at its age in plain shell (compose.yaml).
    """

    def __init__(self, settings: Settings, role: str) -> None:
        self.role = role
        self.path = settings.home / "pulse" / f"{role}@{host().replace(':', '.')}"

    def beat(self) -> None:
        """Say that the daemon lives; where that cannot be written it goes on, and counts as ill."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        except OSError as error:
            log.warning("pulse: %s", error)

    def end(self) -> None:
        """Take the file away: the daemon works no more."""
        self.path.unlink(missing_ok=True)

    def age(self) -> float | None:
        """Seconds since the last beat, or None where there was none."""
        try:
            return max(time.time() - self.path.stat().st_mtime, 0.0)
        except FileNotFoundError:
            return None

    def is_well(self) -> bool:
        """Whether the last beat is recent."""
        age = self.age()
        return age is not None and age <= ILL_AFTER_SECONDS

    def __str__(self) -> str:
        """One line for a person."""
        age, who = self.age(), f"{self.role} on {socket.gethostname()}"
        if age is None:
            return f"{who}: no sign of life yet"
        return f"{who}: last sign of life {age:.0f} s ago (at most {ILL_AFTER_SECONDS:.0f} s are healthy)"


def beating_step(pulse: Pulse) -> type[bootsteps.StartStopStep]:
    """A Celery consumer step that beats from the consumer's own loop, for as long as it is connected to the broker."""

    class Beating(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
        requires = ("celery.worker.consumer.tasks:Tasks",)
        timer: Any = None

        def start(self, consumer: Any) -> None:
            pulse.beat()
            self.timer = consumer.timer.call_repeatedly(BEAT_SECONDS, pulse.beat)

        def stop(self, _consumer: Any) -> None:
            if self.timer is not None:
                self.timer.cancel()

    return Beating
