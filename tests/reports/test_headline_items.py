"""Which items the headline is of: fixed for a run, so that no model's refusals change how others are measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from defsurvey.reports.analysis import Analysis, CellAnalysis, analyse
from defsurvey.reports.figures.dimensions import mean_section
from defsurvey.reports.figures.frameworks import model_section
from defsurvey.reports.figures.series import Training, series, training
from defsurvey.reports.finding import find
from defsurvey.reports.measures import measure_rows
from defsurvey.reports.metrics.intervals import Interval
from defsurvey.storage.runs.results import Results
from defsurvey.storage.surveys.survey import Question, Survey
from tests.reports.synthetic import QUESTIONS, SHARES, Respondent, human, last, refusing, results, survey, uniform

PLAIN = 40


def mixed(spoken: int, plain: int = PLAIN) -> Survey:
    """So many questions of one value dimension, and so many of none."""
    named = [(QUESTIONS[0], f"Q1-{n}") for n in range(spoken)]
    named += [(replace(QUESTIONS[1], value=None), f"Q2-{n}") for n in range(plain)]
    return survey(
        questions=tuple(replace(question, id=name) for question, name in named),
        shares={culture: {name: known[question.id] for question, name in named} for culture, known in SHARES.items()},
    )


def made(*respondents: tuple[str, Respondent], spoken: int = 3, plain: int = PLAIN) -> Results:
    """Models of one culture that answer such a survey."""
    return results([(name, "us", "def", how) for name, how in respondents], tiny=mixed(spoken, plain))


def without(given: Results, cell: int, *, first: int = 0, spoken: bool = True) -> Results:
    """The run where a cell refuses all questions of the dimension, or all others, but for its first participants."""
    of = given.answers
    asked = np.array([(question.value is not None) == spoken for question in given.survey.questions])
    return refusing(given, (of.cell == cell) & asked[of.question] & (of.participant >= first))


def of_plain(given: Results) -> Analysis:
    """That run, of which the first cell answers only questions that speak to no dimension."""
    return analyse(without(given, 0))


def test_a_model_that_answers_no_question_of_a_dimension_changes_nobodys_measure() -> None:
    """It has no headline and no place; the others keep theirs, and are measured by the same questions."""
    three = analyse(without(made(("h", human), ("l", last), ("u", uniform)), 2))
    two = analyse(made(("h", human), ("l", last)))
    found, expected = three.cultures[0].ranking, two.cultures[0].ranking
    assert np.isnan(three.cells[2].sound.headline)
    assert found.order == expected.order
    assert (found.people, found.random, found.questions) == (expected.people, expected.random, expected.questions)
    assert found.unranked == (("u", 0.0),)


def test_answers_to_other_questions_make_no_verdict() -> None:
    """Two participants answered what the headline is of: the many who answered all else do not count."""

    def far(question: Question, culture: str, people: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return (last if question.id.startswith("Q1") else human)(question, culture, people, rng)

    found = analyse(without(made(("m", far), spoken=12), 0, first=2))
    assert not found.cells[0].comparable
    assert find(found).headline.startswith("m gave too few answers to tell it from people of the United States")


def test_series_are_compared_on_the_questions_behind_the_figure() -> None:
    """Table 3 by question: the same three."""
    run = made(("a", human), ("b", human), ("c", last), ("d", last))
    facts = {model: {"series": "near" if model in "ab" else "far"} for model in "abcd"}
    part = series(analyse(replace(run, model_facts=facts)))
    (contrast,) = (test.by_question for test in part)
    assert contrast is not None
    assert (contrast.questions, contrast.p) == (3, 0.25)


def test_questions_of_no_dimension_widen_no_interval() -> None:
    """The two-way interval draws the questions that the headline is of; others are no part of it."""
    alone, beside = (analyse(made(("h", human), spoken=12, plain=plain)).cells[0] for plain in (0, PLAIN))
    for one, other in zip(*((each.interval, each.intervals.two_way) for each in (alone, beside)), strict=True):
        assert (one.low, one.high) == pytest.approx((other.low, other.high))


def _intervals(cell: CellAnalysis) -> list[Interval]:
    """All of a cell, but for dimensions that nobody was asked about."""
    return [cell.interval, cell.intervals.two_way, cell.intervals.by_dimension[3]]


def test_one_participant_behind_the_headline_is_said_to_be_too_few() -> None:
    """In the first words of the report, and without an interval that would be of copies of one person."""
    found = find(analyse(without(made(("m", human), spoken=12), 0, first=1)))
    assert found.headline.startswith("m has too few participants to be compared with people of the United States")
    assert not any("interval" in sentence for sentence in found.sentences)


def rarest_unknown(given: Results, *, spoken: bool) -> Results:
    """The run where no person gave the last option of any question of the dimension, or of any other."""
    asked = {question.id for question in given.survey.questions if (question.value is not None) == spoken}
    known = []
    for reference in given.survey.references:
        shares = dict(reference.shares)
        if reference.question in asked:
            shares[max(shares)] = 0.0
        known.append(replace(reference, shares={code: share / sum(shares.values()) for code, share in shares.items()}))
    return replace(given, survey=replace(given.survey, references=tuple(known)))


def picky(question: Question, culture: str, people: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Gives the last option wherever the question speaks to no dimension."""
    return (human if question.value is not None else last)(question, culture, people, rng)


def test_infinite_values_are_counted_where_the_headline_is_of() -> None:
    """Beside a mean without an infinite value stands 0%, in every table and in the figures, whatever else is so."""
    run = rarest_unknown(made(("m", picky), spoken=12), spoken=False)
    found = analyse(replace(run, model_facts={"m": {"stage": "chat"}}))
    (cell,) = found.cells
    assert np.isinf(cell.divergences.plug_in_kl).sum() == PLAIN
    assert cell.paper_values.infinite_share == 0.0
    plug_in = model_section(found).tables[1]
    assert plug_in.rows[0].entries[-1].text == "0%"
    assert isinstance(found.figure(training), Training)
    assert [stage.infinite for stage in found.figure(training).stages] == [0.0]
    assert [row["value"] for row in measure_rows(found) if row["metric"] == "infinite_share"] == [0.0]
    (fold,) = (fold for fold in mean_section(found).folds if fold.anchor == "figure-5-paper")
    assert fold.tables[0].rows[0].entries[-1].text == "0%"


def test_a_culture_without_a_reference_for_any_dimension_has_no_order() -> None:
    """And says so: its other questions have references."""
    run = made(("h", human), ("l", last))
    kept = tuple(r for r in run.survey.references if not r.question.startswith("Q1"))
    found = analyse(replace(run, survey=replace(run.survey, references=kept)))
    assert found.cultures[0].ranking.reason == "no question of a value dimension has a reference"


def test_without_any_dimension_every_question_counts() -> None:
    """Where no item of the run speaks to one, the headline is the mean over questions, as before."""
    found = analyse(made(("h", human), ("l", last), spoken=0, plain=12))
    assert found.cultures[0].ranking.questions == 12
    assert found.cells[0].sound.headline == pytest.approx(found.cells[0].sound.question_mean)
