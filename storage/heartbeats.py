"""When worker processes were last heard of.

Reads the list of workers that ``storage.ledger`` keeps. Deliberately decides nothing about
who is dead: a heartbeat may be late, leases and fences decide (``storage.deaths``).
"""

from __future__ import annotations

from sqlalchemy import func, select

from storage import tables
from storage.columns import Now
from storage.database import Database


def heartbeat_age(database: Database, host: str) -> float | None:
    """Seconds since a worker process on that host was last heard of, by the database's clock.

    None where no worker of that host is listed: there was none, or it has taken its leave.
    """
    here = tables.worker.c.owner.startswith(f"{host}:", autoescape=True)
    with database.read() as connection:
        beat_at, now = connection.execute(select(func.max(tables.worker.c.beat_at), Now()).where(here)).one()
    return None if beat_at is None else max(float(now) - float(beat_at), 0.0)
