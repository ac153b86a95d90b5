"""t-tests and effect sizes: golden values, scipy's, and the published Table 3 within its rounding."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind, ttest_ind_from_stats

from defsurvey.reports.figures.words import published
from defsurvey.reports.metrics.comparisons import Summary, TwoSamples, compare, compare_samples, hedges_g, summarise

US = (Summary(mean=1.28, sd=0.50, n=27), Summary(mean=0.93, sd=0.34, n=27))
CN = (Summary(mean=1.35, sd=0.74, n=27), Summary(mean=0.92, sd=0.33, n=27))


def test_golden_values_of_the_united_states() -> None:
    """1.28/.50 against .93/.34, 27 each."""
    found = compare(*US)
    assert round(found.pooled.t, 4) == 3.0078
    assert round(found.pooled.sed, 5) == 0.11636
    assert (found.pooled.df, round(found.pooled.p, 6)) == (52, 0.004049)
    assert (round(found.welch.df, 3), round(found.welch.p, 6)) == (45.809, 0.004264)
    assert round(found.effect.g, 4) == 0.8068


def test_golden_values_of_china() -> None:
    """1.35/.74 against .92/.33, 27 each."""
    found = compare(*CN)
    assert round(found.pooled.t, 4) == 2.7576
    assert round(found.pooled.sed, 5) == 0.15593
    assert round(found.pooled.p, 6) == 0.008015
    assert (round(found.welch.df, 3), round(found.welch.p, 6)) == (35.948, 0.009093)
    assert round(found.effect.g, 4) == 0.7396


def within_rounding(first: Summary, second: Summary) -> list[TwoSamples]:
    """The comparisons of all summaries that print as these do: the corners of the rounding, and the middle."""
    half = 0.005
    return [
        compare(
            Summary(mean=first.mean + a, sd=first.sd + b, n=first.n),
            Summary(mean=second.mean + c, sd=second.sd + d, n=second.n),
        )
        for a, b, c, d in product((-half, 0, half), repeat=4)
    ]


@pytest.mark.parametrize(("culture", "pair"), [("US", US), ("CN", CN)])
def test_the_published_table_lies_within_the_rounding_of_its_summaries(
    culture: str, pair: tuple[Summary, Summary]
) -> None:
    """What the paper prints is met by summaries that round to the printed ones, though not by those themselves."""
    rows = [row for row in published("table3").rows if row["culture"] == culture]
    assert [float(row["mean"]) for row in rows] == [pair[0].mean, pair[1].mean]
    assert [float(row["sd"]) for row in rows] == [pair[0].sd, pair[1].sd]
    near = within_rounding(*pair)
    half = {"t": 0.005, "p": 0.00005, "sed": 0.005}
    for name, edge in half.items():
        values = [getattr(found.pooled, name) for found in near]
        printed = float(rows[0][name])
        assert min(values) - edge <= printed <= max(values) + edge
    for row, at in zip(rows, (0, 1), strict=True):
        sems = [(found.first if at == 0 else found.second).sem for found in near]
        assert min(sems) - 0.005 <= float(row["sem"]) <= max(sems) + 0.005
    assert float(rows[0]["df"]) == near[0].pooled.df


def test_the_published_t_of_china_is_not_met_exactly() -> None:
    """The printed summaries give 2.76, the paper prints 2.77: the reason why the test above allows for rounding."""
    row = next(row for row in published("table3").rows if row["culture"] == "CN")
    assert float(row["t"]) == 2.77
    assert round(compare(*CN).pooled.t, 2) == 2.76


samples = st.lists(st.floats(-50, 50).map(lambda value: round(value, 3)), min_size=2, max_size=20)


@settings(max_examples=60, deadline=None)
@given(samples, samples)
def test_scipy_agrees(first: list[float], second: list[float]) -> None:
    """Pooled and Welch, from samples and from summaries, to ten digits."""
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
    """Normal samples half a deviation apart: 95 of 100 intervals hold .5."""
    rng = np.random.default_rng(8)
    held = 0
    for _ in range(400):
        first, second = rng.normal(0.5, 1, 15), rng.normal(0, 1, 15)
        effect = hedges_g(summarise(first), summarise(second))
        held += effect.low <= 0.5 <= effect.high
    assert 0.92 <= held / 400 <= 0.98


def test_too_little_has_a_reason_and_no_figure() -> None:
    """One value, or no variation at all."""
    alone = compare_samples([1.0], [1.0, 2.0])
    assert np.isnan(alone.pooled.p)
    assert alone.welch.reason == "fewer than 2 values in a sample"
    flat = compare_samples([1.0, 1.0], [2.0, 2.0])
    assert np.isnan(flat.pooled.t)
    assert flat.pooled.reason == "neither sample varies"
    assert np.isnan(flat.effect.g)


def test_impossible_input_is_refused() -> None:
    """A negative deviation."""
    with pytest.raises(ValueError, match="standard deviation must be at least 0, got -1"):
        compare(US[0], Summary(mean=1, sd=-1, n=4))
