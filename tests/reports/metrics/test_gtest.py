"""The G-test: scipy's statistic, an exact distribution, honest errors."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.stats import power_divergence

from defsurvey.reports.metrics import floor
from defsurvey.reports.metrics.floor import GTests, g_statistic


def p_of(counts: ArrayLike, shares: ArrayLike) -> float:
    """p of one item all of whose columns are offered, by a distribution worked out anew."""
    q = np.array([shares])
    return float(GTests(shares=q, offered=np.ones(q.shape, dtype=bool)).p([counts])[0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=8).filter(sum), st.integers(0, 1000))
def test_scipy_agrees_on_the_statistic(counts: list[int], seed: int) -> None:
    """Log-likelihood ratio to ten digits."""
    shares = np.random.default_rng(seed).dirichlet(np.full(len(counts), 3.0))
    theirs = power_divergence(counts, shares * sum(counts), lambda_="log-likelihood").statistic
    assert float(g_statistic(counts, shares)) == pytest.approx(theirs, abs=1e-8)


def test_p_is_the_share_of_outcomes_as_far_or_further() -> None:
    """Every sequence of six answers to three options, one by one."""
    shares, counts = np.array([0.6, 0.3, 0.1]), np.array([2, 1, 3])
    far = float(g_statistic(counts, shares))
    total = 0.0
    for sequence in product(range(3), repeat=6):
        outcome = np.bincount(sequence, minlength=3)
        if float(g_statistic(outcome, shares)) >= far - 1e-9:
            total += prod(shares[list(sequence)])
    assert p_of(counts, shares) == pytest.approx(total, abs=1e-12)


def test_drawing_gives_what_enumerating_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where outcomes are drawn, p is near the exact one, and repeatable."""
    shares, counts = np.array([0.4, 0.3, 0.2, 0.1]), np.array([3, 5, 6, 6])
    exact = p_of(counts, shares)
    monkeypatch.setattr(floor, "GTEST_OUTCOMES", 1)
    drawn = p_of(counts, shares)
    assert drawn == p_of(counts, shares)
    assert drawn == pytest.approx(exact, abs=0.02)
    assert p_of([0, 0, 0, 20], shares) == pytest.approx(1 / 5000)


def test_people_are_seldom_told_from_people() -> None:
    """1,500 samples of 20 from ten options: at most 5% below .05, never far fewer than the steps of p allow."""
    rng = np.random.default_rng(6)
    shares = rng.dirichlet(np.full(4, 2.0), size=300)
    tests = GTests(shares=shares, offered=np.ones(shares.shape, dtype=bool))
    p = np.concatenate([tests.p(np.stack([rng.multinomial(20, each) for each in shares])) for _ in range(5)])
    assert 0.03 <= (p <= 0.05).mean() <= 0.06


def test_an_impossible_answer_is_as_far_as_it_gets() -> None:
    """An option of share 0 that was chosen: p is 0 but for what a double can hold."""
    assert p_of([1, 1], [1.0, 0.0]) < 1e-300
    assert p_of([2, 0], [1.0, 0.0]) == pytest.approx(1.0)


def test_no_answer_and_no_reference_have_no_test() -> None:
    """nan, not a figure."""
    tests = GTests(shares=np.array([[0.5, 0.5], [np.nan, np.nan]]), offered=np.ones((2, 2), dtype=bool))
    assert np.isnan(tests.p(np.array([[0, 0], [1, 2]]))).all()


def test_items_of_different_size_stand_side_by_side() -> None:
    """Columns that an item does not offer change nothing."""
    tests = GTests(
        shares=np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]), offered=np.array([[True, True, False], [True, True, True]])
    )
    found = tests.p(np.array([[5, 1, 0], [1, 1, 4]]))
    assert found.tolist() == pytest.approx([p_of([5, 1], [0.5, 0.5]), p_of([1, 1, 4], [0.2, 0.3, 0.5])])


def test_halves_are_no_counts() -> None:
    """The distribution is of whole answers."""
    with pytest.raises(ValueError, match="whole numbers"):
        p_of([0.5, 1.5], [0.5, 0.5])
