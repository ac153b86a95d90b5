"""Conditions, models, languages side by side: Tables 1, 2 and 4, Figure 10.

Both ways of measuring stand in fields of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import comb, isnan

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, CultureAnalysis, why_not
from defsurvey.reports.cells import Contrast, Floats, Ranking, compare, contrasts, rank
from defsurvey.reports.figures.dimensions import DimensionRow, by_dimension, excess, nameable
from defsurvey.reports.figures.dimensions import apart as told_apart
from defsurvey.reports.figures.words import (
    FLOOR,
    RULE,
    NotRun,
    conditions,
    culture_names,
    dimension_fields,
    infinite_field,
    language_of,
    largest,
    main_condition,
    missing,
    models,
    per_dimension,
    published_fold,
    published_tables,
    spoken,
)
from defsurvey.reports.metrics.aggregate import Means, grouped_sum, mean_known
from defsurvey.reports.number_format import NONE, fixed, percent, signed
from defsurvey.reports.page import Entry, Field, Section, Table, table


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
    others = [name for name in names if name != main and method[name] == method[main]]
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


_FEWER = (
    "Where a culture was not asked or a dimension has no figure, for want of valid answers, the mean is of the others "
    "and is compared with none."
)
_ALL_INFINITE = (
    "A culture all of whose values are infinite has no figure in the paper's way: its rule has no finite one to add "
    "to. The share of infinite ones counts it as 100%."
)
_NAMED = (
    "A framework is called closest where, in every culture in which the model has figures, it is told from each of the "
    "model's others that can be compared, on the same questions, all brought down to 10 answers each: the means below "
    "may rest on more answers of one than of another. Models are counted where at least two of their frameworks could "
    "be compared like that in each of these cultures."
)


def framework_section(analysis: Analysis) -> Section:
    """Table 1."""
    part = analysis.figure(frameworks)
    section = Section(
        anchor="table-1",
        contents="Table 1 · Frameworks",
        title="Probing frameworks",
        number="Table 1",
        folds=published_fold(analysis, "table1"),
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    return replace(
        section,
        title=_best_framework(part),
        paragraphs=("Means over cultures, each asked in its main language.", _NAMED),
        tables=(
            _sound(analysis, part.rows, "table-1-smoothed", "Smoothed KL by framework (nats; lower is closer)"),
            _paper(analysis, part.rows, "table-1-plug-in", "The paper's way: plug-in KL by framework (nats)"),
            *published_tables(analysis, "table1"),
        ),
    )


def _best_framework(part: Frameworks) -> str:
    """Which condition most models answer closest in, told from their others; of models that could be tested."""
    best = [condition for _, condition in part.closest]
    if not best:
        return "Probing frameworks"
    most = max(dict.fromkeys(best), key=best.count)
    if len({row.model for row in part.rows}) == 1:
        return f"Framework {most} comes closest for the model"
    if len(part.tested) == 1:
        return f"Framework {most} comes closest for {part.tested[0]}"
    return f"Framework {most} comes closest for {best.count(most)} of {len(part.tested)} models"


def model_section(analysis: Analysis) -> Section:
    """Table 2."""
    rows = analysis.figure(model_table).rows
    several = len(analysis.cultures) > 1
    return Section(
        anchor="table-2",
        contents="Table 2 · Models",
        title=closest_dimension(analysis),
        number="Table 2",
        paragraphs=(
            f"Condition {analysis.figure(model_table).condition}"
            + (", mean of the cultures; each culture by itself stands with Fig. 5." if several else "."),
        ),
        tables=(
            _sound(analysis, rows, "table-2-smoothed", "Smoothed KL by model and dimension (nats; lower is closer)"),
            _paper(analysis, rows, "table-2-plug-in", "The paper's way: plug-in KL by model and dimension (nats)"),
            *_behind(analysis),
            *published_tables(analysis, "table2"),
        ),
        folds=published_fold(analysis, "table2"),
    )


def _behind(analysis: Analysis) -> tuple[Table, ...]:
    """How many items and answers stand behind each mean, by culture; none where no item speaks to a dimension."""
    part, names = analysis.figure(by_dimension), culture_names(analysis)
    if isinstance(part, NotRun):
        return ()

    def counts(place: int) -> Callable[[DimensionRow], Entry]:
        return lambda row: Entry(text=f"{row.items[place]:.0f}", beneath=f"{row.answers[place]:,.0f}")

    made = table(
        [row for code in names for row in part.rows if row.culture == code],
        [Field("Model", lambda row: row.name, words=True), *per_dimension(analysis, counts)],
        anchor="table-2-behind",
        caption="Items behind the mean of each dimension; beneath, valid answers to their questions",
        group=lambda row: names[row.culture],
        grouped_by="Culture",
        notes=("A mean of one or two items says little of its dimension, and nothing of how its items vary.",),
    )
    return (made,)


def _table(
    rows: Sequence[MeanRow], fields: Sequence[Field[MeanRow]], *, anchor: str, caption: str, notes: tuple[str, ...]
) -> Table:
    """A row per model; conditions in groups of their model where there are several."""
    several = len({row.condition for row in rows}) > 1
    head: Field[MeanRow] = Field("Model", lambda row: row.model, words=True)
    return table(
        rows,
        [Field("Condition", lambda row: row.condition, words=True) if several else head, *fields],
        anchor=anchor,
        caption=caption,
        group=lambda row: row.model if several else "",
        grouped_by="Model" if several else "",
        notes=notes,
    )


def _sound(analysis: Analysis, rows: Sequence[MeanRow], anchor: str, caption: str) -> Table:
    most, lacking = largest(row.sound_by_dimension for row in rows), why_not(analysis.results.run.protocol.reply)
    fields: list[Field[MeanRow]] = [
        *where_asked(analysis, rows),
        *dimension_fields(analysis, lambda row: row.sound_by_dimension, most, lambda row: row.floor_by_dimension),
        Field(
            "Mean",
            lambda row: Entry(text=fixed(row.sound_mean), beneath=fixed(row.floor_mean), why=apart(row, rows)),
            "over dimensions: every dimension weighs the same",
        ),
        Field(
            "Excess",
            lambda row: signed(row.sound_mean - row.floor_mean),
            "mean less what equally many people would score",
        ),
        Field(
            "D / max",
            lambda row: Entry(text=fixed(row.relative_diversity), why=lacking),
            "distinct full replies to all questions in all cultures (Eq. 6), over the most there can be",
        ),
    ]
    return _table(rows, fields, anchor=anchor, caption=caption, notes=(FLOOR, *fewer(rows)))


def _paper(analysis: Analysis, rows: Sequence[MeanRow], anchor: str, caption: str) -> Table:
    most, lacking = largest(row.paper_by_dimension for row in rows), why_not(analysis.results.run.protocol.reply)
    fields: list[Field[MeanRow]] = [
        *where_asked(analysis, rows, paper=True),
        Field(
            "Diversity",
            lambda row: Entry(text=percent(row.diversity), why=lacking),
            "D of Eq. 6: distinct full replies to all questions in all cultures",
        ),
        *dimension_fields(analysis, lambda row: row.paper_by_dimension, most, why=_none_finite),
        Field(
            "Mean",
            lambda row: Entry(text=fixed(row.paper_mean), why=apart(row, rows, paper=True)),
            "over dimensions",
        ),
        infinite_field(lambda row: row.infinite_share),
    ]
    return _table(rows, fields, anchor=anchor, caption=caption, notes=(RULE, *fewer(rows, paper=True)))


def where_asked(analysis: Analysis, rows: Sequence[MeanRow], *, paper: bool = False) -> list[Field[MeanRow]]:
    """A column for the cultures of each row, where one has figures of only some that were asked."""
    cultures = {_cultures(row, paper=paper) for row in rows}
    if not any(cultures) or all(len(known) == len(analysis.cultures) for known in cultures):
        return []
    return [named_in(analysis, "Cultures", "of which the divergences are the mean", paper=paper)]


def named_in(analysis: Analysis, text: str, meaning: str, *, paper: bool) -> Field[MeanRow]:
    """A column of the cultures in which a row has figures."""
    names = culture_names(analysis)

    def cultures(row: MeanRow) -> Entry:
        return Entry(text=", ".join(names[code] for code in _cultures(row, paper=paper)) or NONE, words=True)

    return Field(text, cultures, meaning, words=True)


def _cultures(row: MeanRow, *, paper: bool) -> tuple[str, ...]:
    return row.paper_cultures if paper else row.cultures


def _none_finite(row: MeanRow) -> str:
    """Why a row that has figures has none in the paper's way."""
    return "no finite value for the paper's rule to add to" if row.cultures and not row.paper_cultures else ""


