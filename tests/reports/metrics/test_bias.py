"""Matching, uniform answers and profiles."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from defsurvey.reports.metrics.bias import (
    Profile,
    matching,
    mismatch_tensor,
    probability_of_match,
    profile,
    profile_shares,
)


def brute_probability(n: int, shares: list[float], mode: list[bool]) -> float:
    """Every sequence of n answers, one by one."""
    total = 0.0
    for sequence in product(range(len(shares)), repeat=n):
        counts = np.bincount(sequence, minlength=len(shares))
        if counts[np.array(mode)].max(initial=0) == counts.max():
            total += float(np.prod(np.array(shares)[list(sequence)]))
    return total


@pytest.mark.parametrize("n", [1, 2, 5, 7])
@pytest.mark.parametrize(
    ("shares", "mode"),
    [([0.25] * 4, [True, False, False, False]), ([0.5, 0.3, 0.2], [True, False, True]), ([0.7, 0.3], [False, True])],
)
def test_the_probability_of_a_match_is_that_of_every_sequence(n: int, shares: list[float], mode: list[bool]) -> None:
    """Exact, ties included."""
    assert probability_of_match(n, shares, mode) == pytest.approx(brute_probability(n, shares, mode), abs=1e-12)


def test_the_probability_of_a_match_goes_on_smoothly_where_it_is_drawn() -> None:
    """At 250 answers exact, beyond drawn: the same figure within what draws allow."""
    shares, mode = [0.26, 0.25, 0.25, 0.24], [False, True, False, False]
    exact, drawn = probability_of_match(250, shares, mode), probability_of_match(251, shares, mode)
    assert drawn == pytest.approx(exact, abs=0.01)
    assert drawn == probability_of_match(251, shares, mode)


def test_ties_match_if_any_mode_is_shared() -> None:
    """Two modes of the model, one of people's: a match; an empty cell or no reference is left out."""
    counts, random = np.array([[2, 2, 0], [0, 1, 3], [0, 0, 0], [1, 2, 3]]), np.full((4, 3), 1 / 3)
    shares = np.array([[0.1, 0.5, 0.4], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [np.nan] * 3])
    found = matching(counts, shares, random, [False, True, True, False])
    assert found.match[:2].tolist() == [1, 0]
    assert np.isnan(found.match[2:]).all()
    assert (found.items, found.share, found.low_n) == (2, 0.5, 1)
    assert found.by(np.array([0, 0, 1, 1]), 2).tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    assert found.uniform_by(np.array([0, 1, 0, 0]), 2)[1] == found.uniform[1]


def groups(male: list[float], female: list[float], ages: list[list[float]]) -> np.ndarray:
    """Five groups of one item."""
    return np.array([male, female, *ages])[:, None]


SIZES = np.array([[100], [300], [50], [200], [150]])


def test_share_and_raw_counts_can_disagree() -> None:
    """40% of 100 men and 20% of 300 women: typical of men, yet more women said it."""
    given_groups = groups([0.4, 0.6], [0.2, 0.8], [[0.3, 0.7], [0.3, 0.7], [0.1, 0.9]])
    sound = profile([[3, 1]], [[0.25, 0.75]], given_groups, SIZES)
    paper = profile([[3, 1]], [[0.25, 0.75]], given_groups, SIZES, raw_counts=True)
    assert sound.gender.tolist() == [[1, 0]]
    assert paper.gender.tolist() == [[0, 1]]
    assert sound.age.tolist() == [[0.5, 0.5, 0]]  # a tie of two ages
    assert paper.age.tolist() == [[0, 1, 0]]
    assert sound.lift[0].tolist() == pytest.approx([1.6, 0.8, 1.2, 1.2, 0.4])


def test_tied_modes_share_a_profile() -> None:
    """The first option is men's, the second women's: half each."""
    given_groups = groups([0.6, 0.3, 0.1], [0.4, 0.5, 0.1], [[0.5, 0.4, 0.1]] * 3)
    found = profile([[2, 2, 0]], [[0.5, 0.4, 0.1]], given_groups, SIZES)
    assert found.gender.tolist() == [[0.5, 0.5]]
    assert found.age[0].tolist() == pytest.approx([1 / 3] * 3)


def test_unknown_groups_have_no_profile() -> None:
    """Ages known, sexes not."""
    unknown = [np.nan, np.nan]
    found = profile([[2, 0]], [[0.5, 0.5]], groups(unknown, unknown, [[0.5, 0.5]] * 3), SIZES, np.ones((5, 1), bool))
    assert np.isnan(found.gender).all()
    assert not found.both.any()
    shares = profile_shares(found, [True])
    assert (shares.gender_items, shares.age_items, shares.items, shares.low_n) == (0, 1, 1, 1)
    assert np.isnan(shares.gender).all()


def test_the_heatmap_holds_every_mismatch_once() -> None:
    """Weights of a mismatching item sum to 1; matches and items without a dimension or a profile are left out."""
    rng = np.random.default_rng(1)
    gender, age = rng.dirichlet([1, 1], 6), rng.dirichlet([1, 1, 1], 6)
    gender[5] = np.nan
    found = Profile(gender=gender, age=age, lift=np.ones((6, 5)), low_n=np.zeros(6, bool))
    match, dimension = np.array([0, 0, 1, 0, np.nan, 0]), np.array([0, 1, 1, -1, 0, 0])
    tensor = mismatch_tensor(found, match, dimension, 3)
    assert tensor.shape == (3, 2, 3)
    assert tensor.sum(axis=(1, 2)).tolist() == pytest.approx([1, 1, 0])
    assert tensor[1] == pytest.approx(np.outer(gender[1], age[1]))
