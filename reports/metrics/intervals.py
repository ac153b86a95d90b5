"""Intervals by resampling whole participants, questions fixed.

Knows what each participant answered as weights on categories, and a statistic of summed weights.
Deliberately knows nothing of which statistic it is.

The estimand is the expected divergence at this n. A divergence is biased upwards in small samples,
and more so in resamples of them, so percentiles of the resamples lie above the point; what carries
over is their spread about their own mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: (B, I, K) summed weights -> (B,) values.
Statistic = Callable[[Floats], Floats]

#: Resamples behind an interval.
DRAWS = 2_000
#: Numbers held at once: resamples are worked off in parts of at most this many.
AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An interval about a point; nan where ``reason`` says why."""

    low: float
    high: float
    level: float
    reason: str = ""


def participant_bootstrap(
    answers: NDArray[np.floating],
    statistic: Statistic,
    rng: np.random.Generator,
    *,
    draws: int = DRAWS,
    level: float = 0.95,
) -> Interval:
    """D - quantiles of (D* - mean D*), D* the statistic of resampled participants.

    Args:
        answers: each participant's weights, shape (P, I, K): 1 in the category chosen; all 0 where an
            item has no valid answer.
        statistic: of weights summed over participants, (B, I, K) -> (B,); nan where it has no value.
        rng: the same generator state gives the same interval.
        draws: how many resamples.
        level: of the interval, in (0, 1).

    Source: docs/metrics.md, "Intervals".

    >>> two = np.array([[[1., 0.]], [[0., 1.]]])
    >>> participant_bootstrap(two[:1], lambda c: c[:, 0, 0], np.random.default_rng(0)).reason
    'fewer than 2 participants with a valid answer'
    >>> found = participant_bootstrap(two, lambda c: c[:, 0, 0] / 2, np.random.default_rng(0))
    >>> found.low < .5 < found.high
    True
    """
    present = answers[answers.any(axis=(1, 2))]
    people, items, columns = present.shape
    if people < 2:
        return _none(level, "fewer than 2 participants with a valid answer")
    flat = present.reshape(people, items * columns).astype(np.float64)
    point = float(statistic(flat.sum(axis=0).reshape(1, items, columns))[0])
    if np.isnan(point):
        return _none(level, "the point itself has no value")
    part = max(1, AT_ONCE // max(flat.shape[1], people))
    resampled = np.empty(draws)
    for start in range(0, draws, part):
        size = min(part, draws - start)
        weights = rng.multinomial(people, np.full(people, 1 / people), size=size)
        resampled[start : start + size] = statistic((weights @ flat).reshape(size, items, columns))
    spread = resampled[~np.isnan(resampled)]
    below, above = np.quantile(spread - spread.mean(), [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=point - float(above), high=point - float(below), level=level)


def _none(level: float, reason: str) -> Interval:
    return Interval(low=np.nan, high=np.nan, level=level, reason=reason)
