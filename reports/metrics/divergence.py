"""How far a model's answers lie from what people answered, per item.

An *item* is one set of exclusive categories: the options of a question, or, for one option of a multiple-choice
question, (not chosen, chosen). Items of different size share one array of K columns; ``offered`` says which columns an
item has, and the others hold zeros. Natural logarithm throughout. An item without a valid answer, or without a
reference, is nan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr, gammaln, rel_entr, xlog1py, xlogy

from defsurvey.reports.metrics.aggregate import Bools, Floats, shares_of

#: Added to every category by Jeffreys' prior.
PRIOR = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergences:
    """Every divergence of I items; arrays of shape (I,), nan where ``reasons`` is not empty."""

    plug_in_kl: Floats  #: nats, in [0, inf]
    smoothed_kl: Floats  #: nats, in [0, inf)
    wasserstein: Floats  #: in [0, 1]; means something for ordered items only
    js_distance: Floats  #: in [0, 1]
    total_variation: Floats  #: in [0, 1]
    reasons: tuple[str, ...]  #: why an item has no value; empty where it has


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperValues:
    """Plug-in KL with its infinite values replaced as the authors' code does."""

    values: Floats  #: shape (I,); nan where the input is nan, or where ``reason`` says why
    infinite_share: float  #: of the items behind the mean that have a value, share that was infinite, in [0, 1]
    reason: str = ""


def _relative_entropy(p: Floats, q: Floats) -> Floats:
    # rounding can leave a sum of terms a hair below zero where both sides are equal
    return np.asarray(np.maximum(rel_entr(p, q).sum(axis=-1), 0.0), dtype=np.float64)


def plug_in_kl(counts: ArrayLike, shares: ArrayLike) -> Floats:
    """Kullback-Leibler divergence of observed shares from the reference's, sum p ln(p/q), in nats; (..., K) -> (...).

    Infinite where a category was chosen that no person chose. The reference need not sum to 1 exactly.

    Source: Liu et al. (2025), published code; their Eq. 1 as printed is no divergence.

    >>> round(float(plug_in_kl([0, 3, 12, 5], [.911, .071, .016, .002])), 4)
    3.4939
    """
    return _relative_entropy(shares_of(counts), shares_of(shares))


def jeffreys(counts: ArrayLike, offered: ArrayLike | None = None) -> Floats:
    """Shares under Jeffreys' prior, (c + 1/2) / (n + k/2), zero where a column is not ``offered``."""
    array = np.asarray(counts, dtype=np.float64)
    raised = np.where(True if offered is None else np.asarray(offered, dtype=bool), array + PRIOR, 0.0)
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), dtype=np.float64)


def smoothed_reference(shares: ArrayLike, n_human: ArrayLike, offered: ArrayLike | None = None) -> Floats:
    """Shares (..., K) of a reference of n people (...) under Jeffreys' prior; a row of nan gives nan."""
    return jeffreys(shares_of(shares) * np.asarray(n_human, dtype=np.float64)[..., None], offered)


def smoothed_kl(counts: ArrayLike, shares: ArrayLike, n_human: ArrayLike, offered: ArrayLike | None = None) -> Floats:
    """KL divergence with Jeffreys' prior on both sides, the human side by its own n, in nats; (..., K) -> (...).

    Always finite. Smoothing pulls small samples to the middle: compare at equal n.

    >>> round(float(smoothed_kl([0, 3, 12, 5], [.911, .071, .016, .002], 2593)), 4)
    3.2504
    """
    array = np.asarray(counts, dtype=np.float64)
    value = _relative_entropy(jeffreys(array, offered), smoothed_reference(shares, n_human, offered))
    return np.where(array.sum(axis=-1) > 0, value, np.nan)


def wasserstein(counts: ArrayLike, shares: ArrayLike, offered: ArrayLike | None = None) -> Floats:
    """Wasserstein-1 distance between ordered categories one step apart, over k - 1: (..., K) -> (...), in [0, 1].

    >>> round(float(wasserstein([0, 3, 12, 5], [.911, .071, .016, .002])), 5)
    0.66367
    """
    apart = np.cumsum(shares_of(counts) - shares_of(shares), axis=-1)
    size = apart.shape[-1] if offered is None else np.asarray(offered, dtype=bool).sum(axis=-1)
    return np.asarray(np.abs(apart)[..., :-1].sum(axis=-1) / (size - 1), dtype=np.float64)


