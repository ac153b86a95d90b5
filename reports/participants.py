"""What each participant of a cell answered, by itself, and how far means of them vary.

Knows answers as weights on categories (see ``reports.items``). Deliberately knows nothing of cells.
"""

from __future__ import annotations

import numpy as np

from reports.items import Floats, ItemTable, ReferenceTable
from reports.metrics.divergence import smoothed_kl
from reports.metrics.intervals import DRAWS, Intervals, intervals_of_means
from reports.metrics.resampling import independent_variance, resampled_smoothed_kl

#: Seed of the resamples: the same answers always give the same intervals.
BOOTSTRAP_SEED = 20250314


def single_answers(weights: Floats, items: ItemTable, reference: ReferenceTable) -> Floats:
    """What each participant's answer to each item scores alone, shape (P, I)."""
    alone = np.eye(items.offered.shape[1])[None] * items.offered[:, :, None]
    scores = smoothed_kl(alone, reference.shares[:, None], reference.n[:, None], items.offered[:, None])
    return _mean_over_answers(weights, np.where(items.offered, scores, 0.0), weights.sum(axis=-1))


def codes(weights: Floats, items: ItemTable) -> Floats:
    """Code of each participant's answer to each item, shape (P, I)."""
    return _mean_over_answers(weights, np.where(items.placed, items.code, 0.0), (weights * items.placed).sum(axis=-1))


def _mean_over_answers(weights: Floats, values: Floats, count: Floats) -> Floats:
    total = (weights * values).sum(axis=-1)
    return np.asarray(np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0), dtype=np.float64)


def intervals(items: ItemTable, reference: ReferenceTable, weights: Floats, points: Floats) -> Intervals:
    """Intervals of a cell's means, by resamples of its participants.

    Args:
        items: the run's items.
        reference: the culture's.
        weights: what each participant answered, shape (P, I, K).
        points: smoothed KL of each item, shape (I,).
    """
    # who answered nothing that the headline is of would only be drawn in place of those who did
    known = ~np.isnan(points) & items.grouping.headline
    shares, people, offered = reference.shares[known], reference.n[known], items.offered[known]
    # the same resamples for every cell: cells of equal size share participants' draws
    resampled = resampled_smoothed_kl(weights[:, known], shares, people, offered, draws=DRAWS, seed=BOOTSTRAP_SEED)
    grouping = items.grouping.of(known)
    return intervals_of_means(
        points[known],
        resampled.values,
        resampled.answered,
        grouping,
        seed=BOOTSTRAP_SEED,
        least=independent_variance(weights[:, known].sum(axis=0), shares, people, offered),
    )
