"""Divergence value dimension by value dimension: Figures 5 and 6.

Both ways of measuring stand in fields of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import comb, isfinite, isnan
from typing import Any

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, NotRun
from defsurvey.reports.cells import Floats
from defsurvey.reports.charts.drawing import FLOOR, INK, Chart, Row, layer, looks, room_for, shortened, width_beside
from defsurvey.reports.charts.rows import NATS, Mark, Scale, reach, row_axis, row_height, row_places, rows_chart
from defsurvey.reports.figures import words
from defsurvey.reports.figures.shared import apart, excess, items_behind, main_cells, nameable
from defsurvey.reports.metrics.aggregate import mean_known
from defsurvey.reports.number_format import NAMED, NONE, counted, fixed, listed, nats, signed
from defsurvey.reports.page import Entry, Field, Fold, Section, Table
from defsurvey.reports.untrusted import visible

#: Quantiles that a distribution is drawn by.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
#: Most models drawn one by one in the open; of more, the rest are folded.
OPEN = 6
_NONE = NotRun("no question of this run speaks to a value dimension")


def mean_plots(analysis: Analysis) -> tuple[Chart, ...]:
    """Figure 5: means of each model of the main condition, with intervals and floor."""
    cells, series = main_cells(analysis), len(analysis.cultures)
    bounds = [(*cell.sound.by_dimension.tolist(), *cell.sound_floor.by_dimension.tolist()) for cell in cells]
    bounds += [tuple(interval.high for interval in cell.intervals.by_dimension) for cell in cells]
    scale, rows = Scale(NATS, high=reach(value for each in bounds for value in each)), list(_labels(analysis).values())
    says = "Mean smoothed KL divergence by value dimension, with 95% intervals."
    return tuple(
        rows_chart(_mean_marks(analysis, mine), f"dimensions-{at}", model, says, scale, series=series, rows=rows)
        for at, (model, mine) in enumerate(_by_model(cells).items())
    )


def _by_model(cells: Sequence[CellAnalysis]) -> dict[str, list[CellAnalysis]]:
    found: dict[str, list[CellAnalysis]] = {}
    for cell in cells:
        if np.isfinite(cell.sound.by_dimension).any():
            found.setdefault(cell.cell.model, []).append(cell)
    return found


def _labels(analysis: Analysis) -> dict[int, str]:
    """Place of each dimension that the run's items speak to -> how its row is called: its name with its code."""
    found = {}
    for place, (code, names) in enumerate(analysis.results.survey.dimensions.items()):
        name = names.get("en", "")
        if code in analysis.dimensions:
            found[place] = visible(f"{name[:1].upper()}{name[1:]} ({code})" if name and name != code else code)
    return found


def _mean_marks(analysis: Analysis, cells: Sequence[CellAnalysis]) -> list[Mark]:
    names, marks = words.culture_names(analysis), []
    for cell in cells:
        for place, label in _labels(analysis).items():
            value, floor = float(cell.sound.by_dimension[place]), float(cell.sound_floor.by_dimension[place])
            if isfinite(value):
                name, series = f"{names[cell.culture]}, {label}", list(names).index(cell.culture)
                interval = cell.intervals.by_dimension[place]
                marks.append(words.divergence_mark(label, name, value, interval, floor, series=series))
    return marks


def quantiles_of(analysis: Analysis, values: Floats) -> Floats:
    """Quantiles of the values of each dimension's items, shape (D, quantiles); nan for one without a value."""
    grouping = analysis.items.grouping
    found = np.full((grouping.dimensions, len(QUANTILES)), np.nan)
    for dimension in range(grouping.dimensions):
        here = values[(grouping.dimension == dimension) & ~np.isnan(values)]
        if here.size:
            found[dimension] = np.quantile(here, QUANTILES)
    return found


def _sound_quantiles(analysis: Analysis, cell: CellAnalysis) -> Floats:
    return quantiles_of(analysis, cell.divergences.smoothed_kl)


