"""What is still to be published: participants' messages and reports.

The rows are the outbox: a message may be lost or doubled, and is told from here again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, func, or_, select, tuple_, update

from defsurvey.storage.database import Database, Now, insert_new
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.ledger import ACTIVE_RUN, ANSWERS_LEFT, CLAIMABLE, OPEN, TO_BE_ASKED

_P = tables.participant.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A participant whose message is to be sent to its model's queue."""

    participant: int
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltReport:
    """A report that was written, and what it shows."""

    run: str
    revision: int  #: of the ledger
    judgements: int = 0  #: revision of the judgements
    html: str
    markdown: str


def outgoing(database: Database, *, run: str | None = None, limit: int = 1000) -> list[Outgoing]:
    """Participants that nobody holds and whose message is to be sent, oldest first.

    Those on whose trial a worker has died come behind the others: were they asked first again, workers that die of
    something else, one soon after the other, would set a participant aside that only happened to be the first.
    """
    query = (
        select(_P.id, tables.cell.c.model, _P.deaths)
        .select_from(tables.IN_CELLS)
        .where(CLAIMABLE, _P.published_at.is_(None))
        .order_by(_P.id)
        .limit(limit)
    )
    if run is not None:
        query = query.where(_P.run == run)
    with database.read() as connection:
        rows = connection.execute(query).all()
    in_turn = sorted(rows, key=lambda row: row.deaths)  # not by the database, which finds them by id
    return [Outgoing(participant=row.id, model=row.model) for row in in_turn]


def waiting(database: Database, run: str) -> int:
    """How many messages of a run are still to be sent."""
    query = select(func.count()).where(CLAIMABLE, _P.published_at.is_(None), _P.run == run)
    with database.read() as connection:
        return connection.execute(query).scalar_one()


def mark_published(database: Database, participants: Sequence[int]) -> None:
    """Note that the messages of these participants were handed to the broker."""
    if participants:
        sent = update(tables.participant).where(_P.id.in_(participants)).values(published_at=Now())
        database.write(lambda connection: connection.execute(sent))


def publish_again(
    database: Database, *, run: str | None = None, model: str | None = None, older_than: float = 0.0
) -> int:
    """Put participants that nobody holds back into the outbox: those whose message was sent so many seconds ago.

    Returns how many.
    """
    sent_before = _P.published_at <= Now() - older_than
    statement = update(tables.participant).where(CLAIMABLE, sent_before)
    if run is not None:
        statement = statement.where(_P.run == run)
    if model is not None:
        statement = statement.where(_P.cell.in_(select(tables.cell.c.id).where(tables.cell.c.model == model)))
    return database.write(lambda connection: connection.execute(statement.values(published_at=None)).rowcount)


def put_back(database: Database, participant: int, *, unless_of: str) -> bool:
    """Put a participant's message back into the outbox unless it is of that run. Returns whether it was put back."""
    other = and_(_P.id == participant, _P.run != unless_of)
    statement = update(tables.participant).where(other).values(published_at=None)
    return database.write(lambda connection: connection.execute(statement).rowcount) == 1


def unfinished_models(database: Database, run: str) -> list[str]:
    """Models of a run whose participants still have questions to answer."""
    open_cells = select(_P.cell).where(_P.run == run, OPEN)
    with database.read() as connection:
        query = select(tables.cell.c.model).distinct().where(tables.cell.c.id.in_(open_cells))
        return sorted(connection.execute(query).scalars())


def unfinished_beside(database: Database, run: str) -> list[str]:
    """Other runs that still have questions to answer and whose messages go to the same queues as this one's."""
    models = select(tables.cell.c.model).where(tables.cell.c.run == run)
    cells = select(tables.cell.c.id).where(tables.cell.c.model.in_(models))
    query = select(_P.run).distinct().where(_P.run != run, TO_BE_ASKED, _P.cell.in_(cells))
    with database.read() as connection:
        return sorted(connection.execute(query).scalars())


def unfinished(database: Database, run: str) -> int:
    """How many participants of a run still have questions to answer."""
    with database.read() as connection:
        return connection.execute(select(func.count()).where(_P.run == run, OPEN)).scalar_one()


def revision(database: Database, run: str) -> int:
    """Of the ledger: how many answers of the run have been committed, those asked again counted each time."""
    with database.read() as connection:
        return revision_in(connection, run)


