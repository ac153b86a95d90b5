"""Contamination: who has memorised is told, who has not is not, and chance stays chance."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from defsurvey.reports.metrics.contamination import SHUFFLES, guessed, recalled, similarity


def rng() -> np.random.Generator:
    """The same generator in every test."""
    return np.random.default_rng(11)


def test_similarity_counts_words_and_not_form() -> None:
    """Codes, bullets, case and width do not count; other words do; both languages work."""
    labels = ["Very important", "Rather important"]
    assert similarity("- VERY important\n(2) Rather  important.", labels) == 1
    assert similarity("a) Very important", labels) < 0.9
    assert similarity("1：非常重要\n2：不太重要", ["非常重要", "不太重要"]) == 1
    assert similarity("同意", ["非常重要", "不太重要"]) == 0
    assert similarity("", labels) == 0
    assert np.isnan(similarity("anything", ["1", "2"]))
    assert similarity("Never\nAlways", ["Never", "2", "3", "Always"]) == 1


def test_whoever_recalls_the_options_is_told() -> None:
    """Each completion fits its own question best: the smallest p that there can be."""
    near = np.full((30, 30), 0.2) + 0.7 * np.eye(30)
    found = recalled(near, np.eye(30, dtype=bool), rng())
    assert found.p == pytest.approx(np.full(30, 1 / 30))
    assert found.nearest.all()
    assert not found.verbatim.any()
    assert found.p_all == 1 / (1 + SHUFFLES)
    assert (found.mean_own, found.mean_others) == pytest.approx((0.9, 0.2 + 0.7 / 30), abs=0.01)


def test_chance_alone_gives_even_p_values() -> None:
    """Where own options are as any others, p is even between 0 and 1, by question and for all."""
    generator = rng()
    found = [recalled(generator.random((20, 20)), np.eye(20, dtype=bool), generator) for _ in range(60)]
    single = np.concatenate([each.p for each in found])
    assert abs(single.mean() - 0.525) < 0.03  # the mean of 1/20, 2/20, ..., 1
    assert 0.02 < (single <= 0.05).mean() < 0.08
    assert abs(np.mean([each.p_all for each in found]) - 0.5) < 0.12


def test_questions_with_the_same_options_are_no_control() -> None:
    """A scale that half of the questions share is no evidence for or against one of them."""
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
    """No error, all of them exact, and no shuffle as near but those that change nothing."""
    generator = rng()
    published = [100 * generator.dirichlet(np.ones(4)) for _ in range(25)]
    found = guessed(published, published, generator)
    assert found.error == pytest.approx(np.zeros(25))
    assert found.close.all()
    assert found.p == pytest.approx(np.full(25, 1 / 24), abs=0.03)
    assert found.p_all == 1 / (1 + SHUFFLES)


def test_the_control_is_the_mean_over_all_orders() -> None:
    """The shuffled error agrees with every permutation counted by hand, and so does p."""
    told, true = np.array([50.0, 30.0, 20.0]), np.array([60.0, 10.0, 30.0])
    errors = np.array([np.abs(told - np.array(order)).mean() for order in permutations(true)])
    found = guessed([told], [true], rng())
    assert found.error[0] == pytest.approx(40 / 3)
    assert found.shuffled[0] == pytest.approx(errors.mean(), rel=0.03)
    assert found.p[0] == pytest.approx((errors <= 40 / 3 + 1e-9).mean(), abs=0.04)
    assert not found.close[0]


def test_nothing_to_measure_says_so() -> None:
    """No percentages, or shapes that do not fit."""
    assert guessed([], [], rng()).reason == "no percentages that can be read"
    with pytest.raises(ValueError, match="must"):
        guessed([[1, 2]], [[1, 2, 3]], rng())
    with pytest.raises(ValueError, match="must"):
        recalled(np.eye(3), np.eye(2, dtype=bool), rng())


def test_a_question_without_words_is_refused() -> None:
    """A similarity that is not known is as near as none and as far as none: it must not enter."""
    near = np.eye(4)
    near[:, 2] = np.nan
    with pytest.raises(ValueError, match="similarities must be numbers, got nan for question 2"):
        recalled(near, np.eye(4, dtype=bool), rng())
    assert np.isnan(recalled(np.empty((0, 0)), np.empty((0, 0)), rng()).p_all)