def spread_plots(analysis: Analysis) -> tuple[Chart, ...]:
    """Figure 6: quartiles and the 5th to 95th percentile of the divergence of a dimension's items."""
    cells = main_cells(analysis)
    bounds = [(*_sound_quantiles(analysis, cell)[:, -1], *cell.sound_floor.by_dimension) for cell in cells]
    scale = Scale(NATS, high=reach(float(value) for each in bounds for value in each))
    says = "Spread of the smoothed KL divergence of a dimension's items."
    return tuple(
        Chart(name=f"spread-{at}", title=model, description=says, make=partial(_drawn, analysis, mine, scale))
        for at, (model, mine) in enumerate(_by_model(cells).items())
    )


def _drawn(analysis: Analysis, cells: Sequence[CellAnalysis], scale: Scale) -> Any:
    import altair as alt

    labels, series = list(_labels(analysis).values()), len(analysis.cultures)
    base, place = layer(alt, _boxes(analysis, cells)), row_places(alt, shortened(labels), room_for(labels), series)
    colour, shape = looks(alt, "series", {str(at): at for at in range(series)})
    floors, lines = base.mark_bar(color=FLOOR, aria=False), base.mark_rule(strokeWidth=1.5, aria=False)
    boxes = base.mark_bar(size=8, opacity=0.75)
    medians = base.mark_point(color=INK, filled=True, size=44, opacity=1, aria=False)

    def x(field: str) -> Any:
        return row_axis(alt, field, scale)

    return alt.layer(
        floors.encode(x=x("floor"), **place),
        lines.encode(x=x("low"), x2="high:Q", color=colour, **place),
        boxes.encode(x=x("quarter"), x2="three:Q", color=colour, description="says:N", **place),
        medians.encode(x=x("median"), shape=shape, **place),
    ).properties(width=width_beside(room_for(labels)), height=row_height(alt, series))


def _boxes(analysis: Analysis, cells: Sequence[CellAnalysis]) -> list[Row]:
    names, called = words.culture_names(analysis), _labels(analysis)
    cut, found = dict(zip(called, shortened(list(called.values())), strict=True)), []
    for cell in cells:
        spread, items = _sound_quantiles(analysis, cell), items_behind(analysis, cell)
        for place, label in called.items():
            box: Row = dict(zip(("low", "quarter", "median", "three", "high"), spread[place].tolist(), strict=True))
            if isfinite(box["median"]):
                quartiles = f"quartiles {nats(box['quarter'])} and {nats(box['three'])}"
                says = f"{names[cell.culture]}, {label}: median {nats(box['median'])}, {quartiles}, "
                says += counted(round(items[place]), "item")
                box |= {"row": cut[place], "series": str(list(names).index(cell.culture)), "says": says}
                found.append(box | {"floor": float(cell.sound_floor.by_dimension[place])})
    return found


def mean_table(analysis: Analysis, *, paper: bool = False) -> Table:
    """KL by cell and dimension, the floor beneath each figure: smoothed, or plug-in by the paper's rules."""
    weighed = "dimension" if analysis.dimensions else "question"
    by, cells = ", by value dimension" if analysis.dimensions else "", analysis.cells

    def no_mean(cell: CellAnalysis) -> str:
        return "" if isfinite(cell.sound.headline) else cell.sound.reason

    def why(cell: CellAnalysis) -> str:
        return cell.paper_reason if paper else no_mean(cell)

    def excess_of(cell: CellAnalysis) -> Entry:
        return Entry(signed(cell.excess), why=no_mean(cell))

    def by_question(cell: CellAnalysis) -> Entry:
        means, floor = (cell.paper, cell.paper_floor) if paper else (cell.sound, cell.sound_floor)
        return Entry(fixed(means.question_mean), fixed(floor.question_mean))

    over = f"over {weighed}s: every {weighed} weighs the same"
    fields = [words.MODEL, *words.mean_fields(analysis, cells, lambda cell: cell, over, paper=paper, why=why)]
    if not paper:
        of = (
            "for other participants; beneath, for other questions too",
            "mean less what equally many people would score",
        )
        fields += [Field("95% interval", _intervals, of[0]), Field("Excess", excess_of, of[1])]
    if analysis.dimensions:
        fields.append(Field("By question", by_question, "mean over all questions: every question weighs the same"))
    anchor, note = "table-smoothed", _TWO_INTERVALS
    caption = f"Smoothed KL divergence from people{by} (nats; lower is closer)"
    if paper:
        fields.append(words.infinite_field(lambda cell: cell.paper_values.infinite_share))
        anchor, note = "table-plug-in", _OF_ITS_ROW
        caption = f"The paper's way: plug-in KL divergence from people{by} (nats)"
    return words.culture_table(analysis, cells, fields, anchor, caption, notes=(note,))


