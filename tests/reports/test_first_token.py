"""First-token probabilities beside an interview: like stands beside like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from defsurvey.reports.analysis import analyse
from defsurvey.reports.figures.first_token import FirstTokenRow, first_token, first_token_section
from defsurvey.reports.metrics.divergence import smoothed_kl
from defsurvey.storage.runs.results import ProbabilityRow, Results
from defsurvey.storage.runs.run import Condition
from defsurvey.storage.surveys.survey import Question
from tests.reports.synthetic import refusing, repeated, results

#: A model that nearly always gives one answer: by its probabilities as by its interview.
SAID = {"Q1": [0.91, 0.03, 0.03, 0.03], "Q2": [0.02, 0.02, 0.96], "Q3": [0.01] * 9 + [0.91], "Q4": [0.1, 0.9, 0.1]}


def drawing(question: Question, culture: str, people: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws each answer from the probabilities; of a list its second option alone."""
    name = question.id.partition("-")[0]
    if name == "Q4":
        return np.full(people, 2, dtype=np.int64)
    return (1 << rng.choice(len(SAID[name]), size=people, p=SAID[name])).astype(np.int64)


def with_probabilities(participants: int) -> Results:
    """An interview of that model, and a cell whose probabilities were read."""
    made = results([("m", "us", "def", drawing)], participants=participants, tiny=repeated(12), seed=3)
    read = replace(
        made.run.cells[0], id=2, condition=Condition(name="first-token", method="first-token", slots=0), participants=1
    )
    rows = tuple(
        ProbabilityRow(cell=1, question=question.id, order=0, option=code, probability=share)
        for question in made.survey.questions
        if (name := question.id.partition("-")[0]) != "Q4"
        for code, share in zip(question.codes, SAID[name], strict=True)
    )
    return replace(made, run=replace(made.run, cells=(*made.run.cells, read)), probabilities=rows)


def row_of(made: Results) -> FirstTokenRow:
    """The one row."""
    part = analyse(made).figure(first_token)
    (row,) = part
    return row


@pytest.mark.parametrize("participants", [5, 20, 100])
def test_who_draws_from_its_probabilities_scores_what_they_do(participants: int) -> None:
    """Drawn as many times they lie where the interview does; undrawn they lie far further over the floor."""
    row = row_of(with_probabilities(participants))
    assert row.drawn == pytest.approx(row.interview, rel=0.05)
    undrawn = row.value / (row.interview - row.floor)
    assert (undrawn > 1.25) == (participants < 100)


def test_as_many_are_drawn_as_the_interview_answered() -> None:
    """Question by question: by simulation of the valid answers to each."""
    made = with_probabilities(6)
    few = refusing(made, (made.answers.question < 20) & (made.answers.participant > 1))
    found = analyse(few)
    part, rng = found.figure(first_token), np.random.default_rng(6)
    items, reference, cell = found.items, found.cultures[0].reference, found.cells[0]
    by_dimension: dict[int, list[float]] = {}
    for item in np.flatnonzero(items.whole & items.grouping.headline).tolist():
        question = items.questions[items.question[item]]
        drawn = rng.multinomial(cell.n_valid[items.question[item]], SAID[question.id.partition("-")[0]], size=4_000)
        size = len(question.codes)
        values = smoothed_kl(drawn, reference.shares[item, :size], reference.n[item])
        by_dimension.setdefault(int(items.grouping.dimension[item]), []).append(float(values.mean()))
    assert part[0].drawn == pytest.approx(np.mean([np.mean(each) for each in by_dimension.values()]), rel=0.01)


def test_like_stands_beside_like() -> None:
    """Both excesses are over one floor; of the probabilities alone there is none."""
    section = first_token_section(analyse(with_probabilities(20)))
    (table,) = section.tables
    row = row_of(with_probabilities(20))
    shown = dict(zip([each.text for each in table.columns[1:]], table.rows[0].entries, strict=True))
    assert float(shown["Excess"].text) == pytest.approx(row.drawn - row.floor, abs=0.001)
    assert float(shown["Excess, def"].text) == pytest.approx(row.interview - row.floor, abs=0.001)
