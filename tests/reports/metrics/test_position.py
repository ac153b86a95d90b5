"""Position bias: exact moments, flagged where it is, quiet where it is not."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import hypergeom, kstest

from defsurvey.reports.metrics.position import match_masses, position_bias


def test_moments_are_those_of_every_rearrangement() -> None:
    """Five answers to one question, dealt out in all 120 ways."""
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
    """Who chose the first option fixes all the rest: masses sum to 1 however large the whole numbers grow."""
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
    """300 models that do not look at the order."""
    rng = np.random.default_rng(3)
    question = np.repeat(np.arange(40), 20)
    p = [position_bias(question, rng.integers(0, 4, 800), rng.integers(0, 4, 800), 4).p for _ in range(300)]
    assert kstest(p, "uniform").pvalue > 0.01


def test_one_order_cannot_tell() -> None:
    """Nothing was shown otherwise: a reason, no figure."""
    found = position_bias([0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1], 2)
    assert found.reason == "every question was shown in one order only"
    assert np.isnan(found.p)
    assert position_bias([], [], [], 2).answers == 0


def test_one_answer_cannot_move() -> None:
    """Everyone said the same, whatever the order."""
    found = position_bias([0, 0, 0], [1, 1, 1], [0, 1, 0], 2)
    assert found.excess == 0
    assert np.isnan(found.p)
    assert "same answer" in found.reason