_OF_ITS_ROW = (
    "An infinite value counts as the largest finite one of its row, plus 1: where many are infinite, that rule makes "
    "the mean."
)
_TWO_INTERVALS = (
    "The small figure beneath is the noise floor: what equally many real people would score. The upper interval is "
    "about these questions, the lower one about questions like these."
)


def _intervals(cell: CellAnalysis) -> Entry:
    """Over participants, and beneath over participants and questions."""
    narrow, wide = cell.interval, cell.intervals.two_way
    beneath = words.interval_entry(wide.low, wide.high, least=0.0).text if isfinite(wide.low) else ""
    return replace(words.interval_entry(narrow.low, narrow.high, least=0.0, reason=narrow.reason), beneath=beneath)


@words.section("figure-5", "Fig. 5 · By dimension", "Mean divergence by dimension", "Fig. 5")
def mean_section(analysis: Analysis, section: Section) -> Section:
    """Figure 5."""
    kinds = ["model", "culture", "dimension"] if analysis.dimensions else ["model", "culture"]
    title = f"The paper's way: plug-in KL by {listed(kinds)}"
    paper = Fold(anchor="figure-5-paper", title=title, tables=(mean_table(analysis, paper=True),))
    begun = replace(section, tables=(mean_table(analysis),), folds=(paper,))
    if not analysis.dimensions:
        why = f"By dimension it is not run: {_NONE.reason}."
        return replace(begun, title="Mean divergence by model and culture", paragraphs=(why,))
    found = replace(begun, title=_furthest(analysis) or section.title)
    return _drawn_by_model(analysis, found, mean_plots(analysis), _MEANS)


_MEANS = "Shaded: the noise floor of each row. Lines: 95% intervals."
_BOXES = (
    "Box: the middle half of a dimension's items; dark mark, in the culture's shape: their median; line: the 5th to "
    "the 95th percentile. Shaded: the mean noise floor."
)


def _drawn_by_model(analysis: Analysis, begun: Section, charts: tuple[Chart, ...], note: str) -> Section:
    """A chart for each model: some in the open, the rest folded before the other folds."""
    if not charts:
        return begun
    title = counted(len(charts) - OPEN, "more model")
    more = (Fold(anchor=f"{begun.anchor}-more", title=title, charts=charts[OPEN:]),) if charts[OPEN:] else ()
    legend = tuple(culture.name for culture in analysis.cultures)
    return replace(begun, legend=legend, charts=charts[:OPEN], chart_note=note, folds=(*more, *begun.folds))


def _furthest(analysis: Analysis) -> str:
    """In which culture answers lie further from people, dimension by dimension, floors taken off, beyond chance.

    Of models with answers enough in every culture compared: another would make further where it answered. A culture
    of which only models were asked that were asked in no other is not compared; the title says which ones are, then.
    """
    cells = _in_all([cell for cell in main_cells(analysis) if cell.comparable])
    by_culture = {code: [cell for cell in cells if cell.culture == code] for code in words.culture_names(analysis)}
    by_culture = {code: mine for code, mine in by_culture.items() if mine}
    found = furthest(analysis, list(by_culture.values())) if len(by_culture) > 1 else None
    if found is None:
        return ""
    place, count, dimensions = found
    named = [words.named_cultures(analysis)[code] for code in by_culture]
    compared = listed(named) if len(named) <= NAMED else f"{len(named)} cultures"
    begin = "Furthest" if len(named) == len(analysis.cultures) else f"Of {compared}, furthest"
    return f"{begin} from people of {named[place]} on {count} of {dimensions} dimensions"


def _in_all(cells: Sequence[CellAnalysis]) -> list[CellAnalysis]:
    """The cells of models that have one in every culture that any model of several cultures has."""
    where: dict[str, set[str]] = {}
    for cell in cells:
        where.setdefault(cell.cell.model, set()).add(cell.culture)
    every = set().union(*(cultures for cultures in where.values() if len(cultures) > 1))
    return [cell for cell in cells if where[cell.cell.model] == every]


