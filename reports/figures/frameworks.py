"""Conditions, models, languages side by side: Tables 1, 2 and 4, Figure 10.

Both ways of measuring stand in fields of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CellAnalysis, CultureAnalysis
from defsurvey.reports.cells.comparing import Contrast, compare, contrasts
from defsurvey.reports.cells.items import Floats
from defsurvey.reports.cells.ranking import Ranking, rank
from defsurvey.reports.figures.parts import NotRun, conditions, language_of, main_condition, models, spoken
from defsurvey.reports.metrics.aggregate import Means, grouped_sum, mean_known


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanRow:
    """One model and condition, the mean over the cultures in which it has a figure, in each way of measuring."""

    model: str
    condition: str
    cultures: tuple[str, ...]  #: codes
    known: frozenset[tuple[str, int]]  #: culture and position of every dimension that has a figure
    paper_cultures: tuple[str, ...]  #: the paper's way: without those all of whose values are infinite
    paper_known: frozenset[tuple[str, int]]
    items: Floats  #: with a value, per dimension, in the culture that has the fewest, shape (D,)
    comparable: bool  #: whether it has figures, and each cell of these has answers enough for a headline
    diversity: float  #: D of Eq. 6, in [0, 1]
    relative_diversity: float  #: D over its maximum
    paper_by_dimension: Floats  #: plug-in KL by the paper's rule, shape (D,)
    paper_mean: float  #: over dimensions
    infinite_share: float  #: of items behind the mean with a value, in [0, 1]; mean over all cultures that have one
    sound_by_dimension: Floats  #: smoothed KL, shape (D,)
    sound_mean: float
    floor_by_dimension: Floats  #: what as many people would score
    floor_mean: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Frameworks:
    """Table 1: what each probing framework makes of each model."""

    rows: tuple[MeanRow, ...]  #: model by model, conditions in the run's order
    tested: tuple[str, ...]  #: models of which conditions could be compared in every culture where they have figures
    closest: tuple[tuple[str, str], ...]  #: model, its condition that ranks first alone in all of these cultures


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTable:
    """Table 2: every model in the main condition."""

    condition: str
    rows: tuple[MeanRow, ...]


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


def frameworks(analysis: Analysis) -> Frameworks | NotRun:
    """Table 1: models by condition, every culture in its main language."""
    names = conditions(analysis)
    if len(names) < 2:
        return NotRun(reason=f"one condition, {names[0]}: no framework to compare it with")
    rows = _rows(analysis, names)
    winners = dict(_winners(analysis, rows))
    closest = tuple((model, name) for model, first in winners.items() for name in first if name and len(first) == 1)
    return Frameworks(rows=rows, tested=tuple(winners), closest=closest)


def lacks(row: MeanRow, rows: Sequence[MeanRow], *, paper: bool = False) -> bool:
    """Whether a row has no figure of a culture, or of a dimension there, of which another has one.

    Its mean is of something else than theirs, and is compared with none.

    Args:
        row: one of them.
        rows: all.
        paper: whether of the figures of the paper's way.
    """
    if paper:
        return any(o.paper_known - row.paper_known or set(o.paper_cultures) - set(row.paper_cultures) for o in rows)
    return any(other.known - row.known or set(other.cultures) - set(row.cultures) for other in rows)


def _winners(analysis: Analysis, rows: Sequence[MeanRow]) -> Iterator[tuple[str, set[str]]]:
    """Of each model that can be tested, the conditions first alone in some culture; "" where a culture has none.

    A model's conditions are held against each other alone, in the cultures where it has figures: what other models
    were asked decides nothing. A condition that lacks a culture or a dimension of the model's others is no part of it.
    """
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        whole = [row for row in own if not lacks(row, own)]
        if len(whole) < 2:
            continue
        ranked = [
            _ranked(analysis, culture, model, {row.condition for row in whole})
            for culture in analysis.cultures
            if culture.culture.code in whole[0].cultures
        ]
        if ranked and all(each.order for each in ranked):
            yield model, {each.winner for each in ranked}


def _ranked(analysis: Analysis, culture: CultureAnalysis, model: str, names: Collection[str]) -> Ranking:
    """Those conditions of one model in one culture, in its main language."""
    mine = [cell for cell in spoken(analysis) if (cell.cell.model, cell.cell.culture) == (model, culture.culture.code)]
    samples = {cell.cell.condition.name: cell.sample for cell in mine if cell.cell.condition.name in names}
    return rank(samples, analysis.items, culture.reference)


def model_table(analysis: Analysis) -> ModelTable:
    """Table 2: models in the main condition."""
    condition = main_condition(analysis.results.run.cells)
    return ModelTable(condition=condition, rows=_rows(analysis, [condition]))


def _rows(analysis: Analysis, names: Sequence[str]) -> tuple[MeanRow, ...]:
    by_row: dict[tuple[str, str], list[CellAnalysis]] = {}
    for cell in spoken(analysis):
        by_row.setdefault((cell.cell.model, cell.cell.condition.name), []).append(cell)
    wanted = [(model, condition) for model in models(spoken(analysis)) for condition in names]
    return tuple(_mean_row(analysis, *row, by_row[row]) for row in wanted if row in by_row)


def _mean_row(analysis: Analysis, model: str, condition: str, cells: Sequence[CellAnalysis]) -> MeanRow:
    known = [cell for cell in cells if np.isfinite(cell.sound.headline)]
    paper = [cell for cell in cells if np.isfinite(cell.paper.headline)]

    def mean(values: list[float]) -> float:
        return float(mean_known(values))

    def by_dimension(values: list[Floats]) -> Floats:
        return mean_known(np.stack(values, axis=-1))

    return MeanRow(
        model=model,
        condition=condition,
        cultures=tuple(cell.cell.culture for cell in known),
        known=frozenset((cell.cell.culture, place) for cell in known for place in _known(cell.sound)),
        paper_cultures=tuple(cell.cell.culture for cell in paper),
        paper_known=frozenset((cell.cell.culture, place) for cell in paper for place in _known(cell.paper)),
        items=np.stack([_items(analysis, cell) for cell in known or cells]).min(axis=0),
        comparable=bool(known) and all(cell.comparable for cell in known),
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


def _known(means: Means) -> list[int]:
    """Positions of the dimensions that have a figure."""
    return [place for place, value in enumerate(means.by_dimension.tolist()) if not isnan(value)]


def _items(analysis: Analysis, cell: CellAnalysis) -> Floats:
    """Items of each dimension that have a value, shape (D,)."""
    grouping = analysis.items.grouping
    return grouped_sum(~np.isnan(cell.divergences.smoothed_kl), grouping.dimension, grouping.dimensions)


def ablation(analysis: Analysis) -> Ablation | NotRun:
    """Table 4: every model that was run in the main condition and in others of its framework."""
    main, names = main_condition(analysis.results.run.cells), conditions(analysis)
    if len(names) < 2:
        return NotRun(reason=f"one condition, {names[0]}: nothing was switched off")
    method = {cell.cell.condition.name: cell.cell.condition.method for cell in analysis.cells}
    others = [name for name in names if name != main and method[name] is method[main]]
    if not others:
        return NotRun(reason=f"no condition has parts of {main} switched off: the others are other frameworks")
    found: dict[tuple[str, str], list[tuple[str, Contrast]]] = {}
    for culture in analysis.cultures:
        for (model, condition), contrast in _against_main(analysis, culture, main, others).items():
            found.setdefault((model, condition), []).append((culture.culture.code, contrast))
    rows = [
        AblationRow(row=row, contrasts=tuple(found.get((row.model, row.condition), ())))
        for row in _rows(analysis, [main, *others])
    ]
    several = {row.row.model for row in rows if row.row.condition != main}
    return Ablation(against=main, rows=tuple(row for row in rows if row.row.model in several))


def _against_main(
    analysis: Analysis, culture: CultureAnalysis, main: str, others: Sequence[str]
) -> dict[tuple[str, str], Contrast]:
    """Every (model, other condition) against the model's main condition, Holm over all of the culture's."""
    mine = [cell for cell in spoken(analysis) if cell.cell.culture == culture.culture.code]
    cells = {(c.cell.model, c.cell.condition.name): c for c in mine}
    return _pairs(
        analysis,
        culture,
        {
            key: (cell, cells[key[0], main])
            for key, cell in cells.items()
            if key[1] in others and (key[0], main) in cells
        },
    )


def languages(analysis: Analysis) -> Languages | NotRun:
    """Figure 10: models of the main condition that were asked in more than one language."""
    main, rows = main_condition(analysis.results.run.cells), []
    for culture in analysis.cultures:
        native = language_of(analysis, culture.culture.code)
        cells = {(c.cell.model, c.cell.language): c for c in culture.cells if c.cell.condition.name == main}
        several = {model for model, language in cells if language != native and (model, native) in cells}
        found = _pairs(
            analysis,
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
    analysis: Analysis,
    culture: CultureAnalysis,
    wanted: dict[tuple[str, str], tuple[CellAnalysis, CellAnalysis]],
) -> dict[tuple[str, str], Contrast]:
    """Contrasts of pairs, all on the same questions, of which one with too few answers takes none from the others."""

    wanted = {key: pair for key, pair in wanted.items() if all(cell.comparable for cell in pair)}
    samples = {cell.name: cell.sample for pair in wanted.values() for cell in pair}
    compared = compare(samples, analysis.items, culture.reference) if samples else None
    if compared is None:
        return {}
    planned = [(cell.name, [cell.name], other.name, [other.name]) for cell, other in wanted.values()]
    return dict(zip(wanted, contrasts(compared, planned), strict=True))
