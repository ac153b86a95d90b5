"""One participant is asked its questions, one after the other: the paper's Algorithm 1.

It starts wherever the participant stands and keeps nothing but what its steps hand back, so that an interview that was
cut off goes on as if it had not been.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from defsurvey.storage.runs.run import Answer, Participant, Protocol
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Engine, Request
from defsurvey.workers.simulation.schedule import DELIBERATED, Clock, Recall, Schedule
from defsurvey.workers.simulation.taking import NO_NOTES, Notes


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One answer and the memory after it, to be committed together."""

    answer: Answer
    memory: tuple[int, ...]  #: remembered items, in the order in which they are shown next
    more: tuple[Answer, ...] = ()  #: a panel's further answers to the same item


def interview(
    participant: Participant,
    *,
    survey: Survey,
    questions: Sequence[str],
    protocol: Protocol,
    engine: Engine,
    recall: Recall,
    notes: Notes = NO_NOTES,
    clock: Clock = time.monotonic,
) -> Iterator[Step]:
    """Ask a participant everything that it has not answered yet (paper, section 4.3, Algorithm 1).

    Args:
        participant: who is asked; starts at its ``next_item`` with its ``memory``.
        survey: where the questions and the participant's culture are found.
        questions: ids of all questions of the run, in survey order.
        protocol: how the interview is conducted.
        engine: answers the prompts.
        recall: item -> its ``Answer.remembered``, for the items in the participant's memory.
        notes: keeps the steps of answers that take several.
        clock: seconds that never run backward.

    Yields:
        A step for each remaining item, in order; commit it before asking for the next.

    Raises:
        KeyError: ``recall`` lacks an item of the participant's memory.
        UnknownName: the survey lacks a question or the culture.
    """
    schedule = Schedule.of(participant, survey, questions, protocol)
    memory = participant.memory
    recalled = {item: recall[item] for item in memory}
    for item in range(participant.next_item, len(schedule.order)):
        attempt = participant.attempts.get(item, 0)
        if participant.cell.condition.method in DELIBERATED:
            first, *more = schedule.deliberated(item, attempt, engine, notes, clock)
            yield Step(answer=first, memory=(), more=tuple(more))
            continue
        request = schedule.request(item, memory, recalled, attempt)
        answer = schedule.answer(request, item, memory, engine, clock, attempt)
        if answer.remembered is not None:
            recalled[item] = answer.remembered
        memory = schedule.memory_after(answer)
        recalled = {kept: recalled[kept] for kept in memory}
        yield Step(answer=answer, memory=memory)


def ask(
    participant: Participant,
    item: int,
    memory: tuple[int, ...] = (),
    *,
    survey: Survey,
    questions: Sequence[str],
    protocol: Protocol,
    recall: Recall | None = None,
    attempt: int = 0,
) -> Request:
    """The request that asks one item; no engine is needed.

    Args:
        participant: who is asked.
        item: position in the participant's own question order.
        memory: items remembered, in the order in which they are shown.
        survey: where the questions and the participant's culture are found.
        questions: ids of all questions of the run, in survey order.
        protocol: how the interview is conducted.
        recall: item -> its ``Answer.remembered``, for the items in ``memory``.
        attempt: 0 for the first time it is asked; part of the completion's seed.

    Raises:
        IndexError: the participant is not asked so many questions.
    """
    return Schedule.of(participant, survey, questions, protocol).request(item, memory, recall or {}, attempt)


def ask_again(
    answer: Answer,
    *,
    participant: Participant,
    survey: Survey,
    questions: Sequence[str],
    protocol: Protocol,
    engine: Engine,
    recall: Recall,
    attempt: int,
    notes: Notes = NO_NOTES,
    clock: Clock = time.monotonic,
) -> Answer:
    """Ask one item once more, with the memory that it was shown the first time.

    Later memory is not altered: the new answer keeps the old one's ``remembered``, since
    that is what later questions were shown.

    Args:
        answer: the answer to replace.
        participant: whose answer it is.
        survey: where the questions and the participant's culture are found.
        questions: ids of all questions of the run, in survey order.
        protocol: how the interview was conducted.
        engine: answers the prompt.
        recall: item -> its ``Answer.remembered``, for the items in ``answer.memory``.
        notes: keeps the steps of answers that take several; a panel's slots of one attempt share them.
        attempt: above the attempts before; part of the completion's seed.
        clock: seconds that never run backward.

    Raises:
        ValueError: this attempt, or a later one, was made already.
    """
    if attempt <= answer.attempt:
        where = f"participant {answer.participant}, item {answer.item}"
        raise ValueError(f"{where}: expected an attempt above {answer.attempt}, got {attempt}")
    schedule = Schedule.of(participant, survey, questions, protocol)
    if participant.cell.condition.method in DELIBERATED:
        fresh = schedule.deliberated_again(answer.item, answer.slot, attempt, engine, notes, clock)
        return replace(fresh, out_of_sequence=True)
    request = schedule.request(answer.item, answer.memory, recall, attempt)
    fresh = schedule.answer(request, answer.item, answer.memory, engine, clock, attempt)
    return replace(fresh, slot=answer.slot, remembered=answer.remembered, out_of_sequence=True)
