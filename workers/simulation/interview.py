"""One participant is asked its questions, one after the other: the paper's Algorithm 1.

It starts wherever the participant stands and keeps nothing but what its steps hand back, so that an interview that was
cut off goes on as if it had not been.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from defsurvey.storage.runs.run import Answer
from defsurvey.workers.engines.base import Engine
from defsurvey.workers.simulation.methods.method import Found, Line, Notes, Questionnaire, Recall


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Found):
    """What came of one question and the memory after it, to be committed together."""

    item: int
    memory: tuple[int, ...]  #: remembered items, in the order in which they are shown next


def interview(
    asking: Questionnaire,
    *,
    engine: Engine,
    recall: Recall,
    notes: Notes | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Step]:
    """Ask a participant everything that it has not answered yet (paper, section 4.3, Algorithm 1).

    It starts at the participant's ``next_item`` with its ``memory``; ``recall`` has the words of each item remembered.
    Commit each step before asking for the next.
    """
    participant, method = asking.participant, asking.method
    line = Line(engine=engine, notes=notes or Notes(), clock=clock)
    memory = asking.memory(participant.memory, recall)
    for item in range(participant.next_item, len(asking.order)):
        draws = asking.draw(item)  # l, b, s, city <- random
        posed = asking.pose(item, draws, memory, participant.attempts.get(item, 0))
        requests = method.prompt(posed)  # Model input <- Conversation(H, P with C, city and Q)
        responses = method.ask(posed, requests, line)  # R <- generate(Model input, l, b, s)
        found = method.read(posed, responses)
        memory = method.remember(posed, found)  # H' <- valid answers of H and R, l of them at most
        items = tuple(entry.item for entry in memory)
        yield Step(item=item, answers=found.answers, probabilities=found.probabilities, memory=items)


def ask_again(
    answer: Answer,
    asking: Questionnaire,
    *,
    engine: Engine,
    recall: Recall,
    attempt: int,
    notes: Notes | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Answer:
    """Ask one item once more, with the memory that it was shown the first time. Arguments as in ``interview``.

    Later memory is not altered: the new answer keeps the old one's ``remembered``, since that is what later questions
    were shown. Slots of one attempt share its steps: a step is paid for beside the slot for which it was asked.
    """
    method = asking.method
    line = Line(engine=engine, notes=notes or Notes(), clock=clock, paid=method.slots > 1)
    posed = asking.pose(answer.item, asking.draw(answer.item), asking.memory(answer.memory, recall), attempt)
    answers = method.read(posed, method.ask(posed, method.prompt(posed), line)).answers
    cost = {name: getattr(answers[0], name) for name in ("prompt_tokens", "completion_tokens", "seconds")}
    return replace(answers[answer.slot], remembered=answer.remembered, out_of_sequence=True, **cost)
