"""Answers asked again, and participants sent back.

Two ways. Asked again: the answer alone, from the memory that it was shown, with a higher attempt in its seed; what
followed is not touched, and the answer is marked out of sequence. Rewound: everything from that answer on is taken back
and asked anew, in sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, insert, select, update

from defsurvey.storage.database import Database
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.run import AnswerState, ParticipantStatus

_A, _P, _AGAIN = tables.answer.c, tables.participant.c, tables.again.c
_O = tables.option_probability.c
_REOPEN = (
    update(tables.participant)
    .where(_P.status == ParticipantStatus.FINISHED.value, _P.id.in_(select(_AGAIN.participant)))
    .values(status=ParticipantStatus.OPEN.value, published_at=None)
)


def ask_again(database: Database, run: str, states: Sequence[AnswerState]) -> int:
    """Have the answers of a run that ended in these states asked again. Returns how many."""
    wanted = (
        select(_A.participant, _A.item, _A.slot, _A.attempt + 1)
        .join_from(tables.answer, tables.participant, _A.participant == _P.id)
        .outerjoin(
            tables.again,
            and_(_AGAIN.participant == _A.participant, _AGAIN.item == _A.item, _AGAIN.slot == _A.slot),
        )
        .where(_P.run == run, _A.state.in_([state.value for state in states]), _AGAIN.participant.is_(None))
    )
    order = insert(tables.again).from_select(["participant", "item", "slot", "attempt"], wanted)

    def work(connection: Connection) -> int:
        connection.execute(_alone(run))
        ordered = connection.execute(order, execution_options={"preserve_rowcount": True}).rowcount
        connection.execute(_REOPEN)
        return ordered

    return database.write(work)


def _alone(run: str) -> Select[tuple[str]]:
    """Whoever retries the same run at the same moment waits here for the end of this transaction."""
    return select(tables.run.c.id).where(tables.run.c.id == run).with_for_update()


def reopen_asked_again(database: Database) -> int:
    """Open finished participants of which an answer is to be asked again. Returns how many.

    ``ask_again`` does so itself; but where the last answer of a participant was being committed at
    that moment, neither transaction saw the other.
    """
    with database.read() as connection:
        if connection.execute(select(_AGAIN.participant).limit(1)).one_or_none() is None:
            return 0
    return database.write(lambda connection: connection.execute(_REOPEN).rowcount)


def rewind(database: Database, run: str, states: Sequence[AnswerState]) -> int:
    """Take every participant of a run back to its first answer that ended in one of these states.

    Whoever holds such a participant is fenced off. Returns the number of answers taken back.
    """
    ended = _A.state.in_([state.value for state in states])
    query = (
        select(_A.participant)
        .join_from(tables.answer, tables.participant, _A.participant == _P.id)
        .where(_P.run == run, ended)
        .distinct()
    )

    def work(connection: Connection) -> int:
        connection.execute(_alone(run))
        return sum(_take_back(connection, who, ended) for who in connection.execute(query).scalars().all())

    return database.write(work)


def _take_back(connection: Connection, participant: int, ended: ColumnElement[bool]) -> int:
    # First of all: no answer that is on its way may get in between what is read here and what is taken back.
    row = select(_P.attempts).where(_P.id == participant).with_for_update()
    attempts = connection.execute(row).scalar_one()
    first: Any = select(func.min(_A.item)).where(_A.participant == participant, ended)
    item = connection.execute(first).scalar_one()
    if item is None:  # it was asked again meanwhile, and ended otherwise
        return 0
    at = and_(_A.participant == participant, _A.item == item, _A.slot == 0)
    memory, attempt = connection.execute(select(_A.memory, _A.attempt).where(at)).one()
    later = and_(_A.participant == participant, _A.item >= item)
    connection.execute(delete(tables.again).where(_AGAIN.participant == participant, _AGAIN.item >= item))
    taken = connection.execute(delete(tables.answer).where(later)).rowcount
    step = tables.step.c  # those of the item itself belong to the attempt before; all later ones to none any more
    connection.execute(delete(tables.step).where(step.participant == participant, step.item >= item))
    counts = select(_A.state, func.count().label("ended")).where(_A.participant == participant).group_by(_A.state)
    left = {row.state: row.ended for row in connection.execute(counts)}
    connection.execute(
        update(tables.participant)
        .where(_P.id == participant)
        .values(
            next_item=item,
            memory=memory,
            attempts={**attempts, str(item): attempt + 1},
            status=ParticipantStatus.OPEN.value,
            lease_epoch=_P.lease_epoch + 1,
            lease_until=None,
            lease_owner=None,
            published_at=None,
            on_trial=False,
            deaths=0,
            commits=_P.commits + 1,
            **{state.value: left.get(state.value, 0) for state in AnswerState},
        )
    )
    return taken


def reopen_unweighed(database: Database, run: str) -> int:
    """Have questions whose options could not be weighed weighed again. Returns how many participants are asked.

    A participant goes on from the first of them. What it had found behind that is found again: nothing is drawn.
    """

    done = (_P.run == run, _P.planned == 0, _P.status == ParticipantStatus.FINISHED.value)

    def work(connection: Connection) -> int:
        passed = connection.execute(select(_P.id, _P.next_item).where(*done)).all()
        return sum(_weigh_again(connection, row.id, row.next_item) for row in passed)

    return database.write(work)


def _weigh_again(connection: Connection, participant: int, passed: int) -> int:
    there = set(connection.execute(select(_O.item).where(_O.participant == participant).distinct()).scalars())
    missing = [item for item in range(passed) if item not in there]
    if not missing:
        return 0
    again = {"next_item": missing[0], "status": ParticipantStatus.OPEN.value, "published_at": None}
    change = update(tables.participant).where(_P.id == participant, _P.status == ParticipantStatus.FINISHED.value)
    if connection.execute(change.values(**again, commits=_P.commits + 1)).rowcount != 1:  # another was quicker
        return 0
    connection.execute(delete(tables.option_probability).where(_O.participant == participant, _O.item > missing[0]))
    return 1


def reopen_quarantined(database: Database, run: str) -> int:
    """Give participants that were set aside another chance. Returns how many."""
    aside = and_(_P.run == run, _P.status == ParticipantStatus.QUARANTINED.value)
    again = {"status": ParticipantStatus.OPEN.value, "published_at": None, "deaths": 0, "suspect": True}
    return database.write(
        lambda connection: connection.execute(update(tables.participant).where(aside).values(again)).rowcount
    )
