"""Answers asked again, and participants sent back.

Two ways. Asked again: the answer alone, from the memory that it was shown, with a higher attempt in its seed; what
followed is not touched, and the answer is marked out of sequence. Rewound: everything from that answer on is taken back
and asked anew, in sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, select

from defsurvey.storage.database import Database, Now
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.ledger import NOBODYS, OPEN, SAME_ANSWER, fence
from defsurvey.storage.runs.run import AnswerState, Participant, ParticipantStatus

_A, _P, _AGAIN = tables.answer.c, tables.participant.c, tables.again.c
_O = tables.option_probability.c
#: What becomes of a participant that is asked once more.
_REOPENED: Mapping[str, Any] = {"status": ParticipantStatus.OPEN.value, "published_at": None}
_REOPEN = (
    tables.participant.update()
    .where(_P.status == ParticipantStatus.FINISHED.value, _P.id.in_(select(_AGAIN.participant)))
    .values(_REOPENED)
)


def ask_again(database: Database, run: str, states: Sequence[AnswerState]) -> int:
    """Have the answers of a run that ended in these states asked again. Returns how many."""
    wanted = (
        select(_A.participant, _A.item, _A.slot, _A.attempt + 1)
        .select_from(tables.ANSWERS.outerjoin(tables.again, SAME_ANSWER))
        .where(_P.run == run, _A.state.in_([state.value for state in states]), _AGAIN.participant.is_(None))
    )
    order = tables.again.insert().from_select(["participant", "item", "slot", "attempt"], wanted)

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
    if database.value(select(_AGAIN.participant).limit(1)) is None:
        return 0
    return database.change(_REOPEN)


def rewind(database: Database, run: str, states: Sequence[AnswerState]) -> int:
    """Take participants back to their first answer in these states, and fence them. Returns how many answers went."""
    ended = _A.state.in_([state.value for state in states])
    query = select(_A.participant).select_from(tables.ANSWERS).where(_P.run == run, ended).distinct()

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
    connection.execute(tables.again.delete().where(_AGAIN.participant == participant, _AGAIN.item >= item))
    taken = connection.execute(tables.answer.delete().where(later)).rowcount
    step = tables.step.c  # those of the item itself belong to the attempt before; all later ones to none any more
    connection.execute(tables.step.delete().where(step.participant == participant, step.item >= item))
    counts = select(_A.state, func.count().label("ended")).where(_A.participant == participant).group_by(_A.state)
    left = {row.state: row.ended for row in connection.execute(counts)}
    connection.execute(
        tables.participant.update()
        .where(_P.id == participant)
        .values(
            next_item=item,
            memory=memory,
            attempts={**attempts, str(item): attempt + 1},
            status=ParticipantStatus.OPEN.value,
            lease_epoch=_P.lease_epoch + 1,
            **NOBODYS,
            deaths=0,
            commits=_P.commits + 1,
            **{state.value: left.get(state.value, 0) for state in AnswerState},
        )
    )
    return taken


def reopen_unweighed(database: Database, run: str) -> int:
    """Have participants go on from the first question whose options could not be weighed. Returns how many do."""
    done = and_(_P.run == run, _P.planned == 0, _P.status == ParticipantStatus.FINISHED.value)

    def work(connection: Connection) -> int:
        passed = connection.execute(select(_P.id, _P.next_item).where(done)).all()
        return sum(_weigh_again(connection, row.id, row.next_item) for row in passed)

    return database.write(work)


def _weigh_again(connection: Connection, participant: int, passed: int) -> int:
    there = set(connection.execute(select(_O.item).where(_O.participant == participant).distinct()).scalars())
    missing = [item for item in range(passed) if item not in there]
    if not missing:
        return 0
    finished = tables.participant.update().where(_P.id == participant, _P.status == ParticipantStatus.FINISHED.value)
    reopened = finished.values(**_REOPENED, next_item=missing[0], commits=_P.commits + 1)
    if connection.execute(reopened).rowcount != 1:  # another was quicker
        return 0
    connection.execute(tables.option_probability.delete().where(_O.participant == participant, _O.item > missing[0]))
    return 1


def reopen_quarantined(database: Database, run: str) -> int:
    """Give participants that were set aside another chance. Returns how many."""
    aside = and_(_P.run == run, _P.status == ParticipantStatus.QUARANTINED.value)
    return database.change(tables.participant.update().where(aside).values(**_REOPENED, deaths=0, suspect=True))


#: Deaths of a worker while a participant was asked alone, or attempts that failed, after which it is set aside.
QUARANTINE_AFTER = 3
#: Seconds after its last heartbeat, by then of a machine that is gone, after which a worker is no longer listed.
FORGOTTEN_AFTER = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What was done with the participants of dead workers."""

    participants: int = 0  #: set free or set aside
    quarantined: tuple[int, ...] = ()  #: ids of those set aside


