"""Answers asked again, and participants sent back.

Two ways. Asked again: the answer alone, from the memory that it was shown, with a higher
attempt in its seed; what followed is not touched, and the answer is marked out of sequence.
Rewound: everything from that answer on is taken back and asked anew, in sequence.
Knows the answer, participant and again tables; the asking is the workers'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, select, update

from storage import tables
from storage.database import Database
from storage.run import AnswerState, ParticipantStatus

_A, _P, _AGAIN = tables.answer.c, tables.participant.c, tables.again.c


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
    finished = _P.status == ParticipantStatus.FINISHED.value
    reopened = and_(_P.run == run, finished, _P.id.in_(select(_AGAIN.participant)))

    def work(connection: Connection) -> int:
        names = ["participant", "item", "slot", "attempt"]
        ordered = connection.execute(insert(tables.again).from_select(names, wanted)).rowcount
        connection.execute(
            update(tables.participant).where(reopened).values(status=ParticipantStatus.OPEN.value, published_at=None)
        )
        return ordered

    return database.write(work)


def rewind(database: Database, run: str, states: Sequence[AnswerState]) -> int:
    """Take every participant of a run back to its first answer that ended in one of these states.

    Whoever holds such a participant is fenced off. Returns the number of answers taken back.
    """
    first: Any = func.min(_A.item)
    query = (
        select(_A.participant, first)
        .join_from(tables.answer, tables.participant, _A.participant == _P.id)
        .where(_P.run == run, _A.state.in_([state.value for state in states]))
        .group_by(_A.participant)
    )

    def work(connection: Connection) -> int:
        return sum(_take_back(connection, who, item) for who, item in connection.execute(query).all())

    return database.write(work)


def _take_back(connection: Connection, participant: int, item: int) -> int:
    at = and_(_A.participant == participant, _A.item == item, _A.slot == 0)
    memory, attempt = connection.execute(select(_A.memory, _A.attempt).where(at)).one()
    attempts = connection.execute(select(_P.attempts).where(_P.id == participant)).scalar_one()
    later = and_(_A.participant == participant, _A.item >= item)
    connection.execute(delete(tables.again).where(_AGAIN.participant == participant))
    taken = connection.execute(delete(tables.answer).where(later)).rowcount
    ended = select(_A.state, func.count().label("ended")).where(_A.participant == participant).group_by(_A.state)
    left = {row.state: row.ended for row in connection.execute(ended)}
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
            commits=_P.commits + 1,
            **{state.value: left.get(state.value, 0) for state in AnswerState},
        )
    )
    return taken


def reopen_quarantined(database: Database, run: str) -> int:
    """Give participants that were set aside another chance. Returns how many."""
    aside = and_(_P.run == run, _P.status == ParticipantStatus.QUARANTINED.value)
    again = {"status": ParticipantStatus.OPEN.value, "published_at": None, "deaths": 0, "suspect": True}
    return database.write(
        lambda connection: connection.execute(update(tables.participant).where(aside).values(again)).rowcount
    )
