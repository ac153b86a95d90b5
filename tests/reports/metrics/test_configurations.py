"""Best and worst configurations, and whether an axis matters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, t

from defsurvey.reports.metrics.comparisons import holm, rearrangements_for
from defsurvey.reports.metrics.configurations import axis_of, extremes, pickable


def test_best_and_worst_are_found_with_their_intervals() -> None:
    """Participant 2 is close, participant 5 far; their intervals hold their values."""
    values = np.random.default_rng(1).normal(1.0, 0.2, (8, 60))
    values[2] -= 0.5
    values[5] += 0.5
    values[5, :10] = np.nan
    best, worst = extremes(values, seed=3)
    assert (best.participant, worst.participant) == (2, 5)
    assert worst.value == pytest.approx(np.nanmean(values[5]))
    for found in (best, worst):
        assert found.interval.low < found.value < found.interval.high
    half = (best.interval.high - best.interval.low) / 2
    assert half == pytest.approx(1.96 * values[2].std() / np.sqrt(60), rel=0.1)


def test_whoever_answered_little_is_not_picked() -> None:
    """One answer that happens to be the commonest is lower than any mean; of half of the questions a mean counts."""
    values = np.array([[1.0, 1.2, 1.4, 1.2], [2.0, 2.2, np.nan, np.nan], [0.1, np.nan, np.nan, np.nan]])
    assert pickable(values).tolist() == [True, True, False]
    best, worst = extremes(values, seed=0)
    assert (best.participant, worst.participant) == (0, 1)
    with pytest.raises(ValueError, match="no participant has a value for half of the questions"):
        extremes(np.where(np.eye(3, dtype=bool), 1.0, np.nan), seed=0)


def test_one_question_has_no_interval() -> None:
    """A mean of one answer is known no better than not at all: nan and a reason, no interval of no width."""
    best, worst = extremes([[0.5, np.nan], [0.7, 0.9]], seed=0)
    assert best.value == 0.5
    assert np.isnan([best.interval.low, best.interval.high]).all()
    assert (best.interval.reason, worst.interval.reason) == ("one question", "")


def test_an_axis_that_matters_is_found() -> None:
    """Sampling adds half a nat; levels carry t intervals."""
    rng = np.random.default_rng(2)
    levels = np.array([0, 1] * 10, dtype=float)
    means = rng.normal(1, 0.1, 20) + 0.5 * levels
    found = axis_of(means, levels, rng)
    assert found.p == 0.001
    first = found.levels[0]
    low, high = t.interval(0.95, 9, means[::2].mean(), means[::2].std(ddof=1) / np.sqrt(10))
    assert (first.interval.low, first.interval.high) == pytest.approx((low, high), abs=1e-10)
    assert [level.participants for level in found.levels] == [10, 10]


def test_p_of_an_axis_is_uniform_where_it_does_not_matter() -> None:
    """200 runs whose figures have nothing to do with the axis."""
    rng = np.random.default_rng(5)
    p = [axis_of(rng.normal(size=20), rng.integers(0, 4, 20), rng, rearrangements=199).p for _ in range(200)]
    assert kstest(p, "uniform").pvalue > 0.01


def test_as_many_rearrangements_as_tests_need() -> None:
    """Eleven models, two cultures, four axes that decide everything: all 88 are told from chance, adjusted for all."""
    rng, fine = np.random.default_rng(0), rearrangements_for(88)
    found = []
    for _ in range(88):
        levels = rng.permutation(np.arange(20) % 2)
        found.append(axis_of(10 * levels + rng.normal(0, 0.01, 20), levels, rng, rearrangements=fine).p)
    assert (holm(found) < 0.05).all()
    assert rearrangements_for(1) == 999


@pytest.mark.parametrize(
    ("levels", "least"), [([0, 0, 1, 1], 1 / 3), ([0, 1, 1, 1, 1, 1], 1 / 6), ([0, 0, 1, 1, 2, 2], 6 / 90)]
)
def test_few_participants_can_give_no_small_p(levels: list[int], least: float) -> None:
    """All ways to deal the levels out are known: the most telling one has this part of them."""
    figures = np.array(levels) + 0.01 * np.arange(len(levels))
    found = axis_of(figures, levels, np.random.default_rng(0))
    assert found.least == pytest.approx(least)
    assert found.p >= least - 0.05


def test_unknown_levels_are_left_out() -> None:
    """A provider's default has no level; a lone participant no interval; one level no test."""
    found = axis_of([1.0, 2.0, 3.0], [np.nan, 1, 1], np.random.default_rng(0))
    assert [level.participants for level in found.levels] == [2]
    assert np.isnan(found.p)
    alone = axis_of([1.0, 2.0], [0, 1], np.random.default_rng(0))
    assert alone.levels[0].interval.reason == "one participant"
    assert np.isnan(alone.p)
