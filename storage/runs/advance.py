"""The one UPDATE that takes a participant past an item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, bindparam, case, exists, not_, update

from defsurvey.storage.runs import tables
from defsurvey.storage.runs.run import Answer, AnswerState, Participant, ParticipantStatus

_P = tables.participant.c
_AGAIN = tables.again.c
#: Whether an answer of the participant is to be asked again.
ASKED_AGAIN = exists().where(_AGAIN.participant == _P.id)
_FINISHING = and_(_P.next_item + 1 >= _P.questions, not_(ASKED_AGAIN))
#: Counters by how answers ended, each with as many more as its parameter says.
ENDED = {state.value: _P[state.value] + bindparam(f"ended_{state.value}") for state in AnswerState}
#: Takes the parameters of ``advancing``; hits one row, or none where the lease was taken or the position is another.
ADVANCE = (
    update(tables.participant)
    .where(_P.id == bindparam("who"), _P.lease_epoch == bindparam("held"), _P.next_item == bindparam("at"))
    .values(
        next_item=_P.next_item + 1,
        memory=bindparam("remembers"),
        commits=_P.commits + bindparam("committed"),
        prompt_tokens=_P.prompt_tokens + bindparam("read"),
        completion_tokens=_P.completion_tokens + bindparam("written"),
        suspect=False,  # it has answered: whatever ended its worker was not this item
        on_trial=False,
        deaths=0,
        # Open also where it was set aside meanwhile: its worker only seemed dead.
        status=case((_FINISHING, ParticipantStatus.FINISHED.value), else_=ParticipantStatus.OPEN.value),
        lease_until=case((_FINISHING, None), else_=_P.lease_until),
        lease_owner=case((_FINISHING, None), else_=_P.lease_owner),
        **ENDED,
    )
)


def advancing(held: Participant, item: int, memory: tuple[int, ...], answers: Sequence[Answer]) -> dict[str, Any]:
    """What ``ADVANCE`` needs to take a participant past an item with these answers."""
    return {
        "who": held.id,
        "held": held.epoch,
        "at": item,
        "remembers": memory,
        "committed": max(len(answers), 1),
        "read": sum(answer.prompt_tokens or 0 for answer in answers),
        "written": sum(answer.completion_tokens or 0 for answer in answers),
        **{f"ended_{state.value}": sum(answer.state is state for answer in answers) for state in AnswerState},
    }
