"""Brings a database to the schema that this version needs.

Alembic is loaded only where something has to be done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, inspect, select, text

from defsurvey.storage.database import Database, Now
from defsurvey.storage.errors import Failure

_MIGRATIONS = Path(__file__).parent / "migrations"
#: The revisions that this version of the code knows: the numbers of the files in ``migrations/versions``, in order.
REVISIONS = sorted(file.name[:4] for file in (_MIGRATIONS / "versions").glob("[0-9]*.py"))
#: The one that it works with.
HEAD = REVISIONS[-1]
#: Key of the advisory lock under which PostgreSQL is migrated (any constant of our own).
_ADVISORY_LOCK = 0x0DEF5EED


class OtherSchema(Failure, RuntimeError):
    """The database was made by a version of defsurvey that this one does not understand."""


def remedy(found: str) -> str:
    """What to do about a database of another revision."""
    if found in REVISIONS:
        return "bring it up to date: defsurvey migrate"
    return "update defsurvey" if found > HEAD else "take a new home or database, or the version that made this one"


def current_revision(connection: Connection) -> str | None:
    """The schema's revision, or None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def migrate(database: Database) -> bool:
    """Bring the schema up to date; safe when several processes do so at once. Returns whether it was not."""
    with database.read() as connection:
        if current_revision(connection) == HEAD:
            return False
    return database.write(_upgrade)


def _upgrade(connection: Connection) -> bool:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    found = current_revision(connection)  # SQLite's write lock, or the advisory one, is held from here on
    if found == HEAD:
        return False
    if found is not None and found not in REVISIONS:
        raise OtherSchema(f"database schema: expected revision {HEAD}, got {found}; {remedy(found)}")
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A database that answers."""

    server: str  #: kind and version, such as ``PostgreSQL 16.4``
    revision: str | None  #: of the schema; None: there is none yet
    clock_offset: float  #: seconds by which its clock is ahead of this machine's; below the time of one statement: 0


def condition(database: Database, *, clock: Callable[[], float] = time.time) -> Condition:
    """Ask a database that is there: SQLite would make a file. Raises DBAPIError where it does not answer."""
    with database.read() as connection:
        version = connection.dialect.server_version_info or ()
        revision = current_revision(connection)
        before = clock()
        theirs = float(connection.execute(select(Now())).scalar_one())
        after = clock()
    kind = "SQLite" if database.sqlite else "PostgreSQL"
    offset = theirs - after if theirs > after else min(theirs - before, 0.0)
    return Condition(server=f"{kind} {'.'.join(map(str, version))}", revision=revision, clock_offset=offset)
