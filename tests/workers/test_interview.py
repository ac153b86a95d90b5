"""Interviews: resumed as if never cut off, paired across conditions, and shown exactly what is remembered."""

import hashlib
from collections import Counter
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from defsurvey.storage.runs.run import (
    Answer,
    AnswerState,
    Condition,
    DrawsPer,
    MemoryOrder,
    Participant,
    Preset,
    Protocol,
    QuestionOrder,
    Reply,
    UsedDecoding,
)
from defsurvey.storage.surveys.survey import Paraphrase, Survey
from defsurvey.workers.engines.base import Completion, Engine, EngineUnavailable, FinishReason, Request
from defsurvey.workers.simulation.draws import completion_seed, draw_axes, options_shown, question_order
from defsurvey.workers.simulation.interview import Step, ask_again, interview
from defsurvey.workers.simulation.methods import questionnaire
from defsurvey.workers.simulation.methods.def_ import remember
from defsurvey.workers.simulation.methods.method import Questionnaire
from defsurvey.workers.simulation.prompts import option_text, prompt_text, request_text, words
from tests.workers.citizens import CN, DEF, NONE, QUESTIONS, SURVEY, US, Asked, citizen

PAPER = Protocol(seed=11)
PROTOCOLS = {
    "paper": PAPER,
    "code": replace(PAPER, preset=Preset.CODE),
    "per-question": replace(PAPER, draws=DrawsPer.QUESTION),
    "in order": replace(PAPER, memory_order=MemoryOrder.CHRONOLOGICAL, question_order=QuestionOrder.SHUFFLED),
}
USED = UsedDecoding(num_beams=1, do_sample=True, temperature=None, top_p=None, max_new_tokens=64)


class Respondent(Engine):
    """Stands where a model would: its reply depends on the whole request and on nothing else.

    One reply in ``refuses`` declines.
    """

    def __init__(self, *, refuses: int = 6) -> None:
        self.requests: list[Request] = []
        self.refuses = refuses

    def submit(self, request: Request) -> Future[Completion]:
        self.requests.append(request)
        assert request.asked is not None
        future: Future[Completion] = Future()
        told = repr((request.messages, request.seed, request.decoding)).encode()
        number = int.from_bytes(hashlib.sha256(told).digest()[:4], "big")
        question, language = request.asked.question, request.asked.language
        code = request.asked.shown[number % len(request.asked.shown)]
        explanation = f"{words(language).explanation}So be it. {number}"
        text = f"{request.reply_start}{option_text(question, code, language)}\n{explanation}"
        if request.closed is not None:
            future.set_result(Completion(text=f"{request.reply_start}{code}", finish=FinishReason.ENOUGH, used=USED))
            return future
        if number % self.refuses == 0:
            text = "As an AI, I have no view."
        future.set_result(
            Completion(text=text, finish=FinishReason.STOP, used=USED, prompt_tokens=number % 97, completion_tokens=7)
        )
        return future


def _asking(participant: Participant, protocol: Protocol = PAPER, survey: Survey = SURVEY) -> Questionnaire:
    return questionnaire(participant, survey=survey, questions=QUESTIONS, protocol=protocol)


def _interview(
    participant: Participant, protocol: Protocol, engine: Engine | None = None, recall: dict[int, str] | None = None
) -> list[Step]:
    clock = count(100.0, 0.25)
    asking = _asking(participant, protocol)
    return list(interview(asking, engine=engine or Respondent(), recall=recall or {}, clock=lambda: next(clock)))


def _answers(participant: Participant, protocol: Protocol, engine: Engine | None = None) -> list[Answer]:
    return [step.answers[0] for step in _interview(participant, protocol, engine)]


