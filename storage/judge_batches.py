"""Batches of calls that a provider was handed, or was about to be, and that are not over.

A batch is noted before it is made and named before it is asked after, so that a process that dies at any moment pays
for nothing twice. Knows one table. Deliberately knows no provider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import insert, select, update

from storage import verdict_tables
from storage.columns import Now
from storage.database import Database
from storage.judgements import Call, call_from


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBatch:
    """A batch whose results are not all here yet."""

    token: str
    batch: str | None  #: the provider's id; None: it is not known whether it was made
    calls: tuple[Call, ...]
    made_at: float  #: seconds since the epoch


def announce_batch(database: Database, run: str, judge: int, token: str, calls: Sequence[Call]) -> None:
    """Note a batch before it is handed to its provider, so that it is found again whatever happens."""
    columns = {"token": token, "judge": judge, "run": run, "calls": [call.numbers for call in calls], "made_at": Now()}
    database.write(lambda connection: connection.execute(insert(verdict_tables.judge_batch).values(columns)))


def name_batch(database: Database, token: str, batch: str) -> None:
    """Note the provider's id of a batch."""
    b = verdict_tables.judge_batch
    database.write(lambda connection: connection.execute(update(b).where(b.c.token == token).values(batch=batch)))


def close_batch(database: Database, token: str) -> None:
    """Forget a batch: all its results are here, or it was never made."""
    b = verdict_tables.judge_batch
    database.write(lambda connection: connection.execute(b.delete().where(b.c.token == token)))


def open_batches(database: Database, run: str, judge: int) -> list[OpenBatch]:
    """A judge's batches of a run that are not over, the oldest first."""
    b = verdict_tables.judge_batch.c
    query = select(verdict_tables.judge_batch).where(b.run == run, b.judge == judge).order_by(b.made_at, b.token)
    with database.read() as connection:
        return [
            OpenBatch(token=row.token, batch=row.batch, calls=tuple(map(call_from, row.calls)), made_at=row.made_at)
            for row in connection.execute(query)
        ]


def batch_ids(database: Database) -> set[str]:
    """The provider's ids of all open batches, whosever they are."""
    b = verdict_tables.judge_batch.c
    with database.read() as connection:
        return set(connection.execute(select(b.batch).where(b.batch.is_not(None))).scalars())
