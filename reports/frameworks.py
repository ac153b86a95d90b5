"""Conditions, models, languages side by side: Tables 1, 2 and 4, Figures 5, 6 and 10.

Knows which cells a row of each is the mean of. Both ways of measuring stand in fields of their own. Deliberately
knows nothing of published values (see ``reports.published``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reports.cells import CellAnalysis, CultureAnalysis, Measured
from reports.comparing import Contrast, comparable, compare, contrasts
from reports.items import Floats
from reports.metrics.aggregate import mean_known
from reports.metrics.intervals import Interval
from reports.parts import NotRun, conditions, language_of, main_cells, main_condition, models, spoken
from reports.ranking import rank

#: Quantiles that a distribution is drawn by.
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanRow:
    """One model and condition, the mean over the cultures that it was run in."""

    model: str
    condition: str
    cultures: tuple[str, ...]  #: codes
    diversity: float  #: D of Eq. 6, in [0, 1]
    relative_diversity: float  #: D over its maximum
    paper_by_dimension: Floats  #: plug-in KL by the paper's rule, shape (D,)
    paper_mean: float  #: over dimensions
    infinite_share: float  #: of items with a value, in [0, 1]
    sound_by_dimension: Floats  #: smoothed KL, shape (D,)
    sound_mean: float
    floor_by_dimension: Floats  #: what as many people would score
    floor_mean: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Frameworks:
    """Table 1: what each probing framework makes of each model."""

    rows: tuple[MeanRow, ...]  #: model by model, conditions in the run's order
    closest: tuple[tuple[str, str], ...]  #: model, its condition that ranks first alone in every culture


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTable:
    """Table 2: every model in the main condition."""

    condition: str
    rows: tuple[MeanRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DimensionRow:
    """Figures 5 and 6: one model in one culture, dimension by dimension; arrays of shape (D,) or (D, quantiles)."""

    name: str  #: of the cell
    model: str
    culture: str
    sound: Floats
    intervals: tuple[Interval, ...]  #: of ``sound``, participants resampled
    floor: Floats
    paper: Floats
    items: Floats  #: with a value, per dimension
    infinite: Floats  #: of them infinite in the paper's way
    sound_quantiles: Floats  #: of the items of a dimension, at ``QUANTILES``
    paper_quantiles: Floats  #: infinite values by the paper's rule


@dataclass(frozen=True, slots=True, kw_only=True)
class ByDimension:
    """Figures 5 and 6."""

    rows: tuple[DimensionRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRow:
    """Table 4: one condition of one model."""

    row: MeanRow
    contrasts: tuple[tuple[str, Contrast], ...]  #: culture, this condition against the main one


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """Table 4."""

    against: str  #: the main condition
    rows: tuple[AblationRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageRow:
    """Figure 10: one model in one culture and language."""

    cell: CellAnalysis
    native: bool
    contrast: Contrast | None  #: against the native language; None for that itself, or where answers are too few


@dataclass(frozen=True, slots=True, kw_only=True)
class Languages:
    """Figure 10."""

    rows: tuple[LanguageRow, ...]


def frameworks(measured: Measured) -> Frameworks | NotRun:
    """Table 1: models by condition, every culture in its main language."""
    names = conditions(measured)
    if len(names) < 2:
        return NotRun(reason=f"one condition, {names[0]}: no framework to compare it with")
    rows = _rows(measured, names)
    return Frameworks(rows=rows, closest=tuple(_closest(measured, rows)))


def lacks(row: MeanRow, rows: Sequence[MeanRow]) -> bool:
    """Whether a row has no figure in a dimension in which another has one: its mean is compared with none."""
    known = np.any([np.isfinite(other.sound_by_dimension) for other in rows], axis=0)
    return not np.isfinite(row.sound_by_dimension[known]).all()


def _closest(measured: Measured, rows: Sequence[MeanRow]) -> Iterator[tuple[str, str]]:
    """Of each model the condition that is told from each of its others in every culture, if there is one."""
    for model in dict.fromkeys(row.model for row in rows):
        whole = {row.condition for row in rows if row.model == model and not lacks(row, rows)}
        winners = set()
        for culture in measured.cultures:
            mine = [c for c in spoken(measured) if (c.cell.model, c.cell.culture) == (model, culture.culture.code)]
            counts = {c.cell.condition.name: c.counts for c in mine if c.cell.condition.name in whole}
            if len(counts) > 1:
                winners.add(rank(counts, measured.items, culture.reference).winner)
        yield from ((model, condition) for condition in winners if condition and len(winners) == 1)


def model_table(measured: Measured) -> ModelTable:
    """Table 2: models in the main condition."""
    condition = main_condition(measured.results.run.cells)
    return ModelTable(condition=condition, rows=_rows(measured, [condition]))


def _rows(measured: Measured, names: Sequence[str]) -> tuple[MeanRow, ...]:
    by_row: dict[tuple[str, str], list[CellAnalysis]] = {}
    for cell in spoken(measured):
        by_row.setdefault((cell.cell.model, cell.cell.condition.name), []).append(cell)
    wanted = [(model, condition) for model in models(spoken(measured)) for condition in names]
    return tuple(_mean_row(*row, by_row[row]) for row in wanted if row in by_row)


def _mean_row(model: str, condition: str, cells: Sequence[CellAnalysis]) -> MeanRow:
    def mean(values: list[float]) -> float:
        return float(mean_known(values))

    def by_dimension(values: list[Floats]) -> Floats:
        return mean_known(np.stack(values, axis=-1))

    return MeanRow(
        model=model,
        condition=condition,
        cultures=tuple(cell.cell.culture for cell in cells),
        diversity=mean([cell.diversity.d for cell in cells]),
        relative_diversity=mean([cell.diversity.relative for cell in cells]),
        paper_by_dimension=by_dimension([cell.paper.by_dimension for cell in cells]),
        paper_mean=mean([cell.paper.headline for cell in cells]),
        infinite_share=mean([cell.paper_values.infinite_share for cell in cells]),
        sound_by_dimension=by_dimension([cell.sound.by_dimension for cell in cells]),
        sound_mean=mean([cell.sound.headline for cell in cells]),
        floor_by_dimension=by_dimension([cell.sound_floor.by_dimension for cell in cells]),
        floor_mean=mean([cell.sound_floor.headline for cell in cells]),
    )


def by_dimension(measured: Measured) -> ByDimension | NotRun:
    """Figures 5 and 6: each model of the main condition in each culture."""
    if not (measured.items.grouping.dimension >= 0).any():
        return NotRun(reason="no question of this run speaks to a value dimension")
    return ByDimension(rows=tuple(_dimension_row(measured, cell) for cell in main_cells(measured)))


def _dimension_row(measured: Measured, cell: CellAnalysis) -> DimensionRow:
    grouping = measured.items.grouping
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
        infinite=count(infinite.astype(np.float64)),
        sound_quantiles=quantiles(cell.divergences.smoothed_kl),
        paper_quantiles=quantiles(cell.paper_values.values),
    )


def ablation(measured: Measured) -> Ablation | NotRun:
    """Table 4: every model that was run in the main condition and in others of its framework."""
    main, names = main_condition(measured.results.run.cells), conditions(measured)
    if len(names) < 2:
        return NotRun(reason=f"one condition, {names[0]}: nothing was switched off")
    method = {cell.cell.condition.name: cell.cell.condition.method for cell in measured.cells}
    others = [name for name in names if name != main and method[name] is method[main]]
    if not others:
        return NotRun(reason=f"no condition has parts of {main} switched off: the others are other frameworks")
    found: dict[tuple[str, str], list[tuple[str, Contrast]]] = {}
    for culture in measured.cultures:
        for (model, condition), contrast in _against_main(measured, culture, main, others).items():
            found.setdefault((model, condition), []).append((culture.culture.code, contrast))
    rows = [
        AblationRow(row=row, contrasts=tuple(found.get((row.model, row.condition), ())))
        for row in _rows(measured, [main, *others])
    ]
    several = {row.row.model for row in rows if row.row.condition != main}
    return Ablation(against=main, rows=tuple(row for row in rows if row.row.model in several))


def _against_main(
    measured: Measured, culture: CultureAnalysis, main: str, others: Sequence[str]
) -> dict[tuple[str, str], Contrast]:
    """Every (model, other condition) against the model's main condition, Holm over all of the culture's."""
    mine = [cell for cell in spoken(measured) if cell.cell.culture == culture.culture.code]
    cells = {(c.cell.model, c.cell.condition.name): c for c in mine}
    return _pairs(
        measured,
        culture,
        {
            key: (cell, cells[key[0], main])
            for key, cell in cells.items()
            if key[1] in others and (key[0], main) in cells
        },
    )


def languages(measured: Measured) -> Languages | NotRun:
    """Figure 10: models of the main condition that were asked in more than one language."""
    main, rows = main_condition(measured.results.run.cells), []
    for culture in measured.cultures:
        native = language_of(measured, culture.culture.code)
        cells = {(c.cell.model, c.cell.language): c for c in culture.cells if c.cell.condition.name == main}
        several = {model for model, language in cells if language != native and (model, native) in cells}
        found = _pairs(
            measured,
            culture,
            {
                key: (cell, cells[key[0], native])
                for key, cell in cells.items()
                if key[1] != native and key[0] in several
            },
        )
        rows += [
            LanguageRow(cell=cell, native=key[1] == native, contrast=found.get(key))
            for key, cell in cells.items()
            if key[0] in several
        ]
    return Languages(rows=tuple(rows)) if rows else NotRun(reason="every culture was asked in one language")


def _pairs(
    measured: Measured,
    culture: CultureAnalysis,
    wanted: dict[tuple[str, str], tuple[CellAnalysis, CellAnalysis]],
) -> dict[tuple[str, str], Contrast]:
    """Contrasts of pairs, all on the same questions, of which one with too few answers takes none from the others."""

    def answered(cell: CellAnalysis) -> bool:
        return comparable(cell.counts, measured.items, culture.reference)

    wanted = {key: pair for key, pair in wanted.items() if all(map(answered, pair))}
    counts = {cell.name: cell.counts for pair in wanted.values() for cell in pair}
    compared = compare(counts, measured.items, culture.reference) if counts else None
    if compared is None:
        return {}
    planned = [(cell.name, [cell.name], other.name, [other.name]) for cell, other in wanted.values()]
    return dict(zip(wanted, contrasts(compared, planned), strict=True))
