"""What people themselves would score, and whether answers are told from theirs, as brute force and scipy say."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.stats import binom, hypergeom, power_divergence

from defsurvey.reports.metrics import floor
from defsurvey.reports.metrics.divergence import (
    binomial_masses,
    entropy_terms,
    js_distance,
    plug_in_kl,
    rarefied_terms,
    smoothed_kl,
    total_variation,
    wasserstein,
)
from defsurvey.reports.metrics.floor import Floor, GTests, expected_js_distance, g_statistic, respondents

PEOPLE = np.array([[0.5, 0.3, 0.15, 0.05]])
ALL = np.ones((1, 4), dtype=bool)
MANY = np.array([1e9])


def brute(metric: object, n: int, shares: np.ndarray) -> float:
    """Expectation over every sequence of n answers."""
    total = 0.0
    for sequence in product(range(len(shares)), repeat=n):
        counts = np.bincount(sequence, minlength=len(shares))
        total += prod(shares[list(sequence)]) * float(metric(counts, shares))  # type: ignore[operator]
    return total


def test_floors_equal_the_sum_over_every_sample() -> None:
    found, shares = respondents(PEOPLE, PEOPLE, np.array([500.0]), ALL, 5), PEOPLE[0]
    assert float(found.plug_in_kl[0]) == pytest.approx(brute(plug_in_kl, 5, shares), abs=1e-12)
    assert float(found.wasserstein[0]) == pytest.approx(brute(wasserstein, 5, shares), abs=1e-12)
    smoothed = brute(lambda c, q: smoothed_kl(c, q, 500), 5, shares)
    assert float(found.smoothed_kl[0]) == pytest.approx(smoothed, abs=1e-12)
    assert expected_js_distance(5, tuple(shares)) == pytest.approx(brute(js_distance, 5, shares), abs=1e-12)
    assert float(found.total_variation[0]) == pytest.approx(brute(total_variation, 5, shares), abs=1e-12)


def test_large_samples_are_simulated_the_same_way_every_time() -> None:
    shares = np.full(6, 1 / 6)
    first = expected_js_distance(60, tuple(shares))
    assert first == expected_js_distance(60, tuple(shares))
    draws = np.random.default_rng(9).multinomial(60, shares, size=20_000)
    assert first == pytest.approx(float(js_distance(draws, shares).mean()), rel=0.01)


def test_masses_agree_with_scipy() -> None:
    assert binomial_masses(20, 0.3) == pytest.approx(binom.pmf(np.arange(21), 20, 0.3), abs=1e-12)
    assert binomial_masses(3, 0.0).tolist() == [1, 0, 0, 0]
    assert rarefied_terms(12, 5)[4] == pytest.approx(
        hypergeom.pmf(np.arange(6), 12, 4, 5) @ entropy_terms(5), abs=1e-12
    )


def test_the_floor_is_taken_at_each_items_own_n() -> None:
    shares = np.vstack([PEOPLE, PEOPLE, PEOPLE, np.full((1, 4), np.nan)])
    floor = Floor(shares=shares, n_human=np.array([1e9, 1e9, 1e9, np.nan]), offered=np.ones((4, 4), dtype=bool))
    found = floor.at([20, 5, 0, 20]).plug_in_kl
    assert found[0] == pytest.approx(0.08225, abs=5e-6)
    assert found[1] > found[0]
    assert np.isnan(found[2:]).all()
    assert floor.js_distance(0, 20) == pytest.approx(expected_js_distance(20, tuple(PEOPLE[0])))
    assert np.isnan(floor.js_distance(0, 0))
    assert np.isnan(floor.js_distance(3, 20))


def p_of(counts: ArrayLike, shares: ArrayLike) -> float:
    q = np.array([shares])
    return float(GTests(shares=q, offered=np.ones(q.shape, dtype=bool)).p([counts])[0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=8).filter(sum), st.integers(0, 1000))
def test_scipy_agrees_on_the_statistic(counts: list[int], seed: int) -> None:
    shares = np.random.default_rng(seed).dirichlet(np.full(len(counts), 3.0))
    theirs = power_divergence(counts, shares * sum(counts), lambda_="log-likelihood").statistic
    assert float(g_statistic(counts, shares)) == pytest.approx(theirs, abs=1e-8)


def test_p_is_the_share_of_outcomes_as_far_or_further() -> None:
    shares, counts = np.array([0.6, 0.3, 0.1]), np.array([2, 1, 3])
    far = float(g_statistic(counts, shares)) - 1e-9
    expected = brute(lambda outcome, q: g_statistic(outcome, q) >= far, 6, shares)
    assert p_of(counts, shares) == pytest.approx(expected, abs=1e-12)


def test_drawing_gives_what_enumerating_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    shares, counts = np.array([0.4, 0.3, 0.2, 0.1]), np.array([3, 5, 6, 6])
    exact = p_of(counts, shares)
    monkeypatch.setattr(floor, "GTEST_OUTCOMES", 1)
    drawn = p_of(counts, shares)
    assert drawn == p_of(counts, shares)
    assert drawn == pytest.approx(exact, abs=0.02)
    assert p_of([0, 0, 0, 20], shares) == pytest.approx(1 / 5000)


def test_an_impossible_answer_is_as_far_as_it_gets() -> None:
    assert p_of([1, 1], [1.0, 0.0]) < 1e-300
    assert p_of([2, 0], [1.0, 0.0]) == pytest.approx(1.0)


def test_items_of_different_size_stand_side_by_side() -> None:
    tests = GTests(
        shares=np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]), offered=np.array([[True, True, False], [True, True, True]])
    )
    found = tests.p(np.array([[5, 1, 0], [1, 1, 4]]))
    assert found.tolist() == pytest.approx([p_of([5, 1], [0.5, 0.5]), p_of([1, 1, 4], [0.2, 0.3, 0.5])])
