"""What a database says of itself: its kind, its schema, its clock.

Asks, and changes nothing: no file is made and no schema is brought up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select

from defsurvey.storage.columns import Now
from defsurvey.storage.database import Database
from defsurvey.storage.schema import current_revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A database that answers."""

    server: str  #: kind and version, such as ``PostgreSQL 16.4``
    revision: str | None  #: of the schema; None: there is none yet
    clock_offset: float  #: seconds by which its clock is ahead of this machine's; below the time of one statement: 0


def condition(database: Database, *, clock: Callable[[], float] = time.time) -> Condition:
    """Ask a database that exists.

    Args:
        database: it must be there: asking SQLite for a file that is not would make one.
        clock: this machine's, seconds since the epoch.

    Raises:
        sqlalchemy.exc.DBAPIError: it does not answer, or not to us.
    """
    with database.read() as connection:
        version = connection.dialect.server_version_info or ()
        revision = current_revision(connection)
        before = clock()
        theirs = float(connection.execute(select(Now())).scalar_one())
        after = clock()
    kind = "SQLite" if database.sqlite else "PostgreSQL"
    offset = theirs - after if theirs > after else min(theirs - before, 0.0)
    return Condition(server=f"{kind} {'.'.join(map(str, version))}", revision=revision, clock_offset=offset)
