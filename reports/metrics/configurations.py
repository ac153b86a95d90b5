"""Which configuration went with close answers and which with distant ones (the paper's Appendix F)?

One answer per question shows no distribution: a participant's figure is low when it gives common answers. The best and
the worst of many are extreme by selection too, so that their intervals do not hold for the next run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, fsum, lgamma, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from defsurvey.reports.metrics.aggregate import Bools, Floats, mean_known
from defsurvey.reports.metrics.comparisons import LEVEL, REARRANGEMENTS
from defsurvey.reports.metrics.intervals import Interval, weights_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Extreme:
    """The participant with the lowest or the highest divergence."""

    participant: int  #: position among the participants given
    value: float  #: its mean divergence, nats
    interval: Interval  #: questions resampled; it was picked after the fact; nan for fewer than 2 questions


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level of an axis: 3 beams, say."""

    level: float
    participants: int
    mean: float  #: mean divergence of its participants, nats
    interval: Interval  #: participants' t interval; nan for fewer than 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of the configuration."""

    levels: tuple[Level, ...]  #: ascending
    p: float  #: of levels differing no more than if participants were dealt out to them at random; nan for one level
    least: float  #: the smallest p that there could have been, by participants and rearrangements; nan for one level


def pickable(values: ArrayLike) -> Bools:
    """Who may be best or worst: participants (P,) with values (P, Q) for half of the questions that anybody has."""
    known = ~np.isnan(np.asarray(values, dtype=np.float64))
    return np.asarray(known.any(axis=1) & (2 * known.sum(axis=1) >= known.any(axis=0).sum()))


def extremes(values: ArrayLike, *, seed: int, draws: int = 2_000) -> tuple[Extreme, Extreme]:
    """The participants with the lowest and the highest mean of values (P, Q), of those that are :func:`pickable`.

    >>> best, worst = extremes([[1., 1.], [3., 5.], [np.nan, np.nan]], seed=0)
    >>> best.participant, best.value, worst.participant, worst.value
    (0, 1.0, 1, 4.0)
    """
    array = np.asarray(values, dtype=np.float64)
    means = np.where(pickable(array), mean_known(array), np.nan)

    def at(participant: int) -> Extreme:
        known = array[participant][~np.isnan(array[participant])]
        interval = Interval(reason="one question")
        if len(known) > 1:
            resampled = weights_of(len(known), draws, seed) @ known / len(known)
            low, high = np.quantile(resampled, [0.025, 0.975]).tolist()
            interval = Interval(low=low, high=high)
        return Extreme(participant=participant, value=float(means[participant]), interval=interval)

    return at(int(np.nanargmin(means))), at(int(np.nanargmax(means)))


def axis_of(
    means: ArrayLike, levels: ArrayLike, rng: np.random.Generator, *, rearrangements: int = REARRANGEMENTS
) -> Axis:
    """Mean figure of participants (P,) at each level of an axis (P,), and whether levels differ by more than chance.

    p is of a permutation test: levels are dealt out anew, and the variance between level means, weighted by
    participants, is compared. Who has no figure or no level is left out. Where the first ``REARRANGEMENTS`` leave p
    above ``LEVEL``, no further ones are drawn.

    Source: Besag and Clifford (1991) for stopping early.

    >>> found = axis_of([1., 1.1, 2., 2.1], [0, 0, 1, 1], np.random.default_rng(0))
    >>> [round(level.mean, 2) for level in found.levels], round(found.least, 3)
    ([1.05, 2.05], 0.333)
    """
    figures, given = np.asarray(means, dtype=np.float64), np.asarray(levels, dtype=np.float64)
    known = ~np.isnan(figures) & ~np.isnan(given)
    figures = figures[known]
    names, place = np.unique(given[known], return_inverse=True)
    found = tuple(_level(float(name), figures[place == at]) for at, name in enumerate(names.tolist()))
    if len(names) < 2 or len(figures) <= len(names):
        return Axis(levels=found, p=np.nan, least=np.nan)
    member = (place[:, None] == np.arange(len(names))).astype(np.float64)
    size = member.sum(axis=0)
    observed = float(((figures @ member) ** 2 / size).sum())
    drawn = above = 0
    while drawn < rearrangements and (drawn == 0 or (1 + above) / (1 + drawn) <= LEVEL):
        part = min(REARRANGEMENTS, rearrangements - drawn)
        shuffled = rng.permuted(np.broadcast_to(figures, (part, len(figures))), axis=1)
        between = ((shuffled @ member) ** 2 / size).sum(axis=-1)
        above += int((between >= observed - 1e-12 * abs(observed)).sum())
        drawn += part
    least = max(1 / (1 + rearrangements), _alike(size.astype(np.int64).tolist()))
    return Axis(levels=found, p=(1 + above) / (1 + drawn), least=least)


def _alike(sizes: Sequence[int]) -> float:
    """Share of all ways to deal levels out that lie as far out as any one: levels of one size can change places."""
    ways = lgamma(sum(sizes) + 1) - fsum(lgamma(size + 1) for size in sizes)
    swaps = fsum(lgamma(count + 1) for count in Counter(sizes).values())
    return exp(swaps - ways)


def _level(name: float, figures: Floats) -> Level:
    mean, n, interval = float(figures.mean()), len(figures), Interval(reason="one participant")
    if n > 1:
        half = float(stdtrit(n - 1, 0.975)) * float(figures.std(ddof=1)) / sqrt(n)
        interval = Interval(low=mean - half, high=mean + half)
    return Level(level=name, participants=n, mean=mean, interval=interval)
