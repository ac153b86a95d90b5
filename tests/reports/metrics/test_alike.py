"""Intervals of models that nearly always give one answer: answers hardly vary, and others might answer otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from defsurvey.reports.metrics.aggregate import Grouping, grouped_mean, headline_mean
from defsurvey.reports.metrics.divergence import smoothed_kl, without_one
from defsurvey.reports.metrics.floor import respondents
from defsurvey.reports.metrics.intervals import Intervals, independent_variance, intervals_of_means

Floats = NDArray[np.float64]
K, QUESTIONS, DIMENSIONS = 5, 60, 6
PEOPLE = np.random.default_rng(7).dirichlet(np.full(K, 2.0), QUESTIONS)
N_HUMAN, OFFERED = np.full(QUESTIONS, 2000.0), np.ones((QUESTIONS, K), dtype=bool)
GROUPING = Grouping(
    question=np.arange(QUESTIONS),
    questions=QUESTIONS,
    dimension=np.arange(QUESTIONS) % DIMENSIONS,
    dimensions=DIMENSIONS,
    by_dimension=True,
)


def nearly(share: float, *, rarest: bool = False) -> Floats:
    """Always the commonest answer, or the rarest, but for a part dealt out to all."""
    place = PEOPLE.argmin(axis=1) if rarest else PEOPLE.argmax(axis=1)
    return np.asarray(share * np.eye(K)[place] + (1 - share) / K)


def found(answers: Floats) -> Intervals:
    """Intervals of one sample, shape (P, QUESTIONS, K)."""
    counts = answers.sum(axis=0)
    return intervals_of_means(
        smoothed_kl(counts, PEOPLE, N_HUMAN),
        independent_variance(counts, PEOPLE, N_HUMAN, OFFERED),
        np.einsum("pik,ik->pi", answers, without_one(smoothed_kl, counts, PEOPLE, N_HUMAN, OFFERED)),
        GROUPING,
    )


@pytest.mark.parametrize("participants", [5, 20])
@pytest.mark.parametrize(("share", "rarest"), [(0.99, False), (0.95, False), (0.97, True)])
def test_intervals_of_answers_that_hardly_vary_cover(participants: int, share: float, *, rarest: bool) -> None:
    """At least 93% hold the expected divergence, of the headline and of dimensions."""
    rng, own = np.random.default_rng(3), nearly(share, rarest=rarest)
    expected = respondents(own, PEOPLE, N_HUMAN, OFFERED, participants).smoothed_kl
    truth = float(headline_mean(expected, GROUPING))
    truths = grouped_mean(expected, GROUPING.dimension, DIMENSIONS).tolist()
    headline, dimensions, runs = 0, 0, 40
    for _ in range(runs):
        choices = (rng.random((participants, QUESTIONS, 1)) > np.cumsum(own, axis=-1)[:, :-1]).sum(axis=-1)
        intervals = found(np.eye(K)[choices])
        headline += intervals.headline.low <= truth <= intervals.headline.high
        dimensions += sum(
            each.low <= value <= each.high for each, value in zip(intervals.by_dimension, truths, strict=True)
        )
    assert headline / runs >= 0.93
    assert dimensions / runs / DIMENSIONS >= 0.93


def test_five_who_answer_alike_do_not_speak_for_all() -> None:
    """The interval has a width, and the point within."""
    answers = np.repeat(np.eye(K)[PEOPLE.argmax(axis=1)][None], 5, axis=0)
    intervals = found(answers)
    point = float(headline_mean(smoothed_kl(answers.sum(axis=0), PEOPLE, N_HUMAN), GROUPING))
    for each in (intervals.headline, intervals.two_way):
        assert each.low < point - 0.01 < point + 0.01 < each.high


def test_the_variance_of_independent_answers_is_that_of_answers_drawn_anew() -> None:
    """To first order: of many answers it is what simulation gives."""
    rng, own = np.random.default_rng(4), nearly(0.6)
    drawn = rng.multinomial(200, own, size=(2_000, QUESTIONS))
    simulated = smoothed_kl(drawn, PEOPLE, N_HUMAN).var(axis=0)
    assert independent_variance(200 * own, PEOPLE, N_HUMAN, OFFERED) == pytest.approx(simulated, rel=0.25)
