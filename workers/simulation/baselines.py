"""Collective critique and self-voting: draft, criticise, rewrite several times, vote (Lahoti et al. 2023).

Knows the four steps, as the paper runs them beside DEF: for one answer of one participant, or for
a list of answers that a panel gives. What is done already is not asked again. Deliberately knows
nothing of storage: steps are handed to ``Notes`` one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol as Interface

from storage.run import CCSV_DECODES, Answer, AnswerState, CompletedStep, Decoding, Participant, Protocol, UsedDecoding
from storage.survey import Culture, Question
from workers.engines.base import Asked, Completion, Engine, FinishReason, Message, Request, Task, outcome, submit
from workers.simulation.answers import Reading, read
from workers.simulation.baseline_prompts import (
    conversation,
    critique_text,
    draft_text,
    list_entries,
    rewrite_text,
    vote_text,
    voted,
)
from workers.simulation.lexicon import clean
from workers.simulation.participant import step_seed
from workers.simulation.prompts import fill, words
from workers.simulation.sections import without_echo

DECODES = CCSV_DECODES
DRAFT, CRITIQUE, REWRITE = range(3)
VOTE = REWRITE + DECODES


class Notes(Interface):
    """Where the steps of an answer are kept until it is there."""

    def done(self, item: int, attempt: int) -> Sequence[CompletedStep]:
        """The steps towards this answer that were kept before."""
        ...

    def keep(self, step: CompletedStep) -> None:
        """Keep a step; it is not asked again."""
        ...


class NoNotes:
    """Keeps nothing: for an answer that nobody takes up again half-way."""

    def done(self, item: int, attempt: int) -> Sequence[CompletedStep]:  # noqa: ARG002 -- as Notes has it
        """Nothing was kept."""
        return ()

    def keep(self, step: CompletedStep) -> None:
        """Let it go."""


NO_NOTES = NoNotes()


class _GaveUp(Exception):
    """The engine gave up at a step; the completion says why."""

    def __init__(self, completion: Completion) -> None:
        super().__init__(completion.error)
        self.completion = completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliberation:
    """One question put to one participant, in steps."""

    participant: Participant
    item: int
    attempt: int
    question: Question
    shown: tuple[int, ...]
    culture: Culture
    protocol: Protocol

    @property
    def slots(self) -> int:
        """How many answers come of it."""
        return self.participant.cell.condition.method.slots

    @property
    def language(self) -> str:
        """Of the prompts."""
        return self.participant.cell.language

    def draft(self) -> Request:
        """The first step."""
        prompt = draft_text(self.question, self.shown, self.culture, self.language, self.slots)
        return self._request(DRAFT, self._task, conversation(prompt), self._reply_start)

    def critique(self, draft: str) -> Request:
        """The second step: what is wrong with the draft."""
        turns = (self.draft().messages[0].content, draft, critique_text(self.culture, self.language, self.slots))
        return self._request(CRITIQUE, Task.CRITIQUE, conversation(*turns))

    def rewrite(self, draft: str, critique: str, decode: int) -> Request:
        """The third step, one of several decodes, each with a seed of its own."""
        earlier = (message.content for message in self.critique(draft).messages)
        turns = (*earlier, critique, rewrite_text(self.language, self.slots))
        return self._request(REWRITE + decode, self._task, conversation(*turns), self._reply_start)

    def vote(self, drafts: Sequence[str]) -> Request:
        """The last step: which draft is best."""
        prompt = vote_text(self.question, self.shown, self.culture, self.language, drafts)
        return self._request(VOTE, Task.VOTE, conversation(prompt), words(self.language).answer)

    @property
    def _task(self) -> Task:
        return Task.ANSWER if self.slots == 1 else Task.LIST

    @property
    def _reply_start(self) -> str:
        table = words(self.language)
        return table.answer if self.slots == 1 else fill(table.entry, SLOT="1")

    def _request(self, number: int, task: Task, messages: tuple[Message, ...], reply_start: str = "") -> Request:
        draws = self.participant.draws
        counted = {Task.LIST: self.slots, Task.VOTE: DECODES}.get(task, 1)
        return Request(
            messages=messages,
            decoding=Decoding(
                num_beams=draws.num_beams,
                do_sample=draws.do_sample,
                temperature=self.protocol.temperature,
                top_p=self.protocol.top_p,
                max_new_tokens=self.protocol.max_new_tokens,
            ),
            seed=step_seed(self.protocol, self.participant.index, self.question.id, self.attempt, number),
            reply_start=reply_start,
            asked=Asked(
                question=self.question,
                culture=self.culture.code,
                language=self.language,
                shown=self.shown,
                task=task,
                number=counted,
            ),
        )


def deliberate(asked: Deliberation, *, engine: Engine, notes: Notes, clock: Callable[[], float]) -> tuple[Answer, ...]:
    """Draft, criticise, rewrite, vote; the answers of the draft that wins, by slot.

    Where the engine gives up at a step all answers are failed, and the steps before it stay.
    """
    return _deliberated(asked, _Steps(asked, engine, notes, clock))


def deliberate_again(
    asked: Deliberation, slot: int, *, engine: Engine, notes: Notes, clock: Callable[[], float]
) -> Answer:
    """The same for one slot; what the steps cost stands beside the slot for which they were asked, and no other."""
    steps = _Steps(asked, engine, notes, clock)
    answers = _deliberated(asked, steps)
    paid = answers[0] if steps.asked else replace(answers[0], prompt_tokens=None, completion_tokens=None, seconds=0.0)
    return replace(
        answers[slot],
        prompt_tokens=paid.prompt_tokens,
        completion_tokens=paid.completion_tokens,
        seconds=paid.seconds,
    )


def _deliberated(asked: Deliberation, steps: _Steps) -> tuple[Answer, ...]:
    try:
        draft = steps.take(DRAFT, asked.draft())
        critique = steps.take(CRITIQUE, asked.critique(draft.completion))
        drafts = steps.take_all(
            REWRITE, [asked.rewrite(draft.completion, critique.completion, decode) for decode in range(DECODES)]
        )
        texts = [step.completion for step in drafts]
        vote = steps.take(VOTE, asked.vote(texts))
    except _GaveUp as gave_up:
        reading = read("", FinishReason.ERROR, asked.question, asked.shown, asked.language)
        reasoned = Reading(state=reading.state, reason=gave_up.completion.error or reading.reason)
        return _answers(asked, steps, [("", reasoned)] * asked.slots, asked.draft().seed, gave_up.completion.used)
    winner = drafts[voted(vote.completion, DECODES)]
    return _answers(asked, steps, _readings(asked, winner), winner.seed, winner.used)


def _readings(asked: Deliberation, winner: CompletedStep) -> list[tuple[str, Reading]]:
    """For every slot the text that holds its answer, and what is read from it."""
    finish = FinishReason(winner.finish)
    whole = read(winner.completion, finish, asked.question, asked.shown, asked.language)
    if asked.slots == 1:
        return [(winner.completion, whole)]
    own = without_echo(clean(winner.completion), asked.question, asked.shown)
    entries = list_entries(own, asked.slots)
    if not entries and whole.state in (AnswerState.REFUSED, AnswerState.FAILED):
        return [(winner.completion, whole)] * asked.slots
    found = []
    for slot in range(asked.slots):
        text = entries.get(slot, "")
        missing = Reading(state=AnswerState.UNPARSABLE, reason=f"the list has no line for person {slot + 1}")
        reading = read(text, finish, asked.question, asked.shown, asked.language) if text else missing
        found.append((text, reading))
    return found


def _answers(
    asked: Deliberation, steps: _Steps, readings: Sequence[tuple[str, Reading]], seed: int, used: UsedDecoding
) -> tuple[Answer, ...]:
    """Answers by slot; what all steps cost stands beside the first."""
    return tuple(
        Answer(
            participant=asked.participant.id,
            item=asked.item,
            slot=slot,
            question=asked.question.id,
            state=reading.state,
            choices=reading.choices,
            completion=text,
            reason=reading.reason,
            shown=asked.shown,
            draws=asked.participant.draws,
            seed=seed,
            used=used,
            prompt_tokens=None if slot else steps.total("prompt_tokens"),
            completion_tokens=None if slot else steps.total("completion_tokens"),
            attempt=asked.attempt,
            seconds=0.0 if slot else sum(step.seconds for step in steps.taken),
        )
        for slot, (text, reading) in enumerate(readings)
    )


class _Steps:
    """The steps of one answer: taken from the notes, or asked and noted."""

    def __init__(self, asked: Deliberation, engine: Engine, notes: Notes, clock: Callable[[], float]) -> None:
        self._asked, self._engine, self._notes, self._clock = asked, engine, notes, clock
        self._done = {step.number: step for step in notes.done(asked.item, asked.attempt)}
        self.taken: list[CompletedStep] = []
        self.asked = False  #: whether any was asked here

    def take(self, number: int, request: Request) -> CompletedStep:
        """One step."""
        return self.take_all(number, [request])[0]

    def take_all(self, first: int, requests: Sequence[Request]) -> list[CompletedStep]:
        """Steps that do not depend on each other, asked together."""
        began = self._clock()
        self.asked = self.asked or any(number not in self._done for number in range(first, first + len(requests)))
        asked: dict[int, Future[Completion]] = {
            number: submit(self._engine, request)
            for number, request in enumerate(requests, start=first)
            if number not in self._done
        }
        taken = []
        for number, request in enumerate(requests, start=first):
            step = self._done.get(number) or self._keep(number, request, outcome(asked[number]), began)
            taken.append(step)
        self.taken += taken
        return taken

    def total(self, count: str) -> int | None:
        """Tokens of all steps, as far as the engine told them."""
        told = [getattr(step, count) for step in self.taken if getattr(step, count) is not None]
        return sum(told) if told else None

    def _keep(self, number: int, request: Request, completion: Completion, began: float) -> CompletedStep:
        if completion.finish is FinishReason.ERROR:
            raise _GaveUp(completion)
        step = CompletedStep(
            participant=self._asked.participant.id,
            item=self._asked.item,
            attempt=self._asked.attempt,
            number=number,
            completion=completion.text,
            finish=completion.finish.value,
            seed=request.seed,
            used=completion.used,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            seconds=self._clock() - began,
        )
        self._notes.keep(step)
        return step
