"""Sign flips, corrections, places and t-tests: golden values, scipy, statsmodels, and the published Table 3."""

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, permutation_test, t, ttest_ind, ttest_ind_from_stats
from statsmodels.stats.multitest import multipletests

from defsurvey.reports.figures.words import published
from defsurvey.reports.metrics.comparisons import (
    Summary,
    benjamini_hochberg,
    compare,
    compare_samples,
    holm,
    places,
    rearrangements_for,
    sign_flip,
    summarise,
)
from defsurvey.reports.metrics.configurations import axis_of, extremes, pickable

ps = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@settings(max_examples=80, deadline=None)
@given(ps)
def test_statsmodels_agrees_on_corrections(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-10)
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1], abs=1e-10)


def test_what_was_not_tested_is_not_counted() -> None:
    found = holm([0.01, np.nan, 0.04])
    assert found[[0, 2]].tolist() == [0.02, 0.04]
    assert np.isnan(found[1])


def test_few_questions_are_gone_through_exactly() -> None:
    rng = np.random.default_rng(4)
    differences = rng.normal(0.4, 1, 9)
    theirs = permutation_test(
        (differences,), lambda x, axis: x.sum(axis=axis), permutation_type="samples", n_resamples=np.inf
    )
    assert float(sign_flip(differences, rng)[0]) == pytest.approx(theirs.pvalue, abs=1e-10)


def test_p_is_uniform_where_there_is_no_difference() -> None:
    """400 null comparisons over 40 questions, heavy-tailed: their p look drawn from [0, 1]."""
    rng = np.random.default_rng(12)
    p = sign_flip(rng.standard_t(2, size=(40, 400)), rng, flips=999)
    assert kstest(p, "uniform").pvalue > 0.01
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.03)


def test_a_real_difference_is_found_and_never_too_surely() -> None:
    p = sign_flip(np.full(40, 1.0), np.random.default_rng(0), flips=199)
    assert p.tolist() == [1 / 200]
    assert sign_flip(np.zeros((20, 1)), np.random.default_rng(0)).tolist() == [1.0]


def test_places_share_what_cannot_be_told_apart() -> None:
    apart = np.ones((4, 4), dtype=bool)
    apart[1, 2] = apart[2, 1] = False
    np.fill_diagonal(apart, False)
    found = places([0.1, 0.21, 0.2, 0.5], apart)
    assert [(each.first, each.last) for each in found] == [(1, 1), (2, 3), (2, 3), (4, 4)]
    assert [each.group for each in found] == [1, 2, 2, 3]


@pytest.mark.parametrize(
    ("culture", "pair"), [("US", [(1.28, 0.50), (0.93, 0.34)]), ("CN", [(1.35, 0.74), (0.92, 0.33)])]
)
def test_the_published_table_lies_within_the_rounding_of_its_summaries(
    culture: str, pair: list[tuple[float, float]]
) -> None:
    """What the paper prints is met by summaries that round to the printed ones, though not by those themselves."""
    rows = [row for row in published("table3").rows if row["culture"] == culture]
    assert [(float(row["mean"]), float(row["sd"])) for row in rows] == pair
    near = []
    for moved in product((-0.005, 0, 0.005), repeat=4):
        means, sds = (np.reshape(pair, (2, 2)) + np.reshape(moved, (2, 2))).T
        first, second = (Summary(mean=mean, sd=sd, n=27) for mean, sd in zip(means, sds, strict=True))
        near.append(compare(first, second))
    for name, edge in {"t": 0.005, "p": 0.00005, "sed": 0.005, "df": 0}.items():
        values = [getattr(found.pooled, name) for found in near]
        assert min(values) - edge <= float(rows[0][name]) <= max(values) + edge
    for row, sems in zip(rows, zip(*((found.first.sem, found.second.sem) for found in near), strict=True), strict=True):
        assert min(sems) - 0.005 <= float(row["sem"]) <= max(sems) + 0.005


