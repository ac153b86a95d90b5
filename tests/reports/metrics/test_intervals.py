"""Intervals as reports make them: they cover the expected divergence, are no wider than need be, and hold the point."""

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.intervals import SETTINGS, Simulation
from defsurvey.reports.metrics.aggregate import Grouping
from defsurvey.reports.metrics.divergence import smoothed_kl, without_one
from defsurvey.reports.metrics.intervals import Intervals, independent_variance, interval, intervals_of_means

Floats = NDArray[np.float64]
K, N, QUESTIONS = 5, 20, 60
PEOPLE = np.random.default_rng(5).dirichlet(np.full(K, 2.0), size=QUESTIONS)
N_HUMAN, OFFERED = np.full(QUESTIONS, 2000.0), np.ones((QUESTIONS, K), dtype=bool)
BY_NAME = {setting.name: setting for setting in SETTINGS}


#: Every question is one item; three dimensions in turn.
THIRDS = np.arange(QUESTIONS) % 3
OF = Grouping(question=np.arange(QUESTIONS), questions=QUESTIONS, dimension=THIRDS, dimensions=3, by_dimension=True)


def answers_of(seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    return np.eye(K)[np.stack([rng.choice(K, size=N, p=shares) for shares in PEOPLE], axis=1)]


def found(answers: Floats, people: Floats = PEOPLE) -> Intervals:
    counts = answers.sum(axis=0)
    changes = np.einsum("pik,ik->pi", answers, without_one(smoothed_kl, counts, people, N_HUMAN, OFFERED))
    return intervals_of_means(
        smoothed_kl(counts, people, N_HUMAN),
        independent_variance(counts, people, N_HUMAN, OFFERED),
        np.where(answers.any(axis=-1), changes, np.nan),
        OF,
    )


@pytest.mark.parametrize(
    ("setting", "participants", "wider"),
    [
        ("people", 10, 1.5),
        ("near (85% people)", 10, 1.4),
        ("half people, common factor 0.3", 20, 1.2),
        ("far (0% people)", 10, 1.25),
        ("one answer, 97 of 100", 10, 3.0),
    ],
)
def test_intervals_cover_and_are_narrow(setting: str, participants: int, wider: float) -> None:
    """On the bundled survey: at least 93% hold the expected divergence, and are at most so much wider than ideal."""
    simulated = Simulation().run(BY_NAME[setting], participants, 120)
    assert simulated.covered >= 0.93
    assert simulated.dimensions >= 0.93
    assert simulated.width <= wider * simulated.ideal


def test_participants_who_move_together_widen_an_interval() -> None:
    """The variance of the sum over participants, by hand, where all items move alike; of fewer one knows less."""
    moved = np.random.default_rng(2).normal(0, 0.02, (N, 1)) * np.ones(QUESTIONS)
    moved -= moved.mean(axis=0)
    point, alone = np.full(QUESTIONS, 0.25), np.full(QUESTIONS, 1e-4)
    intervals = intervals_of_means(point, alone, moved, OF)
    summed = (N - 1) / N * (moved[:, 0] ** 2).sum()
    together = summed - summed / QUESTIONS
    expected = interval(0.25, 1e-4 / QUESTIONS, together, participants=N)
    assert (intervals.headline.low, intervals.headline.high) == pytest.approx((expected.low, expected.high))
    few, many = (interval(0.25, 1e-6, 1e-4, participants=people) for people in (4, 40))
    assert few.high - few.low > many.high - many.low


def test_two_ways_are_wider_than_one() -> None:
    points = np.random.default_rng(3).gamma(2.0, 0.2, QUESTIONS)
    two = intervals_of_means(points, np.full(QUESTIONS, 1e-4), np.zeros((N, QUESTIONS)), OF).two_way
    assert (two.high - two.low) / 2 == pytest.approx(1.96 * points.std() / np.sqrt(QUESTIONS), rel=0.1)


def test_one_participant_has_no_interval() -> None:
    alone = found(answers_of(2)[:1])
    for each in (alone.headline, alone.two_way, *alone.by_dimension):
        assert "fewer than 2" in each.reason
        assert np.isnan([each.low, each.high]).all()
    assert found(answers_of(2), np.full_like(PEOPLE, np.nan)).headline.reason == "the point itself has no value"


def test_a_dimension_that_one_participant_answered_has_no_interval() -> None:
    answers = answers_of(1)[:5]
    answers[1:, ::3] = 0
    intervals = found(answers)
    assert [np.isnan(each.low) for each in intervals.by_dimension] == [True, False, False]
    assert "fewer than 2 participants" in intervals.by_dimension[0].reason
    assert np.isfinite(intervals.headline.low)


def nearly(share: float, *, rarest: bool = False) -> Floats:
    """Always the commonest answer, or the rarest, but for a part dealt out to all."""
    place = PEOPLE.argmin(axis=1) if rarest else PEOPLE.argmax(axis=1)
    return np.asarray(share * np.eye(K)[place] + (1 - share) / K)


def test_the_variance_of_independent_answers_is_that_of_answers_drawn_anew() -> None:
    rng, own = np.random.default_rng(4), nearly(0.6)
    drawn = rng.multinomial(200, own, size=(2_000, QUESTIONS))
    simulated = smoothed_kl(drawn, PEOPLE, N_HUMAN).var(axis=0)
    assert independent_variance(200 * own, PEOPLE, N_HUMAN, OFFERED) == pytest.approx(simulated, rel=0.25)
