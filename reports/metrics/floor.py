"""What n honest respondents would score: the noise floor, the same for other respondents, and the G-test.

A divergence from a fixed reference that is a sum over categories (both KL, total variation; Wasserstein over cumulated
categories) needs only each category's own count, which is binomial: its expectation is exact and costs n + 1 terms.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, rel_entr, xlogy

from defsurvey.reports.metrics.aggregate import Bools, Floats, Ints
from defsurvey.reports.metrics.divergence import PRIOR, binomial_masses, smoothed_reference

#: Most outcomes of n answers that are enumerated, and draws where there are more: of a floor, of a G-test.
ENUMERATED, SIMULATED = 20_000, 4_000
GTEST_OUTCOMES, DRAWN = 11_000, 4_999
#: Seed of the draws: the same question and n always give the same figure.
SEED = 20250314
#: Numbers held at once.
AT_ONCE = 4_000_000
#: Differences of G below this are rounding.
EQUAL = 1e-9


def _expected(masses: Floats, terms: Floats) -> Floats:
    """Sum over counts and categories; a term of probability 0 counts nothing, be it infinite."""
    weighted = np.multiply(masses, terms, out=np.zeros(masses.shape), where=masses > 0)
    return np.asarray(weighted.sum(axis=(-1, -2)), dtype=np.float64)


@lru_cache(maxsize=65_536)
def expected_js_distance(n: int, shares: tuple[float, ...]) -> float:
    """Expected Jensen-Shannon distance (base 2) of n people drawn from k shares: enumerated, or simulated."""
    known, count = np.asarray(shares, dtype=np.float64), np.arange(n + 1)
    exact = comb(n + known.size - 1, known.size - 1) <= ENUMERATED
    drawn = outcomes(n, known.size) if exact else np.random.default_rng(SEED).multinomial(n, known, SIMULATED)
    # a sum over categories of what depends on each one's count alone: looked up, since outcomes are many
    p, q, category = count / n, known[:, None], np.arange(known.size)
    bits = ((rel_entr(p, (p + q) / 2) + rel_entr(q, (p + q) / 2)) / (2 * np.log(2)))[category, drawn].sum(axis=-1)
    distance = np.sqrt(np.clip(bits, 0.0, 1.0))
    if not exact:
        return float(distance.mean())
    logs = gammaln(n + 1) + (xlogy(count, q) - gammaln(count + 1))[category, drawn].sum(axis=-1)
    return float(np.exp(logs) @ distance)


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorValues:
    """Expected divergences of n respondents per item; shape (I,), nan where n is 0 or there is no reference."""

    plug_in_kl: Floats
    smoothed_kl: Floats
    wasserstein: Floats
    total_variation: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What people of a culture, or others, score on its items at any n, each (item, n) worked out once."""

    shares: Floats  #: the reference's, shape (I, K)
    n_human: Floats  #: shape (I,)
    offered: Bools  #: shape (I, K)
    source: Floats | None = None  #: how the respondents answer, shape (I, K); None: as people, by ``shares``
    _rows: dict[int, Floats] = field(default_factory=dict, init=False, repr=False, compare=False)

    def at(self, n: ArrayLike) -> FloorValues:
        """The floor at each item's own number of valid answers, shape (I,)."""
        wanted = np.asarray(n, dtype=np.int64)
        names = [each.name for each in fields(FloorValues)]
        found = np.full((len(names), len(wanted)), np.nan)
        source = self.shares if self.source is None else self.source
        for count in np.unique(wanted[wanted > 0]).tolist():
            here = np.flatnonzero(wanted == count)
            row = self._rows.setdefault(count, np.full(found.shape, -1.0))
            new = here[row[0, here] == -1.0]  # a divergence is never negative: not worked out yet
            if new.size:
                known = self.shares[new], self.n_human[new], self.offered[new]
                values = respondents(source[new], *known, count)
                row[:, new] = np.stack([getattr(values, name) for name in names])
            found[:, here] = row[:, here]
        return FloorValues(**dict(zip(names, found, strict=True)))

    def js_distance(self, item: int, n: int) -> float:
        """Expected Jensen-Shannon distance of n people on one item; nan where n is 0 or there is no reference."""
        known = self.shares[item][self.offered[item]]
        return expected_js_distance(n, tuple(known.tolist())) if n > 0 and not np.isnan(known).any() else np.nan


