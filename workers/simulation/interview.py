"""One participant is asked its questions, one after the other: the paper's Algorithm 1.

It starts wherever the participant stands and keeps nothing but what its steps hand back, so that an interview that was
cut off goes on as if it had not been.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from defsurvey.storage.runs.run import Answer, Draws, DrawsPer, OptionProbabilities, Participant, Protocol
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Engine, Request
from defsurvey.workers.simulation.draws import options_shown
from defsurvey.workers.simulation.methods import method_of
from defsurvey.workers.simulation.methods.method import Line, NoNotes, Notes, PaidNotes, Posed, Remembered

Recall = Mapping[int, str]  #: item -> its ``Answer.remembered``


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What came of one question and the memory after it, to be committed together."""

    item: int
    answers: tuple[Answer, ...]  #: by slot; none where probabilities are read instead
    probabilities: tuple[OptionProbabilities, ...]
    memory: tuple[int, ...]  #: remembered items, in the order in which they are shown next


def interview(
    participant: Participant,
    *,
    survey: Survey,
    questions: Sequence[str],
    protocol: Protocol,
    engine: Engine,
    recall: Recall,
    notes: Notes | None = None,
    clock: Callable[[], float] = time.monotonic,
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
    method = method_of(participant.cell.condition)
    asking = _Asking(participant, survey, protocol, method.order(protocol, participant.index, questions))
    line = Line(engine=engine, notes=notes or NoNotes(), clock=clock)
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
    """The request, or the first of several, that asks one item; no engine is needed. Arguments as in ``interview``.

    Raises:
        IndexError: the participant is not asked so many questions.
    """
    method = method_of(participant.cell.condition)
    asking = _Asking(participant, survey, protocol, method.order(protocol, participant.index, questions))
    return method.prompt(asking.pose(item, asking.draw(item), asking.memory(memory, recall or {}), attempt))[0]


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
    notes: Notes | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Answer:
    """Ask one item once more, with the memory that it was shown the first time. Arguments as in ``interview``.

    Later memory is not altered: the new answer keeps the old one's ``remembered``, since that is what later questions
    were shown. Slots of one attempt share its steps: a step is paid for beside the slot for which it was asked.

    Raises:
        ValueError: this attempt, or a later one, was made already.
    """
    if attempt <= answer.attempt:
        where = f"participant {answer.participant}, item {answer.item}"
        raise ValueError(f"{where}: expected an attempt above {answer.attempt}, got {attempt}")
    method, notes = method_of(participant.cell.condition), notes or NoNotes()
    asking = _Asking(participant, survey, protocol, method.order(protocol, participant.index, questions))
    line = Line(engine=engine, notes=PaidNotes(notes) if method.slots > 1 else notes, clock=clock)
    posed = asking.pose(answer.item, asking.draw(answer.item), asking.memory(answer.memory, recall), attempt)
    answers = method.read(posed, method.ask(posed, method.prompt(posed), line)).answers
    cost = {name: getattr(answers[0], name) for name in ("prompt_tokens", "completion_tokens", "seconds")}
    return replace(answers[answer.slot], remembered=answer.remembered, out_of_sequence=True, **cost)


@dataclass(frozen=True, slots=True)
class _Asking:
    """Who is asked what in which order."""

    participant: Participant
    survey: Survey
    protocol: Protocol
    order: tuple[str, ...]  # question ids in this participant's own order

    def draw(self, item: int) -> Draws:
        """The participant's draws, or the question's own where each question has some."""
        if not 0 <= item < len(self.order):
            raise IndexError(f"participant {self.participant.index}: item {item} is not one of 0-{len(self.order) - 1}")
        if self.protocol.draws is DrawsPer.PARTICIPANT:
            return self.participant.draws
        condition, culture = self.participant.cell.condition, self.survey.culture(self.participant.cell.culture)
        index, most = self.participant.index, self.survey.most_paraphrases
        draw = method_of(condition).draw
        return draw(self.protocol, condition, culture, index, self.order[item], paraphrases=most)

    def pose(self, item: int, draws: Draws, memory: tuple[Remembered, ...], attempt: int) -> Posed:
        """A question in the wording and with the order of options that were drawn for it."""
        question = self.survey.worded(self.order[item], draws.paraphrase)
        return Posed(
            participant=self.participant,
            protocol=self.protocol,
            culture=self.survey.culture(self.participant.cell.culture),
            item=item,
            attempt=attempt,
            draws=draws,
            question=question,
            shown=options_shown(self.protocol, self.participant.cell.condition, question, self.participant.index),
            memory=memory,
        )

    def memory(self, items: tuple[int, ...], recall: Recall) -> tuple[Remembered, ...]:
        """H = [(h_q, h_a), ...]: earlier questions as they were put, with what is remembered of their answers."""
        posed = [self.pose(item, self.draw(item), (), 0) for item in items]
        return tuple(Remembered(each.item, each.question, each.shown, recall[each.item]) for each in posed)
