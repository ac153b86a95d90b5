"""From results to one Analysis: counts, both ways of measuring, and honesty where there is little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import entropy

from defsurvey.reports.analysis import analyse, cell_names, mode_shares
from defsurvey.reports.cells import Compared, contrasts, item_table, reference_table, uniform_shares
from defsurvey.reports.figures.questions import distinguish, question_cards
from defsurvey.reports.metrics.aggregate import Grouping
from defsurvey.storage.surveys.survey import Survey
from tests.reports.synthetic import SHARES, human, last, results, survey, uniform

ALL = ("Q1", "Q2", "Q3", "Q4")


def test_a_cell_is_measured_both_ways() -> None:
    """Always the last option: infinite by plug-in in China, where nobody chose it; finite when smoothed."""
    found = analyse(results([("last", "us", "def", last), ("last", "cn", "def", last)]))
    us, cn = found.cells
    assert us.divergences.plug_in_kl[0] == pytest.approx(entropy([0, 0, 0, 1], SHARES["us"]["Q1"]))
    assert np.isinf(cn.divergences.plug_in_kl[0])
    finite = cn.divergences.plug_in_kl[np.isfinite(cn.divergences.plug_in_kl)]
    assert cn.paper_values.values[0] == pytest.approx(finite.max() + 1)
    assert cn.paper_values.infinite_share == pytest.approx(1 / 5)  # an option of Q4 speaks to no dimension
    assert np.isfinite(cn.sound.headline)


def test_dimension_means_follow_the_options() -> None:
    """TDI is the mean of Q1 and of Q4's first option, IDV that of Q4's second alone."""
    cell = analyse(results()).cells[0]
    values = cell.divergences.smoothed_kl
    assert cell.sound.by_dimension.tolist() == pytest.approx(
        [values[1], values[4], values[2], (values[0] + values[3]) / 2]
    )
    assert cell.sound.macro == pytest.approx(cell.sound.by_dimension.mean())
    assert cell.sound.question_mean == pytest.approx(np.mean([values[0], values[1], values[2], values[3:].mean()]))


def test_control_respondents_answer_as_said() -> None:
    items = item_table(survey(), ALL)
    random, known = uniform_shares(items), reference_table(survey(), items, "us")
    assert random[1, :3].tolist() == pytest.approx([1 / 3] * 3)
    assert random[3, :2].tolist() == pytest.approx([0.5, 0.5])  # one or two of three: 1.5 / 3
    mode = mode_shares(known)
    assert mode[0, :4].tolist() == [1, 0, 0, 0]
    assert mode[3, :2].tolist() == [0.5, 0.5]  # exactly half chose it: a tie
    assert mode[5, :2].tolist() == [0, 1]


def test_cells_are_named_by_what_tells_them_apart() -> None:
    run = results().run
    assert cell_names(run.cells) == ("human", "human")
    conditions = results([("m", "us", "def", human), ("m", "us", "none", human)]).run.cells
    assert cell_names(conditions) == ("m · def", "m · none")
    languages = (conditions[0], replace(conditions[0], language="zh"))
    assert cell_names(languages) == ("m · en", "m · zh")


def weighted(n: int, n_eff: float | None) -> Survey:
    known = survey()
    return replace(known, references=tuple(replace(r, n=n, n_eff=n_eff) for r in known.references))


def test_weighted_people_count_by_their_effective_number() -> None:
    cells = [("m", culture, "def", uniform) for culture in ("us", "cn")]
    few, as_few, many = (
        analyse(results(cells, tiny=weighted(n, n_eff))) for n, n_eff in ((60, None), (1000, 60.0), (1000, None))
    )
    for one, other, unlike in zip(few.cells, as_few.cells, many.cells, strict=True):
        assert (one.sound.headline, one.interval) == (other.sound.headline, other.interval)
        assert one.sound_floor.headline == other.sound_floor.headline != unlike.sound_floor.headline
        assert one.sound.headline != unlike.sound.headline
    for found, equal in ((as_few, True), (many, False)):
        same = [
            np.array_equal(one.p, other.p, equal_nan=True)
            for one, other in zip(few.figure(distinguish), found.figure(distinguish), strict=True)
        ]
        assert all(same) is equal
    people = question_cards(as_few)[0].table.rows[0].entries[-5]
    assert (people.text, people.beneath) == ("1,000", "as 60")
    assert question_cards(many)[0].table.rows[0].entries[-5].beneath == ""


def test_a_contrast_that_participants_might_turn_is_no_difference() -> None:
    """Over 30 questions all alike it is sure; each participant left out moves them all together by more than it."""
    questions = np.arange(30)
    of = Grouping(question=questions, questions=30, dimension=0 * questions, dimensions=1, by_dimension=True)
    moved = np.where(np.arange(10) % 2, 0.2, -0.2)[:, None] * np.ones(30) / 30
    for left_out, apart in ((0 * moved, True), (moved, False)):
        both = Compared(
            names=("a", "b"),
            common=of.headline,
            values=np.stack([np.full(30, 0.5), np.full(30, 0.4)]),
            left_out=(left_out, -left_out),
            grouping=of,
            n=10,
        )
        (found,) = contrasts(both, [("a", ["a"], "b", ["b"])])
        assert found.difference == pytest.approx(0.1)
        assert (found.p < 0.05) is apart
