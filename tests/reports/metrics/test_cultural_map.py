"""The map: scikit-learn's components, ellipses that hold their share, and ways told where they are more than noise."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from defsurvey.reports.figures.projection import noise, way_noise
from defsurvey.reports.metrics.cultural_map import Arrow, Way, arrow, ellipse, principal_components
from defsurvey.reports.metrics.intervals import weights_of


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 12), st.integers(2, 9))
def test_scikit_learn_agrees(seed: int, rows: int, columns: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(rows, columns))
    ours, theirs = principal_components(scores), PCA(n_components=2, svd_solver="full").fit(scores)
    assert ours.explained == pytest.approx(theirs.explained_variance_ratio_, abs=1e-10)
    assert np.abs(ours.points) == pytest.approx(np.abs(theirs.transform(scores)), abs=1e-10)
    assert ours.project(scores) == pytest.approx(ours.points, abs=1e-10)


def test_the_sign_is_fixed_by_two_rows() -> None:
    scores = np.random.default_rng(3).normal(size=(6, 4))
    for right, left in ((0, 1), (1, 0)):
        found = principal_components(scores, right=right, left=[left])
        assert found.points[right, 0] > found.points[left, 0]
        assert np.abs(found.loadings[1]).max() == found.loadings[1].max()


@pytest.mark.parametrize("participants", [4, 20])
def test_an_ellipse_of_few_participants_holds_its_share(participants: int) -> None:
    rng, held, runs = np.random.default_rng(6), 0, 300
    weights, lean = weights_of(participants, 500, 20250314), np.array([[1.4, 0.85], [0.0, 0.5]])
    for _ in range(runs):
        drawn = rng.normal(size=(participants, 2)) @ lean
        found = ellipse(weights @ drawn / participants, participants)
        assert found.half_axes[0] >= found.half_axes[1]
        angle = np.radians(found.angle)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        held += ((-np.array(found.centre) @ turn / np.array(found.half_axes)) ** 2).sum() <= 1
    assert held / runs >= 0.92
    assert np.isnan(ellipse(np.eye(2), 3).half_axes[0])


DIMENSIONS, PARTICIPANTS, RUNS = 9, 20, 60
PEOPLE = np.random.default_rng(8).normal(0, 0.08, DIMENSIONS)
COMPONENTS = principal_components(np.random.default_rng(9).normal(size=(5, DIMENSIONS)))


def test_arrows_are_compared_in_all_dimensions() -> None:
    scores = np.random.default_rng(5).normal(size=(5, 3))
    components = principal_components(scores)
    people = np.array([[0.0, 0, 0], [1, 0, 0]])
    assert arrow([[0, 0, 0], [2, 0, 0]], people, components).length_ratio == 2
    assert arrow([[1, 0, 0], [0, 0, 0]], people, components).cosine == -1
    assert arrow([[0, 0, 0], [0, 3, 0]], people, components).cosine == 0
    assert np.isnan(arrow([[1, 1, 1], [1, 1, 1]], people, components).cosine)


def drawn(moves: NDArray[np.float64], rng: np.random.Generator, spread: float = 0.1) -> Arrow:
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


def test_the_length_has_no_noise_in_it() -> None:
    rng = np.random.default_rng(13)
    still, moving = ([drawn(way, rng, 0.2) for _ in range(RUNS)] for way in (0 * PEOPLE, PEOPLE))
    measured, free = (np.median([getattr(each, of) for each in still]) for of in ("length_ratio", "length_free"))
    assert measured > 0.5
    assert free < measured / 3
    squared = [each.length_free**2 for each in moving]
    assert np.mean(squared) == pytest.approx(1.0, abs=0.15)


def test_without_noise_nothing_is_told() -> None:
    found = arrow(np.stack([0 * PEOPLE, PEOPLE]), np.stack([0 * PEOPLE, PEOPLE]), COMPONENTS, None)
    assert (found.way, round(found.cosine, 6), round(found.length_free, 6)) == (Way.UNKNOWN, 1.0, 1.0)
    assert noise(np.ones((10, 2)), 1) is None
    assert way_noise(None, np.ones((10, 2))) is None
