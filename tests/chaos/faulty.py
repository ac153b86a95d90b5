"""The command line with a fault built in: ``python -m tests.chaos.faulty FAULT[=VALUE] VERB ...``.

Each fault replaces one place of the program or of a driver, and nothing else, for what cannot be
done to a process from outside.
"""

import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from celery import Celery
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.pool import Pool

from defsurvey.jobs.broker import SIMULATE
from defsurvey.jobs.study import producer
from tests.chaos.engines import FOLDER

EXIT_CRASHED = 87  #: exit status of a process that ends between writing its rows and publishing them


def note(what: str) -> None:
    with (Path(os.environ[FOLDER]) / "injected").open("a") as file:
        file.write(f"{time.time()} {what}\n")


def crash_before_publishing(_: str) -> None:
    def crash(*_arguments: Any, **_options: Any) -> int:
        note("crash")
        os._exit(EXIT_CRASHED)

    producer.publish = crash


def publish_twice(_: str) -> None:
    once = Celery.send_task

    def twice(app: Celery, name: str, **options: Any) -> Any:
        if name == SIMULATE:
            note(f"message {options['args']}")
            once(app, name, **options)
        return once(app, name, **options)

    Celery.send_task = twice


def lose_commits(share: str) -> None:
    """A share of all commits is done, but the word of it gets lost on the way back.

    Not of the first, which is the look at the schema: whoever gets no word of that does not start.
    """
    commit = DefaultDialect.do_commit
    dice = random.Random(os.getpid())
    commits = count()

    def lossy(self: DefaultDialect, connection: Any) -> None:
        commit(self, connection)
        if next(commits) > 0 and dice.random() < float(share):
            note("commit")
            if self.name == "sqlite":
                raise sqlite3.OperationalError("the word of the commit was lost on the way")
            raise psycopg.OperationalError("the word of the commit was lost on the way")

    DefaultDialect.do_commit = lossy  # type: ignore[method-assign]


def wrong_clock(offset: str) -> None:
    true, ahead = time.time, float(offset)
    time.time = lambda: true() + ahead

    def days(_now: str) -> float:
        return (true() + ahead) / 86400.0 + 2440587.5

    @event.listens_for(Pool, "connect")
    def replace(connection: Any, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.create_function("julianday", 1, days)


def full_disk(_: str) -> None:
    flag = Path(os.environ[FOLDER]) / "full"

    @event.listens_for(Engine, "begin")
    def limit(connection: Any) -> None:
        # SQLite takes no limit below the present size: 1 is the present size.
        pages = 1 if flag.exists() else 2**30
        connection.connection.dbapi_connection.execute(f"PRAGMA max_page_count = {pages}")


FAULTS: dict[str, Callable[[str], None]] = {
    "crash-before-publishing": crash_before_publishing,
    "publish-twice": publish_twice,
    "lose-commits": lose_commits,
    "wrong-clock": wrong_clock,
    "full-disk": full_disk,
}


def main() -> None:
    name, _, value = sys.argv.pop(1).partition("=")
    FAULTS[name](value)
    from defsurvey.jobs.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    main()
