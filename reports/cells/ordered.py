"""Distances along a scale, where some options have no place on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from defsurvey.reports.cells.items import Floats, ItemTable, ReferenceTable
from defsurvey.reports.metrics.divergence import Divergences, wasserstein
from defsurvey.reports.metrics.floor import Floor, FloorValues


def placed_only(
    counts: Floats, items: ItemTable, reference: ReferenceTable, found: Divergences, floor: FloorValues
) -> tuple[Divergences, FloorValues]:
    """The same divergences and floor, Wasserstein distances without residual options.

    Args:
        counts: valid answers, shape (I, K).
        items: the run's.
        reference: the culture's.
        found: divergences of all answers.
        floor: their noise floor.

    Returns:
        For items with a residual option the distance of the answers that chose another, and the floor at their number;
        nan where nobody did.
    """
    rows = np.flatnonzero((items.offered & ~items.placed).any(axis=-1))
    if rows.size == 0:
        return found, floor
    # placed options move to the front in their order: one left out in between is no step
    order = np.argsort(~items.placed[rows], axis=-1, kind="stable")
    placed = np.take_along_axis(items.placed[rows], order, axis=-1)
    own, theirs = (
        np.where(placed, np.take_along_axis(table[rows], order, axis=-1), 0.0) for table in (counts, reference.shares)
    )
    total = theirs.sum(axis=-1, keepdims=True)
    shares = np.divide(theirs, total, out=np.full_like(theirs, np.nan), where=total > 0)
    expected = Floor(shares=shares, n_human=reference.n[rows], offered=placed).at(own.sum(axis=-1)).wasserstein
    distance, noise = found.wasserstein.copy(), floor.wasserstein.copy()
    distance[rows], noise[rows] = wasserstein(own, shares, placed), expected
    return replace(found, wasserstein=distance), replace(floor, wasserstein=noise)
