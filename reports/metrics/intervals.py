"""Intervals of a mean smoothed KL over other participants, questions fixed: of the expected divergence at this n.

The variance of the mean is what independent answers would give, and beyond it how far the participants move the items
together. The interval is symmetric on the scale of the root, since a divergence near 0 grows with the square.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import stdtrit

from defsurvey.reports.metrics.aggregate import Bools, Floats, Grouping, headline_mean, headline_weights
from defsurvey.reports.metrics.divergence import PRIOR, smoothed_reference

_FEW = "fewer than 2 participants with a valid answer to what the mean is of"
#: Degrees of freedom from which t is normal.
_NORMAL = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95% interval about a point; nan where ``reason`` says why."""

    low: float = np.nan
    high: float = np.nan
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Intervals of one cell's means."""

    headline: Interval  #: other participants, questions fixed: about these questions
    two_way: Interval  #: other participants and other questions: about questions like these
    by_dimension: tuple[Interval, ...]  #: other participants, one per dimension


def interval(point: float, variance: float, together: float = 0.0, *, participants: int = 2) -> Interval:
    """Interval about a mean divergence, by t on the scale of its root.

    ``variance`` is known well; ``together`` is beyond it and only the participants tell of it: it has half the degrees
    of freedom that a normal sample of them has, since what a participant moves is skewed (docs/metrics.md).

    Source: Satterthwaite (1946) for the degrees of freedom.
    """
    total = variance + together
    freedom = (participants - 1) / 2 * (total / together) ** 2 if together > 0 else _NORMAL
    return _on_roots(point, total, freedom)


def _on_roots(point: float, variance: float, freedom: float) -> Interval:
    root = np.sqrt(point)
    reach = stdtrit(min(freedom, _NORMAL), 0.975) * np.sqrt(variance)
    half = reach / (2 * root) if root > 0 else 0.0
    return Interval(low=float(max(root - half, 0.0) ** 2), high=float((root + half) ** 2))


def independent_variance(counts: Floats, shares: Floats, n_human: Floats, offered: Bools) -> Floats:
    """Variance of the smoothed KL of each item if answers are independent, to first order, shape (I,).

    The shares of the answers are taken to be (c + 1/k) / (n + 1), one answer more, spread over the options: five
    participants who all answer alike do not say that a sixth would. With L the logarithm of smoothed shares over
    people's, the variance is (E L^2 - (E L)^2) n / (n + k/2)^2. Near people it is larger than the true one.

    Source: Perks (1947) for the prior; the delta method; Efron and Stein (1981) for its bias.
    """
    n, size = counts.sum(axis=-1, keepdims=True), offered.sum(axis=-1, keepdims=True)
    known = np.where(offered, smoothed_reference(shares, n_human, offered), 1.0)
    logs = np.where(offered, np.log(np.where(offered, (counts + PRIOR) / (n + PRIOR * size), 1.0) / known), 0.0)
    drawn = np.where(offered, (counts + 1 / size) / (n + 1), 0.0)
    spread = (drawn * logs**2).sum(axis=-1) - (drawn * logs).sum(axis=-1) ** 2
    return np.asarray(np.maximum(spread, 0.0) * n[:, 0] / (n + PRIOR * size)[:, 0] ** 2, dtype=np.float64)


def intervals_of_means(points: Floats, variances: Floats, left_out: Floats, grouping: Grouping) -> Intervals:
    """Intervals about the means of a divergence per item (I,), by its variance if answers are independent (I,).

    ``left_out`` (P, I): by how much each item changes without a participant; nan where that one has no valid answer to
    it. A mean that fewer than 2 stand behind has no interval.

    Source: Tukey (1958) for the jackknife; Cameron, Gelbach and Miller (2011) for two ways; docs/metrics.md,
    "Intervals".

    >>> one = np.array([0])
    >>> lone = Grouping(question=one, questions=1, dimension=one, dimensions=1, by_dimension=True)
    >>> found = intervals_of_means(np.array([.25]), np.array([1e-4]), np.zeros((5, 1)), lone)
    >>> found.headline == found.by_dimension[0], round(found.headline.low, 3), found.two_way.reason
    (True, 0.231, 'one question')
    """
    known = ~np.isnan(points) & grouping.headline
    nothing = Interval(reason="the point itself has no value")
    if not known.any():
        return Intervals(headline=nothing, two_way=nothing, by_dimension=(nothing,) * grouping.dimensions)
    points, variances, left_out, grouping = points[known], variances[known], left_out[:, known], grouping.of(known)

    def of(weights: Floats) -> Interval:
        behind = weights > 0
        moved = _together(left_out[:, behind], weights[behind])
        if moved is None:
            return Interval(reason=_FEW)
        return interval(float(weights @ points), float((weights**2) @ variances), moved[0], participants=moved[1])

    speaking = [grouping.dimension == place for place in range(grouping.dimensions)]
    return Intervals(
        headline=of(headline_weights(grouping)),
        two_way=_both_ways(points, variances, left_out, grouping),
        by_dimension=tuple(of(mine / mine.sum()) if mine.any() else nothing for mine in speaking),
    )


def _together(left_out: Floats, weights: Floats) -> tuple[float, int] | None:
    """The jackknife's variance of a mean beyond that of its items, and how many participants tell of it, if two do."""
    present = left_out[~np.isnan(left_out).all(axis=1)]
    people = len(present)
    if people < 2:
        return None
    moved = np.nan_to_num(present) * weights
    moved -= moved.mean(axis=0)
    beyond = float((moved.sum(axis=1) ** 2).sum() - (moved**2).sum())
    return max((people - 1) / people * beyond, 0.0), people


def _both_ways(points: Floats, variances: Floats, left_out: Floats, grouping: Grouping) -> Interval:
    """For other questions too: their own variance, by the jackknife over questions, in place of the items' own."""
    weights, asked = headline_weights(grouping), np.unique(grouping.question)
    moved = _together(left_out, weights)
    if moved is None or len(asked) < 2:
        return Interval(reason=_FEW if moved is None else "one question")
    together, people = moved
    without = np.where(grouping.question == asked[:, None], np.nan, points)
    over = float(headline_mean(without, grouping).var()) * (len(asked) - 1)
    over = max(over, float((weights**2) @ variances))
    variance = over + together
    freedom = variance**2 / max(over**2 / (len(asked) - 1) + 2 * together**2 / (people - 1), 1e-300)
    return _on_roots(float(weights @ points), variance, freedom)


@lru_cache(maxsize=4)
def weights_of(units: int, draws: int, seed: int) -> Floats:
    """How often each of n units is in each of B resamples of n, shape (B, n): the same for every cell of a run."""
    drawn = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=draws)
    return drawn.astype(np.float64)
