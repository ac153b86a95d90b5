"""Intervals over participants: they cover the expected divergence, where percentiles do not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from reports.metrics import intervals
from reports.metrics.divergence import smoothed_kl
from reports.metrics.floor import respondents
from reports.metrics.intervals import participant_bootstrap

K, N, QUESTIONS = 5, 20, 60


def one_hot(choices: NDArray[np.int64]) -> NDArray[np.float64]:
    """(P, Q) choices -> (P, Q, K) weights."""
    return np.eye(K)[choices]


def test_the_expected_divergence_of_honest_humans_is_covered() -> None:
    """60 questions, 20 people: the interval holds the floor nearly always, and the point always."""
    rng = np.random.default_rng(5)
    people = rng.dirichlet(np.full(K, 2.0), size=QUESTIONS)
    n_human, offered = np.full(QUESTIONS, 2000.0), np.ones((QUESTIONS, K), dtype=bool)
    truth = float(respondents(people, people, n_human, offered, N).smoothed_kl.mean())

    def statistic(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(smoothed_kl(counts, people, n_human).mean(axis=-1))

    held = 0
    for _ in range(40):
        choices = np.stack([rng.choice(K, size=N, p=shares) for shares in people], axis=1)
        answers = one_hot(choices)
        found = participant_bootstrap(answers, statistic, np.random.default_rng(1), draws=300)
        held += found.low <= truth <= found.high
        assert found.low <= float(statistic(answers.sum(axis=0)[None])[0]) <= found.high
    assert held >= 38


def test_the_same_seed_gives_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are repeatable, and do not depend on how the resamples are cut into parts."""
    answers = one_hot(np.random.default_rng(2).integers(K, size=(N, 3)))

    def statistic(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(counts[:, :, 0].mean(axis=-1))

    first = participant_bootstrap(answers, statistic, np.random.default_rng(3))
    monkeypatch.setattr(intervals, "AT_ONCE", 1_000)
    assert first == participant_bootstrap(answers, statistic, np.random.default_rng(3))


def test_participants_without_an_answer_are_not_resampled() -> None:
    """Empty participants add nothing to the spread."""
    answers = one_hot(np.random.default_rng(2).integers(K, size=(N, 3)))
    padded = np.concatenate([answers, np.zeros((5, 3, K))])

    def statistic(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(counts[:, :, 0].mean(axis=-1))

    found = [participant_bootstrap(given, statistic, np.random.default_rng(3)) for given in (answers, padded)]
    assert found[0] == found[1]


def test_a_statistic_without_a_value_has_no_interval() -> None:
    """nan at the point is said, not covered up."""
    answers = one_hot(np.zeros((4, 1), dtype=np.int64))
    found = participant_bootstrap(answers, lambda counts: np.full(len(counts), np.nan), np.random.default_rng(0))
    assert np.isnan(found.low)
    assert found.reason == "the point itself has no value"
