"""Can these answers be told from those of as many people? The G-test, its distribution worked out.

Knows counts and shares of exclusive categories. With 20 answers to ten options the chi-squared approximation is
far off: every outcome is enumerated where there are few, else outcomes are drawn. Deliberately knows nothing of
questions with several items (see ``reports.distinguishing``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, xlogy

from reports.metrics.divergence import Floats, MetricInput

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


def g_test(counts: ArrayLike, shares: ArrayLike) -> float:
    """p of one sample: how often n people would lie at least as far from their own distribution.

    Args:
        counts: whole numbers, shape (K,).
        shares: what people answered, shape (K,); sums to 1.

    Returns:
        In (0, 1]; nan without an answer or a reference. Exact where at most ``ENUMERATED`` outcomes are possible, else
        the exact p of a Monte-Carlo test, (1 + draws as far or further) / (1 + draws).

    Raises:
        MetricInput: a count is negative or no whole number.

    Source: Woolf (1957) for G; Barnard (1963) for the Monte-Carlo test.

    >>> round(g_test([2, 0], [.5, .5]), 3)   # 2 heads or 2 tails: half of the time
    0.5
    """
    observed, q = np.asarray(counts, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    known = GTests(shares=q[None], offered=np.ones((1, q.size), dtype=bool))
    return float(known.p(observed[None])[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class GTests:
    """The G-test of a culture's items at any n; the distribution of each (item, n) is worked out once for all cells."""

    shares: Floats  #: what people answered, shape (I, K); nan rows have no test
    offered: NDArray[np.bool_]  #: shape (I, K)
    _nulls: dict[tuple[int, int], tuple[Floats, Floats]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def p(self, counts: ArrayLike) -> Floats:
        """p per item, shape (I,), of whole counts of shape (I, K); nan without an answer or a reference."""
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
        outcomes, ways = _outcomes(n, size)
        part = max(1, AT_ONCE // len(outcomes))
        for start in range(0, len(new), part):
            some = new[start : start + part]
            shares = np.stack([self.shares[item][self.offered[item]] for item in some])
            for item, null in zip(some, _enumerated(outcomes, ways, shares, n), strict=True):
                self._nulls[item, n] = null


@lru_cache(maxsize=64)
def _outcomes(n: int, k: int) -> tuple[NDArray[np.float64], Floats]:
    """Every way of n answers to fall into k categories, shape (outcomes, k), and the log of its coefficient."""
    bars = np.array(list(combinations(range(n + k - 1), k - 1)), dtype=np.int64).reshape(-1, k - 1)
    edges = np.hstack([np.full((len(bars), 1), -1), bars, np.full((len(bars), 1), n + k - 1)])
    outcomes = np.diff(edges, axis=1) - 1.0
    return outcomes, np.asarray(gammaln(n + 1) - gammaln(outcomes + 1).sum(axis=-1))


def _enumerated(outcomes: Floats, ways: Floats, shares: Floats, n: int) -> list[tuple[Floats, Floats]]:
    """Per item: levels of G, ascending, and the probability of at least each; beyond the last, 0."""
    with np.errstate(divide="ignore"):
        logs = np.log(shares)
    # an impossible outcome has probability 0: its logarithm need only be small, not infinite times 0
    logs = np.maximum(logs, -1e6)
    common = outcomes @ logs.T
    g = 2 * (xlogy(outcomes, outcomes).sum(axis=-1)[:, None] - common) - 2 * n * np.log(n)
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
