"""A Method is one way to have a question answered: it says what it draws, asks, reads and remembers.

``Method`` itself asks for one reply to one prompt, greedily, and remembers nothing. Another method overrides what it
does differently.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from defsurvey.storage.runs.run import (
    Answer,
    CompletedStep,
    Condition,
    Decoding,
    Draws,
    DrawsPer,
    OptionProbabilities,
    Participant,
    Protocol,
    Reply,
)
from defsurvey.storage.surveys.survey import Culture, Question, Survey
from defsurvey.workers.engines.base import (
    Asked,
    ClosedReply,
    Completion,
    Engine,
    Message,
    Request,
    Task,
    outcome,
    submit,
)
from defsurvey.workers.simulation.answer_parser import Reading, is_settled, read
from defsurvey.workers.simulation.draws import completion_seed, draw_axes, options_shown, question_order
from defsurvey.workers.simulation.prompts import closed_reply, conversation, prompt_text, request_text, words

Recall = Mapping[int, str]  #: item -> its ``Answer.remembered``


class Remembered(NamedTuple):
    """One entry of a participant's memory."""

    item: int  #: position in the participant's own question order
    request: str  #: the bare request, as it was shown
    answer: str  #: see ``Answer.remembered``


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptParts:
    """What the prompt of a question is made of."""

    question: Question  #: in the wording that was drawn
    shown: tuple[int, ...]  #: option codes in the order shown
    culture: Culture
    region: str | None  #: code of a region of the culture; None: the country alone
    language: str
    index: int  #: the participant's number within its cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Posed(PromptParts):
    """One question as it is put to one participant."""

    participant: Participant
    protocol: Protocol
    item: int
    attempt: int
    draws: Draws
    memory: tuple[Remembered, ...]

    def request(
        self,
        messages: tuple[Message, ...],
        *,
        seed: int,
        reply_start: str = "",
        task: Task = Task.ANSWER,
        number: int = 1,
        enough: Callable[[str], bool] | None = None,
        closed: ClosedReply | None = None,
    ) -> Request:
        """A request with the participant's decoding; the other arguments are as in ``Request`` and ``Asked``."""
        return Request(
            messages=messages,
            decoding=Decoding(
                num_beams=self.draws.num_beams,
                do_sample=self.draws.do_sample,
                temperature=self.protocol.temperature,
                top_p=self.protocol.top_p,
                top_k=self.protocol.top_k,
                max_new_tokens=self.protocol.max_new_tokens,
            ),
            seed=seed,
            reply_start=reply_start,
            asked=Asked(
                question=self.question,
                culture=self.culture.code,
                language=self.language,
                shown=self.shown,
                task=task,
                number=number,
            ),
            enough=enough,
            closed=closed,
        )

    def answer(self, response: Response, reading: Reading, *, text: str | None = None, slot: int = 0) -> Answer:
        """An answer that was read from a response, or from ``text`` in it; what the response cost is of slot 0."""
        completion = response.completion
        return Answer(
            participant=self.participant.id,
            item=self.item,
            slot=slot,
            question=self.question.id,
            state=reading.state,
            choices=reading.choices,
            completion=completion.text if text is None else text,
            reason=completion.error or reading.reason,
            remembered=reading.remembered,
            shown=self.shown,
            memory=tuple(entry.item for entry in self.memory),
            draws=self.draws,
            seed=response.seed,
            used=completion.used,
            prompt_tokens=None if slot else completion.prompt_tokens,
            completion_tokens=None if slot else completion.completion_tokens,
            attempt=self.attempt,
            seconds=0.0 if slot else response.seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What an engine made of a request, or of all requests on the way to one answer."""

    completion: Completion
    seed: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was read of one question: answers by slot, or the probabilities of its options."""

    answers: tuple[Answer, ...] = ()
    probabilities: tuple[OptionProbabilities, ...] = ()


class Notes:
    """Where the steps of an answer that takes several are kept until it is there; these keep nothing."""

    def done(self, item: int, attempt: int) -> Sequence[CompletedStep]:  # noqa: ARG002
        """The steps towards this answer that were kept before."""
        return ()

    def keep(self, step: CompletedStep) -> None:
        """Keep a step; it is not asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """By what questions are asked: an engine, the notes of answers that take several steps, a clock."""

    engine: Engine
    notes: Notes = field(default_factory=Notes)
    clock: Callable[[], float] = time.monotonic
    paid: bool = False  #: whether steps that the notes have cost nothing more, since another answer has paid for them


class Method:
    """One way to have a question answered."""

    name = ""  #: in study files, and in the database
    slots = 1  #: answers in the ledger that a participant gives to each question; 0: probabilities are read instead
    completions = 1  #: replies that one participant's turn at a question takes
    whole_cell = False  #: whether a cell has one participant, whatever the study's number
    draws_decoding = False  #: whether beams and sampling are drawn, as the condition says; else there is one beam
    samples = False  #: whether replies are sampled where decoding is not drawn
    shortened = (
        True  #: whether its replies go as far as a study's ``reply`` says; steps that others read go to their end
    )
    steps = ""  #: for a preview: what is asked after the first prompt

    def conditions(self) -> tuple[Condition, ...]:
        """The conditions that a study names without describing them."""
        off = {"prompt": False, "config": False, "memory": False, "option_order": False}
        return (Condition(name=self.name, method=self.name, slots=self.slots, **off),)

    def order(self, protocol: Protocol, index: int, questions: Sequence[str]) -> tuple[str, ...]:
        """The order in which participant ``index`` meets the questions (ids in survey order)."""
        return question_order(protocol, index, questions)

    def draw(
        self,
        protocol: Protocol,
        condition: Condition,
        culture: Culture,
        index: int,
        question: str | None = None,
        *,
        paraphrases: int = 0,
    ) -> Draws:
        """What is drawn for a participant, or for one question; the arguments are as in ``draw_axes``."""
        axes = draw_axes(protocol, condition, culture, index, question, paraphrases=paraphrases)
        return axes if self.draws_decoding else replace(axes, num_beams=1, do_sample=self.samples)

    def option_orders(self, question: Question, shown: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:  # noqa: ARG002
        """The orders of options in which a question is asked, a prompt for each."""
        return (shown,)

    def text(self, parts: PromptParts) -> str:
        """The prompt that asks one question; the first one of several steps."""
        return prompt_text(parts.question, parts.shown, parts.culture, parts.region, parts.language)

    def messages(self, posed: Posed) -> tuple[Message, ...]:
        """The conversation that asks a question."""
        return conversation(self.text(posed))

    def prompt(self, posed: Posed) -> tuple[Request, ...]:
        """The requests that ask a question; only the first one where others depend on its reply."""
        how_far = posed.protocol.reply
        enough = partial(is_settled, question=posed.question, shown=posed.shown, reply=how_far)
        request = posed.request(
            self.messages(posed),
            seed=completion_seed(posed.protocol, posed.index, posed.question.id, posed.attempt),
            reply_start=words(posed.language).answer,
            enough=None if how_far in (Reply.FULL, Reply.CHOICE) else enough,
            closed=closed_reply(posed.question, posed.shown, posed.language) if how_far is Reply.CHOICE else None,
        )
        return (request,)

    def ask(self, posed: Posed, requests: Sequence[Request], line: Line) -> tuple[Response, ...]:  # noqa: ARG002
        """Submit the requests, and wait for what becomes of them; raises CancelledError or EngineUnavailable."""
        began = line.clock()
        futures = [submit(line.engine, request) for request in requests]
        return tuple(
            Response(completion=outcome(future), seed=request.seed, seconds=line.clock() - began)
            for request, future in zip(requests, futures, strict=True)
        )

    def read(self, posed: Posed, responses: Sequence[Response]) -> Found:
        """What the responses say."""
        (response,) = responses
        said, protocol = response.completion, posed.protocol
        reading = read(said.text, said.finish, posed.question, posed.shown, posed.language, protocol.reply)
        return Found(answers=(posed.answer(response, reading),))

    def remember(self, posed: Posed, found: Found) -> tuple[Remembered, ...]:  # noqa: ARG002
        """The memory after a question."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Questionnaire:
    """Who is asked what in which order, and by which method."""

    participant: Participant
    survey: Survey
    protocol: Protocol
    method: Method
    order: tuple[str, ...]  # question ids in this participant's own order

    def draw(self, item: int) -> Draws:
        """The participant's draws, or the question's own where each question has some."""
        if self.protocol.draws is DrawsPer.PARTICIPANT:
            return self.participant.draws
        condition, culture = self.participant.cell.condition, self.survey.culture(self.participant.cell.culture)
        index, most = self.participant.index, self.survey.most_paraphrases
        return self.method.draw(self.protocol, condition, culture, index, self.order[item], paraphrases=most)

    def pose(self, item: int, draws: Draws, memory: tuple[Remembered, ...], attempt: int) -> Posed:
        """A question in the wording and with the order of options that were drawn for it."""
        question = self.survey.worded(self.order[item], draws.paraphrase)
        participant, cell = self.participant, self.participant.cell
        return Posed(
            question=question,
            shown=options_shown(self.protocol, cell.condition, question, participant.index),
            culture=self.survey.culture(cell.culture),
            region=draws.region,
            language=cell.language,
            index=participant.index,
            participant=participant,
            protocol=self.protocol,
            item=item,
            attempt=attempt,
            draws=draws,
            memory=memory,
        )

    def request(
        self, item: int, memory: tuple[int, ...] = (), *, recall: Recall | None = None, attempt: int = 0
    ) -> Request:
        """The request, or the first of several, that asks one item; no engine is needed."""
        return self.method.prompt(self.pose(item, self.draw(item), self.memory(memory, recall or {}), attempt))[0]

    def memory(self, items: tuple[int, ...], recall: Recall) -> tuple[Remembered, ...]:
        """H = [(h_q, h_a), ...]: earlier questions as they were put, with what is remembered of their answers."""
        posed = [self.pose(item, self.draw(item), (), 0) for item in items]
        return tuple(remembered(each, recall[each.item]) for each in posed)


def remembered(posed: Posed, answer: str) -> Remembered:
    """A question and what is remembered of its answer, as memory keeps them."""
    return Remembered(posed.item, request_text(posed.question, posed.shown, posed.language), answer)
