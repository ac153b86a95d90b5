"""Ways from one culture to another: compared in all dimensions, and told where they are more than noise."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from defsurvey.reports.figures.projection import noise, way_noise
from defsurvey.reports.metrics.cultural_map import Arrow, Way, arrow, principal_components
from defsurvey.reports.metrics.intervals import weights_of

DIMENSIONS, PARTICIPANTS, RUNS = 9, 20, 60
PEOPLE = np.random.default_rng(8).normal(0, 0.08, DIMENSIONS)
COMPONENTS = principal_components(np.random.default_rng(9).normal(size=(5, DIMENSIONS)))


def test_arrows_are_compared_in_all_dimensions() -> None:
    """The same way is 1, the opposite -1, a right angle 0; twice as far is 2."""
    scores = np.random.default_rng(5).normal(size=(5, 3))
    components = principal_components(scores)
    people = np.array([[0.0, 0, 0], [1, 0, 0]])
    assert arrow([[0, 0, 0], [2, 0, 0]], people, components).length_ratio == 2
    assert arrow([[1, 0, 0], [0, 0, 0]], people, components).cosine == -1
    assert arrow([[0, 0, 0], [0, 3, 0]], people, components).cosine == 0
    assert np.isnan(arrow([[1, 1, 1], [1, 1, 1]], people, components).cosine)


def drawn(moves: NDArray[np.float64], rng: np.random.Generator, spread: float = 0.1) -> Arrow:
    """The arrow of a model that moves that way, by twenty participants in either culture."""
    weights, ends, ends_noise = weights_of(PARTICIPANTS, 300, 5), [], []
    for mean in (0 * moves, moves):
        scores = mean + rng.normal(0, spread, (PARTICIPANTS, DIMENSIONS))
        ends.append(scores.mean(axis=0))
        ends_noise.append(noise(weights @ scores / PARTICIPANTS, PARTICIPANTS))
    return arrow(np.stack(ends), np.stack([0 * PEOPLE, PEOPLE]), COMPONENTS, way_noise(*ends_noise))


def across() -> NDArray[np.float64]:
    """A way as long as people's, at a right angle to it."""
    way = np.random.default_rng(10).normal(size=DIMENSIONS)
    way -= way @ PEOPLE / (PEOPLE @ PEOPLE) * PEOPLE
    return np.asarray(way / np.linalg.norm(way) * np.linalg.norm(PEOPLE))


@pytest.mark.parametrize(
    ("moves", "way"),
    [(PEOPLE, Way.AS_PEOPLE), (-PEOPLE, Way.AGAINST), (across(), Way.ANOTHER), (0 * PEOPLE, Way.UNKNOWN)],
    ids=["as people", "against", "across", "not at all"],
)
def test_a_way_is_told_where_there_is_one(moves: NDArray[np.float64], way: Way) -> None:
    """Of a model that does not move none is told in 95 of 100 runs, though its arrow has a length."""
    rng = np.random.default_rng(11)
    found = Counter(drawn(moves, rng).way for _ in range(RUNS))
    assert found[way] >= 0.95 * RUNS


@pytest.mark.parametrize("moves", [PEOPLE, 0.5 * PEOPLE], ids=["as far", "half as far"])
def test_few_participants_claim_no_wrong_way(moves: NDArray[np.float64]) -> None:
    """Noise hides the way people go, and is not taken for another way."""
    rng = np.random.default_rng(12)
    found = Counter(drawn(moves, rng, spread=0.3).way for _ in range(RUNS))
    assert found[Way.AS_PEOPLE] + found[Way.UNKNOWN] >= 0.95 * RUNS


def test_the_length_has_no_noise_in_it() -> None:
    """As measured a model that does not move goes a way; without the noise next to none."""
    rng = np.random.default_rng(13)
    still, moving = ([drawn(way, rng, 0.2) for _ in range(RUNS)] for way in (0 * PEOPLE, PEOPLE))
    measured, free = (np.median([getattr(each, of) for each in still]) for of in ("length_ratio", "length_free"))
    assert measured > 0.5
    assert free < measured / 3
    squared = [each.length_free**2 for each in moving]
    assert np.mean(squared) == pytest.approx(1.0, abs=0.15)


def test_without_noise_nothing_is_told() -> None:
    """One participant shows no spread: its way has a length and a cosine, and no direction is claimed."""
    found = arrow(np.stack([0 * PEOPLE, PEOPLE]), np.stack([0 * PEOPLE, PEOPLE]), COMPONENTS, None)
    assert (found.way, round(found.cosine, 6), round(found.length_free, 6)) == (Way.UNKNOWN, 1.0, 1.0)
    assert noise(np.ones((10, 2)), 1) is None
    assert way_noise(None, np.ones((10, 2))) is None