samples = st.lists(st.floats(-50, 50).map(lambda value: round(value, 3)), min_size=2, max_size=20)


@settings(max_examples=60, deadline=None)
@given(samples, samples)
def test_scipy_agrees(first: list[float], second: list[float]) -> None:
    assume(min(np.std(first), np.std(second)) > 1e-6)  # scipy warns of samples that do not vary
    found = compare_samples(first, second)
    for equal, ours in ((True, found.pooled), (False, found.welch)):
        theirs = ttest_ind(first, second, equal_var=equal)
        assert ours.t == pytest.approx(theirs.statistic, rel=1e-8, abs=1e-10)
        assert ours.df == pytest.approx(theirs.df, rel=1e-8)
        assert ours.p == pytest.approx(theirs.pvalue, rel=1e-8, abs=1e-10)
    one, two = summarise(first), summarise(second)
    theirs = ttest_ind_from_stats(one.mean, one.sd, one.n, two.mean, two.sd, two.n)
    assert found.pooled.p == pytest.approx(theirs.pvalue, rel=1e-8, abs=1e-10)


def test_the_interval_of_an_effect_covers_it() -> None:
    rng = np.random.default_rng(8)
    held = 0
    for _ in range(400):
        first, second = rng.normal(0.5, 1, 15), rng.normal(0, 1, 15)
        effect = compare_samples(first, second).effect
        held += effect.low <= 0.5 <= effect.high
    assert 0.92 <= held / 400 <= 0.98


def test_too_little_has_a_reason_and_no_figure() -> None:
    alone = compare_samples([1.0], [1.0, 2.0])
    assert np.isnan(alone.pooled.p)
    assert alone.welch.reason == "fewer than 2 values in a sample"
    flat = compare_samples([1.0, 1.0], [2.0, 2.0])
    assert np.isnan(flat.pooled.t)
    assert flat.pooled.reason == "neither sample varies"
    assert np.isnan(flat.effect.g)


# Best and worst configurations, and whether an axis matters.


def test_best_and_worst_are_found_with_their_intervals() -> None:
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
    values = np.array([[1.0, 1.2, 1.4, 1.2], [2.0, 2.2, np.nan, np.nan], [0.1, np.nan, np.nan, np.nan]])
    assert pickable(values).tolist() == [True, True, False]
    best, worst = extremes(values, seed=0)
    assert (best.participant, worst.participant) == (0, 1)


def test_one_question_has_no_interval() -> None:
    best, worst = extremes([[0.5, np.nan], [0.7, 0.9]], seed=0)
    assert np.isnan([best.interval.low, best.interval.high]).all()
    assert (best.value, best.interval.reason, worst.interval.reason) == (0.5, "one question", "")


def test_an_axis_that_matters_is_found() -> None:
    rng = np.random.default_rng(2)
    levels = np.array([0, 1] * 10, dtype=float)
    means = rng.normal(1, 0.1, 20) + 0.5 * levels
    found = axis_of(means, levels, rng)
    assert found.p == 0.001
    first = found.levels[0]
    low, high = t.interval(0.95, 9, means[::2].mean(), means[::2].std(ddof=1) / np.sqrt(10))
    assert (first.interval.low, first.interval.high) == pytest.approx((low, high), abs=1e-10)
    assert [level.participants for level in found.levels] == [10, 10]


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
    figures = np.array(levels) + 0.01 * np.arange(len(levels))
    found = axis_of(figures, levels, np.random.default_rng(0))
    assert found.least == pytest.approx(least)
    assert found.p >= least - 0.05


def test_unknown_levels_are_left_out() -> None:
    found = axis_of([1.0, 2.0, 3.0], [np.nan, 1, 1], np.random.default_rng(0))
    assert [level.participants for level in found.levels] == [2]
    assert np.isnan(found.p)
    alone = axis_of([1.0, 2.0], [0, 1], np.random.default_rng(0))
    assert alone.levels[0].interval.reason == "one participant"
    assert np.isnan(alone.p)
