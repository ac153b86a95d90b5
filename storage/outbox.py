"""What is still to be published: participants' messages and reports.

The rows are the outbox: a message may be lost or doubled, and is told from here again.
Knows the participant, run and report tables. Deliberately knows no broker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, case, func, or_, select, update

from storage import tables
from storage.database import Database, insert_new
from storage.run import ParticipantStatus
from storage.tables import Now

_P = tables.participant.c
_OPEN = _P.status == ParticipantStatus.OPEN.value
_FREE = or_(_P.lease_until.is_(None), _P.lease_until < Now())
_ACTIVE = _P.run.in_(select(tables.run.c.id).where(tables.run.c.cancelled.is_(False)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A participant whose message is to be sent to its model's queue."""

    participant: int
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltReport:
    """A report that was written, and the revision of the ledger it shows."""

    run: str
    revision: int
    html: str
    markdown: str


def outgoing(database: Database, *, run: str | None = None, limit: int = 1000) -> list[Outgoing]:
    """Participants that nobody holds and whose message is to be sent, oldest first."""
    query = (
        select(_P.id, tables.cell.c.model)
        .join_from(tables.participant, tables.cell, _P.cell == tables.cell.c.id)
        .where(_OPEN, _FREE, _ACTIVE, _P.published_at.is_(None))
        .order_by(_P.id)
        .limit(limit)
    )
    if run is not None:
        query = query.where(_P.run == run)
    with database.read() as connection:
        return [Outgoing(participant=who, model=model) for who, model in connection.execute(query)]


def waiting(database: Database, run: str) -> int:
    """How many messages of a run are still to be sent."""
    query = select(func.count()).where(_OPEN, _FREE, _ACTIVE, _P.published_at.is_(None), _P.run == run)
    with database.read() as connection:
        return connection.execute(query).scalar_one()


def mark_published(database: Database, participants: Sequence[int]) -> None:
    """Note that the messages of these participants were handed to the broker."""
    if participants:
        database.write(
            lambda connection: connection.execute(
                update(tables.participant).where(_P.id.in_(participants)).values(published_at=Now())
            )
        )


def publish_again(
    database: Database, *, run: str | None = None, model: str | None = None, older_than: float = 0.0
) -> int:
    """Put participants that nobody holds back into the outbox. Returns how many.

    Args:
        database: where they are.
        run: only those of this run.
        model: only those of this model.
        older_than: only those whose message was sent at least so many seconds ago.
    """
    sent_before = _P.published_at <= Now() - older_than
    statement = update(tables.participant).where(_OPEN, _FREE, _ACTIVE, sent_before)
    if run is not None:
        statement = statement.where(_P.run == run)
    if model is not None:
        statement = statement.where(_P.cell.in_(select(tables.cell.c.id).where(tables.cell.c.model == model)))
    return database.write(lambda connection: connection.execute(statement.values(published_at=None)).rowcount)


def unfinished(database: Database, run: str) -> int:
    """How many participants of a run still have questions to answer."""
    with database.read() as connection:
        query = select(func.count()).where(_P.run == run, _OPEN)
        return connection.execute(query).scalar_one()


def revision(database: Database, run: str) -> int:
    """Of the ledger: how many answers of the run have been committed, those asked again counted each time."""
    with database.read() as connection:
        return revision_in(connection, run)


def revision_in(connection: Connection, run: str) -> int:
    """The same within a transaction."""
    return int(connection.execute(select(func.sum(_P.commits)).where(_P.run == run)).scalar_one() or 0)


def reports_due(database: Database) -> list[tuple[str, int]]:
    """Runs without unfinished participants whose last revision has no report yet: (run, revision)."""
    done = func.sum(_P.commits)
    still_open = func.sum(case((_OPEN, 1), else_=0))
    query = select(_P.run, done).where(_ACTIVE).group_by(_P.run).having(still_open == 0)
    built = select(tables.report.c.run, tables.report.c.revision)
    with database.read() as connection:
        have = {(run, revision) for run, revision in connection.execute(built)}
        return [(run, int(done)) for run, done in connection.execute(query) if (run, int(done)) not in have]


def record_report(database: Database, report: BuiltReport) -> None:
    """Note a report that was written; writing the same revision again changes only its paths."""
    here = and_(tables.report.c.run == report.run, tables.report.c.revision == report.revision)
    columns = {"html": report.html, "markdown": report.markdown, "built_at": Now()}

    def work(connection: Connection) -> None:
        if connection.execute(update(tables.report).where(here).values(columns)).rowcount == 0:
            insert_new(connection, tables.report, {"run": report.run, "revision": report.revision, **columns})

    database.write(work)


def latest_report(database: Database, run: str) -> BuiltReport | None:
    """The report of the highest revision of a run, or None."""
    r = tables.report.c
    query = select(r.run, r.revision, r.html, r.markdown).where(r.run == run).order_by(r.revision.desc()).limit(1)
    with database.read() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return BuiltReport(run=row.run, revision=row.revision, html=row.html, markdown=row.markdown)
