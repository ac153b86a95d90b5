"""How far a model's answers lie from what people answered, per item.

An *item* is one set of exclusive categories: the options of a question, or, for one option of a
multiple-choice question, (not chosen, chosen). Items of different size share one array of K
columns; ``offered`` says which columns an item has, and the others hold zeros.

Natural logarithm throughout. An item without a valid answer, or without a reference, is nan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, rel_entr, xlog1py, xlogy

#: Added to every category by Jeffreys' prior.
PRIOR = 0.5

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class MetricInput(ValueError):
    """A metric was asked for numbers it is not defined on; the message names the bound and the value."""


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


def _checked(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if np.any(array < 0):
        raise MetricInput(f"{name} must be at least 0, got {np.nanmin(array):g}")
    return array


def _distribution(name: str, values: ArrayLike) -> Floats:
    """Normalised over the last axis; nan where it sums to 0."""
    array = _checked(name, values)
    total = array.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(array, total, out=np.full_like(array, np.nan), where=total > 0), dtype=np.float64)


def _relative_entropy(p: Floats, q: Floats) -> Floats:
    # rounding can leave a sum of terms a hair below zero where both sides are equal
    return np.asarray(np.maximum(rel_entr(p, q).sum(axis=-1), 0.0), dtype=np.float64)


def plug_in_kl(counts: ArrayLike, shares: ArrayLike) -> Floats:
    """Kullback-Leibler divergence of the observed shares from the reference's, sum p ln(p/q).

    Args:
        counts: valid answers per category, shape (..., K).
        shares: the reference's shares, shape (..., K); need not sum to 1 exactly.

    Returns:
        Shape (...), nats, in [0, inf]: infinite where a category was chosen that no person chose.

    Source: Liu et al. (2025), published code; their Eq. 1 as printed is no divergence.

    >>> round(float(plug_in_kl([0, 3, 12, 5], [.911, .071, .016, .002])), 4)
    3.4939
    >>> float(plug_in_kl([0, 4], [1, 0]))
    inf
    """
    return _relative_entropy(_distribution("counts", counts), _distribution("shares", shares))


def jeffreys(counts: ArrayLike, offered: ArrayLike | None = None) -> Floats:
    """Shares under Jeffreys' prior, (c + 1/2) / (n + k/2), zero where a column is not offered.

    Args:
        counts: shape (..., K), not necessarily whole numbers.
        offered: which columns the item has, shape broadcastable to ``counts``; all of them by default.

    >>> jeffreys([0, 3]).tolist()
    [0.125, 0.875]
    """
    array = _checked("counts", counts)
    mask = np.broadcast_to(np.True_ if offered is None else np.asarray(offered, dtype=bool), array.shape)
    raised = np.where(mask, array + PRIOR, 0.0)
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), dtype=np.float64)


def smoothed_reference(shares: ArrayLike, n_human: ArrayLike, offered: ArrayLike | None = None) -> Floats:
    """The reference's shares under Jeffreys' prior, its counts taken as share * n.

    Args:
        shares: the reference's, shape (..., K); a row of nan gives nan.
        n_human: people behind it, shape (...).
        offered: which columns the item has, shape (..., K); all by default.

    Returns:
        Shape (..., K); sums to 1.

    >>> smoothed_reference([.75, .25], 4).tolist()
    [0.7, 0.3]
    """
    n = np.asarray(n_human, dtype=np.float64)[..., None]
    return jeffreys(_distribution("shares", shares) * n, offered)


def smoothed_kl(counts: ArrayLike, shares: ArrayLike, n_human: ArrayLike, offered: ArrayLike | None = None) -> Floats:
    """KL divergence with Jeffreys' prior on both sides, the human side by its own n.

    Args:
        counts: valid answers per category, shape (..., K).
        shares: the reference's shares, shape (..., K).
        n_human: people behind the reference, shape (...).
        offered: which columns the item has, shape (..., K); all by default.

    Returns:
        Shape (...), nats, in [0, inf). Smoothing pulls small samples to the middle: compare at equal n.

    >>> round(float(smoothed_kl([0, 3, 12, 5], [.911, .071, .016, .002], 2593)), 4)
    3.2504
    """
    array = np.asarray(counts, dtype=np.float64)
    value = _relative_entropy(jeffreys(array, offered), smoothed_reference(shares, n_human, offered))
    return np.where(array.sum(axis=-1) > 0, value, np.nan)


def wasserstein(counts: ArrayLike, shares: ArrayLike, offered: ArrayLike | None = None) -> Floats:
    """Wasserstein-1 distance between ordered categories one step apart, divided by k - 1.

    Args:
        counts: shape (..., K), categories in order.
        shares: shape (..., K).
        offered: which columns the item has, shape (..., K); all by default.

    Returns:
        Shape (...), in [0, 1]: 0 at equality, 1 when all of one side is at one end and all of the other at the other.

    >>> round(float(wasserstein([0, 3, 12, 5], [.911, .071, .016, .002])), 5)
    0.66367
    """
    p, q = _distribution("counts", counts), _distribution("shares", shares)
    steps = _steps(p, offered)
    return np.asarray(np.abs(np.cumsum(p - q, axis=-1))[..., :-1].sum(axis=-1) / steps, dtype=np.float64)


def _steps(counts: Floats, offered: ArrayLike | None) -> NDArray[np.int64]:
    size = np.asarray(counts.shape[-1] if offered is None else np.asarray(offered, dtype=bool).sum(axis=-1))
    if np.any(size < 2):
        raise MetricInput(f"an item must have at least 2 categories, got {int(size.min())}")
    return np.asarray(size - 1, dtype=np.int64)


def js_distance(counts: ArrayLike, shares: ArrayLike) -> Floats:
    """Jensen-Shannon distance, base 2: the root of the mean KL of both sides from their middle.

    Args:
        counts: shape (..., K).
        shares: shape (..., K).

    Returns:
        Shape (...), in [0, 1].

    >>> round(float(js_distance([0, 3, 12, 5], [.911, .071, .016, .002])), 5)
    0.91541
    """
    p, q = _distribution("counts", counts), _distribution("shares", shares)
    middle = (p + q) / 2
    bits = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / (2 * np.log(2))
    return np.asarray(np.sqrt(np.clip(bits, 0.0, 1.0)), dtype=np.float64)


def total_variation(counts: ArrayLike, shares: ArrayLike) -> Floats:
    """Half the summed absolute difference of the shares: the part of the answers that would have to move.

    >>> round(float(total_variation([0, 3, 12, 5], [.911, .071, .016, .002])), 3)
    0.911
    """
    p, q = _distribution("counts", counts), _distribution("shares", shares)
    return np.asarray(np.abs(p - q).sum(axis=-1) / 2, dtype=np.float64)


def divergences(counts: ArrayLike, shares: ArrayLike, n_human: ArrayLike, offered: ArrayLike) -> Divergences:
    """Every divergence of I items.

    Args:
        counts: valid answers per category, shape (I, K).
        shares: the reference's, shape (I, K); a row of nan where there is none.
        n_human: people behind each reference, shape (I,).
        offered: which columns each item has, shape (I, K).

    >>> found = divergences([[2, 2], [0, 0]], [[.5, .5], [.5, .5]], [100, 100], np.ones((2, 2), bool))
    >>> found.plug_in_kl.tolist(), found.reasons
    ([0.0, nan], ('', 'no valid answer'))
    """
    observed, known = np.asarray(counts, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    missing, empty = np.asarray(np.isnan(known).any(axis=-1)), np.asarray(observed.sum(axis=-1) == 0)
    reasons = tuple(
        "no reference" if absent else "no valid answer" if none else ""
        for absent, none in zip(missing.tolist(), empty.tolist(), strict=True)
    )
    return Divergences(
        plug_in_kl=plug_in_kl(observed, known),
        smoothed_kl=smoothed_kl(observed, known, n_human, offered),
        wasserstein=wasserstein(observed, known, offered),
        js_distance=js_distance(observed, known),
        total_variation=total_variation(observed, known),
        reasons=reasons,
    )


def paper_values(plug_in: ArrayLike, behind: ArrayLike | None = None) -> PaperValues:
    """The paper's rule: an infinite divergence becomes the largest finite one of its cell, plus 1.

    Args:
        plug_in: plug-in KL of a cell's items, shape (I,); nan where there is none.
        behind: which items the mean is of, shape (I,); all by default. The largest finite value is that of any item.

    Source: Liu et al. (2025), published code.

    >>> ruled = paper_values([.2, 1.4, np.inf, .7])
    >>> round(float(ruled.values.mean()), 3), ruled.infinite_share
    (1.175, 0.25)
    """
    values = np.asarray(plug_in, dtype=np.float64)
    infinite, finite = np.isinf(values), np.isfinite(values)
    known = infinite | finite
    if not known.any():
        return PaperValues(values=values, infinite_share=np.nan, reason="no item has a value")
    counted = known if behind is None else known & np.asarray(behind, dtype=bool)
    share = float(infinite[counted].mean()) if counted.any() else np.nan
    if not finite.any():
        nothing = np.full_like(values, np.nan)
        why = "every value is infinite: no largest finite one"
        return PaperValues(values=nothing, infinite_share=share, reason=why)
    replaced = np.where(infinite, values[finite].max() + 1.0, values)
    return PaperValues(values=replaced, infinite_share=share)


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
