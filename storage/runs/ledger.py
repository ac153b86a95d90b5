"""Who may be taken up now: the conditions that claims, messages and counts of participants share."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from defsurvey.storage.database import Database, Now
from defsurvey.storage.hosts import host
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.rows import answer_columns, noun
from defsurvey.storage.runs.run import Answer, AnswerState, Cell, Participant, ParticipantStatus

_A, _P, _AGAIN = tables.answer.c, tables.participant.c, tables.again.c

#: It has unanswered questions.
OPEN = _P.status == ParticipantStatus.OPEN.value
#: Nobody holds it, or its lease has run out.
FREE = sa.or_(_P.lease_until.is_(None), _P.lease_until < Now())
#: Its run is not cancelled.
ACTIVE_RUN = _P.run.in_(sa.select(tables.run.c.id).where(tables.run.c.cancelled.is_(False)))
#: Its cell is not halted for want of money.
_SERVED_CELL = _P.cell.in_(sa.select(tables.cell.c.id).where(tables.cell.c.halted.is_(False)))
#: It is still to be asked, held or not.
TO_BE_ASKED = sa.and_(OPEN, ACTIVE_RUN, _SERVED_CELL)
#: It is to be asked, and a worker may take it up now.
CLAIMABLE = sa.and_(TO_BE_ASKED, FREE)
#: What makes it nobody's: it may be taken up at once, and its message is to be sent.
NOBODYS: Mapping[str, Any] = {"lease_until": None, "lease_owner": None, "published_at": None, "on_trial": False}
#: Seconds for which a claim holds without a heartbeat.
LEASE_SECONDS = 90.0


class StaleLease(RuntimeError):
    """Another worker has taken the participant, or it stands elsewhere: nothing was written."""

    def __init__(self, held: Participant, item: int | None = None) -> None:
        at = "" if item is None else f" at item {item}"
        super().__init__(f"participant {held.id}: not held under epoch {held.epoch}{at} any more")


def fence(held: Participant) -> sa.ColumnElement[bool]:
    """Holds only as long as nobody else has taken the participant."""
    return sa.and_(_P.id == held.id, _P.lease_epoch == held.epoch)


def lease_owner() -> str:
    """A name for this process that no other has: ``host:pid:token``, the host as in ``storage.hosts``."""
    return f"{host()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def _answering(position: sa.ColumnElement[int]) -> dict[str, Any]:
    """What becomes of a participant that has answered: open also where it was set aside, its worker seeming dead."""
    finished = sa.and_(position >= _P.questions, sa.not_(sa.exists().where(_AGAIN.participant == _P.id)))
    return {
        "suspect": False,
        "on_trial": False,
        "deaths": 0,
        "status": sa.case((finished, ParticipantStatus.FINISHED.value), else_=ParticipantStatus.OPEN.value),
        "lease_until": sa.case((finished, None), else_=_P.lease_until),
        "lease_owner": sa.case((finished, None), else_=_P.lease_owner),
        "prompt_tokens": _P.prompt_tokens + sa.bindparam("read"),
        "completion_tokens": _P.completion_tokens + sa.bindparam("written"),
        "commits": _P.commits + sa.bindparam("committed"),
        **{state.value: _P[state.value] + sa.bindparam(f"ended_{state.value}") for state in AnswerState},
    }


#: Takes the parameters of ``advancing``; hits one row, or none where the lease was taken or the position is another.
ADVANCE = (
    tables.participant.update()
    .where(_P.id == sa.bindparam("who"), _P.lease_epoch == sa.bindparam("held"), _P.next_item == sa.bindparam("at"))
    .values(next_item=_P.next_item + 1, memory=sa.bindparam("remembers"), **_answering(_P.next_item + 1))
)
_REPLACE = (
    tables.participant.update()
    .where(_P.id == sa.bindparam("who"), _P.lease_epoch == sa.bindparam("held"))
    .values(_answering(_P.next_item))
)


def advancing(held: Participant, item: int, memory: tuple[int, ...], answers: Sequence[Answer]) -> dict[str, Any]:
    """What ``ADVANCE`` needs to take a participant past an item with these answers."""
    return {"at": item, "remembers": memory, **_counting(held, answers)}


def _counting(held: Participant, answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "who": held.id,
        "held": held.epoch,
        "committed": max(len(answers), 1),
        "read": sum(answer.prompt_tokens or 0 for answer in answers),
        "written": sum(answer.completion_tokens or 0 for answer in answers),
        **{f"ended_{state.value}": sum(answer.state is state for answer in answers) for state in AnswerState},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """A model's participants that can be claimed now, and the workers that drain it."""

    model: str
    claimable: int
    workers: int
    answers: int = 0  #: they still have to give
    seconds: float = 0.0  #: since the message of the longest waiting one was sent; 0 where none was sent yet


