"""Intervals by resampling whole participants, questions fixed.

Knows a value of each item, what resamples of participants make of it (see ``resampling``), and means over items.
Deliberately knows nothing of which value it is.

The estimand is the expected divergence at this n. A divergence is biased upwards in small samples,
and more so in resamples of them, so percentiles of the resamples lie above the point; what carries
over is their spread about their own mean. Participants who answer alike have resamples that hardly vary, although
others may answer otherwise: an interval is as wide, at least, as a least variance makes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from reports.metrics.aggregate import (
    Grouping,
    grouped_mean,
    grouped_sum,
    headline_mean,
    headline_weights,
    mean_known,
)
from reports.metrics.resampling import weights_of

Floats = NDArray[np.float64]

#: Resamples behind an interval.
DRAWS = 2_000
_FEW = "fewer than 2 participants with a valid answer to what the mean is of"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An interval about a point; nan where ``reason`` says why."""

    low: float
    high: float
    level: float
    reason: str = ""


def centred(point: float, resampled: Floats, level: float = 0.95, *, least: float = 0.0) -> Interval:
    """[D - upper quantile, D - lower quantile] of the resamples about their own mean.

    Args:
        point: D, the statistic of the sample itself.
        resampled: D*, shape (B,); nan where a resample has no value.
        level: of the interval, in (0, 1).
        least: variance of D to either side of which the interval reaches, normal, however little resamples vary.

    >>> found = centred(1.0, np.array([1.2, 1.3, 1.4]), level=.5)
    >>> round(found.low, 2), round(found.high, 2)
    (0.95, 1.05)
    >>> alike = centred(1.0, np.array([1.2, 1.2, 1.2]), least=.01)
    >>> round(alike.low, 2), round(alike.high, 2)
    (0.8, 1.2)
    """
    if np.isnan(point):
        return _none(level, "the point itself has no value")
    spread = resampled[~np.isnan(resampled)]
    if spread.size == 0:
        return _none(level, "no resample has a value")
    below, above = np.quantile(spread - spread.mean(), [(1 - level) / 2, (1 + level) / 2])
    reach = float(ndtri((1 + level) / 2)) * float(np.sqrt(least))
    return Interval(low=point - max(float(above), reach), high=point - min(float(below), -reach), level=level)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Intervals of one cell's means."""

    headline: Interval  #: participants resampled, questions fixed: about these questions
    two_way: Interval  #: participants and the questions of the headline resampled: about questions like these
    by_dimension: tuple[Interval, ...]  #: participants resampled, one per dimension


def intervals_of_means(
    points: Floats,
    values: Floats,
    answered: NDArray[np.bool_],
    grouping: Grouping,
    *,
    seed: int,
    level: float = 0.95,
    least: Floats | None = None,
) -> Intervals:
    """Intervals about the means of a value per item, all from the same resamples of participants.

    Args:
        points: the value of each item, shape (I,); nan where there is none.
        values: the same of B resamples of participants, shape (B, I); nan where a resample has no value.
        answered: which of the participants resampled has a valid answer to which item, shape (P, I); a mean that fewer
            than 2 of them stand behind has no interval: its resamples would be copies of one.
        grouping: of the I items.
        seed: of the questions drawn for the two-way interval.
        level: in (0, 1).
        least: variance of each item's value, shape (I,), that intervals reach as far as, items taken as independent;
            None: none.

    Source: docs/metrics.md, "Intervals".

    >>> one = np.array([0])
    >>> lone = Grouping(question=one, questions=1, dimension=one, dimensions=1, by_dimension=True)
    >>> answered = np.ones((5, 1), bool)
    >>> found = intervals_of_means(np.array([2.]), np.array([[2.], [3.], [4.]]), answered, lone, seed=0)
    >>> found.headline == found.by_dimension[0] == found.two_way
    True
    """
    known = ~np.isnan(points) & grouping.headline
    if not known.any() or _few(answered[:, known]):
        none = _none(level, _FEW if known.any() else "the point itself has no value")
        return Intervals(headline=none, two_way=none, by_dimension=(none,) * grouping.dimensions)
    variance = np.zeros(int(known.sum())) if least is None else least[known]
    points, values, answered, grouping = points[known], values[:, known], answered[:, known], grouping.of(known)
    dimension = grouped_mean(points, grouping.dimension, grouping.dimensions)
    resampled = grouped_mean(values, grouping.dimension, grouping.dimensions)
    point = float(headline_mean(points, grouping))

    def of_dimension(place: int) -> Interval:
        mine = grouping.dimension == place
        if mine.any() and _few(answered[:, mine]):
            return _none(level, _FEW)
        spread = float(variance[mine].sum()) / max(int(mine.sum()), 1) ** 2
        return centred(float(dimension[place]), resampled[:, place], level, least=spread)

    of_all = float((headline_weights(grouping) ** 2 * variance).sum())
    return Intervals(
        headline=centred(point, headline_mean(values, grouping), level, least=of_all),
        two_way=centred(point, _both_ways(values, grouping, seed), level, least=of_all),
        by_dimension=tuple(of_dimension(place) for place in range(grouping.dimensions)),
    )


def _few(answered: NDArray[np.bool_]) -> bool:
    """Whether fewer than two participants answered any of these items, shape (P, I)."""
    return int(answered.any(axis=1).sum()) < 2


def _both_ways(values: Floats, grouping: Grouping, seed: int) -> Floats:
    """The headline mean of resampled questions of resampled participants, shape (B,)."""
    asked, place = np.unique(grouping.question, return_inverse=True)
    # another seed than the participants': with as many questions as participants both would be drawn alike
    weights = weights_of(len(asked), len(values), seed + 1)[:, place]
    known = ~np.isnan(values)
    of, groups = grouping.dimension, grouping.dimensions
    if not grouping.by_dimension:
        # a question weighs the same however many items it has
        weights = weights / np.bincount(place)[place]
        of, groups = np.zeros_like(place), 1
    total, mass = (
        grouped_sum(np.where(known, weights * values, 0.0), of, groups),
        grouped_sum(weights * known, of, groups),
    )
    return mean_known(np.divide(total, mass, out=np.full_like(total, np.nan), where=mass > 0))


def _none(level: float, reason: str) -> Interval:
    return Interval(low=np.nan, high=np.nan, level=level, reason=reason)
