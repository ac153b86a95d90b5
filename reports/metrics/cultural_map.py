"""The map of cultures: mean scores per value dimension, projected on two principal components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri, fdtri

from defsurvey.reports.metrics.aggregate import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Principal components of R rows by C columns."""

    mean: Floats  #: of each column, shape (C,)
    loadings: Floats  #: unit vectors, one row per component, shape (2, C)
    explained: Floats  #: share of the variance along each, shape (2,)
    points: Floats  #: the rows on the map, shape (R, 2)

    def project(self, rows: ArrayLike) -> Floats:
        """Other rows on the same map, shape (..., C) -> (..., 2)."""
        return np.asarray((np.asarray(rows, dtype=np.float64) - self.mean) @ self.loadings.T, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ellipse:
    """Where a point would fall in 95 of 100 repetitions; nan where nothing varies."""

    centre: tuple[float, float]
    half_axes: tuple[float, float]  #: the longer first
    angle: float  #: of the longer one, degrees from the first component, in (-90, 90]


def principal_components(scores: ArrayLike, *, right: int | None = None, left: Sequence[int] = ()) -> Components:
    """Two principal components of complete rows (R, C), at least 2 by 2, columns centred and not scaled.

    The row ``right`` is to lie to the right of the mean of the rows ``left``: it fixes the sign of the first component.
    The second's largest loading is positive.

    Source: Liu et al. (2025), section 4.2.2; their Eq. 3 to 5 mix rows and columns, what is meant is this.

    >>> found = principal_components([[0., 0.], [2., 2.], [1., 1.]], right=0, left=[1])
    >>> found.points[:, 0].round(4).tolist(), found.explained.round(4).tolist()
    ([1.4142, -1.4142, 0.0], [1.0, 0.0])
    """
    array = np.asarray(scores, dtype=np.float64)
    mean = array.mean(axis=0)
    _, lengths, axes = np.linalg.svd(array - mean, full_matrices=False)
    loadings = axes[:2].copy()
    largest = loadings[np.arange(2), np.abs(loadings).argmax(axis=1)]
    loadings *= np.where(largest < 0, -1.0, 1.0)[:, None]
    if right is not None and len(left) and (array[right] - array[list(left)].mean(axis=0)) @ loadings[0] < 0:
        loadings[0] *= -1
    variance = lengths**2
    total = variance.sum()
    explained = variance[:2] / total if total > 0 else np.full(2, np.nan)
    return Components(mean=mean, loadings=loadings, explained=explained, points=(array - mean) @ loadings.T)


#: Of ellipses, of intervals and of the test of a way's length.
LEVEL = 0.95
#: Fewest participants with an ellipse: of fewer it would be of no use, or as wide as the map.
FEWEST = 4


def ellipse(points: ArrayLike, participants: int) -> Ellipse:
    """Where the mean of participants would fall, by resamples of them (B, 2): Hotelling's region of the mean.

    Resamples of P participants vary by (P - 1) / P of what means of P do, and their covariance is known from P: the
    radius is by 2 (P - 1) / (P - 2) F(2, P - 2) for the chi-square of a known one. Of fewer than :data:`FEWEST`, nan.

    Source: Hotelling (1931).

    >>> found = ellipse([[0, 0], [2, 0], [0, 1], [2, 1]], 1_000)
    >>> found.centre, found.angle
    ((1.0, 0.5), 0.0)
    """
    array = np.asarray(points, dtype=np.float64)
    array = array[~np.isnan(array).any(axis=-1)]
    if len(array) < 2 or participants < FEWEST:
        return Ellipse(centre=(np.nan, np.nan), half_axes=(np.nan, np.nan), angle=np.nan)
    freedom = participants - 2
    hotelling = 2 * (participants - 1) / freedom * float(fdtri(2, freedom, LEVEL))
    covariance = np.cov(array.T) * participants / (participants - 1)
    return ellipse_of(array.mean(axis=0), covariance * (hotelling / float(chdtri(2, 1 - LEVEL))))


def ellipse_of(centre: ArrayLike, covariance: ArrayLike) -> Ellipse:
    """The ellipse of a normal point, shapes (2,) and (2, 2)."""
    values, vectors = np.linalg.eigh(np.asarray(covariance, dtype=np.float64))
    radius = np.sqrt(np.maximum(values, 0) * float(chdtri(2, 1 - LEVEL)))
    long = vectors[:, 1]
    angle = float(np.degrees(np.arctan2(long[1], long[0])))
    angle = angle - 180 if angle > 90 else angle + 180 if angle <= -90 else angle
    x, y = np.asarray(centre, dtype=np.float64).tolist()
    return Ellipse(centre=(x, y), half_axes=(float(radius[1]), float(radius[0])), angle=angle + 0.0)


#: Cosine above which two ways are called alike: within 45 degrees.
ALIKE = float(np.cos(np.pi / 4))


class Way(StrEnum):
    """Which way a model moves, held against people's; told where the 95% interval of its cosine lies within."""

    AS_PEOPLE = "as people do"  #: within 45 degrees
    ANOTHER = "another way than people"
    AGAINST = "against people's way"  #: within 45 degrees of the opposite
    UNKNOWN = "unknown"  #: no longer than chance would make it, or the interval holds several, or no noise is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """From one culture to another, of one subject, against the same of people."""

    cosine: float  #: in all dimensions, in [-1, 1]; nan where an arrow has no length
    cosine_low: float = np.nan  #: 95% interval of the cosine, noise taken off; nan where the way is but chance's
    cosine_high: float = np.nan
    length_ratio: float  #: in all dimensions, as measured; 1: as far apart as people
    length_free: float  #: the same, noise taken off the squared length; 0 where nothing is left
    way: Way = Way.UNKNOWN
    map_cosine: float  #: on the map, as drawn
    map_length_ratio: float


def arrow(model: ArrayLike, people: ArrayLike, components: Components, noise: ArrayLike | None = None) -> Arrow:
    """Compare the way from one culture to the other of a model and of people, each given by two rows of scores (2, C).

    With d the model's way, e its noise (B, C) of mean 0, if known, and u the direction of people's way: the squared
    length is |d|^2 - mean |e|^2. The way is one where |d|^2 lies above the 95% quantile of |e|^2. Its cosine is (d u) /
    length; the interval is of the same of d + e, whose squared length has the noise twice.

    >>> components = principal_components([[0., 0.], [1., 0.], [0., 1.]])
    >>> found = arrow([[0., 0.], [2., 0.]], [[0., 0.], [1., 0.]], components, [[0., .1], [0., -.1]])
    >>> found.cosine, found.length_ratio, round(found.length_free, 3), found.way.value, round(found.map_length_ratio, 6)
    (1.0, 2.0, 1.997, 'as people do', 2.0)
    """
    one, two = (np.diff(np.asarray(ends, dtype=np.float64), axis=0)[0] for ends in (model, people))
    cosine, free = _against(one, two)
    map_cosine, map_ratio = _against(components.loadings @ one, components.loadings @ two)
    found = Arrow(cosine=cosine, length_ratio=free, length_free=free, map_cosine=map_cosine, map_length_ratio=map_ratio)
    measure = float(np.linalg.norm(two))
    if noise is None or measure == 0:
        return found
    drawn = np.asarray(noise, dtype=np.float64)
    squared = (drawn**2).sum(axis=-1)
    found = replace(found, length_free=float(np.sqrt(max(one @ one - squared.mean(), 0.0))) / measure)
    if one @ one <= np.quantile(squared, LEVEL):
        return found
    low, high = _cosines(one + drawn, two / measure, 2 * float(squared.mean()))
    return replace(found, cosine_low=low, cosine_high=high, way=_way(low, high))


def _cosines(ways: Floats, along: Floats, noise: float) -> tuple[float, float]:
    """Ends of the interval of the cosine of ways, shape (B, C), with a direction, their squared noise taken off."""
    reach = ways @ along
    length = np.sqrt(np.maximum((ways**2).sum(axis=-1) - noise, 0.0))
    # what is shorter than its part along people's way has no cosine of its own: it is as near as can be
    cosines = np.clip(np.divide(reach, length, out=np.sign(reach), where=length > np.abs(reach)), -1.0, 1.0)
    low, high = np.quantile(cosines, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _way(low: float, high: float) -> Way:
    if low > ALIKE:
        return Way.AS_PEOPLE
    if high < -ALIKE:
        return Way.AGAINST
    return Way.ANOTHER if low > -ALIKE and high < ALIKE else Way.UNKNOWN


def _against(one: Floats, two: Floats) -> tuple[float, float]:
    length, measure = float(np.linalg.norm(one)), float(np.linalg.norm(two))
    cosine = float(np.clip(one @ two / (length * measure), -1.0, 1.0)) if length > 0 and measure > 0 else np.nan
    return cosine, length / measure if measure > 0 else np.nan