def free_owned(database: Database, owner_prefix: str) -> Freed:
    """Set free what owners whose name begins so hold: they are dead, and the epoch fences whoever is not."""
    gone = tables.worker.c.owner.startswith(owner_prefix, autoescape=True)
    return _free(database, gone, _P.lease_owner.startswith(owner_prefix, autoescape=True))


def free_expired(database: Database) -> Freed:
    """Set free what is held under leases that have run out, and forget workers not heard of for ``FORGOTTEN_AFTER``."""
    return _free(database, tables.worker.c.beat_at < Now() - FORGOTTEN_AFTER, _P.lease_until < Now())


def count_failure(database: Database, held: Participant) -> bool:
    """Set a participant free that could not be asked, and count it as a death while it was asked alone.

    Nobody else was concerned, so no trial is needed. Returns whether it was set aside.
    """
    aside = _P.deaths + 1 >= QUARANTINE_AFTER
    statement = (
        tables.participant.update()
        .where(fence(held), _P.lease_owner.is_not(None), OPEN)
        .values(
            **NOBODYS, deaths=_P.deaths + 1, status=case((aside, ParticipantStatus.QUARANTINED.value), else_=_P.status)
        )
        .returning(_P.status)
    )
    status = database.write(lambda connection: connection.execute(statement).scalar_one_or_none())
    return status == ParticipantStatus.QUARANTINED.value


def _free(database: Database, gone: ColumnElement[bool], held: ColumnElement[bool]) -> Freed:
    """Forget workers, and set free what is held."""
    query = select(_P.id, _P.lease_owner, _P.lease_epoch, _P.on_trial, _P.deaths).where(OPEN, held)
    # Locked: a heartbeat on its way must not renew a lease between this look and the update.
    query = query.order_by(_P.lease_owner, _P.id).with_for_update()

    def work(connection: Connection) -> Freed:
        connection.execute(tables.worker.delete().where(gone))
        freed, quarantined = 0, []
        for _owner, group in groupby(connection.execute(query).all(), key=lambda row: row.lease_owner):
            together = list(group)
            tried = any(row.on_trial for row in together)
            for row in together:
                # Held alone is not asked alone: the worker may have died of loading its model.
                aside = row.on_trial and row.deaths + 1 >= QUARANTINE_AFTER
                change: dict[str, Any] = {**NOBODYS, "deaths": row.deaths + bool(row.on_trial)}
                if row.on_trial or not tried:  # others only waited for the one on trial
                    change["suspect"] = True
                if aside:
                    change["status"] = ParticipantStatus.QUARANTINED.value
                here = (_P.id == row.id, _P.lease_epoch == row.lease_epoch, OPEN)
                if connection.execute(tables.participant.update().where(*here).values(change)).rowcount == 1:
                    freed += 1
                    quarantined += [row.id] if aside else []
        return Freed(participants=freed, quarantined=tuple(quarantined))

    return database.write(work)


def last_heartbeat(database: Database) -> float | None:
    """Seconds since any worker process was last heard of, by the database's clock; None where none is listed."""
    ((beat_at, now),) = database.rows(select(func.max(tables.worker.c.beat_at), Now()))
    return None if beat_at is None else max(float(now) - float(beat_at), 0.0)
