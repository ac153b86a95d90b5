"""Where an answer's option stood: by its position in the question, whatever its code."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from defsurvey.reports.analysis import analyse
from defsurvey.reports.figures.questions import placement
from defsurvey.storage.runs.results import Results
from tests.reports.synthetic import QUESTIONS, results, survey, uniform


def shown_in_turn(made: Results) -> Results:
    """The run where participants were shown the options of a question in turn."""
    answers, questions = made.answers, made.survey.questions
    pairs = zip(answers.question.tolist(), answers.participant.tolist(), strict=True)
    shown = [questions[place].codes[person % len(questions[place].codes)] for place, person in pairs]
    return replace(made, answers=replace(answers, shown=np.array(shown)))


@pytest.mark.parametrize("codes", [(1, 2, 3), (999_999_999, 7, 12)])
def test_a_code_may_be_as_large_as_it_likes(codes: tuple[int, ...]) -> None:
    """Nine digits are valid: no table is as large as a code, and positions are those of small ones, in any order."""
    options = tuple(replace(known, code=code) for known, code in zip(QUESTIONS[1].options, codes, strict=True))
    tiny = survey(questions=(QUESTIONS[0], replace(QUESTIONS[1], options=options), QUESTIONS[2]))
    made = shown_in_turn(results([("a", "us", "def", uniform)], tiny=tiny))
    analysis = analyse(made)
    tracemalloc.start()
    found, (_, peak) = placement(analysis), tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
    (row,) = found
    of = made.answers
    rows = zip(of.question.tolist(), of.choices.tolist(), of.shown.tolist(), strict=True)
    met = [tiny.questions[place].codes.index(code) == choices.bit_length() - 1 for place, choices, code in rows]
    assert (row.bias.answers, row.bias.questions) == (60, 3)
    assert row.bias.first == pytest.approx(sum(met) / 60, abs=1e-12)