def respondents(source: Floats, shares: Floats, n_human: Floats, offered: Bools, n: int) -> FloorValues:
    """Expected divergences of n respondents who answer by ``source`` (I, K), ``shares`` if honest.

    >>> people = np.array([[.5, .3, .15, .05]])
    >>> found = respondents(people, people, np.array([1000.]), np.ones((1, 4), bool), 20)
    >>> round(float(found.plug_in_kl[0]), 5), round(float(found.smoothed_kl[0]), 5)
    (0.08225, 0.061)
    """
    masses, known = binomial_masses(n, source), shares[..., None]
    counts, size = np.arange(n + 1), offered.sum(axis=-1)
    smoothed = (counts + PRIOR) / (n + PRIOR * size[:, None, None])
    reference = np.where(offered, smoothed_reference(shares, n_human, offered), 1.0)[..., None]
    below, known_below = (np.cumsum(each, axis=-1)[..., :-1] for each in (source, shares))
    apart = np.abs(counts / n - known_below[..., None])
    expected = {
        "plug_in_kl": _expected(masses, rel_entr(counts / n, known)),
        "smoothed_kl": _expected(masses, np.where(offered[..., None], rel_entr(smoothed, reference), 0.0)),
        "wasserstein": _expected(binomial_masses(n, np.clip(below, 0.0, 1.0)), apart) / (size - 1),
        "total_variation": _expected(masses, np.abs(counts / n - known)) / 2,
    }
    unknown = np.isnan(shares).any(axis=-1) | np.isnan(source).any(axis=-1)
    return FloorValues(**{name: np.where(unknown, np.nan, values) for name, values in expected.items()})


@lru_cache(maxsize=64)  # the same for every item of that size
def outcomes(n: int, k: int) -> Ints:
    """The outcomes of n answers to k categories, shape (C(n + k - 1, k - 1), k); each row sums to n."""
    bars = np.array(list(combinations(range(n + k - 1), k - 1)), dtype=np.int64).reshape(-1, k - 1)
    edges = np.hstack([np.full((len(bars), 1), -1), bars, np.full((len(bars), 1), n + k - 1)])
    return np.diff(edges, axis=1) - 1


def g_statistic(counts: ArrayLike, shares: ArrayLike) -> Floats:
    """G = 2 sum c ln(c / (n q)), twice n times the plug-in KL; shape (..., K) -> (...)."""
    observed, q = np.asarray(counts, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    n = observed.sum(axis=-1)
    return np.asarray(2 * (xlogy(observed, observed) - xlogy(observed, q)).sum(axis=-1) - 2 * xlogy(n, n))


@dataclass(frozen=True, slots=True, kw_only=True)
class GTests:
    """The G-test of a culture's items at any n; the distribution of each (item, n) is worked out once for all cells."""

    shares: Floats  #: what people answered, shape (I, K); nan rows have no test
    offered: Bools  #: shape (I, K)
    _nulls: dict[tuple[int, int], tuple[Floats, Floats]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def p(self, counts: ArrayLike) -> Floats:
        """p of each item by whole counts (I, K): how often n people would lie as far from their own distribution.

        Exact where at most ``GTEST_OUTCOMES`` outcomes are possible, else the exact p of a Monte-Carlo test,
        (1 + draws as far or further) / (1 + draws). nan without an answer or a reference.

        Source: Woolf (1957) for G; Barnard (1963) for the Monte-Carlo test.

        >>> coin = GTests(shares=np.array([[.5, .5]]), offered=np.ones((1, 2), dtype=bool))
        >>> coin.p([[2, 0]]).round(3).tolist()   # 2 heads or 2 tails: half of the time
        [0.5]
        """
        observed = np.asarray(counts, dtype=np.float64)
        n, size = observed.sum(axis=-1).astype(np.int64), self.offered.sum(axis=-1)
        known = (n > 0) & ~np.isnan(self.shares).any(axis=-1)
        g, found = g_statistic(observed, np.where(self.offered, self.shares, 1.0)), np.full(len(n), np.nan)
        for answers, options in sorted(set(zip(n[known].tolist(), size[known].tolist(), strict=True))):
            self._prepare(np.flatnonzero(known & (n == answers) & (size == options)), answers, options)
        for item in np.flatnonzero(known).tolist():
            levels, above = self._nulls[item, int(n[item])]
            found[item] = above[np.searchsorted(levels, g[item] - EQUAL)] if np.isfinite(g[item]) else above[-1]
        return found

    def _prepare(self, items: Ints, n: int, size: int) -> None:
        new = [item for item in items.tolist() if (item, n) not in self._nulls]
        if comb(n + size - 1, size - 1) > GTEST_OUTCOMES:
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
    # an impossible outcome has probability 0: its logarithm need only be small, not infinite times 0
    common = possible @ np.log(np.maximum(shares, 1e-300)).T
    g = 2 * (xlogy(possible, possible).sum(axis=-1)[:, None] - common) - 2 * n * np.log(n)
    order = np.argsort(g, axis=0)
    levels = np.take_along_axis(g, order, axis=0)
    masses = np.take_along_axis(np.exp(ways[:, None] + common), order, axis=0)
    above = np.minimum(np.cumsum(masses[::-1], axis=0)[::-1], 1.0)
    return [(each, np.append(upper, np.finfo(float).tiny)) for each, upper in zip(levels.T, above.T, strict=True)]


def _drawn(shares: Floats, n: int, item: int) -> tuple[Floats, Floats]:
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence((SEED, item, n))))
    levels = np.sort(g_statistic(rng.multinomial(n, shares / shares.sum(), size=DRAWN), shares))
    return levels, (1 + np.arange(DRAWN, -1, -1)) / (DRAWN + 1)
