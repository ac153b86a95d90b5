"""What becomes of participants whose worker has died.

They are set free, and it is worked out whether one of them may have caused the death: whoever was in flight is suspect
and is asked alone from then on, one suspect at a time, until it has answered. Only a death while alone counts, and
three of them set a participant aside, so that batch-mates never pay. Whoever cannot be asked, for a reason that nobody
foresaw, is counted likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, case, func, select, update

from defsurvey.storage.columns import Now
from defsurvey.storage.database import Database
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.claimable import OPEN
from defsurvey.storage.runs.run import Participant, ParticipantStatus

#: Deaths of a worker while a participant was asked alone, or attempts that failed, after which it is set aside.
QUARANTINE_AFTER = 3
#: Seconds after its last heartbeat, by then of a machine that is gone, after which a worker is no longer listed.
FORGOTTEN_AFTER = 86400.0

_P = tables.participant.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What was done with the participants of dead workers."""

    participants: int = 0  #: set free or set aside
    quarantined: tuple[int, ...] = ()  #: ids of those set aside


def free_owned(database: Database, owner_prefix: str) -> Freed:
    """Set free what is held by owners whose name begins so: they are known to be dead.

    The epoch fences whoever was thought dead and is not.
    """
    held = _P.lease_owner.startswith(owner_prefix, autoescape=True)
    gone = tables.worker.c.owner.startswith(owner_prefix, autoescape=True)

    def work(connection: Connection) -> Freed:
        connection.execute(tables.worker.delete().where(gone))
        return _free(connection, _held(connection, held))

    return database.write(work)


def free_expired(database: Database) -> Freed:
    """Set free what is held under leases that have run out, and forget workers not heard of for ``FORGOTTEN_AFTER``."""
    gone = tables.worker.c.beat_at < Now() - FORGOTTEN_AFTER

    def work(connection: Connection) -> Freed:
        connection.execute(tables.worker.delete().where(gone))
        return _free(connection, _held(connection, _P.lease_until < Now()))

    return database.write(work)


def count_failure(database: Database, held: Participant) -> bool:
    """Set a participant free that could not be asked, and count it as a death while it was asked alone.

    No trial is needed to know whose fault it was: its worker lives, and nobody else was concerned. Whoever is not held
    under this epoch any more is left as it is. Returns whether it was set aside.
    """
    aside = _P.deaths + 1 >= QUARANTINE_AFTER
    statement = (
        update(tables.participant)
        .where(_P.id == held.id, _P.lease_epoch == held.epoch, _P.lease_owner.is_not(None), OPEN)
        .values(
            lease_until=None,
            lease_owner=None,
            published_at=None,
            on_trial=False,
            deaths=_P.deaths + 1,
            status=case((aside, ParticipantStatus.QUARANTINED.value), else_=_P.status),
        )
        .returning(_P.status)
    )
    status = database.write(lambda connection: connection.execute(statement).scalar_one_or_none())
    return status == ParticipantStatus.QUARANTINED.value


def _held(connection: Connection, condition: Any) -> Sequence[Any]:
    query = select(_P.id, _P.lease_owner, _P.lease_epoch, _P.on_trial, _P.deaths).where(OPEN, condition)
    # Locked: a heartbeat on its way must not renew a lease between this look and the update.
    return connection.execute(query.order_by(_P.lease_owner, _P.id).with_for_update()).all()


def _free(connection: Connection, held: Sequence[Any]) -> Freed:
    freed, quarantined = 0, []
    for _owner, group in groupby(held, key=lambda row: row.lease_owner):
        together = list(group)
        tried = any(row.on_trial for row in together)
        for row in together:
            # Held alone is not asked alone: the worker may have died of loading its model.
            aside = row.on_trial and row.deaths + 1 >= QUARANTINE_AFTER
            suspect = {"suspect": True} if row.on_trial or not tried else {}  # others only waited for the one on trial
            status = {"status": ParticipantStatus.QUARANTINED.value} if aside else {}
            statement = (
                update(tables.participant)
                .where(_P.id == row.id, _P.lease_epoch == row.lease_epoch, OPEN)
                .values(
                    lease_until=None,
                    lease_owner=None,
                    published_at=None,
                    on_trial=False,
                    deaths=row.deaths + bool(row.on_trial),
                    **suspect,
                    **status,
                )
            )
            if connection.execute(statement).rowcount == 1:
                freed += 1
                quarantined += [row.id] if aside else []
    return Freed(participants=freed, quarantined=tuple(quarantined))


def last_heartbeat(database: Database) -> float | None:
    """Seconds since any worker process was last heard of, by the database's clock; None where none is listed."""
    with database.read() as connection:
        beat_at, now = connection.execute(select(func.max(tables.worker.c.beat_at), Now())).one()
    return None if beat_at is None else max(float(now) - float(beat_at), 0.0)
