"""Who may be taken up now: the conditions that claims, messages and counts of participants share."""

from __future__ import annotations

from sqlalchemy import and_, or_, select

from defsurvey.storage.columns import Now
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.run import ParticipantStatus

_P = tables.participant.c

#: It has unanswered questions.
OPEN = _P.status == ParticipantStatus.OPEN.value
#: Nobody holds it, or its lease has run out.
FREE = or_(_P.lease_until.is_(None), _P.lease_until < Now())
#: Its run is not cancelled.
ACTIVE_RUN = _P.run.in_(select(tables.run.c.id).where(tables.run.c.cancelled.is_(False)))
#: Its cell is not halted for want of money.
SERVED_CELL = _P.cell.in_(select(tables.cell.c.id).where(tables.cell.c.halted.is_(False)))
#: It is still to be asked, held or not.
TO_BE_ASKED = and_(OPEN, ACTIVE_RUN, SERVED_CELL)
#: It is to be asked, and a worker may take it up now.
CLAIMABLE = and_(TO_BE_ASKED, FREE)