def js_distance(counts: ArrayLike, shares: ArrayLike) -> Floats:
    """Jensen-Shannon distance, base 2: the root of the mean KL of both sides from their middle, in [0, 1].

    >>> round(float(js_distance([0, 3, 12, 5], [.911, .071, .016, .002])), 5)
    0.91541
    """
    p, q = shares_of(counts), shares_of(shares)
    middle = (p + q) / 2
    bits = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / (2 * np.log(2))
    return np.asarray(np.sqrt(np.clip(bits, 0.0, 1.0)), dtype=np.float64)


def total_variation(counts: ArrayLike, shares: ArrayLike) -> Floats:
    """Half the summed absolute difference of the shares: the part of the answers that would have to move.

    >>> round(float(total_variation([0, 3, 12, 5], [.911, .071, .016, .002])), 3)
    0.911
    """
    return np.asarray(np.abs(shares_of(counts) - shares_of(shares)).sum(axis=-1) / 2, dtype=np.float64)


def divergences(counts: ArrayLike, shares: ArrayLike, n_human: ArrayLike, offered: ArrayLike) -> Divergences:
    """Every divergence of I items from counts (I, K), shares (I, K), nan where there are none, and people (I,)."""
    observed, known = np.asarray(counts, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    reasons = np.where(observed.sum(axis=-1) == 0, "no valid answer", "")
    return Divergences(
        plug_in_kl=plug_in_kl(observed, known),
        smoothed_kl=smoothed_kl(observed, known, n_human, offered),
        wasserstein=wasserstein(observed, known, offered),
        js_distance=js_distance(observed, known),
        total_variation=total_variation(observed, known),
        reasons=tuple(np.where(np.isnan(known).any(axis=-1), "no reference", reasons).tolist()),
    )


def paper_values(plug_in: ArrayLike, behind: ArrayLike | None = None) -> PaperValues:
    """The paper's rule: an infinite divergence of a cell (I,) becomes the largest finite one of any item, plus 1.

    ``behind``: which items the mean is of, and with it the share of infinite ones; all by default.

    Source: Liu et al. (2025), published code.

    >>> ruled = paper_values([.2, 1.4, np.inf, .7])
    >>> round(float(ruled.values.mean()), 3), ruled.infinite_share
    (1.175, 0.25)
    """
    values = np.asarray(plug_in, dtype=np.float64)
    infinite, finite = np.isinf(values), np.isfinite(values)
    counted = (infinite | finite) & (True if behind is None else np.asarray(behind, dtype=bool))
    share = float(infinite[counted].mean()) if counted.any() else np.nan
    if finite.any():
        return PaperValues(values=np.where(infinite, values[finite].max() + 1.0, values), infinite_share=share)
    reason = "every value is infinite: no largest finite one" if infinite.any() else "no item has a value"
    return PaperValues(values=np.full_like(values, np.nan), infinite_share=share, reason=reason)


def _log_ways(n: ArrayLike, k: ArrayLike) -> Floats:
    """Logarithm of the number of ways to choose k of n."""
    total, kept = np.asarray(n, dtype=np.float64), np.asarray(k, dtype=np.float64)
    return np.asarray(gammaln(total + 1) - gammaln(kept + 1) - gammaln(total - kept + 1), dtype=np.float64)


def binomial_masses(n: int, share: ArrayLike) -> Floats:
    """Probability of every count 0..n, shape (..., n + 1), for shares of shape (...)."""
    p, count = np.asarray(share, dtype=np.float64)[..., None], np.arange(n + 1)
    return np.asarray(np.exp(_log_ways(n, count) + xlogy(count, p) + xlog1py(n - count, -p)), dtype=np.float64)


@lru_cache(maxsize=256)
def entropy_terms(n: int) -> Floats:
    """What a category with 0..n of n answers (at least 2) adds to their entropy, by the jackknife, shape (n + 1,).

    n times its plug-in term, less n - 1 times the mean of that term where each answer in turn is left out.

    Source: Zahl (1977), Jackknifing an index of diversity, Ecology 58.

    >>> entropy_terms(2).round(3).tolist()  # of two answers, one each: 1.386 nats, where the plug-in has 0.693
    [0.0, 0.693, 0.0]
    """
    count = np.arange(n + 1.0)
    less = np.maximum(count - 1, 0.0) / (n - 1)
    same = np.minimum(count / (n - 1), 1.0)  # beyond it no other answer can be left out
    terms = n * entr(count / n) - (n - 1) / n * (count * entr(less) + (n - count) * entr(same))
    return np.asarray(terms, dtype=np.float64)


@lru_cache(maxsize=4096)
def rarefied_terms(total: int, n: int) -> Floats:
    """The mean of :func:`entropy_terms` over all n of ``total`` answers, shape (total + 1,)."""
    chosen, count = np.arange(total + 1.0)[:, None], np.arange(n + 1)
    possible = (count <= chosen) & (n - count <= total - chosen)
    kept, left = np.where(possible, count, 0), np.where(possible, n - count, 0)
    # of the answers kept, how many are of a category that so many chose: hypergeometric
    logs = _log_ways(chosen, kept) + _log_ways(total - chosen, left) - _log_ways(total, n)
    return np.asarray(np.where(possible, np.exp(logs), 0.0) @ entropy_terms(n), dtype=np.float64)


def corrected_kl(
    counts: ArrayLike, shares: ArrayLike, n_human: ArrayLike, offered: ArrayLike, n: int | None = None
) -> Floats:
    """KL divergence with jackknifed entropy that n of the valid answers, at least 2, would show on average, shape (I,).

    Its bias is that of n answers, however many there are: samples of unequal size compare. The human side is smoothed
    by its own number, so that every value is finite; it may be a little below 0. nan where an item has fewer than n.
    Without n, of all answers that each item has. Source: docs/metrics.md, "Order of closeness".

    >>> whole = corrected_kl([[0, 0, 0, 20], [0, 0, 0, 10]], [[.5, .3, .15, .05]] * 2, [1e9] * 2, [[True] * 4] * 2, 10)
    >>> whole.round(3).tolist()  # ln 20: always the rarest answer
    [2.996, 2.996]
    """
    observed, mask = np.asarray(counts, dtype=np.int64), np.asarray(offered, dtype=bool)
    totals = observed.sum(axis=-1)
    entropy = np.full(len(observed), np.nan)
    for total in np.unique(totals[totals >= (n or 2)]).tolist():
        here, terms = totals == total, rarefied_terms(total, n) if n else entropy_terms(total)
        entropy[here] = (terms[observed[here]] * mask[here]).sum(axis=-1)
    return np.asarray(_surprise(observed, shares, n_human, mask) - entropy, dtype=np.float64)


def expected_corrected_kl(
    source: ArrayLike, shares: ArrayLike, n_human: ArrayLike, offered: ArrayLike, n: int
) -> Floats:
    """What n respondents who answer as ``source`` (I, K) says would score on average, shape (I,)."""
    p, mask = np.asarray(source, dtype=np.float64), np.asarray(offered, dtype=bool)
    entropy = (binomial_masses(n, np.where(mask, p, 0.0)) @ entropy_terms(n)).sum(axis=-1)
    return np.asarray(_surprise(p, shares, n_human, mask) - entropy, dtype=np.float64)


def _surprise(answers: ArrayLike, shares: ArrayLike, n_human: ArrayLike, offered: Bools) -> Floats:
    """- sum p ln q of counts or shares, q the smoothed reference, shape (I,); nan without one."""
    given = np.asarray(answers, dtype=np.float64)
    logs = np.log(np.where(offered, smoothed_reference(shares, n_human, offered), 1.0))
    return np.asarray(-(given * logs).sum(axis=-1) / np.maximum(given.sum(axis=-1), 1e-300), dtype=np.float64)


def without_one(
    divergence: Callable[[ArrayLike, ArrayLike, ArrayLike, ArrayLike], Floats],
    counts: Floats,
    shares: Floats,
    n_human: Floats,
    offered: Bools,
) -> Floats:
    """By how much a divergence of all answers changes where one of a category is left out, shape (I, K).

    0 where no answer is of that category, where too few are left, or without a reference.

    >>> people = np.array([[.5, .5]]), np.array([1e9]), np.ones((1, 2), bool)
    >>> without_one(smoothed_kl, np.array([[2, 2]]), *people).round(3).tolist()
    [[0.032, 0.032]]
    """
    whole, changes = divergence(counts, shares, n_human, offered), np.zeros(counts.shape)
    for category, one in enumerate(np.eye(counts.shape[1])):
        there = counts[:, category] > 0
        changes[there, category] = divergence(counts[there] - one, shares[there], n_human[there], offered[there])
        changes[there, category] -= whole[there]
    return np.nan_to_num(changes)
