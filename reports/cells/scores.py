"""How answers become mean scores on the map of cultures, and how far those vary.

Residual options ("other") have no place on a scale and enter no score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from defsurvey.reports.cells.cells import CellAnalysis, CultureAnalysis
from defsurvey.reports.cells.items import Bools, Floats, ItemTable
from defsurvey.reports.metrics.intervals import weights_of

#: Resamples of participants behind an ellipse and the noise of a way.
DRAWS = 500
#: Seed of the resamples.
MAP_SEED = 20250314


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """A value for every item and category, and how items become columns."""

    values: Floats  #: shape (I, K); 0 where not placed
    keep: Floats  #: 1 for items used, shape (I,)
    slope: Floats  #: score = slope * code + offset, shape (I,)
    offset: Floats


def scored(items: ItemTable) -> Bools:
    """Which items have a score: of a value dimension, with two options or more on a scale, shape (I,)."""
    return np.asarray((items.grouping.dimension >= 0) & (items.placed.sum(axis=-1) > 1))


def scaled(items: ItemTable, used: Bools) -> Scoring:
    """The sound way: codes scaled to [0, 1] and turned so that more is more of the dimension."""
    low = np.nanmin(np.where(items.placed, items.code, np.inf), axis=-1)
    high = np.nanmax(np.where(items.placed, items.code, -np.inf), axis=-1)
    span = np.where(used, high - low, 1.0)
    turned = items.direction < 0
    slope = np.where(turned, -1.0, 1.0) / span
    offset = np.where(turned, high, -low) / span
    return _scoring(items, used, slope, np.where(used, offset, 0.0))


def raw(items: ItemTable, used: Bools) -> Scoring:
    """The paper's way: option codes as they are."""
    return _scoring(items, used, np.ones(len(used)), np.zeros(len(used)))


def _scoring(items: ItemTable, used: Bools, slope: Floats, offset: Floats) -> Scoring:
    values = np.where(items.placed, np.where(items.placed, items.code, 0.0) * slope[:, None] + offset[:, None], 0.0)
    return Scoring(values=values, keep=np.asarray(used, dtype=np.float64), slope=slope, offset=offset)


def people_scores(culture: CultureAnalysis, scoring: Scoring, items: ItemTable) -> Floats:
    """Mean score of people per item, residual options left out, shape (I,)."""
    placed = np.where(items.placed, culture.reference.shares, 0.0)
    total = placed.sum(axis=-1)
    mean = np.divide((placed * scoring.values).sum(axis=-1), total, out=np.full(len(total), np.nan), where=total > 0)
    return np.asarray(mean, dtype=np.float64)


def _mean_code(cell: CellAnalysis) -> Floats:
    known = ~np.isnan(cell.participant_code)
    total, count = np.where(known, cell.participant_code, 0.0).sum(axis=0), known.sum(axis=0)
    mean = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return np.asarray(mean, dtype=np.float64)


def resampled_scores(cell: CellAnalysis, scoring: Scoring, known_items: Bools) -> Floats:
    """Mean score per item of resampled participants, shape (DRAWS, I): as many as ``participants_behind``."""
    present = cell.participant_code[~np.isnan(cell.participant_code).all(axis=1)]
    known = ~np.isnan(present)
    weights = weights_of(len(present), DRAWS, MAP_SEED)
    total, count = weights @ np.where(known, present, 0.0), weights @ known
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return np.where(known_items, mean * scoring.slope + scoring.offset, np.nan)


def model_scores(cell: CellAnalysis, scoring: Scoring, known_items: Bools) -> Floats:
    """Mean score per item of a cell's participants, shape (I,)."""
    return np.where(known_items, _mean_code(cell) * scoring.slope + scoring.offset, np.nan)


def participants_behind(cell: CellAnalysis) -> int:
    """Participants with a score on any item, who are resampled."""
    return int((~np.isnan(cell.participant_code)).any(axis=1).sum())


def noise(resampled: Floats, participants: int) -> Floats | None:
    """What participants add to their mean scores by chance, of mean 0, shape (B, C); None where fewer than two tell.

    Resamples of P participants vary by (P - 1) / P of what means of P do.

    Args:
        resampled: mean scores of resamples, shape (B, C).
        participants: P.
    """
    if participants < 2:
        return None
    return np.asarray((resampled - np.nanmean(resampled, axis=0)) * np.sqrt(participants / (participants - 1)))


def way_noise(start: Floats | None, stop: Floats | None) -> Floats | None:
    """Noise of a way by that of its ends, each of shape (B, C); resamples without a score in some dimension left out.

    Participants of equal number share their draws in all cultures, and so they are resampled together; where their
    numbers differ they are drawn apart.
    """
    if start is None or stop is None:
        return None
    together = stop - start
    together = together[~np.isnan(together).any(axis=1)]
    return together if len(together) > 1 else None


def people_variance(culture: CultureAnalysis, scoring: Scoring, items: ItemTable, asked: Bools) -> Floats:
    """Sampling variance of people's mean score per dimension asked, shape (C,).

    From that of each item's mean; items are taken as independent, which makes it a little small.
    """
    placed = np.where(items.placed, culture.reference.shares, 0.0)
    total = np.maximum(placed.sum(axis=-1, keepdims=True), 1e-12)
    mean = (placed * scoring.values).sum(axis=-1, keepdims=True) / total
    variance = ((placed * (scoring.values - mean) ** 2).sum(axis=-1) / total[:, 0]) / culture.reference.n
    kept, dimension = (scoring.keep > 0) & ~np.isnan(culture.reference.n), items.grouping.dimension
    size = np.bincount(dimension[kept], minlength=items.grouping.dimensions).astype(np.float64)
    by_dimension = np.bincount(dimension[kept], weights=variance[kept], minlength=items.grouping.dimensions)
    return np.asarray((by_dimension / np.maximum(size, 1) ** 2)[asked], dtype=np.float64)