def _recall(steps: list[Step]) -> dict[int, str]:
    said = (step.answers[0] for step in steps)
    return {answer.item: answer.remembered for answer in said if answer.remembered is not None}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_question_is_asked_once_in_the_participants_order(name: str, language: str) -> None:
    protocol, participant = PROTOCOLS[name], citizen(PROTOCOLS[name], 1, language=language)
    engine = Respondent()
    answers = _answers(participant, protocol, engine)
    assert [answer.question for answer in answers] == list(question_order(protocol, 1, QUESTIONS))
    assert [answer.item for answer in answers] == list(range(len(QUESTIONS)))
    assert {answer.participant for answer in answers} == {participant.id}
    assert {answer.seconds for answer in answers} == {0.25}
    assert {answer.state for answer in answers} == {AnswerState.ANSWERED, AnswerState.REFUSED}
    for answer, request in zip(answers, engine.requests, strict=True):
        assert answer.seed == request.seed == completion_seed(protocol, 1, answer.question)
        assert answer.shown == options_shown(protocol, DEF, SURVEY.question(answer.question), 1)
        decoding, draws = request.decoding, answer.draws
        assert (decoding.num_beams, decoding.do_sample) == (draws.num_beams, draws.do_sample)
        assert (decoding.temperature, decoding.top_p, decoding.max_new_tokens) == (1.0, 1.0, 512)
        assert (answer.used, answer.completion_tokens) == (USED, 7)
        assert request.reply_start == {"en": "Answer: ", "zh": "答案："}[language]


@pytest.mark.parametrize("reply", Reply)
def test_a_reply_is_read_as_far_as_the_protocol_says(reply: Reply) -> None:
    """The request carries when it is enough, and an engine that has gone on is read as if it had not."""
    protocol, engine = replace(PAPER, reply=reply), Respondent()
    answers = _answers(citizen(protocol, 1), protocol, engine)
    for answer, request in zip(answers, engine.requests, strict=True):
        assert (request.enough is None) is (reply in (Reply.FULL, Reply.CHOICE))
        assert (request.closed is None) is (reply is not Reply.CHOICE)
        if reply is Reply.CHOICE:
            assert answer.remembered == answer.completion == f"Answer: {answer.choices[0]}"
        elif answer.remembered is not None:
            assert ("Explanation" in answer.remembered) is (reply is not Reply.ANSWER)
            settled = request.enough is not None and request.enough(f"{answer.completion} And so on.")
            assert settled is (reply is not Reply.FULL)


@pytest.mark.parametrize("cut", [1, 9, 23])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_resumed_interview_goes_on_as_if_it_had_not_been_cut(name: str, cut: int) -> None:
    protocol = PROTOCOLS[name]
    whole = _interview(citizen(protocol, 1), protocol)
    memory = whole[cut - 1].memory
    recall = {item: text for item, text in _recall(whole[:cut]).items() if item in memory}
    resumed = replace(citizen(protocol, 1), next_item=cut, memory=memory)
    assert _interview(resumed, protocol, recall=recall) == whole[cut:]


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_prompt_shows_the_memory_that_its_answer_names(name: str, language: str) -> None:
    """The conversation is exactly the remembered requests and answers, in that order, and then the prompt."""
    protocol, participant = PROTOCOLS[name], citizen(PROTOCOLS[name], 2, culture=CN, language=language)
    engine = Respondent()
    steps = _interview(participant, protocol, engine)
    order, recall = question_order(protocol, 2, QUESTIONS), _recall(steps)
    previous: tuple[int, ...] = ()
    for step, request in zip(steps, engine.requests, strict=True):
        answer = step.answers[0]
        assert answer.memory == previous
        expected: list[tuple[str, str]] = []
        for item in answer.memory:
            question = SURVEY.question(order[item])
            earlier = request_text(question, options_shown(protocol, DEF, question, 2), language)
            expected += [("user", earlier), ("assistant", recall[item])]
        question = SURVEY.question(answer.question)
        expected.append(("user", prompt_text(question, answer.shown, CN, answer.draws.region, language)))
        assert [(turn.role, turn.content) for turn in request.messages] == expected
        assert len(step.memory) <= answer.draws.memory_capacity
        previous = step.memory


def test_memory_is_used_and_overflows() -> None:
    participant = replace(citizen(PAPER), draws=replace(citizen(PAPER).draws, memory_capacity=3))
    steps = _interview(participant, PAPER)
    refused = {step.answers[0].item for step in steps if step.answers[0].state is AnswerState.REFUSED}
    assert refused
    assert not refused & {item for step in steps for item in step.memory}
    assert {len(step.memory) for step in steps[8:]} == {3}
    assert len({step.memory for step in steps[8:]}) > 5
    for step in steps:
        if step.answers[0].item in refused:
            assert step.answers[0].remembered is None
            assert step.memory == step.answers[0].memory