_CLAIM = (
    tables.participant.update()
    .where(_P.id == sa.bindparam("who"), CLAIMABLE)
    .values(lease_epoch=_P.lease_epoch + 1, lease_until=Now() + sa.bindparam("ttl"), lease_owner=sa.bindparam("owner"))
    .returning(*tables.participant.c)
)
_CELL = sa.select(tables.cell).where(tables.cell.c.id == sa.bindparam("of"))
#: Joins what is to be asked again to the answer.
SAME_ANSWER = sa.and_(_AGAIN.participant == _A.participant, _AGAIN.item == _A.item, _AGAIN.slot == _A.slot)
_TO_ASK_AGAIN = (
    sa.select(tables.answer, _AGAIN.attempt.label("next_attempt"))
    .join_from(tables.answer, tables.again, SAME_ANSWER)
    .order_by(_A.item, _A.slot)
)
_RECORD = tables.answer.insert().values(committed_at=Now())


class Ledger:
    """Claims, checkpoints and releases of one process; a claim holds for ``ttl`` seconds without a heartbeat."""

    def __init__(self, database: Database, *, owner: str, ttl: float = LEASE_SECONDS) -> None:
        self.database = database
        self.owner = owner
        self.ttl = ttl

    def claim(self, participant: int) -> Participant | None:
        """Take a participant up, or None where it is held, finished, cancelled or not there."""

        def work(connection: sa.Connection) -> Participant | None:
            row = connection.execute(_CLAIM, {"who": participant, "ttl": self.ttl, "owner": self.owner}).one_or_none()
            if row is None:
                return None
            cell = connection.execute(_CELL, {"of": row.cell}).one()
            return noun(
                Participant, row, index=row.number, epoch=row.lease_epoch, cell=noun(Cell, cell, participants=0)
            )

        return self.database.write(work)

    def checkpoint(
        self, held: Participant, answer: Answer, memory: tuple[int, ...], more: Sequence[Answer] = ()
    ) -> None:
        """Commit an answer, a panel's ``more`` too, with the items remembered and the position; raises StaleLease."""
        columns = [{**answer_columns(one), "worker": self.owner} for one in (answer, *more)]
        advance = advancing(held, answer.item, memory, (answer, *more))

        def work(connection: sa.Connection) -> None:
            if connection.execute(ADVANCE, advance).rowcount == 1:
                connection.execute(_RECORD, columns)
            elif not _is_committed(connection, held, columns[0]):
                raise StaleLease(held, answer.item)

        self.database.write(work)

    def begin_trial(self, held: Participant) -> None:
        """Note that a suspect is asked alone: if the worker dies now, it was this one. Raises StaleLease."""
        mark = tables.participant.update().where(fence(held), OPEN).values(on_trial=True)
        if self.database.change(mark) != 1:
            raise StaleLease(held)

    def to_ask_again(self, held: Participant) -> list[tuple[Answer, int]]:
        """Answers of a participant that are to be asked again, and the attempt to be made."""
        rows = self.database.rows(_TO_ASK_AGAIN.where(_A.participant == held.id))
        return [(noun(Answer, row), row.next_attempt) for row in rows]

    def replace(self, held: Participant, answer: Answer) -> None:
        """Commit an answer that was asked again in place of the one before it; raises StaleLease."""
        columns = {**answer_columns(answer), "worker": self.owner, "committed_at": Now()}
        here = sa.and_(_A.participant == held.id, _A.item == answer.item, _A.slot == answer.slot)
        asked = sa.and_(_AGAIN.participant == held.id, _AGAIN.item == answer.item, _AGAIN.slot == answer.slot)

        def work(connection: sa.Connection) -> None:
            done = connection.execute(tables.again.delete().where(asked, _AGAIN.attempt == answer.attempt)).rowcount
            if done != 1:
                if _is_committed(connection, held, columns):
                    return
                raise StaleLease(held, answer.item)
            counting = _counting(held, (answer,))
            counting[f"ended_{connection.execute(sa.select(_A.state).where(here)).scalar_one()}"] -= 1
            if connection.execute(_REPLACE, counting).rowcount != 1:
                raise StaleLease(held, answer.item)
            connection.execute(tables.answer.update().where(here).values(columns))

        self.database.write(work)

    def heartbeat(self, held: Sequence[Participant]) -> set[int]:
        """Hold on to participants. Returns the ids of those that are lost or whose run is cancelled.

        Lost is also what was let go of: a late heartbeat must not take it from whoever is about to claim it.
        """
        mine = sa.or_(_P.lease_owner == self.owner, _P.status != ParticipantStatus.OPEN.value)

        def work(connection: sa.Connection) -> set[int]:
            renew = tables.participant.update().values(lease_until=sa.case((OPEN, Now() + self.ttl), else_=None))
            return {
                participant.id
                for participant in held
                if connection.execute(renew.where(fence(participant), mine, ACTIVE_RUN)).rowcount != 1
            }

        return self.database.write(work)

    def release(self, held: Participant) -> None:
        """Let a participant go where it stands, so that any worker may take it up at once."""
        self.database.change(tables.participant.update().where(fence(held)).values(NOBODYS))

    def beat(self, model: str, rates: dict[str, float]) -> None:
        """Say that this process lives, which model it drains and how many answers per second it commits."""
        columns = {"model": model, "rates": rates, "beat_at": Now()}

        def work(connection: sa.Connection) -> None:
            here = tables.worker.c.owner == self.owner
            if connection.execute(tables.worker.update().where(here).values(columns)).rowcount == 0:
                connection.execute(tables.worker.insert().values(owner=self.owner, **columns))

        self.database.write(work)

    def leave(self) -> None:
        """Take this process off the list of workers."""
        self.database.change(tables.worker.delete().where(tables.worker.c.owner == self.owner))


