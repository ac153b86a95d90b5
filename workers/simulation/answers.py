"""What a completion answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from storage.run import AnswerState
from storage.survey import Question
from workers.engines.base import FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read from a completion."""

    state: AnswerState
    choices: tuple[int, ...] = ()  #: option codes, ascending; empty unless answered
    reason: str = ""  #: why it is refused, unparsable or failed
    remembered: str | None = None  #: the answer as memory keeps it; None unless answered


def read(text: str, finish: FinishReason, question: Question, shown: Sequence[int], language: str) -> Reading:
    """Read the options that a completion chooses."""
    if finish is FinishReason.ERROR:
        return Reading(state=AnswerState.FAILED, reason="the engine gave up")
    if finish is FinishReason.REFUSAL:
        return Reading(state=AnswerState.REFUSED, reason="the provider says that the model declined")
    found = re.match(r"\D{0,20}(\d+)", text)
    if found and int(found[1]) in shown:
        return Reading(state=AnswerState.ANSWERED, choices=(int(found[1]),), remembered=text[:200])
    return Reading(state=AnswerState.UNPARSABLE, reason="no option is named")
