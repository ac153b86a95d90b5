"""Can these answers be told from those of as many people? The G-test, its distribution worked out.

With 20 answers to ten options the chi-squared approximation is far off: every outcome is enumerated where there are
few, else outcomes are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, xlogy

from defsurvey.reports.metrics.divergence import Floats, MetricInput
from defsurvey.reports.metrics.outcomes import outcomes

#: Most outcomes of n answers that are enumerated.
ENUMERATED = 11_000
#: Outcomes drawn where there are more.
DRAWN = 4_999
#: Seed of the draws: the same question and n always give the same distribution.
GTEST_SEED = 20250314
#: Numbers held at once.
AT_ONCE = 4_000_000
#: Differences of G below this are rounding.
EQUAL = 1e-9


def g_statistic(counts: ArrayLike, shares: ArrayLike) -> Floats:
    """G = 2 sum c ln(c / (n q)), twice n times the plug-in KL; shape (..., K) -> (...).

    >>> round(float(g_statistic([6, 2, 2], [.5, .3, .2])), 4)
    0.566
    """
    observed, q = np.asarray(counts, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    n = observed.sum(axis=-1)
    return np.asarray(2 * (xlogy(observed, observed) - xlogy(observed, q)).sum(axis=-1) - 2 * xlogy(n, n))


@dataclass(frozen=True, slots=True, kw_only=True)
class GTests:
    """The G-test of a culture's items at any n; the distribution of each (item, n) is worked out once for all cells."""

    shares: Floats  #: what people answered, shape (I, K); nan rows have no test
    offered: NDArray[np.bool_]  #: shape (I, K)
    _nulls: dict[tuple[int, int], tuple[Floats, Floats]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def p(self, counts: ArrayLike) -> Floats:
        """p of each item: how often n people would lie at least as far from their own distribution.

        Args:
            counts: whole numbers, shape (I, K).

        Returns:
            Shape (I,), in (0, 1]; nan without an answer or a reference. Exact where at most ``ENUMERATED`` outcomes are
            possible, else the exact p of a Monte-Carlo test, (1 + draws as far or further) / (1 + draws).

        Raises:
            MetricInput: a count is negative or no whole number.

        Source: Woolf (1957) for G; Barnard (1963) for the Monte-Carlo test.

        >>> coin = GTests(shares=np.array([[.5, .5]]), offered=np.ones((1, 2), dtype=bool))
        >>> coin.p([[2, 0]]).round(3).tolist()   # 2 heads or 2 tails: half of the time
        [0.5]
        """
        observed = np.asarray(counts, dtype=np.float64)
        if np.any(observed < 0) or np.any(observed != np.rint(observed)):
            raise MetricInput("counts must be whole numbers of at least 0")
        n, size = observed.sum(axis=-1).astype(np.int64), self.offered.sum(axis=-1)
        known = (n > 0) & ~np.isnan(self.shares).any(axis=-1)
        g, found = g_statistic(observed, np.where(self.offered, self.shares, 1.0)), np.full(len(n), np.nan)
        for answers, options in sorted(set(zip(n[known].tolist(), size[known].tolist(), strict=True))):
            self._prepare(np.flatnonzero(known & (n == answers) & (size == options)), answers, options)
        for item in np.flatnonzero(known).tolist():
            levels, above = self._nulls[item, int(n[item])]
            found[item] = above[np.searchsorted(levels, g[item] - EQUAL)] if np.isfinite(g[item]) else above[-1]
        return found

    def _prepare(self, items: NDArray[np.int64], n: int, size: int) -> None:
        new = [item for item in items.tolist() if (item, n) not in self._nulls]
        if comb(n + size - 1, size - 1) > ENUMERATED:
            for item in new:
                self._nulls[item, n] = _drawn(self.shares[item][self.offered[item]], n, item)
            return
        possible, ways = _weighed(n, size)
        part = max(1, AT_ONCE // len(possible))
        for start in range(0, len(new), part):
            some = new[start : start + part]
            shares = np.stack([self.shares[item][self.offered[item]] for item in some])
            for item, null in zip(some, _enumerated(possible, ways, shares, n), strict=True):
                self._nulls[item, n] = null


@lru_cache(maxsize=64)
def _weighed(n: int, k: int) -> tuple[Floats, Floats]:
    """Every outcome of n answers to k categories, shape (outcomes, k), and the log of its coefficient."""
    possible = outcomes(n, k).astype(np.float64)
    return possible, np.asarray(gammaln(n + 1) - gammaln(possible + 1).sum(axis=-1))


def _enumerated(possible: Floats, ways: Floats, shares: Floats, n: int) -> list[tuple[Floats, Floats]]:
    """Per item: levels of G, ascending, and the probability of at least each; beyond the last, 0."""
    with np.errstate(divide="ignore"):
        logs = np.log(shares)
    # an impossible outcome has probability 0: its logarithm need only be small, not infinite times 0
    logs = np.maximum(logs, -1e6)
    common = possible @ logs.T
    g = 2 * (xlogy(possible, possible).sum(axis=-1)[:, None] - common) - 2 * n * np.log(n)
    probability = np.exp(ways[:, None] + common)
    order = np.argsort(g, axis=0)
    levels, masses = np.take_along_axis(g, order, axis=0), np.take_along_axis(probability, order, axis=0)
    above = np.cumsum(masses[::-1], axis=0)[::-1]
    return [
        (levels[:, item], np.append(np.minimum(above[:, item], 1.0), np.finfo(float).tiny))
        for item in range(shares.shape[0])
    ]


def _drawn(shares: Floats, n: int, item: int) -> tuple[Floats, Floats]:
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence((GTEST_SEED, item, n))))
    levels = np.sort(g_statistic(rng.multinomial(n, shares / shares.sum(), size=DRAWN), shares))
    above = (1 + np.arange(DRAWN, -1, -1)) / (DRAWN + 1)
    return levels, above
