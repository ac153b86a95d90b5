"""Who is asked what in which order, how, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from defsurvey.storage.runs.run import Answer, Decoding, Draws, DrawsPer, Method, Participant, Protocol, Reply
from defsurvey.storage.surveys.survey import Question, Survey
from defsurvey.workers.engines.base import Asked, Engine, Message, Request, outcome, submit
from defsurvey.workers.simulation.answer_parser import is_settled, read
from defsurvey.workers.simulation.memory import remember
from defsurvey.workers.simulation.methods.ccsv import Deliberation, deliberate, deliberate_again
from defsurvey.workers.simulation.methods.prompts import average_text, average_wording, conversation
from defsurvey.workers.simulation.participant import (
    PRESETS,
    completion_seed,
    draw_axes,
    options_shown,
    question_order,
    substream,
)
from defsurvey.workers.simulation.prompts import messages, words
from defsurvey.workers.simulation.taking import Notes

#: Methods that draft, criticise, rewrite and vote.
DELIBERATED = (Method.CCSV_SINGLE, Method.CCSV_LIST)

Clock = Callable[[], float]
Recall = Mapping[int, str]  #: item -> its ``Answer.remembered``


@dataclass(frozen=True, slots=True)
class Schedule:
    """Who is asked what in which order, and how."""

    participant: Participant
    survey: Survey
    protocol: Protocol
    order: tuple[str, ...]  # question ids in this participant's own order

    @classmethod
    def of(cls, participant: Participant, survey: Survey, questions: Sequence[str], protocol: Protocol) -> Schedule:
        """The schedule of one participant of a run."""
        return cls(participant, survey, protocol, question_order(protocol, participant.index, questions))

    def question(self, item: int) -> Question:
        """The question at a position of this participant's order, in its own words.

        Raises:
            IndexError: the participant is not asked so many questions.
        """
        if not 0 <= item < len(self.order):
            last = len(self.order) - 1
            raise IndexError(f"participant {self.participant.index}: item {item} is not one of 0-{last}")
        return self.survey.question(self.order[item])

    def draws(self, question: str) -> Draws:
        """What holds for a question: the participant's draws, or its own where each question has some."""
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
        """Option codes in the order in which this participant is shown them."""
        return options_shown(self.protocol, self.participant.cell.condition, question, self.participant.index)

    def deliberation(self, item: int, attempt: int) -> Deliberation:
        """The question as it is put where an answer takes several steps."""
        question = self.worded(item)
        return Deliberation(
            participant=self.participant,
            item=item,
            attempt=attempt,
            question=question,
            shown=self.shown(question),
            culture=self.survey.culture(self.participant.cell.culture),
            protocol=self.protocol,
        )

    def deliberated(self, item: int, attempt: int, engine: Engine, notes: Notes, clock: Clock) -> tuple[Answer, ...]:
        """The answers to an item by drafting, criticising, rewriting and voting, by slot."""
        return deliberate(self.deliberation(item, attempt), engine=engine, notes=notes, clock=clock)

    def deliberated_again(
        self, item: int, slot: int, attempt: int, engine: Engine, notes: Notes, clock: Clock
    ) -> Answer:
        """The answer of one slot, asked for again."""
        return deliberate_again(self.deliberation(item, attempt), slot, engine=engine, notes=notes, clock=clock)

    def messages(
        self, question: Question, shown: tuple[int, ...], draws: Draws, memory: Sequence[int], recall: Recall
    ) -> tuple[Message, ...]:
        """The conversation that asks a question."""
        cell, culture = self.participant.cell, self.survey.culture(self.participant.cell.culture)
        if cell.condition.method is Method.CAO2023:
            wording = average_wording(self.participant.index)
            return conversation(average_text(question, shown, culture, cell.language, wording))
        earlier = [(self.worded(kept), recall[kept]) for kept in memory]
        return messages(
            question,
            shown,
            culture=culture,
            region=draws.region,
            language=cell.language,
            remembered=[(asked, self.shown(asked), answer) for asked, answer in earlier],
        )

    def request(self, item: int, memory: Sequence[int], recall: Recall, attempt: int = 0) -> Request:
        """The request that asks an item; the first one, where an answer takes several steps."""
        if self.participant.cell.condition.method in DELIBERATED:
            return self.deliberation(item, attempt).draft()
        cell, question = self.participant.cell, self.worded(item)
        draws, shown = self.draws(question.id), self.shown(question)
        return Request(
            messages=self.messages(question, shown, draws, memory, recall),
            decoding=Decoding(
                num_beams=draws.num_beams,
                do_sample=draws.do_sample,
                temperature=self.protocol.temperature,
                top_p=self.protocol.top_p,
                top_k=self.protocol.top_k,
                max_new_tokens=self.protocol.max_new_tokens,
            ),
            seed=completion_seed(self.protocol, self.participant.index, question.id, attempt),
            reply_start=words(cell.language).answer,
            asked=Asked(question=question, culture=cell.culture, language=cell.language, shown=shown),
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
        """Submit a request, wait for its completion and read it."""
        question = self.worded(item)
        shown = self.shown(question)
        submitted = clock()
        completion = outcome(submit(engine, request))
        seconds = clock() - submitted
        reading = read(
            completion.text, completion.finish, question, shown, self.participant.cell.language, self.protocol.reply
        )
        return Answer(
            participant=self.participant.id,
            item=item,
            question=question.id,
            state=reading.state,
            choices=reading.choices,
            completion=completion.text,
            reason=completion.error or reading.reason,
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
        """The memory after an answer."""
        if answer.draws.memory_capacity == 0:
            return ()
        return remember(
            answer.memory,
            None if answer.remembered is None else answer.item,
            capacity=answer.draws.memory_capacity,
            with_replacement=PRESETS[self.protocol.preset].with_replacement,
            order=self.protocol.memory_order,
            rng=substream(self.protocol.seed, "memory", self.participant.index, answer.question),
        )
