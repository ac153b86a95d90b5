"""What the ledger holds of a run and of a participant, for the tests of every room."""

from sqlalchemy import select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import store, tables
from defsurvey.storage.runs.rows import noun
from defsurvey.storage.runs.run import Answer, Progress


def progress_of(database: Database, run: str) -> Progress:
    return store.total(progress_by_cell(database, run).values())


def progress_by_cell(database: Database, run: str) -> dict[int, Progress]:
    """How far each cell of a run has come, by its id."""
    with database.read() as connection:
        return store.progress_in(connection, run)


def participants_by_state(database: Database, run: str) -> dict[str, int]:
    """How many participants of a run wait, are being worked on, have finished or are quarantined."""
    with database.read() as connection:
        return store.states_in(connection, run)


def answers_of(database: Database, participant: int) -> list[Answer]:
    """All answers of a participant, by item and slot."""
    a = tables.answer.c
    query = select(tables.answer).where(a.participant == participant).order_by(a.item, a.slot)
    return [noun(Answer, row) for row in database.rows(query)]