def furthest(analysis: Analysis, by_culture: Sequence[Sequence[CellAnalysis]]) -> tuple[int, int, int] | None:
    """Which culture's people answers lie furthest from on most dimensions, told apart by their intervals.

    Its position, on how many dimensions it is furthest, and of how many; None where no dimension tells cultures apart,
    or no culture leads.
    """
    means, errors = (np.stack(each) for each in zip(*(excess(cells) for cells in by_culture), strict=True))
    items = [items_behind(analysis, cell) for cells in by_culture for cell in cells]
    cultures, places = len(by_culture), np.flatnonzero(nameable(items) & ~np.isnan(means).any(axis=0)).tolist()
    counts = np.zeros(cultures, dtype=np.int64)
    for place in places:
        *_, second, first = np.argsort(means[:, place], kind="stable").tolist()
        gap = float(means[first, place] - means[second, place])
        counts[first] += apart(gap, (errors[first, place], errors[second, place]), len(places) * comb(cultures, 2))
    if len(places) < 2 or counts.max() == 0 or (counts == counts.max()).sum() > 1:
        return None
    return int(counts.argmax()), int(counts.max()), len(places)


@words.section("figure-6", "Fig. 6 · Spread", "Spread of the divergence within a dimension", "Fig. 6")
def spread_section(analysis: Analysis, section: Section) -> Section:
    """Figure 6."""
    if not analysis.dimensions:
        raise _NONE
    fold = Fold(
        anchor="figure-6-quantiles",
        title="Quartiles as tables, the paper's way too",
        tables=tuple(_quartiles(analysis, paper=way) for way in (False, True)),
    )
    found = replace(section, title=_widest(analysis) or section.title, folds=(fold,))
    return _drawn_by_model(analysis, found, spread_plots(analysis), _BOXES)


def _widest(analysis: Analysis) -> str:
    """The dimensions whose items differ most and least; empty where there are not two with answers enough."""
    cells = [cell for cell in main_cells(analysis) if cell.comparable]
    if not cells:
        return ""
    _, lower, _, upper, _ = np.stack([_sound_quantiles(analysis, cell) for cell in cells], axis=-1).swapaxes(0, 1)
    named = nameable([items_behind(analysis, cell) for cell in cells])
    means, codes = np.where(named, mean_known(upper - lower), np.nan).tolist(), analysis.results.survey.dimensions
    known = sorted(((v, code) for v, code in zip(means, codes, strict=True) if not isnan(v)), reverse=True)
    if len(known) < 2:
        return ""
    (widest, most), (narrowest, least) = known[0], known[-1]
    return (
        f"Items differ most within {most} (their middle half spans {nats(widest)} nats on average), least within "
        f"{least} ({nats(narrowest)})"
    )


def _quartiles(analysis: Analysis, *, paper: bool) -> Table:
    rows = [
        (cell, quantiles_of(analysis, cell.paper_values.values if paper else cell.divergences.smoothed_kl))
        for cell in main_cells(analysis)
    ]
    reason = "no valid answer to an item of this dimension" + (", or no finite value at all" if paper else "")

    def entry(row: tuple[CellAnalysis, Floats], place: int) -> Entry:
        _, lower, middle, upper, _ = row[1][place].tolist()
        return Entry(fixed(middle), f"{fixed(lower)}–{fixed(upper)}") if isfinite(middle) else Entry(NONE, why=reason)

    def infinite(row: tuple[CellAnalysis, Floats]) -> str:
        return str(int(np.isinf(row[0].divergences.plug_in_kl[analysis.items.grouping.dimension >= 0]).sum()))

    fields = [Field("Model", lambda row: row[0].name, words=True), *words.per_dimension(analysis, entry)]
    anchor, kind, notes = "figure-6-quartiles", "Median of the smoothed", tuple[str, ...]()
    if paper:
        fields.append(Field("Infinite", infinite, "items of a dimension whose plug-in KL is infinite before the rule"))
        anchor, kind, notes = f"{anchor}-plug-in", "The paper's way: median of the plug-in", (words.RULE,)
    caption = f"{kind} KL of a dimension's items, quartiles beneath (nats)"
    return words.culture_table(analysis, rows, fields, anchor, caption, notes=notes)
