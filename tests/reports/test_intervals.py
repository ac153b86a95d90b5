"""Intervals over participants, made as reports make them: they cover the expected divergence, and repeat."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from reports.metrics import resampling
from reports.metrics.aggregate import Grouping
from reports.metrics.divergence import smoothed_kl
from reports.metrics.floor import respondents
from reports.metrics.intervals import Intervals, centred, intervals_of_means
from reports.metrics.resampling import independent_variance, resampled_smoothed_kl, weights_of

Floats = NDArray[np.float64]
K, N, QUESTIONS = 5, 20, 60
PEOPLE = np.random.default_rng(5).dirichlet(np.full(K, 2.0), size=QUESTIONS)
N_HUMAN, OFFERED = np.full(QUESTIONS, 2000.0), np.ones((QUESTIONS, K), dtype=bool)
#: Every question is one item, and speaks to no dimension: the headline is the mean over questions.
GROUPING = Grouping(
    question=np.arange(QUESTIONS),
    questions=QUESTIONS,
    dimension=np.full(QUESTIONS, -1),
    dimensions=0,
    by_dimension=False,
)


def answers_of(seed: int) -> Floats:
    """What N people of the culture answer, shape (N, QUESTIONS, K)."""
    rng = np.random.default_rng(seed)
    return np.eye(K)[np.stack([rng.choice(K, size=N, p=shares) for shares in PEOPLE], axis=1)]


def points(answers: Floats, people: Floats = PEOPLE) -> Floats:
    """Smoothed KL of each item, shape (QUESTIONS,)."""
    return smoothed_kl(answers.sum(axis=0), people, N_HUMAN)


def found(answers: Floats, people: Floats = PEOPLE, seed: int = 1) -> Intervals:
    """Intervals of one sample, shape (P, QUESTIONS, K)."""
    drawn = resampled_smoothed_kl(answers, people, N_HUMAN, OFFERED, draws=300, seed=seed)
    return intervals_of_means(
        points(answers, people),
        drawn.values,
        drawn.answered,
        GROUPING,
        seed=seed,
        least=independent_variance(answers.sum(axis=0), people, N_HUMAN, OFFERED),
    )


def test_the_expected_divergence_of_honest_humans_is_covered() -> None:
    """60 questions, 20 people: the interval holds the floor nearly always, and the point always."""
    truth = float(respondents(PEOPLE, PEOPLE, N_HUMAN, OFFERED, N).smoothed_kl.mean())
    held = 0
    for sample in range(40):
        answers = answers_of(sample)
        interval = found(answers).headline
        held += interval.low <= truth <= interval.high
        assert interval.low <= points(answers).mean() <= interval.high
    assert held >= 38


def test_the_same_seed_gives_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are repeatable, and do not depend on how the resamples are cut into parts."""
    answers = answers_of(2)
    first = found(answers)
    assert first.headline != found(answers, seed=2).headline
    weights_of.cache_clear()
    monkeypatch.setattr(resampling, "AT_ONCE", 1_000)
    assert first == found(answers)


def test_participants_without_an_answer_are_not_resampled() -> None:
    """Empty participants add nothing to the spread."""
    answers = answers_of(2)
    padded = np.concatenate([answers, np.zeros((5, QUESTIONS, K))])
    assert found(padded) == found(answers)


def test_a_statistic_without_a_value_has_no_interval() -> None:
    """nan at the point is said, not covered up."""
    for interval in (found(answers_of(2), np.full_like(PEOPLE, np.nan)).headline, centred(np.nan, np.ones(3))):
        assert np.isnan(interval.low)
        assert interval.reason == "the point itself has no value"
