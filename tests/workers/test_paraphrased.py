"""The fourth axis: every participant is asked in a wording that it drew."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from defsurvey.storage.runs.run import Answer, Condition, DrawsPer, Participant, Protocol
from defsurvey.storage.surveys.survey import Paraphrase
from defsurvey.workers.simulation.draws import draw_axes
from defsurvey.workers.simulation.interview import interview
from defsurvey.workers.simulation.methods import questionnaire
from tests.workers.citizens import DEF, QUESTIONS, SURVEY, US, citizen
from tests.workers.test_interview import Respondent

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


def _answers(participant: Participant, protocol: Protocol, engine: Respondent) -> list[Answer]:
    asked = interview(
        questionnaire(participant, survey=WORDED, questions=QUESTIONS, protocol=protocol),
        engine=engine,
        recall={},
        clock=lambda: 0.0,
    )
    return [step.answers[0] for step in asked]


def test_wordings_are_drawn_evenly_and_leave_the_other_axes_as_they_are() -> None:
    """Its own wording and each paraphrase come equally often; region, decoding and memory do not move."""
    protocol = Protocol(seed=5)
    drawn = [draw_axes(protocol, PARAPHRASED, US, index, paraphrases=2) for index in range(1500)]
    counts = Counter(draws.paraphrase for draws in drawn)
    assert set(counts) == {0, 1, 2}
    assert min(counts.values()) > 420
    plain = [draw_axes(protocol, DEF, US, index) for index in range(1500)]
    assert [replace(draws, paraphrase=0) for draws in drawn] == plain


@pytest.mark.parametrize("per", DrawsPer)
def test_memory_keeps_the_wording_in_which_was_asked(per: DrawsPer) -> None:
    """Each prompt has the wording drawn for it, and what is remembered the one in which it was asked."""
    protocol = Protocol(seed=5, draws=per)
    seen: set[int] = set()
    for index in range(8):
        engine = Respondent(refuses=10**9)
        answers = _answers(_citizen(index, protocol), protocol, engine)
        wordings = []
        for answer, request in zip(answers, engine.requests, strict=True):
            number = answer.draws.paraphrase
            seen.add(number)
            wordings.append(WORDED.worded(answer.question, number).text["en"])
            assert request.messages[-1].content.count(f"Request: {wordings[-1]}\n") == 1
            turns = [message.content for message in request.messages[:-1:2]]
            assert [turn.split("\n")[0] for turn in turns] == [f"Request: {wordings[item]}" for item in answer.memory]
    assert seen == {0, 1, 2}


def test_a_question_without_that_paraphrase_keeps_its_own_words() -> None:
    """So does one that has it in another language alone."""
    assert WORDED.worded(QUESTIONS[-1], 2) == SURVEY.question(QUESTIONS[-1])
    worded = WORDED.worded(QUESTIONS[0], 2)
    assert worded.text == {"en": f"{QUESTIONS[0]} en 2", "zh": SURVEY.question(QUESTIONS[0]).text["zh"]}
    assert worded.options == SURVEY.question(QUESTIONS[0]).options


def test_without_the_axis_nobody_is_asked_otherwise() -> None:
    """A survey that has paraphrases is asked in its own words by every other condition."""
    protocol = Protocol(seed=5)
    for index in range(5):
        participant = _citizen(index, protocol, DEF)
        assert participant.draws.paraphrase == 0
        for item in range(len(QUESTIONS)):
            given = questionnaire(participant, survey=WORDED, questions=QUESTIONS, protocol=protocol).request(item)
            assert given == questionnaire(participant, survey=SURVEY, questions=QUESTIONS, protocol=protocol).request(
                item
            )