def test_the_published_code_can_show_an_answer_twice() -> None:
    protocol = PROTOCOLS["code"]
    participant = replace(citizen(protocol), draws=replace(citizen(protocol).draws, memory_capacity=4))
    memories = [step.answers[0].memory for step in _interview(participant, protocol)]
    assert any(len(set(memory)) < len(memory) for memory in memories)
    paper = replace(citizen(PAPER), draws=replace(citizen(PAPER).draws, memory_capacity=4))
    assert all(len(set(step.memory)) == len(step.memory) for step in _interview(paper, PAPER))


def test_draws_are_made_per_question_where_the_protocol_says_so() -> None:
    protocol = PROTOCOLS["per-question"]
    answers = _answers(citizen(protocol, 4), protocol)
    assert [answer.draws for answer in answers] == [draw_axes(protocol, DEF, US, 4, a.question) for a in answers]
    assert len({answer.draws for answer in answers}) > 10
    assert {answer.draws for answer in _answers(citizen(PAPER, 4), PAPER)} == {citizen(PAPER, 4).draws}


def test_conditions_and_models_are_asked_in_pairs() -> None:
    """An ablation has the seeds of the full framework, and the same questions with their options in the same order."""

    def paired(condition: Condition) -> list[tuple[object, ...]]:
        return [(a.seed, a.shown, a.question) for a in _answers(citizen(PAPER, 3, condition=condition), PAPER)]

    assert paired(DEF) == paired(NONE) == paired(replace(DEF, name="w/o memory", memory=False))


def _raising(error: Exception, late: bool) -> Asked:
    def then(*_what: object) -> Completion:
        raise error

    return Asked(then=then, late=late)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("condition", [DEF, Condition(name="ccsv-single", method="ccsv-single")])
def test_an_engine_that_raises_ends_every_answer_and_is_not_asked_for_ever(condition: Condition, late: bool) -> None:
    answers = _answers(citizen(PAPER, condition=condition), PAPER, _raising(ZeroDivisionError("by zero"), late))
    assert {(answer.state, answer.reason) for answer in answers} == {
        (AnswerState.FAILED, "the engine raised ZeroDivisionError: by zero")
    }


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("error", [CancelledError(), EngineUnavailable("closed")])
def test_what_says_nothing_of_a_request_costs_no_answer(error: Exception, late: bool) -> None:
    """A worker that stops cancels its requests: the participant is to be taken up again where it stands."""
    with pytest.raises(type(error)):
        _interview(citizen(PAPER), PAPER, _raising(error, late))


def test_a_request_can_be_built_without_an_engine() -> None:
    """Preview sees what the interview would submit."""
    engine = Respondent()
    steps = _interview(citizen(PAPER, 1), PAPER, engine)
    for step, request in zip(steps, engine.requests, strict=True):
        answer = step.answers[0]
        assert _asking(citizen(PAPER, 1)).request(answer.item, answer.memory, recall=_recall(steps)) == request


def test_an_answer_is_asked_again_with_the_memory_it_was_shown() -> None:
    """Only the seed differs; what memory keeps of the first answer stays, whatever the new one says."""
    steps = _interview(citizen(PAPER, 1), PAPER)
    first = steps[12].answers[0]
    assert first.memory
    engine, asking, recall = Respondent(), _asking(citizen(PAPER, 1)), _recall(steps)
    again = ask_again(first, asking, engine=engine, recall=recall, attempt=1)
    built = asking.request(12, first.memory, recall=recall)
    assert replace(engine.requests[0], seed=built.seed) == built
    assert again.seed == completion_seed(PAPER, 1, first.question, 1) != first.seed
    assert (again.attempt, again.memory, again.remembered) == (1, first.memory, first.remembered)
    assert again.completion != first.completion
    assert ask_again(again, asking, engine=engine, recall=recall, attempt=2).attempt == 2


# The fourth axis: every participant is asked in a wording that it drew.


