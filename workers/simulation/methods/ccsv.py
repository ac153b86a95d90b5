"""Collective critique and self-voting: draft, criticise, rewrite several times, vote (Lahoti et al. 2023).

Each step is kept before the next is asked, and what is kept already is not asked again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from defsurvey.storage.runs.run import AnswerState, CompletedStep
from defsurvey.workers.engines.base import Completion, FinishReason, Message, Request, Task, ask_all
from defsurvey.workers.simulation.answer_parser import Reading, clean, read, spoken, without_echo
from defsurvey.workers.simulation.draws import substream
from defsurvey.workers.simulation.methods.method import Found, Line, Method, Posed, PromptParts, Response
from defsurvey.workers.simulation.prompts import choosing_text, conversation, country_name, fill, request_text, words

#: Drafts that are written anew after criticism, and voted on.
DECODES = 5
#: Numbers of the steps; of rewritten drafts, the first one's.
DRAFT, CRITIQUE, REWRITE = range(3)
VOTE = REWRITE + DECODES

_ENTRY = re.compile(r"\W*(?P<word>[^\W\d]+\s?)?(?P<slot>\d{1,3})\s?[^\W\d]?\s?[:：.)、]\s*(?P<answer>\S.*)")
#: Of three digits at most: a model may go on with digits for ever, and Python reads no number of so many.
_DRAFT = re.compile(r"(?:draft|answer|草稿|答案)\W{0,3}(?P<number>\d{1,3})(?!\d)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<!\d)\d{1,3}(?!\d)")


class CcsvSingle(Method):
    """The model drafts an answer, criticises it, rewrites it several times and votes."""

    name = "ccsv-single"
    completions = VOTE + 1
    shortened = False
    samples = True  # the rewritten drafts would all be the same otherwise
    steps = f"this asks for an answer; then come a criticism, {DECODES} rewritten drafts, and a vote among them"
    task = Task.ANSWER
    #: What a draft begins with, and what is said after it and after the criticism: fields of ``PromptWords``.
    phrases: Mapping[str, str] = {"start": "answer", "critique": "critique", "rewrite": "rewrite"}

    def prompt(self, posed: Posed) -> tuple[Request, ...]:
        """The request for the draft."""
        return (self._step(posed, DRAFT, self.task, self.messages(posed), self._phrase("start", posed)),)

    def ask(self, posed: Posed, requests: Sequence[Request], line: Line) -> tuple[Response, ...]:
        """All steps; the response is the draft that wins, or how the engine gave up, at the cost of all."""
        (first,) = requests
        steps = Steps(posed, line)
        try:
            winner = self._winner(posed, first, steps)
        except GaveUp as gave_up:
            completion, seed = replace(gave_up.completion, text=""), first.seed
        else:
            completion = Completion(text=winner.completion, finish=FinishReason(winner.finish), used=winner.used)
            seed = winner.seed
        paid = replace(
            completion,
            prompt_tokens=_total(step.prompt_tokens for step in steps.taken),
            completion_tokens=_total(step.completion_tokens for step in steps.taken),
        )
        return (Response(completion=paid, seed=seed, seconds=sum(step.seconds for step in steps.taken)),)

    def _winner(self, posed: Posed, first: Request, steps: Steps) -> CompletedStep:
        """Draft, criticise, rewrite, vote."""
        draft = _said(steps.take(DRAFT, first))
        turns = [first.messages[0].content, draft, self._phrase("critique", posed)]
        critique = _said(steps.take(CRITIQUE, self._step(posed, CRITIQUE, Task.CRITIQUE, conversation(*turns))))
        rewriting = conversation(*turns, critique, self._phrase("rewrite", posed))
        start = self._phrase("start", posed)
        rewrites = [self._step(posed, REWRITE + decode, self.task, rewriting, start) for decode in range(DECODES)]
        drafts = steps.take_all(REWRITE, rewrites)
        voting = conversation(_vote_text(posed, [_said(step) for step in drafts]))
        vote = steps.take(VOTE, self._step(posed, VOTE, Task.VOTE, voting, words(posed.language).answer))
        return drafts[voted(_said(vote), DECODES)]

    def read(self, posed: Posed, responses: Sequence[Response]) -> Found:
        """The answer of the draft that won; it is not remembered."""
        (response,) = responses
        return Found(answers=(posed.answer(response, _reading(posed, response, response.completion.text)),))

    def _phrase(self, name: str, posed: PromptParts) -> str:
        """One of the phrases that drafts and lists have each their own of."""
        table, country = words(posed.language), country_name(posed.culture, posed.language)
        template: str = getattr(table, self.phrases[name])
        return fill(template, COUNTRY=country, FORMAT=table.format, NUM=str(self.slots), SLOT="1")

    def _step(
        self, posed: Posed, number: int, task: Task, messages: tuple[Message, ...], reply_start: str = ""
    ) -> Request:
        names = ("step", posed.index, posed.question.id, posed.attempt, number)
        seed = int(substream(posed.protocol.seed, *names).integers(2**63))
        counted = {Task.LIST: self.slots, Task.VOTE: DECODES}.get(task, 1)
        return posed.request(messages, seed=seed, reply_start=reply_start, task=task, number=counted)


class CcsvList(CcsvSingle):
    """The same with a list of 20 answers, by one participant for the whole cell."""

    name = "ccsv-list"
    slots = 20
    whole_cell = True
    steps = CcsvSingle.steps.replace("an answer", f"a list of {slots} answers")
    task = Task.LIST
    phrases: Mapping[str, str] = {"start": "entry", "critique": "critique_list", "rewrite": "rewrite_list"}

    def text(self, parts: PromptParts) -> str:
        """The prompt that asks for the list."""
        country = country_name(parts.culture, parts.language)
        entry = self._phrase("start", parts).strip()
        lines = (
            fill(words(parts.language).list, COUNTRY=country, NUM=str(self.slots), ENTRY=entry),
            choosing_text(parts.question, parts.shown, parts.language),
            request_text(parts.question, parts.shown, parts.language),
        )
        return "\n".join(lines)

    def read(self, posed: Posed, responses: Sequence[Response]) -> Found:
        """The answer on each person's line; where there are no lines, a refusal or a failure is everybody's."""
        (response,) = responses
        completion = response.completion
        whole = _reading(posed, response, completion.text)
        said, cut_off = spoken(completion.text)
        entries = list_entries(without_echo(clean(said), posed.question, posed.shown), self.slots)
        if not entries and (cut_off or whole.state in (AnswerState.REFUSED, AnswerState.FAILED)):
            return Found(answers=tuple(posed.answer(response, whole, slot=slot) for slot in range(self.slots)))
        found = []
        for slot in range(self.slots):
            text = entries.get(slot, "")
            missing = Reading(state=AnswerState.UNPARSABLE, reason=f"the list has no line for person {slot + 1}")
            reading = _reading(posed, response, text) if text else missing
            found.append(posed.answer(response, reading, text=text, slot=slot))
        return Found(answers=tuple(found))


def _total(tokens: Iterable[int | None]) -> int | None:
    known = [number for number in tokens if number is not None]
    return sum(known) if known else None


def _said(step: CompletedStep) -> str:
    """What a step said, without its thoughts."""
    return spoken(step.completion)[0]


def _reading(posed: Posed, response: Response, text: str) -> Reading:
    reading = read(text, response.completion.finish, posed.question, posed.shown, posed.language)
    return replace(reading, remembered=None)


def _vote_text(posed: Posed, drafts: Sequence[str]) -> str:
    """The prompt that asks which of several drafts is best; they are numbered from 1."""
    table = words(posed.language)
    lines = [
        fill(table.vote, COUNTRY=country_name(posed.culture, posed.language), NUM=str(len(drafts))),
        request_text(posed.question, posed.shown, posed.language),
    ]
    for number, draft in enumerate(drafts, start=1):
        lines += [fill(table.draft, SLOT=str(number)), draft.strip()]
    return "\n".join(lines)


def list_entries(text: str, slots: int) -> dict[int, str]:
    """Slot, from 0, -> the answer on that person's line; the first line counts where one has several.

    A line that says whose it is ("Person 1: 4") counts before one that begins with a bare number.

    >>> list_entries("Person 1: 2\\nPerson 3: 4: Not at all important", slots=3)
    {0: '2', 2: '4: Not at all important'}
    """
    entries = [entry for line in text.splitlines() if (entry := _ENTRY.fullmatch(line.strip()))]
    found: dict[int, str] = {}
    for entry in sorted(entries, key=lambda entry: not entry["word"]):
        if 1 <= int(entry["slot"]) <= slots:
            found.setdefault(int(entry["slot"]) - 1, entry["answer"])
    return found


def voted(text: str, drafts: int) -> int:
    """The draft, from 0, that a vote names, by that word or else by a number; the first where it names none.

    >>> voted("Answer: Draft 3", drafts=5), voted("Of the 5, draft 2 is best.", drafts=5), voted("All.", drafts=5)
    (2, 1, 0)
    """
    named = [int(found["number"]) for found in _DRAFT.finditer(text)]
    numbers = [int(found[0]) for found in _NUMBER.finditer(text)]
    return next((number for number in (*named, *numbers) if 1 <= number <= drafts), 1) - 1


class GaveUp(Exception):
    """The engine gave up at a step; the completion says why."""

    def __init__(self, completion: Completion) -> None:
        super().__init__(completion.error)
        self.completion = completion


class Steps:
    """The steps towards one answer: taken from the notes, or asked and noted."""

    def __init__(self, posed: Posed, line: Line) -> None:
        self._posed, self._line = posed, line
        done = line.notes.done(posed.item, posed.attempt)
        if line.paid:
            done = [replace(step, prompt_tokens=None, completion_tokens=None, seconds=0.0) for step in done]
        self._done = {step.number: step for step in done}
        self.taken: list[CompletedStep] = []

    def take(self, number: int, request: Request) -> CompletedStep:
        """One step."""
        return self.take_all(number, [request])[0]

    def take_all(self, first: int, requests: Sequence[Request]) -> list[CompletedStep]:
        """Steps that do not depend on each other, asked together; what comes is kept before a failure is raised."""
        began, wanted = self._line.clock(), dict(enumerate(requests, start=first))
        found = {number: self._done[number] for number in wanted if number in self._done}
        missing = [(number, request) for number, request in wanted.items() if number not in found]
        failed: Completion | None = None
        try:
            for number, completion in ask_all(self._line.engine, missing, at_once=DECODES):
                if completion.finish is FinishReason.ERROR:
                    failed = failed or completion
                else:
                    found[number] = self._keep(number, wanted[number], completion, began)
        finally:
            self.taken += found.values()
        if failed is not None:
            raise GaveUp(failed)
        return [found[number] for number in wanted]

    def _keep(self, number: int, request: Request, completion: Completion, began: float) -> CompletedStep:
        step = CompletedStep(
            participant=self._posed.participant.id,
            item=self._posed.item,
            attempt=self._posed.attempt,
            number=number,
            completion=completion.text,
            finish=completion.finish.value,
            seed=request.seed,
            used=completion.used,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            seconds=self._line.clock() - began,
        )
        self._line.notes.keep(step)
        return step
