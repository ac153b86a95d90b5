"""Fast resampling gives what slow resampling gives, and the intervals made of it cover."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from reports.metrics import resampling
from reports.metrics.aggregate import Grouping
from reports.metrics.divergence import smoothed_kl
from reports.metrics.intervals import DRAWS, centred, intervals_of_means
from reports.metrics.resampling import participant_weights, resampled_smoothed_kl, weights_of
from tests.reports.metrics.bootstrap import participant_bootstrap

Floats = NDArray[np.float64]
K, N, QUESTIONS = 5, 20, 60


def ragged(
    rng: np.random.Generator, people: int = 7, items: int = 6
) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Answers to items of two to five options, some missing, one item without a reference."""
    size = rng.integers(2, K + 1, items)
    offered = np.arange(K) < size[:, None]
    shares = rng.random((items, K)) * offered
    shares /= shares.sum(axis=1, keepdims=True)
    shares[0] = np.nan
    answers = np.eye(K)[rng.integers(0, size, (people, items))] * (rng.random((people, items, 1)) < 0.7)
    return answers, shares, rng.uniform(100, 3000, items), offered


def test_values_are_those_of_the_plain_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Item by item and resample by resample, in parts or at once, to ten digits."""
    answers, shares, people, offered = ragged(np.random.default_rng(1))
    found = resampled_smoothed_kl(answers, shares, people, offered, draws=50, seed=4)
    present = answers[answers.any(axis=(1, 2))]
    weights = participant_weights(len(present), np.random.default_rng(4), 50)
    counts = np.einsum("bp,pik->bik", weights, present)
    slow = smoothed_kl(counts, np.where(np.isnan(shares), 1.0, shares), people, offered)
    assert (found.answered == present.any(axis=-1)).all()
    assert found.values[:, 1:] == pytest.approx(slow[:, 1:], abs=1e-10, nan_ok=True)
    assert np.isnan(found.values[:, 0]).all()
    monkeypatch.setattr(resampling, "AT_ONCE", 40)
    assert resampled_smoothed_kl(answers, shares, people, offered, draws=50, seed=4).values == pytest.approx(
        found.values, abs=1e-12, nan_ok=True
    )


def test_a_cell_without_answers_has_no_values() -> None:
    """Nothing to resample."""
    found = resampled_smoothed_kl(
        np.zeros((3, 1, 2)), np.full((1, 2), 0.5), np.ones(1), np.ones((1, 2), bool), draws=5, seed=0
    )
    assert found.answered.shape == (0, 1)
    assert np.isnan(found.values).all()


def grouping(dimensions: int = 3) -> Grouping:
    """Every question is one item, dimensions in turn."""
    asked = np.arange(QUESTIONS)
    return Grouping(question=asked, questions=QUESTIONS, dimension=asked % dimensions, dimensions=3, by_dimension=True)


def everybody(participants: int, items: int = QUESTIONS) -> NDArray[np.bool_]:
    """So many participants with an answer to every item."""
    return np.ones((participants, items), dtype=bool)


def test_the_headline_interval_is_the_participant_bootstrap() -> None:
    """The fast way and the general one give the same interval from the same resamples."""
    rng = np.random.default_rng(9)
    people = rng.dirichlet(np.full(K, 2.0), QUESTIONS)
    answers = np.eye(K)[np.stack([rng.choice(K, N, p=each) for each in people], axis=1)]
    n, offered = np.full(QUESTIONS, 2000.0), np.ones((QUESTIONS, K), dtype=bool)
    points = smoothed_kl(answers.sum(axis=0), people, n)
    resampled = resampled_smoothed_kl(answers, people, n, offered, draws=DRAWS, seed=5)
    fast = intervals_of_means(points, resampled.values, resampled.answered, grouping(), seed=5)

    def statistic(counts: Floats) -> Floats:
        return np.asarray(smoothed_kl(counts, people, n).reshape(len(counts), -1, 3).mean(axis=(1, 2)))

    slow = participant_bootstrap(answers, statistic, np.random.default_rng(5), draws=DRAWS)
    assert (fast.headline.low, fast.headline.high) == pytest.approx(slow, abs=1e-9)
    assert len(fast.by_dimension) == 3
    for interval, dimension in zip(fast.by_dimension, range(3), strict=True):
        assert interval.low < points[dimension::3].mean() < interval.high


def test_two_ways_are_wider_than_one() -> None:
    """Questions that differ add their own variance: about what the formula for a mean says."""
    rng = np.random.default_rng(3)
    points = rng.gamma(2.0, 0.2, QUESTIONS)
    values = points + rng.normal(0, 0.02, (DRAWS, 1)) + rng.normal(0, 0.05, (DRAWS, QUESTIONS))
    found = intervals_of_means(points, values, everybody(N), grouping(), seed=1)
    one, two = found.headline, found.two_way
    assert two.high - two.low > one.high - one.low
    assert (two.high - two.low) / 2 == pytest.approx(1.96 * points.std() / np.sqrt(QUESTIONS), rel=0.2)


def test_without_dimensions_questions_weigh_alike() -> None:
    """No item speaks to a dimension: the two-way interval is of the mean over questions."""
    speaks = np.full(3, -1)
    none = Grouping(question=np.array([0, 0, 1]), questions=2, dimension=speaks, dimensions=0, by_dimension=False)
    values = np.tile([1.0, 3.0, 4.0], (200, 1))
    found = intervals_of_means(np.array([1.0, 3.0, 4.0]), values, everybody(5, 3), none, seed=1)
    assert found.headline.low == found.headline.high == 3.0
    assert found.two_way.low <= 3 <= found.two_way.high
    assert found.by_dimension == ()


def test_one_participant_has_no_interval() -> None:
    """Nothing varies: a reason instead; so too where nothing has a value."""
    values = np.ones((10, QUESTIONS))
    assert "fewer than 2" in intervals_of_means(values[0], values, everybody(1), grouping(), seed=0).headline.reason
    nothing = intervals_of_means(np.full(QUESTIONS, np.nan), values, everybody(5), grouping(), seed=0)
    assert nothing.two_way.reason == "the point itself has no value"
    assert centred(1.0, np.full(3, np.nan)).reason == "no resample has a value"


def test_participants_count_where_the_headline_is_of() -> None:
    """One answered what the headline is of, and four all else: resamples would hold copies of one person."""
    values = np.random.default_rng(1).random((50, QUESTIONS))
    answered = everybody(5)
    answered[1:, :3] = False
    of = replace(grouping(), dimension=np.where(np.arange(QUESTIONS) < 3, np.arange(QUESTIONS), -1))
    found = intervals_of_means(values[0], values, answered, of, seed=0)
    for interval in (found.headline, found.two_way, *found.by_dimension):
        assert np.isnan([interval.low, interval.high]).all()
        assert "fewer than 2 participants" in interval.reason


def test_a_dimension_that_one_participant_answered_has_no_interval() -> None:
    """The others keep theirs, and so does the mean of them all, which more than one participant stands behind."""
    values = np.random.default_rng(1).random((50, QUESTIONS))
    answered = everybody(5)
    answered[1:, ::3] = False
    found = intervals_of_means(values[0], values, answered, grouping(), seed=0)
    assert [np.isnan(interval.low) for interval in found.by_dimension] == [True, False, False]
    assert "fewer than 2 participants" in found.by_dimension[0].reason
    assert np.isfinite(found.headline.low)


def test_resamples_are_the_same_for_every_cell() -> None:
    """Equal sizes share draws, and nobody can change them."""
    one = weights_of(4, 6, 1)
    assert one is weights_of(4, 6, 1)
    with pytest.raises(ValueError, match="read-only"):
        one[0, 0] = 9


def interviews(kind: str, rng: np.random.Generator, people: Floats, runs: int) -> NDArray[np.int64]:
    """(runs, N, QUESTIONS) choices of honest people, of another model, or of one whose answers hang together."""
    own = (
        people if kind == "honest" else 0.5 * people + 0.5 * np.random.default_rng(99).dirichlet(np.ones(K), QUESTIONS)
    )
    if kind == "correlated":
        # a participant's leaning moves all of its answers: each question's own distribution stays as it is
        lean = rng.normal(size=(runs, N, 1))
        noise = np.sqrt(0.3) * lean + np.sqrt(0.7) * rng.normal(size=(runs, N, QUESTIONS))
        uniform = ndtr(noise)
    else:
        uniform = rng.random((runs, N, QUESTIONS))
    return np.asarray((uniform[..., None] > np.cumsum(own, axis=-1)[:, :-1]).sum(axis=-1))


@pytest.mark.parametrize(("kind", "percentile"), [("honest", 0.05), ("model", 0.7), ("correlated", 0.8)])
def test_intervals_cover_where_percentiles_do_not(kind: str, percentile: float) -> None:
    """n = 20, k = 5, 60 questions: at least 93% of intervals hold the expected divergence, and all hold the point."""
    rng = np.random.default_rng(17)
    people = np.random.default_rng(7).dirichlet(np.full(K, 2.0), QUESTIONS)
    n, offered = np.full(QUESTIONS, 2000.0), np.ones((QUESTIONS, K), dtype=bool)
    many = np.eye(K)[interviews(kind, rng, people, 2000)].sum(axis=1)
    truth = float(smoothed_kl(many, people, n).mean())
    held = inside = naive = 0
    runs = 200
    for choices in interviews(kind, rng, people, runs):
        answers = np.eye(K)[choices]
        point = float(smoothed_kl(answers.sum(axis=0), people, n).mean())
        seed = int(rng.integers(1 << 30))
        resampled = resampled_smoothed_kl(answers, people, n, offered, draws=400, seed=seed).values.mean(axis=1)
        found = centred(point, resampled)
        held += found.low <= truth <= found.high
        inside += found.low <= point <= found.high
        low, high = np.quantile(resampled, [0.025, 0.975])
        naive += low <= truth <= high
    assert held / runs >= 0.93
    assert inside == runs
    assert naive / runs <= percentile