def apart(row: MeanRow, rows: Sequence[MeanRow], *, paper: bool = False) -> str:
    """Why a mean is compared with none; empty where it may be."""
    lost = lacks(row, rows, paper=paper)
    return "of fewer cultures or dimensions than others have: not to be compared" if lost else ""


def fewer(rows: Sequence[MeanRow], *, paper: bool = False) -> tuple[str, ...]:
    """Notes on means that are compared with none, where there are any."""
    said = (_FEWER,) if any(lacks(row, rows, paper=paper) for row in rows) else ()
    lost = paper and any(row.paper_cultures != row.cultures for row in rows)
    return (*said, _ALL_INFINITE) if lost else said


def closest_dimension(analysis: Analysis) -> str:
    """Name the dimensions with the least and the most excess over the floor, over the rows of Table 2 alike.

    Rows with few answers are left out, and so are those that lack what another of the rest has. Neutral where the two
    lie no further apart than chance would put the ends of so many dimensions.
    """
    neutral, part = "By value dimension", analysis.figure(by_dimension)
    enough = [row for row in analysis.figure(model_table).rows if row.comparable]
    rows = [row for row in enough if not lacks(row, enough)]
    if not rows or isinstance(part, NotRun):
        return neutral
    behind = {(row.model, culture) for row in rows for culture in row.cultures}
    means, errors = excess([row for row in part.rows if (row.model, row.culture) in behind])
    named = nameable([row.items for row in rows])
    codes = analysis.results.survey.dimensions
    known = sorted(
        (value, error, code)
        for value, error, code, known in zip(means.tolist(), errors.tolist(), codes, named, strict=True)
        if known and not isnan(value)
    )
    if len(known) < 2:
        return neutral
    (low, low_error, least), (high, high_error, most) = known[0], known[-1]
    if not told_apart(high - low, (low_error, high_error), comb(len(known), 2)):
        return neutral
    first, last = (_within(codes[code].get("en", code)) for code in (least, most))
    return f"Closest on {first}, furthest on {last}"


def _within(name: str) -> str:
    """A name as it stands within a sentence; capitals of an abbreviation stay."""
    return name if name[:2].isupper() else name[:1].lower() + name[1:]