def _is_committed(connection: sa.Connection, held: Participant, columns: Mapping[str, Any]) -> bool:
    """Whether this very answer was committed before, and only the word of it was lost on the way."""
    same = ("item", "slot", "worker", "seed", "digest", "attempt")
    query = sa.select(_A.participant).where(_A.participant == held.id, *(_A[name] == columns[name] for name in same))
    return connection.execute(query.where(sa.exists().where(fence(held)))).one_or_none() is not None


def owners(database: Database) -> set[str]:
    """Names of the processes that hold a participant or are on the list of workers."""
    holding = sa.select(_P.lease_owner).where(_P.lease_owner.is_not(None)).distinct()
    return {owner for (owner,) in database.rows(holding.union(sa.select(tables.worker.c.owner)))}


#: Answers that participants still have to give.
ANSWERS_LEFT: Any = sa.func.sum(_P.planned - _P.answered - _P.refused - _P.unparsable - _P.failed)


def backlogs(
    database: Database, *, models: Sequence[str] = (), run: str | None = None, alive_within: float = LEASE_SECONDS
) -> list[Backlog]:
    """Models with claimable participants, the largest backlog first; all models, and all runs, where none is named."""
    model, worker = tables.cell.c.model, tables.worker.c
    query = sa.select(model, sa.func.count(), ANSWERS_LEFT, sa.func.max(Now() - _P.published_at)).select_from(
        tables.IN_CELLS
    )
    query = query.where(CLAIMABLE).group_by(model)
    if models:
        query = query.where(model.in_(models))
    if run is not None:
        query = query.where(_P.run == run)
    living = (
        sa.select(worker.model, sa.func.count()).where(worker.beat_at > Now() - alive_within).group_by(worker.model)
    )
    with database.read() as connection:
        workers: dict[str, int] = {row[0]: row[1] for row in connection.execute(living)}
        found = [
            Backlog(
                model=name,
                claimable=count,
                workers=workers.get(name, 0),
                answers=int(answers),
                seconds=max(float(seconds or 0), 0.0),
            )
            for name, count, answers, seconds in connection.execute(query)
        ]
    return sorted(found, key=lambda backlog: (-backlog.claimable, backlog.workers, backlog.model))
