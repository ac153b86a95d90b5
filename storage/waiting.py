"""What waits to be done, by model: participants, their answers, and for how long already; and all that is to come.

Reads the participant table, a query for each. Deliberately knows no broker: a message may be lost,
the row is what counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from storage import tables
from storage.claimable import CLAIMABLE, TO_BE_ASKED
from storage.columns import Now
from storage.database import Database

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
