"""Sign flips, corrections and places."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, permutation_test
from statsmodels.stats.multitest import multipletests

from defsurvey.reports.metrics.comparisons import benjamini_hochberg, holm, places, sign_flip

ps = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@settings(max_examples=80, deadline=None)
@given(ps)
def test_statsmodels_agrees_on_corrections(p: list[float]) -> None:
    """Holm and Benjamini-Hochberg to ten digits."""
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-10)
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1], abs=1e-10)


def test_what_was_not_tested_is_not_counted() -> None:
    """nan neither adjusts the others nor becomes a figure."""
    found = holm([0.01, np.nan, 0.04])
    assert found[[0, 2]].tolist() == [0.02, 0.04]
    assert np.isnan(found[1])


def test_an_impossible_p_is_refused() -> None:
    """A p is a probability."""
    with pytest.raises(ValueError, match="p must be in"):
        holm([1.2])


def test_few_questions_are_gone_through_exactly() -> None:
    """Nine questions: every one of the 512 sign vectors, as scipy's permutation test does."""
    rng = np.random.default_rng(4)
    differences = rng.normal(0.4, 1, 9)
    theirs = permutation_test(
        (differences,), lambda x, axis: x.sum(axis=axis), permutation_type="samples", n_resamples=np.inf
    )
    by_hand = np.mean(
        [abs(np.dot(signs, differences)) >= abs(differences.sum()) - 1e-12 for signs in product((-1, 1), repeat=9)]
    )
    ours = float(sign_flip(differences, rng)[0])
    assert ours == pytest.approx(theirs.pvalue, abs=1e-10)
    assert ours == pytest.approx(by_hand, abs=1e-10)


def test_p_is_uniform_where_there_is_no_difference() -> None:
    """400 null comparisons over 40 questions, heavy-tailed: their p look drawn from [0, 1]."""
    rng = np.random.default_rng(12)
    p = sign_flip(rng.standard_t(2, size=(40, 400)), rng, flips=999)
    assert kstest(p, "uniform").pvalue > 0.01
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.03)


def test_a_real_difference_is_found_and_never_too_surely() -> None:
    """The smallest p of B random flips is 1 / (B + 1)."""
    p = sign_flip(np.full(40, 1.0), np.random.default_rng(0), flips=199)
    assert p.tolist() == [1 / 200]


def test_no_difference_at_all_is_no_evidence() -> None:
    """Differences of 0 give 1; no question gives no p."""
    assert sign_flip(np.zeros((20, 1)), np.random.default_rng(0)).tolist() == [1.0]
    assert np.isnan(sign_flip(np.zeros((0, 1)), np.random.default_rng(0))).all()


def test_an_unknown_difference_is_refused() -> None:
    """A question that does not enter is 0, not nan."""
    with pytest.raises(ValueError, match="must not be nan"):
        sign_flip([np.nan], np.random.default_rng(0))


def test_places_share_what_cannot_be_told_apart() -> None:
    """A, then B and C tied, then D."""
    apart = np.ones((4, 4), dtype=bool)
    apart[1, 2] = apart[2, 1] = False
    np.fill_diagonal(apart, False)
    found = places([0.1, 0.21, 0.2, 0.5], apart)
    assert [(each.first, each.last) for each in found] == [(1, 1), (2, 3), (2, 3), (4, 4)]
    assert [each.group for each in found] == [1, 2, 2, 3]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(0, 10_000))
def test_knowing_less_never_improves_the_last_place(models: int, seed: int) -> None:
    """Fewer differences told apart leave every model's claimable place as it was, or make it worse."""
    rng = np.random.default_rng(seed)
    values = rng.random(models).tolist()
    apart = rng.random((models, models)) < 0.6
    apart = np.triu(apart, 1) | np.triu(apart, 1).T
    fewer = apart & (rng.random((models, models)) < 0.5)
    fewer = np.triu(fewer, 1) | np.triu(fewer, 1).T
    for before, after in zip(places(values, apart), places(values, fewer), strict=True):
        assert after.last >= before.last
        assert after.first <= before.first
        assert before.first <= before.last
