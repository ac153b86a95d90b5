"""Who may judge a run now: one process, wherever it runs, for as long as it renews its lease."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, and_, select, update

from defsurvey.storage.columns import Now
from defsurvey.storage.database import Database, insert_new
from defsurvey.storage.runs import verdict_tables

_TABLE = verdict_tables.judge_lease
_L = _TABLE.c


def take(database: Database, run: str, owner: str, *, ttl: float) -> str:
    """Take the lease of a run unless another holds it. Returns who holds it now.

    Args:
        database: where the run is.
        run: which run.
        owner: a name that no other judging has, see ``storage.runs.ledger.lease_owner``.
        ttl: seconds for which the lease holds without being renewed.
    """
    mine = {"owner": owner, "until": Now() + ttl}

    def work(connection: Connection) -> str:
        insert_new(connection, _TABLE, {"run": run, **mine})
        connection.execute(update(_TABLE).where(_L.run == run, _L.until < Now()).values(mine))
        return str(connection.execute(select(_L.owner).where(_L.run == run)).scalar_one())

    return database.write(work)


def renew(database: Database, run: str, owner: str, *, ttl: float) -> None:
    """Hold on to a lease, also to one that has run out and that nobody else took."""
    _set(database, run, owner, Now() + ttl)


def release(database: Database, run: str, owner: str) -> None:
    """Let a lease go, so that another may take it at once; nothing happens where it is not this owner's."""
    _set(database, run, owner, 0.0)


def is_held(database: Database, run: str, owner: str) -> bool:
    """Whether nobody has taken the lease since this owner took it."""
    with database.read() as connection:
        return connection.execute(select(_L.owner).where(_L.run == run)).scalar_one_or_none() == owner


def _set(database: Database, run: str, owner: str, until: ColumnElement[float] | float) -> None:
    here = and_(_L.run == run, _L.owner == owner)
    database.write(lambda connection: connection.execute(update(_TABLE).where(here).values(until=until)))
