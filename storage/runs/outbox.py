"""What is still to be published: participants' messages and reports.

The rows are the outbox: a message may be lost or doubled, and is told from here again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, case, func, or_, select, tuple_

from defsurvey.storage.database import Database, Now, insert_new
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.ledger import ACTIVE_RUN, ANSWERS_LEFT, CLAIMABLE, OPEN, TO_BE_ASKED

_P, _C, _R = tables.participant.c, tables.cell.c, tables.report.c


class Outgoing(NamedTuple):
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
        select(_P.id, _C.model, _P.deaths)
        .select_from(tables.IN_CELLS)
        .where(CLAIMABLE, _P.published_at.is_(None))
        .order_by(_P.id)
        .limit(limit)
    )
    if run is not None:
        query = query.where(_P.run == run)
    in_turn = sorted(database.rows(query), key=lambda row: row.deaths)  # not by the database, which finds them by id
    return [Outgoing(row.id, row.model) for row in in_turn]


def waiting(database: Database, run: str) -> int:
    """How many messages of a run are still to be sent."""
    return int(database.value(select(func.count()).where(CLAIMABLE, _P.published_at.is_(None), _P.run == run)))


def mark_published(database: Database, participants: Sequence[int]) -> None:
    """Note that the messages of these participants were handed to the broker."""
    if participants:
        database.change(tables.participant.update().where(_P.id.in_(participants)).values(published_at=Now()))


def publish_again(
    database: Database, *, run: str | None = None, model: str | None = None, older_than: float = 0.0
) -> int:
    """Put participants that nobody holds back into the outbox: those whose message was sent so many seconds ago."""
    statement = tables.participant.update().where(CLAIMABLE, _P.published_at <= Now() - older_than)
    if run is not None:
        statement = statement.where(_P.run == run)
    if model is not None:
        statement = statement.where(_P.cell.in_(select(_C.id).where(_C.model == model)))
    return database.change(statement.values(published_at=None))


def put_back(database: Database, participant: int, *, unless_of: str) -> bool:
    """Put a participant's message back into the outbox unless it is of that run. Returns whether it was put back."""
    other = tables.participant.update().where(_P.id == participant, _P.run != unless_of)
    return database.change(other.values(published_at=None)) == 1


def unfinished_models(database: Database, run: str) -> list[str]:
    """Models of a run whose participants still have questions to answer."""
    open_cells = select(_P.cell).where(_P.run == run, OPEN)
    query = select(_C.model).distinct().where(_C.id.in_(open_cells))
    return sorted(model for (model,) in database.rows(query))


def unfinished_beside(database: Database, run: str) -> list[str]:
    """Other runs that still have questions to answer and whose messages go to the same queues as this one's."""
    cells = select(_C.id).where(_C.model.in_(select(_C.model).where(_C.run == run)))
    query = select(_P.run).distinct().where(_P.run != run, TO_BE_ASKED, _P.cell.in_(cells))
    return sorted(other for (other,) in database.rows(query))


def unfinished(database: Database, run: str) -> int:
    """How many participants of a run still have questions to answer."""
    return int(database.value(select(func.count()).where(_P.run == run, OPEN)))


def revision(database: Database, run: str) -> int:
    """Of the ledger: how many answers of the run have been committed, those asked again counted each time."""
    return revisions(database, run)[0]


def revisions(database: Database, run: str) -> tuple[int, int]:
    """That of a run's ledger, and that of its judgements: how often judging it has ended, by whichever judge."""
    with database.read() as connection:
        return revisions_in(connection, run)


def revisions_in(connection: Connection, run: str) -> tuple[int, int]:
    """The same within a transaction."""
    j = tables.judging.c
    of_ledger: Any = select(func.sum(_P.commits)).where(_P.run == run).scalar_subquery()
    of_judgements: Any = select(func.sum(j.revision)).where(j.run == run).scalar_subquery()
    ledger, judgements = connection.execute(select(of_ledger, of_judgements)).one()
    return int(ledger or 0), int(judgements or 0)


def reports_due(database: Database) -> list[tuple[str, int, int]]:
    """Finished runs whose last revisions have no report yet: (run, revision of the ledger, of the judgements)."""
    done = func.sum(_P.commits)
    still_open = func.sum(case((OPEN, 1), else_=0))
    query = select(_P.run, done).where(ACTIVE_RUN).group_by(_P.run).having(still_open == 0)
    j = tables.judging.c
    ended: Any = func.sum(j.revision)
    with database.read() as connection:
        have = {tuple(row) for row in connection.execute(select(_R.run, _R.revision, _R.judgements))}
        judged = {run: int(revision) for run, revision in connection.execute(select(j.run, ended).group_by(j.run))}
        finished = [(run, int(done), judged.get(run, 0)) for run, done in connection.execute(query)]
    return [due for due in finished if due not in have]


def record_report(database: Database, report: BuiltReport) -> None:
    """Note a report that was written; writing the same revisions again changes only its paths."""
    key = {"run": report.run, "revision": report.revision, "judgements": report.judgements}
    here = and_(*(_R[name] == value for name, value in key.items()))
    columns = {"html": report.html, "markdown": report.markdown, "built_at": Now()}

    def work(connection: Connection) -> None:
        if connection.execute(tables.report.update().where(here).values(columns)).rowcount == 0:
            insert_new(connection, tables.report, {**key, **columns})

    database.write(work)


def latest_report(database: Database, run: str) -> BuiltReport | None:
    """The report of the highest revisions of a run, or None."""
    query = select(*(_R[field.name] for field in fields(BuiltReport))).where(_R.run == run)
    found = database.rows(query.order_by(_R.revision.desc(), _R.judgements.desc()).limit(1))
    return BuiltReport(**found[0]._mapping) if found else None


def is_current(database: Database, report: BuiltReport) -> bool:
    """Whether a report shows all that there is now of its run: every answer and every judgement."""
    return revisions(database, report.run) == (report.revision, report.judgements)


def remaining(database: Database) -> dict[str, int]:
    """Model -> answers that its participants still have to give, whether or not somebody holds them."""
    query = select(_C.model, ANSWERS_LEFT).select_from(tables.IN_CELLS).where(TO_BE_ASKED)
    return {model: int(answers) for model, answers in database.rows(query.group_by(_C.model).order_by(_C.model))}


def ahead_of(database: Database, run: str) -> dict[str, int]:
    """Other run -> how many of its participants, by the order of messages, are taken up before this run's first."""
    model, first_sent, first_id = _C.model, func.min(_P.published_at).label("sent"), func.min(_P.id).label("id")
    of_run = select(model, first_sent, first_id).select_from(tables.IN_CELLS).where(CLAIMABLE, _P.run == run)
    own = of_run.group_by(model).subquery()
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
    return {row.run: row.participants for row in database.rows(query)}
