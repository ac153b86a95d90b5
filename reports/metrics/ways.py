"""The way from one culture to another on the map: of a model against people, and what of it is noise.

Few participants lie somewhere else in every culture by chance alone, so that a model which does not move has a way too:
it is called one where it is longer than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from defsurvey.reports.metrics.cultural_map import Components, Ellipse
from defsurvey.reports.metrics.divergence import Floats

#: Cosine above which two ways are called alike: within 45 degrees.
ALIKE = float(np.cos(np.pi / 4))
#: Of intervals and of the test of a way's length.
LEVEL = 0.95


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
    cosine_low: float  #: 95% interval of the cosine, noise taken off; nan where the way is no longer than chance
    cosine_high: float
    length_ratio: float  #: in all dimensions, as measured; 1: as far apart as people
    length_free: float  #: the same, noise taken off the squared length; 0 where nothing is left
    way: Way
    map_cosine: float  #: on the map, as drawn
    map_length_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRow:
    """One subject (people, or a model) in one culture."""

    subject: str  #: "people", or the model, with its language where it was asked in several
    culture: str
    human: bool
    scores: Floats  #: mean score per dimension used, shape (C,)
    point: tuple[float, float]
    ellipse: Ellipse  #: 95%, from resampled participants, nan where they are few; of people from their number


@dataclass(frozen=True, slots=True, kw_only=True)
class MapArrow:
    """How a subject moves from the first culture to another, against people."""

    subject: str
    to: str  #: code of that other culture
    arrow: Arrow
    comparable: bool  #: whether it has answers enough in both


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """One way of measuring: the whole map."""

    dimensions: tuple[str, ...]  #: codes of the columns used
    components: Components
    rows: tuple[MapRow, ...]
    arrows: tuple[MapArrow, ...]  #: models only, culture by culture
    left_out: tuple[str, ...]  #: subjects without a score in some dimension


def arrow(model: ArrayLike, people: ArrayLike, components: Components, noise: ArrayLike | None = None) -> Arrow:
    """Compare the way from one culture to the other of a model and of people.

    With d the model's way, e its noise and u the direction of people's way: the squared length is |d|^2 - mean |e|^2.
    The way is one where |d|^2 lies above the 95% quantile of |e|^2. Its cosine is (d u) / length; the interval is of
    the same of d + e, whose squared length has the noise twice.

    Args:
        model: scores in the first and the second culture, shape (2, C).
        people: the same, shape (2, C).
        components: of the map.
        noise: what resampled participants add to the model's way, of mean 0, shape (B, C); None: not known.

    >>> from defsurvey.reports.metrics.cultural_map import principal_components
    >>> components = principal_components([[0., 0.], [1., 0.], [0., 1.]])
    >>> found = arrow([[0., 0.], [2., 0.]], [[0., 0.], [1., 0.]], components, [[0., .1], [0., -.1]])
    >>> found.cosine, found.length_ratio, round(found.length_free, 3), found.way.value, round(found.map_length_ratio, 6)
    (1.0, 2.0, 1.997, 'as people do', 2.0)
    """
    one, two = (np.diff(np.asarray(ends, dtype=np.float64), axis=0)[0] for ends in (model, people))
    cosine, ratio = _against(one, two)
    map_cosine, map_ratio = _against(components.loadings @ one, components.loadings @ two)
    low = high = np.nan
    free, way = ratio, Way.UNKNOWN
    if noise is not None:
        drawn = np.asarray(noise, dtype=np.float64)
        squared = (drawn**2).sum(axis=-1)
        measure = float(np.linalg.norm(two))
        free = float(np.sqrt(max(one @ one - squared.mean(), 0.0))) / measure if measure > 0 else np.nan
        if measure > 0 and one @ one > np.quantile(squared, LEVEL):
            low, high = _cosines(one + drawn, two / measure, 2 * float(squared.mean()))
            way = _way(low, high)
    return Arrow(
        cosine=cosine,
        cosine_low=low,
        cosine_high=high,
        length_ratio=ratio,
        length_free=free,
        way=way,
        map_cosine=map_cosine,
        map_length_ratio=map_ratio,
    )


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
