"""Matching, profiles, position bias and contamination."""

from itertools import permutations, product

import numpy as np
import pytest
from scipy.stats import hypergeom, kstest

from defsurvey.reports.metrics.bias import (
    Profile,
    matching,
    mismatch_tensor,
    probability_of_match,
    profile,
    profile_shares,
)
from defsurvey.reports.metrics.contamination import SHUFFLES, guessed, recalled, similarity
from defsurvey.reports.metrics.position import match_masses, position_bias


def brute_probability(n: int, shares: list[float], mode: list[bool]) -> float:
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
    assert probability_of_match(n, shares, mode) == pytest.approx(brute_probability(n, shares, mode), abs=1e-12)


def test_the_probability_of_a_match_goes_on_smoothly_where_it_is_drawn() -> None:
    shares, mode = [0.26, 0.25, 0.25, 0.24], [False, True, False, False]
    exact, drawn = probability_of_match(250, shares, mode), probability_of_match(251, shares, mode)
    assert drawn == pytest.approx(exact, abs=0.01)
    assert drawn == probability_of_match(251, shares, mode)


def test_ties_match_if_any_mode_is_shared() -> None:
    counts, random = np.array([[2, 2, 0], [0, 1, 3], [0, 0, 0], [1, 2, 3]]), np.full((4, 3), 1 / 3)
    shares = np.array([[0.1, 0.5, 0.4], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [np.nan] * 3])
    found = matching(counts, shares, random, [False, True, True, False])
    assert found.match[:2].tolist() == [1, 0]
    assert np.isnan(found.match[2:]).all()
    assert (found.items, found.share, found.low_n) == (2, 0.5, 1)
    assert np.isfinite(found.uniform).tolist() == [True, True, False, False]


def groups(male: list[float], female: list[float], ages: list[list[float]]) -> np.ndarray:
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
    given_groups = groups([0.6, 0.3, 0.1], [0.4, 0.5, 0.1], [[0.5, 0.4, 0.1]] * 3)
    found = profile([[2, 2, 0]], [[0.5, 0.4, 0.1]], given_groups, SIZES)
    assert found.gender.tolist() == [[0.5, 0.5]]
    assert found.age[0].tolist() == pytest.approx([1 / 3] * 3)


def test_unknown_groups_have_no_profile() -> None:
    unknown = [np.nan, np.nan]
    found = profile([[2, 0]], [[0.5, 0.5]], groups(unknown, unknown, [[0.5, 0.5]] * 3), SIZES, np.ones((5, 1), bool))
    assert np.isnan(found.gender).all()
    shares = profile_shares(found, [True])
    assert (shares.gender_items, shares.age_items, shares.items, shares.low_n) == (0, 1, 1, 1)
    assert np.isnan(shares.gender).all()


def test_the_heatmap_holds_every_mismatch_once() -> None:
    rng = np.random.default_rng(1)
    gender, age = rng.dirichlet([1, 1], 6), rng.dirichlet([1, 1, 1], 6)
    gender[5] = np.nan
    found = Profile(gender=gender, age=age, lift=np.ones((6, 5)), low_n=np.zeros(6, bool))
    match, dimension = np.array([0, 0, 1, 0, np.nan, 0]), np.array([0, 1, 1, -1, 0, 0])
    tensor = mismatch_tensor(found, match, dimension, 3)
    assert tensor.shape == (3, 2, 3)
    assert tensor.sum(axis=(1, 2)).tolist() == pytest.approx([1, 1, 0])
    assert tensor[1] == pytest.approx(np.outer(gender[1], age[1]))


# Position bias: exact moments, flagged where it is, quiet where it is not.


def test_moments_are_those_of_every_rearrangement() -> None:
    chosen, shown = np.array([0, 0, 1, 2, 1]), np.array([0, 1, 1, 0, 2])
    met = np.array([sum(chosen[list(order)] == shown) for order in permutations(range(5))])
    found = position_bias(np.zeros(5), chosen, shown, 3)
    observed = int((chosen == shown).sum())
    assert found.expected * 5 == pytest.approx(met.mean(), abs=1e-12)
    assert found.z == pytest.approx((observed - met.mean()) / met.std(), abs=1e-12)


def test_p_of_few_answers_is_that_of_every_rearrangement() -> None:
    """Six answers to a question of two options, all moved, lie so far apart by chance in one of ten ways."""
    found = position_bias(np.zeros(6), [0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1], 2)
    assert found.p == pytest.approx(0.1, abs=1e-12)
    rng, n = np.random.default_rng(4), 6
    for _ in range(5):
        chosen, shown = rng.integers(0, 3, (2, 2, n))
        met = np.zeros(1)
        for of in range(2):
            each = np.array([(chosen[of][list(order)] == shown[of]).sum() for order in permutations(range(n))])
            met = np.add.outer(met, each).ravel()
        found = position_bias(np.repeat([0, 1], n), chosen.ravel(), shown.ravel(), 3)
        away = np.abs(met - met.mean())
        assert found.p == pytest.approx((away >= abs((chosen == shown).sum() - met.mean()) - 1e-9).mean(), abs=1e-12)


