"""The noise floor: exact, and the same as brute force and simulation say."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import pytest
from scipy.stats import binom, hypergeom

from defsurvey.reports.metrics.divergence import (
    binomial_masses,
    hypergeometric_masses,
    js_distance,
    plug_in_kl,
    smoothed_kl,
    total_variation,
    wasserstein,
)
from defsurvey.reports.metrics.floor import (
    Floor,
    expected_js_distance,
    respondents,
)

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


def test_golden_floor_of_the_plug_in_divergence() -> None:
    """H = [.5, .3, .15, .05] and 20 people: .08225."""
    found = respondents(PEOPLE, PEOPLE, MANY, ALL, 20)
    assert float(found.plug_in_kl[0]) == pytest.approx(0.08225, abs=5e-6)


def test_floors_equal_the_sum_over_every_sample() -> None:
    """Linearity over categories gives what enumerating every sample of 5 gives."""
    found, shares = respondents(PEOPLE, PEOPLE, np.array([500.0]), ALL, 5), PEOPLE[0]
    assert float(found.plug_in_kl[0]) == pytest.approx(brute(plug_in_kl, 5, shares), abs=1e-12)
    assert float(found.wasserstein[0]) == pytest.approx(brute(wasserstein, 5, shares), abs=1e-12)
    smoothed = brute(lambda c, q: smoothed_kl(c, q, 500), 5, shares)
    assert float(found.smoothed_kl[0]) == pytest.approx(smoothed, abs=1e-12)
    assert expected_js_distance(5, tuple(shares)) == pytest.approx(brute(js_distance, 5, shares), abs=1e-12)
    assert float(found.total_variation[0]) == pytest.approx(brute(total_variation, 5, shares), abs=1e-12)


def test_large_samples_are_simulated_the_same_way_every_time() -> None:
    """Where enumeration is dear, the floor is simulated: near the truth, and repeatable."""
    shares = np.full(6, 1 / 6)
    first = expected_js_distance(60, tuple(shares))
    assert first == expected_js_distance(60, tuple(shares))
    draws = np.random.default_rng(9).multinomial(60, shares, size=20_000)
    assert first == pytest.approx(float(js_distance(draws, shares).mean()), rel=0.01)


def test_masses_agree_with_scipy() -> None:
    """Binomial and hypergeometric probabilities are scipy's."""
    assert binomial_masses(20, 0.3) == pytest.approx(binom.pmf(np.arange(21), 20, 0.3), abs=1e-12)
    assert binomial_masses(3, 0.0).tolist() == [1, 0, 0, 0]
    assert hypergeometric_masses(5, 12, 4) == pytest.approx(hypergeom.pmf(np.arange(6), 12, 4, 5), abs=1e-12)


def test_chance_of_a_forbidden_answer_makes_the_expectation_infinite() -> None:
    """Random answers reach an option no person chose; honest people never do."""
    people = np.array([[0.5, 0.5, 0.0, 0.0]])
    random = np.full((1, 4), 0.25)
    assert np.isinf(respondents(random, people, MANY, ALL, 5).plug_in_kl[0])
    assert np.isfinite(respondents(people, people, MANY, ALL, 5).plug_in_kl[0])


def test_the_floor_is_taken_at_each_items_own_n() -> None:
    """Items with unequal numbers of answers get unequal floors; none without an answer or a reference."""
    shares = np.vstack([PEOPLE, PEOPLE, PEOPLE, np.full((1, 4), np.nan)])
    floor = Floor(shares=shares, n_human=np.array([1e9, 1e9, 1e9, np.nan]), offered=np.ones((4, 4), dtype=bool))
    found = floor.at([20, 5, 0, 20]).plug_in_kl
    assert found[0] == pytest.approx(0.08225, abs=5e-6)
    assert found[1] > found[0]
    assert np.isnan(found[2:]).all()
    assert floor.js_distance(0, 20) == pytest.approx(expected_js_distance(20, tuple(PEOPLE[0])))
    assert np.isnan(floor.js_distance(0, 0))
    assert np.isnan(floor.js_distance(3, 20))
    distances = floor.js_distances([20, 5, 0, 20])
    assert distances[:2].tolist() == [floor.js_distance(0, 20), floor.js_distance(1, 5)]
    assert np.isnan(distances[2:]).all()


def test_impossible_sizes_are_refused() -> None:
    """No respondents, and more answers kept than there are, are errors."""
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        respondents(PEOPLE, PEOPLE, MANY, ALL, 0)
    with pytest.raises(ValueError, match="cannot keep 3 of 2"):
        hypergeometric_masses(3, 2, 1)
