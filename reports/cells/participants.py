"""What each participant of a cell answered, by itself, and how far means of them vary."""

from __future__ import annotations

import numpy as np

from defsurvey.reports.cells.items import Floats, ItemTable, ReferenceTable
from defsurvey.reports.metrics.divergence import smoothed_kl
from defsurvey.reports.metrics.intervals import Intervals, independent_variance, intervals_of_means, without_one


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
    """Intervals of a cell's means, over other participants.

    Args:
        items: the run's items.
        reference: the culture's.
        weights: what each participant answered, shape (P, I, K).
        points: smoothed KL of each item, shape (I,).
    """
    known = ~np.isnan(points) & items.grouping.headline
    answers, people = weights[:, known], (reference.shares[known], reference.n[known], items.offered[known])
    counts = answers.sum(axis=0)
    changes = np.einsum("pik,ik->pi", answers, without_one(counts, *people))
    return intervals_of_means(
        points[known],
        independent_variance(counts, *people),
        np.where(answers.any(axis=-1), changes, np.nan),
        items.grouping.of(known),
    )