def test_matches_of_many_answers_are_hypergeometric_where_there_are_two_options() -> None:
    found = match_masses([120, 80], [90, 110])
    first = np.arange(10, 91)  # of those who chose option 0, how many were shown it first
    assert found[2 * first - 10] == pytest.approx(hypergeom(200, 120, 90).pmf(first), abs=1e-12)
    assert found.sum() == pytest.approx(1.0, abs=1e-12)


def test_part_of_the_answers_moved_is_found() -> None:
    """A third follows the order, the rest the question's own distribution: moved is about a third."""
    rng = np.random.default_rng(2)
    question, shown = np.repeat(np.arange(200), 20), rng.integers(0, 4, 4000)
    own = np.stack([rng.choice(4, 20, p=rng.dirichlet(np.ones(4))) for _ in range(200)]).ravel()
    chosen = np.where(rng.random(4000) < 1 / 3, shown, own)
    found = position_bias(question, chosen, shown, 4)
    assert found.moved == pytest.approx(1 / 3, abs=0.05)


def test_p_is_uniform_where_order_does_not_matter() -> None:
    rng, question = np.random.default_rng(3), np.repeat(np.arange(40), 20)
    p = [position_bias(question, rng.integers(0, 4, 800), rng.integers(0, 4, 800), 4).p for _ in range(300)]
    assert kstest(p, "uniform").pvalue > 0.01


def test_one_order_cannot_tell() -> None:
    found = position_bias([0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1], 2)
    assert found.reason == "every question was shown in one order only"
    assert np.isnan(found.p)
    assert position_bias([], [], [], 2).answers == 0


def test_one_answer_cannot_move() -> None:
    found = position_bias([0, 0, 0], [1, 1, 1], [0, 1, 0], 2)
    assert found.excess == 0
    assert np.isnan(found.p)
    assert "same answer" in found.reason


# Contamination: who has memorised is told, who has not is not, and chance stays chance.


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def test_similarity_counts_words_and_not_form() -> None:
    labels = ["Very important", "Rather important"]
    assert similarity("- VERY important\n(2) Rather  important.", labels) == 1
    assert similarity("a) Very important", labels) < 0.9
    assert similarity("1：非常重要\n2：不太重要", ["非常重要", "不太重要"]) == 1
    assert similarity("同意", ["非常重要", "不太重要"]) == 0
    assert similarity("", labels) == 0
    assert np.isnan(similarity("anything", ["1", "2"]))
    assert similarity("Never\nAlways", ["Never", "2", "3", "Always"]) == 1


def test_whoever_recalls_the_options_is_told() -> None:
    near = np.full((30, 30), 0.2) + 0.7 * np.eye(30)
    found = recalled(near, np.eye(30, dtype=bool), rng())
    assert found.p == pytest.approx(np.full(30, 1 / 30))
    assert found.nearest.all()
    assert not found.verbatim.any()
    assert found.p_all == 1 / (1 + SHUFFLES)
    assert (found.mean_own, found.mean_others) == pytest.approx((0.9, 0.2 + 0.7 / 30), abs=0.01)


def test_chance_alone_gives_even_p_values() -> None:
    generator = rng()
    found = [recalled(generator.random((20, 20)), np.eye(20, dtype=bool), generator) for _ in range(60)]
    single = np.concatenate([each.p for each in found])
    assert abs(single.mean() - 0.525) < 0.03  # the mean of 1/20, 2/20, ..., 1
    assert 0.02 < (single <= 0.05).mean() < 0.08
    assert abs(np.mean([each.p_all for each in found]) - 0.5) < 0.12


def test_questions_with_the_same_options_are_no_control() -> None:
    same = np.zeros((4, 4), dtype=bool)
    same[:2, :2] = same[2:, 2:] = True
    near = np.where(same, 0.9, 0.1)
    found = recalled(near, same, rng())
    assert found.p == pytest.approx(np.full(4, 1 / 3))
    assert found.others == pytest.approx(np.full(4, 0.1))
    alone = recalled(near, np.ones((4, 4), dtype=bool), rng())
    assert alone.reason == "no two questions with different options"
    assert np.isnan(alone.p_all)


def test_whoever_knows_the_percentages_is_told() -> None:
    generator = rng()
    published = [100 * generator.dirichlet(np.ones(4)) for _ in range(25)]
    found = guessed(published, published, generator)
    assert found.error == pytest.approx(np.zeros(25))
    assert found.close.all()
    assert found.p == pytest.approx(np.full(25, 1 / 24), abs=0.03)
    assert found.p_all == 1 / (1 + SHUFFLES)


def test_the_control_is_the_mean_over_all_orders() -> None:
    told, true = np.array([50.0, 30.0, 20.0]), np.array([60.0, 10.0, 30.0])
    errors = np.array([np.abs(told - np.array(order)).mean() for order in permutations(true)])
    found = guessed([told], [true], rng())
    assert found.error[0] == pytest.approx(40 / 3)
    assert found.shuffled[0] == pytest.approx(errors.mean(), rel=0.03)
    assert found.p[0] == pytest.approx((errors <= 40 / 3 + 1e-9).mean(), abs=0.04)
    assert guessed([], [], rng()).reason == "no percentages that can be read"
    assert not found.close[0]
