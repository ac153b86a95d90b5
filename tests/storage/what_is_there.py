"""What the ledger holds of a run and of a participant, for the tests of every room."""

from __future__ import annotations

from sqlalchemy import select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import store, tables
from defsurvey.storage.runs.rows import answer_from
from defsurvey.storage.runs.run import Answer, Progress


def progress_of(database: Database, run: str) -> Progress:
    """How far a run has come."""
    return store.total(store.progress_by_cell(database, run).values())


def answers_of(database: Database, participant: int) -> list[Answer]:
    """All answers of a participant, by item and slot."""
    a = tables.answer.c
    query = select(tables.answer).where(a.participant == participant).order_by(a.item, a.slot)
    with database.read() as connection:
        return [answer_from(row) for row in connection.execute(query)]
