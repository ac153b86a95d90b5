"""KL divergence without the bias of small samples: what models are compared by.

A few answers look more alike than the answers they are drawn from, so that their plug-in entropy is too small and
their divergence too large. By a smoothed divergence the closest of all is therefore not who answers as people do but
who gives people's commonest answers somewhat more often than they. Here the entropy is corrected by the jackknife.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

from defsurvey.reports.metrics.divergence import (
    Bools,
    Floats,
    MetricInput,
    binomial_masses,
    hypergeometric_masses,
    smoothed_reference,
)


@lru_cache(maxsize=256)
def entropy_terms(n: int) -> Floats:
    """What a category with 0..n of n answers adds to their entropy, by the jackknife, shape (n + 1,).

    n times its plug-in term, less n - 1 times the mean of that term where each answer in turn is left out.

    Args:
        n: answers, at least 2.

    Source: Zahl (1977), Jackknifing an index of diversity, Ecology 58.

    >>> entropy_terms(2).round(3).tolist()  # of two answers, one each: 1.386 nats, where the plug-in has 0.693
    [0.0, 0.693, 0.0]
    """
    if n < 2:
        raise MetricInput(f"n must be at least 2 to leave one out, got {n}")
    count = np.arange(n + 1.0)
    less = np.maximum(count - 1, 0.0) / (n - 1)
    same = np.minimum(count / (n - 1), 1.0)  # beyond it no other answer can be left out
    terms = np.asarray(
        n * entr(count / n) - (n - 1) / n * (count * entr(less) + (n - count) * entr(same)), dtype=np.float64
    )
    terms.flags.writeable = False
    return terms


@lru_cache(maxsize=4096)
def rarefied_terms(total: int, n: int) -> Floats:
    """The mean of :func:`entropy_terms` over all n of ``total`` answers, shape (total + 1,).

    Raises:
        MetricInput: there are fewer than n.
    """
    terms = hypergeometric_masses(n, total, np.arange(total + 1)) @ entropy_terms(n)
    terms.flags.writeable = False
    return np.asarray(terms, dtype=np.float64)


def corrected_kl(counts: ArrayLike, shares: ArrayLike, n_human: ArrayLike, offered: ArrayLike, n: int) -> Floats:
    """KL divergence with jackknifed entropy that n of the valid answers would show on average.

    Its bias is that of n answers, however many there are: samples of unequal size compare. The human side is smoothed
    by its own number, so that every value is finite. It may be a little below 0.

    Args:
        counts: whole numbers, shape (I, K).
        shares: the reference's, shape (I, K); nan rows give nan.
        n_human: people behind it, shape (I,).
        offered: which columns each item has, shape (I, K).
        n: the common number of answers, at least 2.

    Returns:
        Shape (I,), nats; nan where an item has fewer than n answers.

    Source: docs/metrics.md, "Order of closeness".

    >>> whole = corrected_kl([[0, 0, 0, 20], [0, 0, 0, 10]], [[.5, .3, .15, .05]] * 2, [1e9] * 2, [[True] * 4] * 2, 10)
    >>> whole.round(3).tolist()  # ln 20: always the rarest answer
    [2.996, 2.996]
    """
    observed, mask = np.asarray(counts, dtype=np.int64), np.asarray(offered, dtype=bool)
    totals = observed.sum(axis=-1)
    entropy = np.full(len(observed), np.nan)
    for total in np.unique(totals[totals >= n]).tolist():
        here = totals == total
        entropy[here] = (rarefied_terms(total, n)[observed[here]] * mask[here]).sum(axis=-1)
    return np.asarray(_surprise(observed, _logs(shares, n_human, mask)) - entropy, dtype=np.float64)


def expected_corrected_kl(
    source: ArrayLike, shares: ArrayLike, n_human: ArrayLike, offered: ArrayLike, n: int
) -> Floats:
    """What n respondents who answer as ``source`` (I, K) says would score on average, shape (I,).

    Other arguments as for :func:`corrected_kl`.

    >>> people = [[.5, .3, .15, .05]]
    >>> round(float(expected_corrected_kl(people, people, [1e9], [[True] * 4], 20)[0]), 3)
    -0.002
    """
    p, mask = np.asarray(source, dtype=np.float64), np.asarray(offered, dtype=bool)
    entropy = (binomial_masses(n, np.where(mask, p, 0.0)) @ entropy_terms(n)).sum(axis=-1)
    return np.asarray(_surprise(p, _logs(shares, n_human, mask)) - entropy, dtype=np.float64)


def one_less(counts: ArrayLike, shares: ArrayLike, n_human: ArrayLike, offered: ArrayLike) -> Floats:
    """By how much the divergence of all answers changes where one of a category is left out, shape (I, K).

    Of the divergence with the jackknifed entropy of however many answers there are. 0 where no answer is of that
    category, where there are fewer than three, or without a reference. Arguments as for :func:`corrected_kl`.

    >>> one_less([[2, 2]], [[.5, .5]], [1e9], [[True, True]]).round(3).tolist()
    [[-0.122, -0.122]]
    """
    observed, mask = np.asarray(counts, dtype=np.int64), np.asarray(offered, dtype=bool)
    q = _logs(shares, n_human, mask)
    whole, changes = _of_all(observed, q, mask), np.zeros(observed.shape)
    for category, left_out in enumerate(np.eye(observed.shape[1], dtype=np.int64)):
        there = (observed[:, category] > 0) & (observed.sum(axis=-1) > 2) & ~np.isnan(whole)
        changes[there, category] = _of_all(observed[there] - left_out, q[there], mask[there]) - whole[there]
    return changes


def _of_all(observed: NDArray[np.int64], logs: Floats, mask: Bools) -> Floats:
    """The divergence of all answers, each item at its own number; nan below two."""
    totals = observed.sum(axis=-1)
    entropy = np.full(len(observed), np.nan)
    for total in np.unique(totals[totals > 1]).tolist():
        here = totals == total
        entropy[here] = (entropy_terms(total)[observed[here]] * mask[here]).sum(axis=-1)
    return np.asarray(_surprise(observed, logs) - entropy, dtype=np.float64)


def _logs(shares: ArrayLike, n_human: ArrayLike, mask: Bools) -> Floats:
    """Logarithm of the smoothed reference, shape (I, K); nan without one."""
    return np.log(np.where(mask, smoothed_reference(shares, n_human, mask), 1.0))


def _surprise(answers: ArrayLike, logs: Floats) -> Floats:
    """- sum p ln q of counts or shares, shape (I,)."""
    given = np.asarray(answers, dtype=np.float64)
    return np.asarray(-(given * logs).sum(axis=-1) / np.maximum(given.sum(axis=-1), 1e-300), dtype=np.float64)
