"""Divergences: METRICS' golden values, scipy, what holds whatever the numbers, and the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, wasserstein_distance

from defsurvey.reports.analysis import analyse, answer_weights
from defsurvey.reports.cells import item_table, reference_table
from defsurvey.reports.metrics.divergence import (
    divergences,
    js_distance,
    paper_values,
    plug_in_kl,
    smoothed_kl,
    total_variation,
    wasserstein,
)
from tests.reports.synthetic import QUESTIONS, results, survey

COUNTS, HUMAN, N = [0, 3, 12, 5], [0.911, 0.071, 0.016, 0.002], 2593
counts = st.lists(st.integers(0, 40), min_size=4, max_size=4).filter(any)
shares = st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4).map(lambda raw: (np.array(raw) / sum(raw)).tolist())


def test_golden_values_of_the_specification() -> None:
    """The worked case gives the published digits."""
    assert float(plug_in_kl(COUNTS, HUMAN)) == pytest.approx(3.4939, abs=5e-5)
    assert float(smoothed_kl(COUNTS, HUMAN, N)) == pytest.approx(3.2504, abs=5e-5)
    assert float(wasserstein(COUNTS, HUMAN)) == pytest.approx(0.66367, abs=5e-6)
    assert float(js_distance(COUNTS, HUMAN)) == pytest.approx(0.91541, abs=5e-6)
    assert float(total_variation(COUNTS, HUMAN)) == pytest.approx(0.911, abs=5e-7)


def test_infinite_values_by_the_papers_rule() -> None:
    """The largest finite value plus one stands in for infinity, and the share of infinities is told."""
    ruled = paper_values([0.2, 1.4, np.inf, 0.7])
    assert float(ruled.values.mean()) == pytest.approx(1.175)
    assert ruled.infinite_share == 0.25


def test_infinite_values_are_counted_among_items_behind_a_mean() -> None:
    """The share is of those; the largest finite value is of all, and no share is known where none of them has one."""
    values = [0.2, 1.4, np.inf, np.inf, np.nan]
    ruled = paper_values(values, [True, False, True, False, True])
    assert ruled.values[:4].tolist() == [0.2, 1.4, 2.4, 2.4]
    assert ruled.infinite_share == 0.5
    assert np.isnan(paper_values(values, [False] * 4 + [True]).infinite_share)
    assert paper_values([np.inf, np.inf], [False, True]).infinite_share == 1.0


def test_paper_rule_without_a_finite_value_says_so() -> None:
    """Where all is infinite, or nothing has a value, there is no figure but a reason."""
    infinite, nothing = paper_values([np.inf, np.inf]), paper_values([np.nan])
    assert np.isnan(infinite.values).all()
    assert infinite.infinite_share == 1.0
    assert "infinite" in infinite.reason
    assert np.isnan(nothing.infinite_share)
    assert nothing.reason == "no item has a value"


@given(counts, shares)
def test_scipy_agrees(observed: list[int], known: list[float]) -> None:
    """scipy computes the same to 1e-12."""
    p = np.array(observed) / sum(observed)
    assert float(plug_in_kl(observed, known)) == pytest.approx(entropy(p, known), abs=1e-12)
    assert float(js_distance(observed, known)) ** 2 == pytest.approx(jensenshannon(p, known, base=2) ** 2, abs=1e-12)
    steps = np.arange(4)
    assert float(wasserstein(observed, known)) * 3 == pytest.approx(
        wasserstein_distance(steps, steps, p, known), abs=1e-12
    )
    raised = (np.array(observed) + 0.5) / (sum(observed) + 2)
    theirs = (np.array(known) * 500 + 0.5) / (500 + 2)
    assert float(smoothed_kl(observed, known, 500)) == pytest.approx(entropy(raised, theirs), abs=1e-12)


def test_padding_changes_nothing() -> None:
    """Columns that an item does not have are as if they were not there."""
    wide, offered = np.array([*COUNTS, 0, 0]), np.array([True] * 4 + [False] * 2)
    people = np.array([*HUMAN, 0, 0])
    assert float(smoothed_kl(wide, people, N, offered)) == pytest.approx(
        float(smoothed_kl(COUNTS, HUMAN, N)), abs=1e-12
    )
    assert float(wasserstein(wide, people, offered)) == pytest.approx(float(wasserstein(COUNTS, HUMAN)), abs=1e-12)


def test_a_list_is_as_many_bernoulli_questions() -> None:
    """A multiple-choice question is the mean of its options' two-way divergences."""
    known = survey(shares={"us": {"Q4": [0.4, 0.9, 0.3]}}, questions=QUESTIONS[3:])
    person = np.arange(20)  # 10 chose the first option, 16 the second, 6 the third
    bits = (person < 10) | (person >= 4) << 1 | np.isin(person, [0, 1, 2, 3, 10, 11]) << 2
    made = results([("m", "us", "def", lambda *_: bits)], tiny=known, participants=20)
    items = item_table(known, ["Q4"])
    counts = answer_weights(made.answers, items, 0, 20).sum(axis=0)
    by_hand = [entropy([0.5, 0.5], [0.6, 0.4]), entropy([0.2, 0.8], [0.1, 0.9]), entropy([0.7, 0.3], [0.7, 0.3])]
    values = plug_in_kl(counts, reference_table(known, items, "us").shares)
    assert values.tolist() == pytest.approx(by_hand, abs=1e-12)
    assert analyse(made).cells[0].paper.question_mean == pytest.approx(np.mean(by_hand), abs=1e-12)


def test_too_little_is_nan_with_a_reason() -> None:
    """No valid answer, or no reference, gives nan and says which."""
    found = divergences([[0, 0], [1, 1]], [[0.5, 0.5], [np.nan, np.nan]], [100, np.nan], np.ones((2, 2), dtype=bool))
    for values in (found.plug_in_kl, found.smoothed_kl, found.wasserstein, found.js_distance, found.total_variation):
        assert np.isnan(values).all()
    assert found.reasons == ("no valid answer", "no reference")


def test_impossible_input_is_refused() -> None:
    """Negative counts and one-option items are errors that name the bound."""
    with pytest.raises(ValueError, match="counts must be at least 0, got -1"):
        plug_in_kl([-1, 2], [0.5, 0.5])
    with pytest.raises(ValueError, match="at least 2 categories, got 1"):
        wasserstein([3], [1])


Floats = NDArray[np.float64]