def revision_in(connection: Connection, run: str) -> int:
    """The same within a transaction."""
    return int(connection.execute(select(func.sum(_P.commits)).where(_P.run == run)).scalar_one() or 0)


def judged_in(connection: Connection, run: str) -> int:
    """Revision of a run's judgements: how often judging it has ended, by whichever judge."""
    j = tables.judging.c
    return int(connection.execute(select(func.sum(j.revision)).where(j.run == run)).scalar_one() or 0)


def judgement_revision(database: Database, run: str) -> int:
    """The same in a transaction of its own."""
    with database.read() as connection:
        return judged_in(connection, run)


def reports_due(database: Database) -> list[tuple[str, int, int]]:
    """Finished runs whose last revisions have no report yet: (run, revision of the ledger, of the judgements)."""
    done = func.sum(_P.commits)
    still_open = func.sum(case((OPEN, 1), else_=0))
    query = select(_P.run, done).where(ACTIVE_RUN).group_by(_P.run).having(still_open == 0)
    r, j = tables.report.c, tables.judging.c
    built = select(r.run, r.revision, r.judgements)
    ended: Any = func.sum(j.revision)
    with database.read() as connection:
        have = {tuple(row) for row in connection.execute(built)}
        judged = {run: int(revision) for run, revision in connection.execute(select(j.run, ended).group_by(j.run))}
        finished = [(run, int(done), judged.get(run, 0)) for run, done in connection.execute(query)]
    return [due for due in finished if due not in have]


def record_report(database: Database, report: BuiltReport) -> None:
    """Note a report that was written; writing the same revisions again changes only its paths."""
    r = tables.report.c
    key = {"run": report.run, "revision": report.revision, "judgements": report.judgements}
    here = and_(*(r[name] == value for name, value in key.items()))
    columns = {"html": report.html, "markdown": report.markdown, "built_at": Now()}

    def work(connection: Connection) -> None:
        if connection.execute(update(tables.report).where(here).values(columns)).rowcount == 0:
            insert_new(connection, tables.report, {**key, **columns})

    database.write(work)


def latest_report(database: Database, run: str) -> BuiltReport | None:
    """The report of the highest revisions of a run, or None."""
    r = tables.report.c
    order = (r.revision.desc(), r.judgements.desc())
    query = select(r.run, r.revision, r.judgements, r.html, r.markdown).where(r.run == run).order_by(*order).limit(1)
    with database.read() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else BuiltReport(**row._mapping)


def is_current(database: Database, report: BuiltReport) -> bool:
    """Whether a report shows all that there is now of its run: every answer and every judgement."""
    with database.read() as connection:
        now = (revision_in(connection, report.run), judged_in(connection, report.run))
    return now == (report.revision, report.judgements)


def remaining(database: Database) -> dict[str, int]:
    """Model -> answers that its participants still have to give, whether or not somebody holds them."""
    query = (
        select(tables.cell.c.model, ANSWERS_LEFT)
        .select_from(tables.IN_CELLS)
        .where(TO_BE_ASKED)
        .group_by(tables.cell.c.model)
        .order_by(tables.cell.c.model)
    )
    with database.read() as connection:
        return {model: int(answers) for model, answers in connection.execute(query)}


def ahead_of(database: Database, run: str) -> dict[str, int]:
    """Other run -> how many of its participants a worker takes up before the first one of this run.

    A model's messages are taken in the order in which they were sent, whichever run they belong to.
    """
    model = tables.cell.c.model
    own = (
        select(model, func.min(_P.published_at).label("sent"), func.min(_P.id).label("id"))
        .select_from(tables.IN_CELLS)
        .where(CLAIMABLE, _P.run == run)
        .group_by(model)
    ).subquery()
    first = own.c
    sooner = or_(first.sent.is_(None), tuple_(_P.published_at, _P.id) < tuple_(first.sent, first.id))
    query = (
        select(_P.run, func.count().label("participants"))
        .select_from(tables.IN_CELLS)
        .join(own, first.model == model)
        .where(CLAIMABLE, _P.run != run, _P.published_at.is_not(None), sooner)
        .group_by(_P.run)
        .order_by(_P.run)
    )
    with database.read() as connection:
        return {row.run: row.participants for row in connection.execute(query)}
