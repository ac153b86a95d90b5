"""Divergence value dimension by value dimension: Figures 5 and 6.

Both ways of measuring stand in fields of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CellAnalysis
from defsurvey.reports.cells.items import Floats
from defsurvey.reports.figures.parts import NotRun, main_cells
from defsurvey.reports.metrics.intervals import Interval

#: Quantiles that a distribution is drawn by.
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DimensionRow:
    """Figures 5 and 6: one model in one culture, dimension by dimension; arrays of shape (D,) or (D, quantiles)."""

    name: str  #: of the cell
    model: str
    culture: str
    sound: Floats
    intervals: tuple[Interval, ...]  #: of ``sound``, for other participants
    floor: Floats
    paper: Floats
    items: Floats  #: with a value, per dimension
    answers: Floats  #: valid ones to the questions of these items
    comparable: bool  #: whether it has answers enough for a headline
    infinite: Floats  #: of them infinite in the paper's way
    sound_quantiles: Floats  #: of the items of a dimension, at ``QUANTILES``
    paper_quantiles: Floats  #: infinite values by the paper's rule


@dataclass(frozen=True, slots=True, kw_only=True)
class ByDimension:
    """Figures 5 and 6."""

    rows: tuple[DimensionRow, ...]


def by_dimension(analysis: Analysis) -> ByDimension | NotRun:
    """Figures 5 and 6: each model of the main condition in each culture."""
    if not (analysis.items.grouping.dimension >= 0).any():
        return NotRun(reason="no question of this run speaks to a value dimension")
    return ByDimension(rows=tuple(_dimension_row(analysis, cell) for cell in main_cells(analysis)))


def _dimension_row(analysis: Analysis, cell: CellAnalysis) -> DimensionRow:
    grouping = analysis.items.grouping
    infinite, known = np.isinf(cell.divergences.plug_in_kl), ~np.isnan(cell.divergences.plug_in_kl)
    spoken = grouping.dimension >= 0

    def count(where: Floats) -> Floats:
        counted = np.bincount(grouping.dimension[spoken], weights=where[spoken], minlength=grouping.dimensions)
        return np.asarray(counted, dtype=np.float64)

    def quantiles(values: Floats) -> Floats:
        found = np.full((grouping.dimensions, len(QUANTILES)), np.nan)
        for dimension in range(grouping.dimensions):
            here = values[(grouping.dimension == dimension) & ~np.isnan(values)]
            if here.size:
                found[dimension] = np.quantile(here, QUANTILES)
        return found

    return DimensionRow(
        name=cell.name,
        model=cell.cell.model,
        culture=cell.cell.culture,
        sound=cell.sound.by_dimension,
        intervals=cell.intervals.by_dimension,
        floor=cell.sound_floor.by_dimension,
        paper=cell.paper.by_dimension,
        items=count(known.astype(np.float64)),
        answers=np.array(
            [
                cell.n_valid[np.unique(analysis.items.question[known & (grouping.dimension == dimension)])].sum()
                for dimension in range(grouping.dimensions)
            ],
            dtype=np.float64,
        ),
        comparable=cell.comparable,
        infinite=count(infinite.astype(np.float64)),
        sound_quantiles=quantiles(cell.divergences.smoothed_kl),
        paper_quantiles=quantiles(cell.paper_values.values),
    )
