"""A look at a run is of one moment, whatever is committed while it is taken."""

from __future__ import annotations

from sqlalchemy import event

from defsurvey.jobs.progress.snapshot import snapshot
from defsurvey.jobs.study.producer import enqueue
from defsurvey.storage.database import Database
from tests.jobs.ledger_rows import finish
from tests.jobs.small_study import study


def test_counts_and_states_are_of_one_moment(database: Database) -> None:
    """The last answers come between the two: a run that is finished lacks none of them, nor knows a cell no more."""
    enqueue(database, None, study(models="[human]", participants="1"))
    looking = True

    @event.listens_for(database.engine, "after_cursor_execute")
    def meanwhile(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        nonlocal looking
        if looking and "sum(participant.planned)" in statement:
            looking = False
            finish(database)

    now = snapshot(database, "first")
    assert not looking
    assert (now.progress.remaining, now.participants["waiting"], now.state) == (6, 2, "waiting")
    now = snapshot(database, "first")
    assert (now.progress.remaining, now.participants["finished"], now.complete) == (0, 2, True)


def test_a_cell_that_is_added_meanwhile_is_of_the_next_look(database: Database) -> None:
    """Counts are of those cells that the look knows: all that there were when it began."""
    enqueue(database, None, study(models="[human]", participants="1"))
    larger = study(models="[human, plain-model]", participants="1")
    looking = True

    @event.listens_for(database.engine, "after_cursor_execute")
    def meanwhile(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        nonlocal looking
        if looking and "FROM cell" in statement:
            looking = False
            enqueue(database, None, larger, extend=True)

    for cells in (2, 4):
        now = snapshot(database, "first")
        assert len(now.cells) == cells
        assert sum(cell.progress.planned for cell in now.cells) == now.progress.planned
