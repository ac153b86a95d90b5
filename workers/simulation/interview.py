"""One participant is asked its questions, one after the other: the paper's Algorithm 1.

Knows the loop: draw, ask, read, remember. It starts wherever the participant stands and
keeps nothing but what its steps hand back, so that an interview that was cut off goes on
as if it had not been. Deliberately knows nothing of storage, leases and queues: the
caller commits each step before it asks for the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from storage.run import Answer, Decoding, Draws, DrawsPer, Participant, Protocol, Reply
from storage.survey import Question, Survey
from workers.engines.base import Asked, Engine, FinishReason, Request
from workers.simulation.answers import is_settled, read
from workers.simulation.memory import remember
from workers.simulation.participant import (
    PRESETS,
    completion_seed,
    draw_axes,
    options_shown,
    question_order,
    substream,
)
from workers.simulation.prompts import messages, words

Clock = Callable[[], float]
Recall = Mapping[int, str]  #: item -> its ``Answer.remembered``


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One answer and the memory after it, to be committed together."""

    answer: Answer
    memory: tuple[int, ...]  #: remembered items, in the order in which they are shown next


def interview(
    participant: Participant,
    *,
    survey: Survey,
    questions: Sequence[str],
    protocol: Protocol,
    engine: Engine,
    recall: Recall,
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
        clock: seconds that never run backward.

    Yields:
        A step for each remaining item, in order; commit it before asking for the next.

    Raises:
        KeyError: ``recall`` lacks an item of the participant's memory.
        UnknownName: the survey lacks a question or the culture.
    """
    schedule = _Schedule.of(participant, survey, questions, protocol)
    memory = participant.memory
    recalled = {item: recall[item] for item in memory}
    for item in range(participant.next_item, len(schedule.order)):
        attempt = participant.attempts.get(item, 0)
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
    return _Schedule.of(participant, survey, questions, protocol).request(item, memory, recall or {}, attempt)


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
        attempt: above the attempts before; part of the completion's seed.
        clock: seconds that never run backward.

    Raises:
        ValueError: this attempt, or a later one, was made already.
    """
    if attempt <= answer.attempt:
        where = f"participant {answer.participant}, item {answer.item}"
        raise ValueError(f"{where}: expected an attempt above {answer.attempt}, got {attempt}")
    schedule = _Schedule.of(participant, survey, questions, protocol)
    request = schedule.request(answer.item, answer.memory, recall, attempt)
    fresh = schedule.answer(request, answer.item, answer.memory, engine, clock, attempt)
    return replace(fresh, slot=answer.slot, remembered=answer.remembered, out_of_sequence=True)


@dataclass(frozen=True, slots=True)
class _Schedule:
    """Who is asked what in which order, and how."""

    participant: Participant
    survey: Survey
    protocol: Protocol
    order: tuple[str, ...]  # question ids in this participant's own order

    @classmethod
    def of(cls, participant: Participant, survey: Survey, questions: Sequence[str], protocol: Protocol) -> _Schedule:
        return cls(participant, survey, protocol, question_order(protocol, participant.index, questions))

    def question(self, item: int) -> Question:
        if not 0 <= item < len(self.order):
            last = len(self.order) - 1
            raise IndexError(f"participant {self.participant.index}: item {item} is not one of 0-{last}")
        return self.survey.question(self.order[item])

    def draws(self, question: str) -> Draws:
        if self.protocol.draws is DrawsPer.PARTICIPANT:
            return self.participant.draws
        cell = self.participant.cell
        culture = self.survey.culture(cell.culture)
        index, paraphrases = self.participant.index, self.survey.most_paraphrases
        return draw_axes(self.protocol, cell.condition, culture, index, question, paraphrases=paraphrases)

    def worded(self, item: int) -> Question:
        """The question in the wording that was drawn for it."""
        question = self.question(item).id
        return self.survey.worded(question, self.draws(question).paraphrase)

    def shown(self, question: Question) -> tuple[int, ...]:
        return options_shown(self.protocol, self.participant.cell.condition, question, self.participant.index)

    def request(self, item: int, memory: Sequence[int], recall: Recall, attempt: int = 0) -> Request:
        cell, question = self.participant.cell, self.worded(item)
        culture, draws, shown = self.survey.culture(cell.culture), self.draws(question.id), self.shown(question)
        earlier = [(self.worded(kept), recall[kept]) for kept in memory]
        return Request(
            messages=messages(
                question,
                shown,
                culture=culture,
                region=draws.region,
                language=cell.language,
                remembered=[(asked, self.shown(asked), answer) for asked, answer in earlier],
            ),
            decoding=Decoding(
                num_beams=draws.num_beams,
                do_sample=draws.do_sample,
                temperature=self.protocol.temperature,
                top_p=self.protocol.top_p,
                max_new_tokens=self.protocol.max_new_tokens,
            ),
            seed=completion_seed(self.protocol, self.participant.index, question.id, attempt),
            reply_start=words(cell.language).answer,
            asked=Asked(question=question, culture=culture.code, language=cell.language, shown=shown),
            enough=self.enough(question, shown),
        )

    def enough(self, question: Question, shown: tuple[int, ...]) -> Callable[[str], bool] | None:
        """Whether a text holds all of the reply that is read."""
        if self.protocol.reply is Reply.FULL:
            return None
        return partial(is_settled, question=question, shown=shown, reply=self.protocol.reply)

    def answer(
        self, request: Request, item: int, memory: tuple[int, ...], engine: Engine, clock: Clock, attempt: int = 0
    ) -> Answer:
        question = self.worded(item)
        shown = self.shown(question)
        submitted = clock()
        completion = engine.submit(request).result()
        seconds = clock() - submitted
        reading = read(
            completion.text, completion.finish, question, shown, self.participant.cell.language, self.protocol.reply
        )
        gave_up = completion.finish is FinishReason.ERROR and completion.error
        return Answer(
            participant=self.participant.id,
            item=item,
            question=question.id,
            state=reading.state,
            choices=reading.choices,
            completion=completion.text,
            reason=completion.error if gave_up else reading.reason,
            remembered=reading.remembered,
            shown=shown,
            memory=memory,
            draws=self.draws(question.id),
            seed=request.seed,
            used=completion.used,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            attempt=attempt,
            seconds=seconds,
        )

    def memory_after(self, answer: Answer) -> tuple[int, ...]:
        return remember(
            answer.memory,
            None if answer.remembered is None else answer.item,
            capacity=answer.draws.memory_capacity,
            with_replacement=PRESETS[self.protocol.preset].with_replacement,
            order=self.protocol.memory_order,
            rng=substream(self.protocol.seed, "memory", self.participant.index, answer.question),
        )
