"""Smoothed KL of resampled participants, for every item at once and fast.

Knows that resampled counts are whole numbers: ``x ln x`` of each is looked up, and what is linear in the
counts is summed by matrix products. The values are those of ``divergence.smoothed_kl``. Deliberately knows
nothing of what is averaged over (see ``intervals``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from reports.metrics.divergence import PRIOR, Floats, smoothed_reference

#: Numbers held at once: resamples are worked off in parts of at most this many.
AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResamples:
    """Smoothed KL per item of B resamples of a cell's participants."""

    values: Floats  #: nats, shape (B, I); nan where a resample has no valid answer to the item
    answered: NDArray[np.bool_]  #: valid answers of the P that have any, who alone are resampled, shape (P, I)


@lru_cache(maxsize=4)
def weights_of(units: int, draws: int, seed: int) -> Floats:
    """How often each of n units is in each of B resamples of n, shape (B, n): the same for every cell of a run.

    >>> weights_of(3, 2, 0).sum(axis=1).tolist()
    [3.0, 3.0]
    """
    weights = participant_weights(units, np.random.default_rng(seed), draws)
    weights.flags.writeable = False
    return weights


def participant_weights(participants: int, rng: np.random.Generator, draws: int) -> Floats:
    """How often each of P participants is in each of B resamples of P, shape (B, P).

    >>> participant_weights(3, np.random.default_rng(0), 2).sum(axis=1).tolist()
    [3.0, 3.0]
    """
    return rng.multinomial(participants, np.full(participants, 1 / participants), size=draws).astype(np.float64)


def resampled_smoothed_kl(
    answers: Floats,
    shares: Floats,
    n_human: Floats,
    offered: NDArray[np.bool_],
    *,
    draws: int,
    seed: int,
) -> ItemResamples:
    """Smoothed KL of B resamples of whole participants, questions fixed.

    Args:
        answers: whole numbers, shape (P, I, K): how often each participant chose each category.
        shares: the reference's, shape (I, K); nan rows give nan.
        n_human: people behind it, shape (I,).
        offered: which columns each item has, shape (I, K).
        draws: B.
        seed: the same seed gives the same resamples, to every cell of as many participants.

    >>> two = np.array([[[1., 0.]], [[0., 1.]]])
    >>> found = resampled_smoothed_kl(
    ...     two, np.array([[.5, .5]]), np.array([1e9]), np.ones((1, 2), bool), draws=4, seed=0)
    >>> found.values.shape, bool((found.values >= 0).all())
    ((4, 1), True)
    """
    present = answers[answers.any(axis=(1, 2))]
    people, items = len(present), answers.shape[1]
    answered = np.asarray(present.any(axis=-1), dtype=bool)
    if people == 0:
        return ItemResamples(values=np.full((draws, items), np.nan), answered=answered)
    weights = weights_of(people, draws, seed)
    packed = present[:, offered]
    starts = np.concatenate([[0], np.cumsum(offered.sum(axis=-1))[:-1]])
    logs = np.where(offered, np.log(np.where(offered, smoothed_reference(shares, n_human, offered), 1.0)), 0.0)
    linear = weights @ (present * logs).sum(axis=-1)
    mass = weights @ present.sum(axis=-1) + PRIOR * offered.sum(axis=-1)
    heights = np.concatenate(list(_heights(weights, packed, starts)))
    values = (heights - linear - PRIOR * logs.sum(axis=-1)) / mass - np.log(mass)
    empty = mass <= PRIOR * offered.sum(axis=-1)
    # rounding can leave a sum of terms a hair below zero where both sides are equal
    return ItemResamples(values=np.where(empty, np.nan, np.maximum(values, 0.0)), answered=answered)


def independent_variance(counts: Floats, shares: Floats, n_human: Floats, offered: NDArray[np.bool_]) -> Floats:
    """Variance that the smoothed KL of an item has at least, whatever its resamples show, shape (I,).

    Five participants who all answer alike do not say that a sixth would: their resamples vary not at all. It is taken
    that answers are independent, and their shares (c + 1/k) / (n + 1): one answer more, spread over the options. With L
    the logarithm of smoothed shares over people's, the variance is (E L^2 - (E L)^2) n / (n + k/2)^2, to first order.

    Args:
        counts: valid answers, shape (I, K).
        shares: the reference's, shape (I, K); nan rows give nan.
        n_human: people behind it, shape (I,).
        offered: which columns each item has, shape (I, K).

    Source: Perks (1947) for the prior; the delta method.

    >>> people, mask = np.array([[.5, .3, .2]]), np.ones((1, 3), bool)
    >>> counts = np.array([[5, 0, 0]]), np.array([[3, 1, 1]])
    >>> alike, apart = (independent_variance(each, people, np.array([1e9]), mask) for each in counts)
    >>> bool(alike[0] > 0), bool(apart[0] > 0)
    (True, True)
    """
    n, size = counts.sum(axis=-1, keepdims=True), offered.sum(axis=-1, keepdims=True)
    known = np.where(offered, smoothed_reference(shares, n_human, offered), 1.0)
    logs = np.where(offered, np.log(np.where(offered, (counts + PRIOR) / (n + PRIOR * size), 1.0) / known), 0.0)
    drawn = np.where(offered, (counts + 1 / size) / (n + 1), 0.0)
    spread = (drawn * logs**2).sum(axis=-1) - (drawn * logs).sum(axis=-1) ** 2
    return np.asarray(np.maximum(spread, 0.0) * n[:, 0] / (n + PRIOR * size)[:, 0] ** 2, dtype=np.float64)


def _heights(weights: Floats, packed: Floats, starts: NDArray[np.int64]) -> Iterator[Floats]:
    """Sum of (c + 1/2) ln (c + 1/2) over each item's categories, part by part, shapes (b, I)."""
    most = int(packed.max(initial=0.0)) * len(packed)
    raised = np.arange(most + 1) + PRIOR
    table = xlogy(raised, raised)
    part = max(1, AT_ONCE // packed.shape[1])
    for start in range(0, len(weights), part):
        counts = np.rint(weights[start : start + part] @ packed).astype(np.intp)
        yield np.add.reduceat(table.take(counts), starts, axis=1)
