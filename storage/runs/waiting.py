"""What waits to be done, by model: participants, their answers, and for how long already; and all that is to come.

Reads the participant table, a query for each.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, or_, select, tuple_

from defsurvey.storage.columns import Now
from defsurvey.storage.database import Database
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.claimable import CLAIMABLE, TO_BE_ASKED

_P = tables.participant.c
#: Answers that participants still have to give.
_ANSWERS = func.sum(_P.planned - _P.answered - _P.refused - _P.unparsable - _P.failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A model's participants that nobody holds."""

    model: str
    participants: int
    answers: int  #: they still have to give
    seconds: float  #: since the message of the longest waiting one was sent; 0 where none was sent yet


def waiting(database: Database) -> list[Waiting]:
    """Models with participants that could be claimed now, by name."""
    query = (
        select(
            tables.cell.c.model,
            func.count(),
            _ANSWERS,
            func.max(Now() - _P.published_at),
        )
        .join_from(tables.participant, tables.cell, _P.cell == tables.cell.c.id)
        .where(CLAIMABLE)
        .group_by(tables.cell.c.model)
        .order_by(tables.cell.c.model)
    )
    with database.read() as connection:
        return [
            Waiting(model=model, participants=count, answers=int(answers), seconds=max(float(seconds or 0), 0.0))
            for model, count, answers, seconds in connection.execute(query)
        ]


def remaining(database: Database) -> dict[str, int]:
    """Model -> answers that its participants still have to give, whether or not somebody holds them."""
    query = (
        select(tables.cell.c.model, _ANSWERS)
        .join_from(tables.participant, tables.cell, _P.cell == tables.cell.c.id)
        .where(TO_BE_ASKED)
        .group_by(tables.cell.c.model)
        .order_by(tables.cell.c.model)
    )
    with database.read() as connection:
        return {model: int(answers) for model, answers in connection.execute(query)}


def before(database: Database, run: str) -> dict[str, int]:
    """Other run -> how many of its participants a worker takes up before the first one of this run.

    A model's messages are taken in the order in which they were sent, whichever run they belong to.
    """
    model = tables.cell.c.model
    own = (
        select(model, func.min(_P.published_at).label("sent"), func.min(_P.id).label("id"))
        .join_from(tables.participant, tables.cell, _P.cell == tables.cell.c.id)
        .where(CLAIMABLE, _P.run == run)
        .group_by(model)
    ).subquery()
    first = own.c
    sooner = or_(first.sent.is_(None), tuple_(_P.published_at, _P.id) < tuple_(first.sent, first.id))
    query = (
        select(_P.run, func.count().label("participants"))
        .join_from(tables.participant, tables.cell, _P.cell == tables.cell.c.id)
        .join(own, first.model == model)
        .where(CLAIMABLE, _P.run != run, _P.published_at.is_not(None), sooner)
        .group_by(_P.run)
        .order_by(_P.run)
    )
    with database.read() as connection:
        return {row.run: row.participants for row in connection.execute(query)}
