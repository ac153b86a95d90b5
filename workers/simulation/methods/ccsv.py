"""Collective critique and self-voting: draft, criticise, rewrite several times, vote (Lahoti et al. 2023).

What is done already is not asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from defsurvey.storage.runs.run import (
    CCSV_DECODES,
    Answer,
    AnswerState,
    CompletedStep,
    Decoding,
    Participant,
    Protocol,
    UsedDecoding,
)
from defsurvey.storage.surveys.survey import Culture, Question
from defsurvey.workers.engines.base import Asked, Engine, FinishReason, Message, Request, Task
from defsurvey.workers.simulation.answer_parser import Reading, clean, read, spoken, without_echo
from defsurvey.workers.simulation.methods.prompts import (
    conversation,
    critique_text,
    draft_text,
    list_entries,
    rewrite_text,
    vote_text,
    voted,
)
from defsurvey.workers.simulation.participant import step_seed
from defsurvey.workers.simulation.prompts import fill, words
from defsurvey.workers.simulation.taking import Cost, GaveUp, Notes, Steps, Towards

DECODES = CCSV_DECODES
DRAFT, CRITIQUE, REWRITE = range(3)
VOTE = REWRITE + DECODES


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
                top_k=self.protocol.top_k,
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
    return _deliberated(asked, _steps(asked, engine, notes, clock))


def deliberate_again(
    asked: Deliberation, slot: int, *, engine: Engine, notes: Notes, clock: Callable[[], float]
) -> Answer:
    """The same for one slot; what a step costs stands beside the slot for which it was asked, and no other."""
    steps = _steps(asked, engine, notes, clock)
    answers = _deliberated(asked, steps)
    # Other slots share the steps, and may have been asked again before: what was kept then is paid for beside them.
    cost = Cost.of(steps.taken if asked.slots == 1 else steps.asked)
    return replace(
        answers[slot],
        prompt_tokens=cost.prompt_tokens,
        completion_tokens=cost.completion_tokens,
        seconds=cost.seconds,
    )


def _steps(asked: Deliberation, engine: Engine, notes: Notes, clock: Callable[[], float]) -> Steps:
    towards = Towards(participant=asked.participant.id, item=asked.item, attempt=asked.attempt)
    return Steps(towards, engine=engine, notes=notes, clock=clock)


def _deliberated(asked: Deliberation, steps: Steps) -> tuple[Answer, ...]:
    try:
        draft = _said(steps.take(DRAFT, asked.draft()))
        critique = _said(steps.take(CRITIQUE, asked.critique(draft)))
        drafts = steps.take_all(REWRITE, [asked.rewrite(draft, critique, decode) for decode in range(DECODES)])
        vote = _said(steps.take(VOTE, asked.vote([_said(step) for step in drafts])))
    except GaveUp as gave_up:
        reading = read("", FinishReason.ERROR, asked.question, asked.shown, asked.language)
        reasoned = Reading(state=reading.state, reason=gave_up.completion.error or reading.reason)
        return _answers(asked, steps, [("", reasoned)] * asked.slots, asked.draft().seed, gave_up.completion.used)
    winner = drafts[voted(vote, DECODES)]
    return _answers(asked, steps, _readings(asked, winner), winner.seed, winner.used)


def _said(step: CompletedStep) -> str:
    """What a step said, without its thoughts."""
    return spoken(step.completion)[0]


def _readings(asked: Deliberation, winner: CompletedStep) -> list[tuple[str, Reading]]:
    """For every slot the text that holds its answer, and what is read from it."""
    finish = FinishReason(winner.finish)
    whole = read(winner.completion, finish, asked.question, asked.shown, asked.language)
    if asked.slots == 1:
        return [(winner.completion, whole)]
    said, cut_off = spoken(winner.completion)
    own = without_echo(clean(said), asked.question, asked.shown)
    entries = list_entries(own, asked.slots)
    if not entries and (cut_off or whole.state in (AnswerState.REFUSED, AnswerState.FAILED)):
        return [(winner.completion, whole)] * asked.slots
    found = []
    for slot in range(asked.slots):
        text = entries.get(slot, "")
        missing = Reading(state=AnswerState.UNPARSABLE, reason=f"the list has no line for person {slot + 1}")
        reading = read(text, finish, asked.question, asked.shown, asked.language) if text else missing
        found.append((text, reading))
    return found


def _answers(
    asked: Deliberation, steps: Steps, readings: Sequence[tuple[str, Reading]], seed: int, used: UsedDecoding
) -> tuple[Answer, ...]:
    """Answers by slot; what all steps cost stands beside the first."""
    cost = Cost.of(steps.taken)
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
            prompt_tokens=None if slot else cost.prompt_tokens,
            completion_tokens=None if slot else cost.completion_tokens,
            attempt=asked.attempt,
            seconds=0.0 if slot else cost.seconds,
        )
        for slot, (text, reading) in enumerate(readings)
    )
