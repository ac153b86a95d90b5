"""What n honest respondents would score: the noise floor, and the same for other respondents.

A divergence from a fixed reference that is a sum over categories (both KL, total variation; Wasserstein over cumulated
categories) needs only each category's own count, which is binomial: its expectation is exact and costs n + 1 terms. The
Jensen-Shannon distance is a root of such a sum, and is enumerated where that is cheap and simulated with a fixed seed
where it is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, rel_entr, xlog1py, xlogy

from defsurvey.reports.metrics.divergence import PRIOR, Floats, MetricInput, smoothed_reference
from defsurvey.reports.metrics.outcomes import outcomes

#: Most outcomes of n answers to an item that are enumerated; beyond it the floor is simulated.
ENUMERATED = 20_000
#: Draws of a simulated floor.
SIMULATED = 4_000
#: Seed of simulated floors: the same question and n always give the same floor.
FLOOR_SEED = 20250314


def binomial_masses(n: int, share: ArrayLike) -> Floats:
    """Probability of every count 0..n, shape (..., n + 1), for shares of shape (...).

    >>> binomial_masses(2, .5).round(12).tolist()
    [0.25, 0.5, 0.25]
    """
    p, count = np.asarray(share, dtype=np.float64)[..., None], np.arange(n + 1)
    ways = gammaln(n + 1) - gammaln(count + 1) - gammaln(n - count + 1)
    return np.asarray(np.exp(ways + xlogy(count, p) + xlog1py(n - count, -p)), dtype=np.float64)


def hypergeometric_masses(n: int, total: int, chosen: ArrayLike) -> Floats:
    """Probability of every count 0..n when n of ``total`` answers are kept, ``chosen`` (...) of them alike.

    Returns:
        Shape (..., n + 1).

    Raises:
        MetricInput: n is above ``total``.

    >>> hypergeometric_masses(2, 4, 2).round(12).tolist()
    [0.166666666667, 0.666666666667, 0.166666666667]
    """
    if n > total:
        raise MetricInput(f"cannot keep {n} of {total} answers")
    k, count = np.asarray(chosen, dtype=np.float64)[..., None], np.arange(n + 1)
    possible = (count <= k) & (n - count <= total - k)
    kept, left = np.where(possible, count, 0), np.where(possible, n - count, 0)
    logs = _log_ways(k, kept) + _log_ways(total - k, left) - _log_ways(np.asarray(float(total)), np.asarray(float(n)))
    return np.where(possible, np.exp(logs), 0.0)


def _log_ways(n: Floats, k: Floats) -> Floats:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1), dtype=np.float64)


def _expected(masses: Floats, terms: Floats) -> Floats:
    """Sum over counts and categories; a term of probability 0 counts nothing, be it infinite."""
    weighted = np.multiply(masses, terms, out=np.zeros(masses.shape), where=masses > 0)
    return np.asarray(weighted.sum(axis=(-1, -2)), dtype=np.float64)


def expected_plug_in_kl(masses: Floats, shares: ArrayLike) -> Floats:
    """Expected plug-in KL, given each category's distribution of counts.

    Args:
        masses: probability of every count 0..n, shape (..., K, n + 1).
        shares: the reference's, shape (..., K).

    >>> people = [.5, .3, .15, .05]
    >>> round(float(expected_plug_in_kl(binomial_masses(20, people), people)), 5)
    0.08225
    """
    n = masses.shape[-1] - 1
    return _expected(masses, rel_entr(np.arange(n + 1) / n, np.asarray(shares, dtype=np.float64)[..., None]))


def expected_smoothed_kl(masses: Floats, shares: ArrayLike, n_human: ArrayLike, offered: ArrayLike) -> Floats:
    """Expected smoothed KL; arguments as for :func:`expected_plug_in_kl` and ``smoothed_kl``.

    >>> people = [.5, .3, .15, .05]
    >>> round(float(expected_smoothed_kl(binomial_masses(20, people), people, 1000, [True] * 4)), 5)
    0.061
    """
    n, mask = masses.shape[-1] - 1, np.asarray(offered, dtype=bool)
    size = mask.sum(axis=-1, keepdims=True)[..., None]
    p = (np.arange(n + 1) + PRIOR) / (n + PRIOR * size)
    q = smoothed_reference(shares, n_human, offered)[..., None]
    return _expected(masses, np.where(mask[..., None], rel_entr(p, np.where(mask[..., None], q, 1.0)), 0.0))


def expected_wasserstein(n: int, source: ArrayLike, shares: ArrayLike, offered: ArrayLike) -> Floats:
    """Expected Wasserstein-1 / (k - 1) of n answers drawn from ``source``, both of shape (..., K).

    >>> round(float(expected_wasserstein(1, [.5, .5], [.5, .5], [True, True])), 3)
    0.5
    """
    below, known = np.cumsum(np.asarray(source, dtype=np.float64), axis=-1), np.cumsum(np.asarray(shares), axis=-1)
    inner = np.clip(below[..., :-1], 0.0, 1.0)
    apart = np.abs(np.arange(n + 1) / n - known[..., :-1, None])
    steps = np.asarray(offered, dtype=bool).sum(axis=-1) - 1
    return np.asarray(_expected(binomial_masses(n, inner), apart) / steps, dtype=np.float64)


def expected_total_variation(masses: Floats, shares: ArrayLike) -> Floats:
    """Expected total variation; arguments as for :func:`expected_plug_in_kl`.

    >>> round(float(expected_total_variation(binomial_masses(1, [.5, .5]), [.5, .5])), 3)
    0.5
    """
    n = masses.shape[-1] - 1
    apart = np.abs(np.arange(n + 1) / n - np.asarray(shares, dtype=np.float64)[..., None])
    return np.asarray(_expected(masses, apart) / 2, dtype=np.float64)


def expected_js_distance(n: int, shares: ArrayLike) -> float:
    """Expected Jensen-Shannon distance (base 2) of n people drawn from ``shares``, shape (k,).

    Exact up to :data:`ENUMERATED` outcomes, else the mean of :data:`SIMULATED` draws with a fixed seed.

    >>> round(expected_js_distance(20, [.5, .3, .15, .05]), 4)
    0.1669
    """
    known, count = np.asarray(shares, dtype=np.float64), np.arange(n + 1)
    exact = comb(n + known.size - 1, known.size - 1) <= ENUMERATED
    drawn = outcomes(n, known.size) if exact else np.random.default_rng(FLOOR_SEED).multinomial(n, known, SIMULATED)
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
    """What respondents score on a culture's items at any n, each (item, n) worked out once.

    The respondents are honest people of the culture, unless ``source`` says otherwise.
    """

    shares: Floats  #: the reference's, shape (I, K)
    n_human: Floats  #: shape (I,)
    offered: NDArray[np.bool_]  #: shape (I, K)
    source: Floats | None = None  #: how the respondents answer, shape (I, K); None: as ``shares``
    _rows: dict[int, Floats] = field(default_factory=dict, init=False, repr=False, compare=False)
    _distances: dict[tuple[int, int], float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def at(self, n: ArrayLike) -> FloorValues:
        """The floor at each item's own number of valid answers, shape (I,)."""
        wanted = np.asarray(n, dtype=np.int64)
        found = np.full((4, len(wanted)), np.nan)
        for count in np.unique(wanted[wanted > 0]).tolist():
            here = np.flatnonzero(wanted == count)
            row = self._rows.setdefault(count, np.full((4, len(wanted)), -1.0))
            new = here[row[0, here] == -1.0]  # a divergence is never negative: not worked out yet
            if new.size:
                row[:, new] = self._values(new, count)
            found[:, here] = row[:, here]
        return FloorValues(plug_in_kl=found[0], smoothed_kl=found[1], wasserstein=found[2], total_variation=found[3])

    def _values(self, items: NDArray[np.int64], n: int) -> Floats:
        source = self.shares if self.source is None else self.source
        values = respondents(source[items], self.shares[items], self.n_human[items], self.offered[items], n)
        return np.stack([values.plug_in_kl, values.smoothed_kl, values.wasserstein, values.total_variation])

    def js_distance(self, item: int, n: int) -> float:
        """Expected Jensen-Shannon distance of n people on one item; nan where n is 0 or there is no reference."""
        known = self.shares[item][self.offered[item]]
        if n == 0 or np.isnan(known).any():
            return float("nan")
        if (item, n) not in self._distances:
            self._distances[item, n] = expected_js_distance(n, known)
        return self._distances[item, n]

    def js_distances(self, n: ArrayLike) -> Floats:
        """The same of every item at its own number of valid answers, shape (I,)."""
        wanted = np.asarray(n, dtype=np.int64).tolist()
        return np.array([self.js_distance(item, count) for item, count in enumerate(wanted)])


def respondents(source: Floats, shares: Floats, n_human: Floats, offered: NDArray[np.bool_], n: int) -> FloorValues:
    """Expected divergences of n respondents whose answers are drawn from ``source``.

    Args:
        source: how they answer, shape (I, K); ``shares`` itself for honest humans.
        shares: the reference's, shape (I, K); nan rows give nan.
        n_human: people behind the reference, shape (I,).
        offered: which columns each item has, shape (I, K).
        n: how many respondents, at least 1.

    Raises:
        MetricInput: n is below 1.
    """
    if n < 1:
        raise MetricInput(f"n must be at least 1, got {n}")
    masses = binomial_masses(n, source)
    unknown = np.isnan(shares).any(axis=-1) | np.isnan(source).any(axis=-1)

    def known(values: Floats) -> Floats:
        return np.where(unknown, np.nan, values)

    return FloorValues(
        plug_in_kl=known(expected_plug_in_kl(masses, shares)),
        smoothed_kl=known(expected_smoothed_kl(masses, shares, n_human, offered)),
        wasserstein=known(expected_wasserstein(n, source, shares, offered)),
        total_variation=known(expected_total_variation(masses, shares)),
    )