PARAPHRASED = Condition(name="paraphrased", paraphrase=True)
#: Two other wordings of every question but the last, and the second of these in English alone.
WORDED = replace(
    SURVEY,
    paraphrases=tuple(
        Paraphrase(question=name, number=number, language=language, text=f"{name} {language} {number}", model="m")
        for name in QUESTIONS[:-1]
        for number, language in ((1, "en"), (1, "zh"), (2, "en"))
    ),
)


def _citizen(index: int, protocol: Protocol, condition: Condition = PARAPHRASED) -> Participant:
    draws = draw_axes(protocol, condition, US, index, paraphrases=WORDED.most_paraphrases)
    drawn = citizen(protocol, index, condition=condition)
    return replace(drawn, draws=draws)


def test_wordings_are_drawn_evenly_and_leave_the_other_axes_as_they_are() -> None:
    protocol = Protocol(seed=5)
    drawn = [draw_axes(protocol, PARAPHRASED, US, index, paraphrases=2) for index in range(1500)]
    counts = Counter(draws.paraphrase for draws in drawn)
    assert set(counts) == {0, 1, 2}
    assert min(counts.values()) > 420
    plain = [draw_axes(protocol, DEF, US, index) for index in range(1500)]
    assert [replace(draws, paraphrase=0) for draws in drawn] == plain


@pytest.mark.parametrize("per", DrawsPer)
def test_memory_keeps_the_wording_in_which_was_asked(per: DrawsPer) -> None:
    protocol = Protocol(seed=5, draws=per)
    seen: set[int] = set()
    for index in range(8):
        engine = Respondent(refuses=10**9)
        asked = interview(_asking(_citizen(index, protocol), protocol, WORDED), engine=engine, recall={})
        answers, wordings = [step.answers[0] for step in asked], []
        for answer, request in zip(answers, engine.requests, strict=True):
            number = answer.draws.paraphrase
            seen.add(number)
            wordings.append(WORDED.worded(answer.question, number).text["en"])
            assert request.messages[-1].content.count(f"Request: {wordings[-1]}\n") == 1
            turns = [message.content for message in request.messages[:-1:2]]
            assert [turn.split("\n")[0] for turn in turns] == [f"Request: {wordings[item]}" for item in answer.memory]
    assert seen == {0, 1, 2}


# Memory: what stays, what is forgotten, and in which order it is shown.


DRAWN, CHRONOLOGICAL = MemoryOrder.DRAWN, MemoryOrder.CHRONOLOGICAL


def _remember(
    memory: tuple[int, ...],
    item: int | None,
    capacity: int,
    *,
    with_replacement: bool = False,
    order: MemoryOrder = DRAWN,
    seed: int = 0,
) -> tuple[int, ...]:
    rng = np.random.default_rng(seed)
    return remember(memory, item, capacity=capacity, with_replacement=with_replacement, order=order, rng=rng)


@pytest.mark.parametrize(("with_replacement", "selections"), [(False, 24), (True, 64)])
def test_above_capacity_all_selections_are_alike(with_replacement: bool, selections: int) -> None:
    """The paper keeps each entry at most once; the published code draws with replacement, repetitions included."""
    drawn = (_remember((0, 1, 2), 3, 3, with_replacement=with_replacement, seed=n) for n in range(100 * selections))
    kept = Counter(drawn)
    assert len(kept) == selections
    assert with_replacement or all(len(set(memory)) == 3 for memory in kept)
    assert chisquare(list(kept.values())).pvalue > 0.001


@given(
    st.lists(st.integers(0, 50), unique=True, max_size=20),
    st.sampled_from([51, None]),
    st.integers(0, 20),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_chronological_memory_is_the_drawn_one_sorted(
    memory: list[int], item: int | None, capacity: int, with_replacement: bool, seed: int
) -> None:
    drawn = _remember(tuple(memory), item, capacity, with_replacement=with_replacement, seed=seed)
    shown = _remember(tuple(memory), item, capacity, with_replacement=with_replacement, seed=seed, order=CHRONOLOGICAL)
    every = [*memory] if item is None else [*memory, item]
    assert list(shown) == sorted(drawn)
    assert len(drawn) == min(capacity, len(every))
    assert set(drawn) <= set(every)
    assert len(every) > capacity or list(drawn) == every
