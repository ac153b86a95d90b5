"""How fast answers came, by the times at which they were committed, and how many were valid: what a pilot is for."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, func, select

from storage import tables
from storage.database import Database
from storage.run import AnswerState

#: Longer without an answer, and nobody was at work: a worker had been stopped, or another model's turn had come.
PAUSE_SECONDS = 300.0
#: Fewer answers tell nothing.
FEWEST = 20

_A, _P, _C = tables.answer.c, tables.participant.c, tables.cell.c


def paces(database: Database, models: Sequence[str]) -> dict[str, float]:
    """Model -> answers per second in the newest run in which it gave enough of them, pauses left out.

    However many workers there were, and with as many participants in flight as there were then.
    """
    found: dict[str, float] = {}
    with database.read() as connection:
        for model in models:
            for run in connection.execute(_runs_of(model)).scalars():
                times = (
                    select(_A.committed_at, func.lag(_A.committed_at).over(order_by=_A.committed_at).label("before"))
                    .join_from(tables.answer, tables.participant, _A.participant == _P.id)
                    .join(tables.cell, _P.cell == _C.id)
                    .where(_P.run == run, _C.model == model)
                    .subquery()
                )
                gap = times.c.committed_at - times.c.before
                query = select(func.count(gap), func.sum(gap)).where(gap <= PAUSE_SECONDS)
                answers, seconds = connection.execute(query).one()
                if answers >= FEWEST and seconds > 0:
                    found[model] = answers / seconds
                    break
    return found


def validities(database: Database, models: Sequence[str], *, run: str) -> dict[str, float]:
    """Model -> share of valid answers in a run, or else in the newest run in which it gave enough of them."""
    found: dict[str, float] = {}
    with database.read() as connection:
        for model in models:
            runs: list[str] = [*connection.execute(_runs_of(model)).scalars()]
            for name in sorted(runs, key=lambda known: known != run):
                query = (
                    select(func.count(), func.count().filter(_A.state == AnswerState.ANSWERED.value))
                    .join_from(tables.answer, tables.participant, _A.participant == _P.id)
                    .join(tables.cell, _P.cell == _C.id)
                    .where(_P.run == name, _C.model == model)
                )
                ended, valid = connection.execute(query).one()
                if ended >= FEWEST:
                    found[model] = valid / ended
                    break
    return found


def _runs_of(model: str) -> Select[tuple[str]]:
    """Runs that ask a model, the newest first."""
    run = tables.run.c
    asked = select(_C.run).where(_C.model == model)
    return select(run.id).where(run.id.in_(asked)).order_by(run.created_at.desc(), run.id)
