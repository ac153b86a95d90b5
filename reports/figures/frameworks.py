"""Frameworks and models side by side: Tables 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import comb, isnan

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, NotRun, why_not
from defsurvey.reports.cells import rank
from defsurvey.reports.figures import shared, words
from defsurvey.reports.figures.shared import MeanRow
from defsurvey.reports.number_format import fixed, percent, signed
from defsurvey.reports.page import Entry, Field, Section, Table, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Frameworks:
    """Table 1: what each probing framework makes of each model."""

    rows: tuple[MeanRow, ...]  #: model by model, conditions in the run's order
    tested: tuple[str, ...]  #: models of which conditions could be compared in every culture where they have figures
    closest: tuple[tuple[str, str], ...]  #: model, its condition that ranks first alone in all of these cultures


def frameworks(analysis: Analysis) -> Frameworks:
    """Table 1: models by condition, every culture in its main language."""
    names = shared.conditions(analysis)
    if len(names) < 2:
        raise NotRun(f"one condition, {names[0]}: no framework to compare it with")
    rows = shared.mean_rows(analysis, names)
    winners = dict(_winners(analysis, rows))
    closest = tuple((model, name) for model, first in winners.items() for name in first if name and len(first) == 1)
    return Frameworks(rows=rows, tested=tuple(winners), closest=closest)


def _winners(analysis: Analysis, rows: Sequence[MeanRow]) -> Iterator[tuple[str, set[str]]]:
    """Of each model that can be tested, the conditions first alone in some culture; "" where a culture has none.

    A model's conditions are held against each other alone, in the cultures where it has figures: what other models
    were asked decides nothing. A condition that lacks a culture or a dimension of the model's others is no part of it.
    """
    for model in dict.fromkeys(row.model for row in rows):
        own, ranked = [row for row in rows if row.model == model], []
        whole = [row for row in own if not row.sound.lacks(each.sound for each in own)]
        names = {row.condition for row in whole}
        for culture in analysis.cultures if len(whole) > 1 else ():
            code = culture.culture.code
            if code in whole[0].sound.cultures:
                mine = [cell for cell in shared.spoken(analysis) if (cell.cell.model, cell.culture) == (model, code)]
                samples = {c.cell.condition.name: c.sample for c in mine if c.cell.condition.name in names}
                ranked.append(rank(samples, analysis.items, culture.reference))
        if ranked and all(each.order for each in ranked):
            yield model, {each.winner for each in ranked}


def model_table(analysis: Analysis) -> tuple[MeanRow, ...]:
    """Table 2: every model in the main condition."""
    return shared.mean_rows(analysis, [analysis.results.run.main_condition])


_NAMED = (
    "A framework is called closest where, in every culture in which the model has figures, it is told from each of the "
    "model's others that can be compared, on the same questions, all brought down to 10 answers each: the means below "
    "may rest on more answers of one than of another. Models are counted where at least two of their frameworks could "
    "be compared like that in each of these cultures."
)


@words.section("table-1", "Table 1 · Frameworks", "Probing frameworks", "Table 1", printed="table1")
def framework_section(analysis: Analysis, section: Section) -> Section:
    """Table 1."""
    part = analysis.figure(frameworks)
    return replace(
        section,
        title=_best_framework(part) or section.title,
        paragraphs=("Means over cultures, each asked in its main language.", _NAMED),
        tables=(
            _sound(analysis, part.rows, "table-1-smoothed", "Smoothed KL by framework (nats; lower is closer)"),
            _paper(analysis, part.rows, "table-1-plug-in", "The paper's way: plug-in KL by framework (nats)"),
        ),
    )


def _best_framework(part: Frameworks) -> str:
    """Which condition most models answer closest in, told from their others; of models that could be tested."""
    best = [condition for _, condition in part.closest]
    if not best:
        return ""
    most = max(dict.fromkeys(best), key=best.count)
    whose = f"{best.count(most)} of {len(part.tested)} models"
    if len(part.tested) == 1:
        whose = "the model" if len({row.model for row in part.rows}) == 1 else part.tested[0]
    return f"Framework {most} comes closest for {whose}"


@words.section("table-2", "Table 2 · Models", "By value dimension", "Table 2", printed="table2")
def model_section(analysis: Analysis, section: Section) -> Section:
    """Table 2."""
    rows, condition = analysis.figure(model_table), analysis.results.run.main_condition
    several = ", mean of the cultures; each culture by itself stands with Fig. 5" if len(analysis.cultures) > 1 else ""
    return replace(
        section,
        title=closest_dimension(analysis) or section.title,
        paragraphs=(f"Condition {condition}{several}.",),
        tables=(
            _sound(analysis, rows, "table-2-smoothed", "Smoothed KL by model and dimension (nats; lower is closer)"),
            _paper(analysis, rows, "table-2-plug-in", "The paper's way: plug-in KL by model and dimension (nats)"),
            *((_behind(analysis),) if analysis.dimensions else ()),
        ),
    )


def _behind(analysis: Analysis) -> Table:
    """How many items and answers stand behind each mean, by culture."""
    grouping, question = analysis.items.grouping, analysis.items.question

    def counts(cell: CellAnalysis, place: int) -> Entry:
        here = (grouping.dimension == place) & ~np.isnan(cell.divergences.plug_in_kl)
        answers = cell.n_valid[np.unique(question[here])].sum()
        return Entry(f"{shared.items_behind(analysis, cell)[place]:.0f}", f"{answers:,.0f}")

    fields, cells = [words.MODEL, *words.per_dimension(analysis, counts)], shared.main_cells(analysis)
    caption = "Items behind the mean of each dimension; beneath, valid answers to their questions"
    notes = ("A mean of one or two items says little of its dimension, and nothing of how its items vary.",)
    return words.culture_table(analysis, cells, fields, "table-2-behind", caption, notes=notes)


def _table(rows: Sequence[MeanRow], fields: Sequence[Field[MeanRow]], anchor: str, caption: str, *notes: str) -> Table:
    """A row per model; conditions in groups of their model where there are several."""
    if len({row.condition for row in rows}) == 1:
        head: Field[MeanRow] = Field("Model", lambda row: row.model, words=True)
        return table(rows, [head, *fields], anchor, caption, notes=notes)
    head = Field("Condition", lambda row: row.condition, words=True)
    return table(rows, [head, *fields], anchor, caption, group=lambda row: row.model, grouped_by="Model", notes=notes)


def _sound(analysis: Analysis, rows: Sequence[MeanRow], anchor: str, caption: str) -> Table:
    lacking = why_not(analysis.results.run.protocol.reply)

    def over_floor(row: MeanRow) -> str:
        return signed(row.sound.mean - row.floor.mean)

    def diversity(row: MeanRow) -> Entry:
        return Entry(fixed(row.relative_diversity), why=lacking)

    distinct = "distinct full replies to all questions in all cultures (Eq. 6), over the most there can be"
    values, floors = (lambda row: row.sound.by_dimension), (lambda row: row.floor.by_dimension)
    fields: list[Field[MeanRow]] = [
        *shared.where_asked(analysis, rows),
        *words.dimension_fields(analysis, rows, values, floors),
        shared.mean_field("Mean", rows, "over dimensions: every dimension weighs the same"),
        Field("Excess", over_floor, "mean less what equally many people would score"),
        Field("D / max", diversity, distinct),
    ]
    return _table(rows, fields, anchor, caption, words.FLOOR, *shared.fewer(rows))


def _paper(analysis: Analysis, rows: Sequence[MeanRow], anchor: str, caption: str) -> Table:
    lacking = why_not(analysis.results.run.protocol.reply)

    def none_finite(row: MeanRow) -> str:
        lost = row.sound.cultures and not row.paper.cultures
        return "no finite value for the paper's rule to add to" if lost else ""

    def diversity(row: MeanRow) -> Entry:
        return Entry(percent(row.diversity), why=lacking)

    fields: list[Field[MeanRow]] = [
        *shared.where_asked(analysis, rows, paper=True),
        Field("Diversity", diversity, "D of Eq. 6: distinct full replies to all questions in all cultures"),
        *words.dimension_fields(analysis, rows, lambda row: row.paper.by_dimension, why=none_finite),
        shared.mean_field("Mean", rows, "over dimensions", paper=True),
        words.infinite_field(lambda row: row.infinite_share),
    ]
    return _table(rows, fields, anchor, caption, words.RULE, *shared.fewer(rows, paper=True))


def closest_dimension(analysis: Analysis) -> str:
    """Name the dimensions with the least and the most excess over the floor, over the rows of Table 2 alike.

    Rows with few answers are left out, and so are those that lack what another of the rest has. Empty where the two
    lie no further apart than chance would put the ends of so many dimensions.
    """
    enough = [row for row in analysis.figure(model_table) if row.comparable]
    rows = [row for row in enough if not row.sound.lacks(each.sound for each in enough)]
    if not rows or not analysis.dimensions:
        return ""
    behind = {(row.model, culture) for row in rows for culture in row.sound.cultures}
    cells = [cell for cell in shared.main_cells(analysis) if (cell.cell.model, cell.culture) in behind]
    means, errors = shared.excess(cells)
    dimensions, named = analysis.results.survey.dimensions, shared.nameable([row.items for row in rows])
    of = zip(means.tolist(), errors.tolist(), dimensions, named, strict=True)
    known = sorted((value, error, code) for value, error, code, may in of if may and not isnan(value))
    if len(known) < 2:
        return ""
    (low, low_error, least), (high, high_error, most) = known[0], known[-1]
    if not shared.apart(high - low, (low_error, high_error), comb(len(known), 2)):
        return ""
    first, last = (_within(dimensions[code].get("en", code)) for code in (least, most))
    return f"Closest on {first}, furthest on {last}"


def _within(name: str) -> str:
    """A name as it stands within a sentence; capitals of an abbreviation stay."""
    return name if name[:2].isupper() else name[:1].lower() + name[1:]
