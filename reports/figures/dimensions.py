"""Divergence value dimension by value dimension: Figures 5 and 6.

Both ways of measuring stand in fields of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import comb, hypot, isfinite, isnan
from typing import Any

import numpy as np
from scipy.special import ndtri

from defsurvey.reports.analysis import Analysis, CellAnalysis
from defsurvey.reports.cells import Bools, Floats
from defsurvey.reports.charts.drawing import FLOOR, INK, LINE, SOFT, Chart, Row, room_for, shortened, width_beside
from defsurvey.reports.charts.rows import NATS, Frame, Mark, Scale, looks, reach, rows_axis, rows_chart
from defsurvey.reports.figures.words import (
    ENOUGH,
    LEVEL,
    RULE,
    NotRun,
    culture_names,
    dimension_fields,
    infinite_field,
    interval_entry,
    largest,
    main_cells,
    missing,
    named_cultures,
    per_dimension,
)
from defsurvey.reports.metrics.aggregate import Means, mean_known
from defsurvey.reports.metrics.intervals import Interval
from defsurvey.reports.number_format import NAMED, counted, fixed, listed, nats, signed
from defsurvey.reports.page import Entry, Field, Fold, Section, Table, table
from defsurvey.reports.untrusted import visible

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


_FIVE, _QUARTER, _MEDIAN, _THREE, _NINETY_FIVE = (QUANTILES.index(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95))


def mean_plots(analysis: Analysis, part: ByDimension) -> tuple[Chart, ...]:
    """Figure 5: means with intervals and floor; the dashed lines are the mean over all models, by culture."""
    high = reach(
        value
        for row in part.rows
        for values in (row.sound.tolist(), row.floor.tolist(), [interval.high for interval in row.intervals])
        for value in values
    )
    scale = Scale(title=NATS, high=high)
    rows = _labels(analysis)
    return tuple(
        rows_chart(
            _mean_marks(analysis, mine),
            Frame(
                name=f"dimensions-{place}",
                title=visible(model),
                description="Mean smoothed KL divergence by value dimension, with 95% intervals.",
                scale=scale,
                series=len(analysis.cultures),
                rows=tuple(rows.values()),
            ),
        )
        for place, (model, mine) in enumerate(_by_model(part).items())
    )


def spread_plots(analysis: Analysis, part: ByDimension) -> tuple[Chart, ...]:
    """Figure 6: quartiles and the 5th to 95th percentile of the divergence of a dimension's items."""
    scale = reach(
        value
        for row in part.rows
        for values in (row.sound_quantiles[:, _NINETY_FIVE].tolist(), row.floor.tolist())
        for value in values
    )
    return tuple(
        _spread_plot(analysis, visible(model), place, mine, scale)
        for place, (model, mine) in enumerate(_by_model(part).items())
    )


def _by_model(part: ByDimension) -> dict[str, list[DimensionRow]]:
    found: dict[str, list[DimensionRow]] = {}
    for row in part.rows:
        if any(isfinite(value) for value in row.sound.tolist()):
            found.setdefault(row.model, []).append(row)
    return found


def _labels(analysis: Analysis) -> dict[int, str]:
    """Place of each dimension that the run's items speak to -> how its row is called."""
    names = analysis.results.survey.dimensions
    order = list(names)
    return {order.index(code): dimension_label(code, names) for code in analysis.dimensions}


def dimension_label(code: str, names: Mapping[str, Mapping[str, str]]) -> str:
    """A dimension's name with its code."""
    name = names[code].get("en", "")
    return visible(f"{name[:1].upper()}{name[1:]} ({code})" if name and name != code else code)


def _mean_marks(analysis: Analysis, rows: Sequence[DimensionRow]) -> list[Mark]:
    cultures = [culture.culture.code for culture in analysis.cultures]
    names = {culture.culture.code: culture.name for culture in analysis.cultures}
    marks = []
    for row in rows:
        for place, label in _labels(analysis).items():
            value, floor, interval = float(row.sound[place]), float(row.floor[place]), row.intervals[place]
            if isfinite(value):
                between = f" ({nats(max(interval.low, 0))} to {nats(interval.high)})" if isfinite(interval.low) else ""
                marks.append(
                    Mark(
                        row=label,
                        value=value,
                        says=f"{names[row.culture]}, {label}: {nats(value)}{between}; as many people: {nats(floor)}",
                        series=cultures.index(row.culture),
                        low=max(interval.low, 0.0) if isfinite(interval.low) else interval.low,
                        high=interval.high,
                        floor=floor,
                    )
                )
    return marks


def _spread_plot(analysis: Analysis, model: str, place: int, rows: Sequence[DimensionRow], high: float) -> Chart:
    says = "Spread of the smoothed KL divergence of a dimension's items."
    drawn = partial(_drawn, analysis, rows, high)
    return Chart(name=f"spread-{place}", title=model, description=says, make=drawn)


def _drawn(analysis: Analysis, rows: Sequence[DimensionRow], high: float) -> Any:
    import altair as alt

    labels = list(_labels(analysis).values())
    series = [str(number) for number in range(len(analysis.cultures))]
    data = alt.InlineData(values=list(_boxes(analysis, rows)))
    common: dict[str, Any] = {
        "y": rows_axis(alt, shortened(labels), room_for(labels)),
        "yOffset": alt.YOffset("series:N", sort=series, scale=alt.Scale(domain=series, paddingInner=0.1)),
    }
    colour, shape = looks(alt, len(series))

    def x(field: str) -> Any:
        axis = alt.Axis(
            tickCount=5,
            gridColor=LINE,
            domain=False,
            ticks=False,
            labelColor=SOFT,
            titleColor=SOFT,
            titleFontWeight="normal",
        )
        return alt.X(f"{field}:Q", scale=alt.Scale(domain=[0, high], nice=False), axis=axis, title=NATS)

    base = alt.Chart(data)
    return alt.layer(
        base.mark_bar(color=FLOOR, aria=False).encode(x=x("floor"), **common),
        base.mark_rule(strokeWidth=1.5, aria=False).encode(x=x("low"), x2="high:Q", color=colour, **common),
        base.mark_bar(size=8, opacity=0.75).encode(
            x=x("quarter"), x2="three:Q", color=colour, description="says:N", **common
        ),
        base.mark_point(color=INK, filled=True, size=44, opacity=1, aria=False).encode(
            x=x("median"), shape=shape, **common
        ),
    ).properties(width=width_beside(room_for(labels)), height=alt.Step(max(13, 26 // len(series)), **{"for": "offset"}))


def _boxes(analysis: Analysis, rows: Sequence[DimensionRow]) -> list[Row]:
    cultures = [culture.culture.code for culture in analysis.cultures]
    names = {culture.culture.code: culture.name for culture in analysis.cultures}
    called, found = _labels(analysis), []
    cut = dict(zip(called, shortened(list(called.values())), strict=True))
    for row in rows:
        for place, label in called.items():
            quantiles = row.sound_quantiles[place].tolist()
            if isfinite(quantiles[_MEDIAN]):
                found.append(
                    {
                        "row": cut[place],
                        "series": str(cultures.index(row.culture)),
                        "floor": float(row.floor[place]),
                        "low": quantiles[_FIVE],
                        "quarter": quantiles[_QUARTER],
                        "median": quantiles[_MEDIAN],
                        "three": quantiles[_THREE],
                        "high": quantiles[_NINETY_FIVE],
                        "says": f"{names[row.culture]}, {label}: median {nats(quantiles[_MEDIAN])}, quartiles "
                        f"{nats(quantiles[_QUARTER])} and {nats(quantiles[_THREE])}, "
                        f"{counted(round(row.items[place]), 'item')}",
                    }
                )
    return found


def _mean_table(
    analysis: Analysis, fields: Sequence[Field[CellAnalysis]], *, anchor: str, caption: str, note: str
) -> Table:
    cultures = culture_names(analysis)
    return table(
        analysis.cells,
        [Field("Model", lambda cell: cell.name, words=True), *fields],
        anchor=anchor,
        caption=caption,
        group=lambda cell: cultures[cell.cell.culture],
        grouped_by="Culture",
        notes=(note,),
    )


def mean_table(analysis: Analysis) -> Table:
    """Smoothed KL by cell and dimension, the floor beneath each figure."""

    def why(cell: CellAnalysis) -> str:
        return "" if isfinite(cell.sound.headline) else cell.sound.reason

    fields: list[Field[CellAnalysis]] = [
        *dimension_fields(
            analysis,
            lambda cell: cell.sound.by_dimension,
            largest(cell.sound.by_dimension for cell in analysis.cells),
            lambda cell: cell.sound_floor.by_dimension,
        ),
        Field(
            "Mean",
            lambda cell: Entry(
                text=fixed(cell.sound.headline), beneath=fixed(cell.sound_floor.headline), why=why(cell)
            ),
            _weighed(analysis),
        ),
        Field("95% interval", _intervals, "for other participants; beneath, for other questions too"),
        Field(
            "Excess",
            lambda cell: Entry(text=signed(cell.excess), why=why(cell)),
            "mean less what equally many people would score",
        ),
        *_question_field(analysis, lambda cell: (cell.sound, cell.sound_floor)),
    ]
    return _mean_table(
        analysis,
        fields,
        anchor="table-smoothed",
        caption=f"Smoothed KL divergence from people{_by(analysis)} (nats; lower is closer)",
        note=(
            "The small figure beneath is the noise floor: what equally many real people would score. The upper "
            "interval is about these questions, the lower one about questions like these."
        ),
    )


def paper_mean_table(analysis: Analysis) -> Table:
    """Plug-in KL by the paper's rules, the floor of the same beneath each figure."""
    fields: list[Field[CellAnalysis]] = [
        *dimension_fields(
            analysis,
            lambda cell: cell.paper.by_dimension,
            largest(cell.paper.by_dimension for cell in analysis.cells),
            lambda cell: cell.paper_floor.by_dimension,
            lambda cell: cell.paper_values.reason,
        ),
        Field(
            "Mean",
            lambda cell: Entry(
                text=fixed(cell.paper.headline), beneath=fixed(cell.paper_floor.headline), why=cell.paper_reason
            ),
            _weighed(analysis),
        ),
        *_question_field(analysis, lambda cell: (cell.paper, cell.paper_floor)),
        infinite_field(lambda cell: cell.paper_values.infinite_share),
    ]
    return _mean_table(
        analysis,
        fields,
        anchor="table-plug-in",
        caption=f"The paper's way: plug-in KL divergence from people{_by(analysis)} (nats)",
        note=(
            "An infinite value counts as the largest finite one of its row, plus 1: where many are infinite, that rule "
            "makes the mean."
        ),
    )


def _by(analysis: Analysis) -> str:
    return ", by value dimension" if analysis.dimensions else ""


def _weighed(analysis: Analysis) -> str:
    """What the mean behind the headline is over: dimensions, or questions where none speaks to a dimension."""
    weighed = "dimension" if analysis.dimensions else "question"
    return f"over {weighed}s: every {weighed} weighs the same"


def _question_field(analysis: Analysis, of: Callable[[CellAnalysis], tuple[Means, Means]]) -> list[Field[CellAnalysis]]:
    """The mean over questions and its floor, where it is not the mean already."""

    def entry(cell: CellAnalysis) -> Entry:
        means, floor = of(cell)
        return Entry(text=fixed(means.question_mean), beneath=fixed(floor.question_mean))

    meaning = "mean over all questions: every question weighs the same"
    return [Field("By question", entry, meaning)] if analysis.dimensions else []


def _intervals(cell: CellAnalysis) -> Entry:
    """Over participants, and beneath over participants and questions."""
    narrow, wide = cell.interval, cell.intervals.two_way
    beneath = interval_entry(wide.low, wide.high, least=0.0).text if isfinite(wide.low) else ""
    return replace(interval_entry(narrow.low, narrow.high, least=0.0, reason=narrow.reason), beneath=beneath)


#: Most models drawn one by one in the open; of more, the rest are folded.
OPEN = 6


def mean_section(analysis: Analysis) -> Section:
    """Figure 5."""
    part = analysis.figure(by_dimension)
    section = Section(
        anchor="figure-5", contents="Fig. 5 · By dimension", title="Mean divergence by dimension", number="Fig. 5"
    )
    kinds = ["model", "culture", "dimension"] if analysis.dimensions else ["model", "culture"]
    paper = Fold(
        anchor="figure-5-paper",
        title=f"The paper's way: plug-in KL by {listed(kinds)}",
        tables=(paper_mean_table(analysis),),
    )
    if isinstance(part, NotRun):
        return replace(
            section,
            title="Mean divergence by model and culture",
            paragraphs=(f"By dimension it is not run: {part.reason}.",),
            tables=(mean_table(analysis),),
            folds=(paper,),
        )
    charts = mean_plots(analysis, part)
    return replace(
        section,
        title=_furthest(analysis, part),
        legend=tuple(culture.name for culture in analysis.cultures) if charts else (),
        charts=charts[:OPEN],
        chart_note="Shaded: the noise floor of each row. Lines: 95% intervals." if charts else "",
        tables=(mean_table(analysis),),
        folds=(*_more(charts, "figure-5-more"), paper),
    )


def _more(charts: tuple[Chart, ...], anchor: str) -> tuple[Fold, ...]:
    rest = charts[OPEN:]
    return (Fold(anchor=anchor, title=counted(len(rest), "more model"), charts=rest),) if rest else ()


def _furthest(analysis: Analysis, part: ByDimension) -> str:
    """In which culture answers lie further from people, dimension by dimension, floors taken off, beyond chance.

    Of models with answers enough in every culture compared: another would make further where it answered. A culture
    of which only models were asked that were asked in no other is not compared; the title says which ones are, then.
    """
    neutral = "Mean divergence by dimension"
    rows = _in_all([row for row in part.rows if row.comparable])
    cultures = [code for code in culture_names(analysis) if any(row.culture == code for row in rows)]
    if len(cultures) < 2:
        return neutral
    found = furthest([[row for row in rows if row.culture == code] for code in cultures])
    if found is None:
        return neutral
    place, count, dimensions = found
    named = [named_cultures(analysis)[code] for code in cultures]
    compared = listed(named) if len(named) <= NAMED else f"{len(named)} cultures"
    begin = "Furthest" if len(cultures) == len(analysis.cultures) else f"Of {compared}, furthest"
    return f"{begin} from people of {named[place]} on {count} of {dimensions} dimensions"


def _in_all(rows: Sequence[DimensionRow]) -> list[DimensionRow]:
    """The rows of models that have one in every culture that any model of several cultures has."""
    where: dict[str, set[str]] = {}
    for row in rows:
        where.setdefault(row.model, set()).add(row.culture)
    every = set().union(*(cultures for cultures in where.values() if len(cultures) > 1))
    return [row for row in rows if where[row.model] == every]


def spread_section(analysis: Analysis) -> Section:
    """Figure 6."""
    part = analysis.figure(by_dimension)
    section = Section(
        anchor="figure-6",
        contents="Fig. 6 · Spread",
        title="Spread of the divergence within a dimension",
        number="Fig. 6",
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    charts = spread_plots(analysis, part)
    return replace(
        section,
        title=_widest(analysis, part),
        legend=tuple(culture.name for culture in analysis.cultures) if charts else (),
        charts=charts[:OPEN],
        chart_note=(
            "Box: the middle half of a dimension's items; dark mark, in the culture's shape: their median; line: the "
            "5th to the 95th percentile. Shaded: the mean noise floor."
        )
        if charts
        else "",
        folds=(
            *_more(charts, "figure-6-more"),
            Fold(
                anchor="figure-6-quantiles",
                title="Quartiles as tables, the paper's way too",
                tables=tuple(_quartiles(analysis, part, paper=way) for way in (False, True)),
            ),
        ),
    )


def _widest(analysis: Analysis, part: ByDimension) -> str:
    lower, upper = QUANTILES.index(0.25), QUANTILES.index(0.75)
    names = analysis.results.survey.dimensions
    rows = [row for row in part.rows if row.comparable]
    if not rows:
        return "Spread of the divergence within a dimension"
    width = np.stack([row.sound_quantiles[:, upper] - row.sound_quantiles[:, lower] for row in rows])
    named = nameable([row.items for row in rows])
    means = dict(zip(names, np.where(named, mean_known(width.T), np.nan).tolist(), strict=True))
    known = sorted(((value, code) for code, value in means.items() if not isnan(value)), reverse=True)
    if len(known) < 2:
        return "Spread of the divergence within a dimension"
    (widest, most), (narrowest, least) = known[0], known[-1]
    return (
        f"Items differ most within {most} (their middle half spans {nats(widest)} nats on average), least within "
        f"{least} ({nats(narrowest)})"
    )


def _quartiles(analysis: Analysis, part: ByDimension, *, paper: bool) -> Table:
    names = culture_names(analysis)
    lower, middle, upper = (QUANTILES.index(q) for q in (0.25, 0.5, 0.75))
    reason = "no valid answer to an item of this dimension" + (", or no finite value at all" if paper else "")

    def at(place: int) -> Callable[[DimensionRow], Entry]:
        def entry(row: DimensionRow) -> Entry:
            found = (row.paper_quantiles if paper else row.sound_quantiles)[place]
            if not isfinite(found[middle]):
                return Entry(text=fixed(found[middle]), why=reason)
            return Entry(text=fixed(found[middle]), beneath=f"{fixed(found[lower])}–{fixed(found[upper])}")

        return entry

    fields: list[Field[DimensionRow]] = [
        Field("Model", lambda row: row.name, words=True),
        *per_dimension(analysis, at),
    ]
    if paper:
        meaning = "items of a dimension whose plug-in KL is infinite before the rule"
        fields.append(Field("Infinite", lambda row: f"{row.infinite.sum():.0f}", meaning))
    kind = "The paper's way: median of the plug-in" if paper else "Median of the smoothed"
    return table(
        [row for code in names for row in part.rows if row.culture == code],
        fields,
        anchor="figure-6-quartiles-plug-in" if paper else "figure-6-quartiles",
        caption=f"{kind} KL of a dimension's items, quartiles beneath (nats)",
        group=lambda row: names[row.culture],
        grouped_by="Culture",
        notes=(RULE,) if paper else (),
    )


#: Fewest items of a value dimension that a headline names.
OF_DIMENSION = 4


def apart(gap: float, errors: tuple[float, float], comparisons: int) -> bool:
    """Whether two means lie further apart than chance would put any two of those compared (Bonferroni).

    Args:
        gap: of the two means, at least 0.
        errors: standard error of each; nan: not known, and nothing is claimed.
        comparisons: pairs that might have been named.

    >>> apart(.3, (.1, .1), 1), apart(.3, (.1, .1), 36), apart(.3, (.1, float("nan")), 1)
    (True, False, False)
    """
    least = float(ndtri(1 - LEVEL / (2 * comparisons))) * hypot(*errors)
    return gap > least


def excess(rows: Sequence[DimensionRow]) -> tuple[Floats, Floats]:
    """Mean excess of some rows and its standard error, both of shape (D,); nan where a row has none, or no interval.

    An interval reaches 1.96 standard errors to both sides together; rows are of different participants.
    """
    width = np.array([[each.high - each.low for each in row.intervals] for row in rows])
    errors = width / (2 * float(ndtri(0.975)))
    means = mean_known(np.stack([row.sound - row.floor for row in rows], axis=-1))
    return means, np.asarray(np.sqrt((errors**2).sum(axis=0)) / len(rows), dtype=np.float64)


def nameable(items: Sequence[Floats]) -> Bools:
    """The value dimensions that a headline may name, shape (D,): with items enough in every row, and all together.

    Args:
        items: of each row, items with a value per dimension, shape (D,).
    """
    fewest = np.min(items, axis=0)
    named = fewest >= OF_DIMENSION
    return np.asarray(named & (fewest[named].sum() >= ENOUGH))


def furthest(by_culture: Sequence[Sequence[DimensionRow]]) -> tuple[int, int, int] | None:
    """Which culture's people answers lie furthest from on most dimensions, told apart by their intervals.

    Args:
        by_culture: the rows of each of the cultures compared.

    Returns:
        Position of the culture, on how many dimensions it is furthest, and of how many; None where no dimension tells
        cultures apart, or no culture leads.
    """
    found = [excess(rows) for rows in by_culture]
    means, errors = (np.stack(each) for each in zip(*found, strict=True))
    named = nameable([row.items for rows in by_culture for row in rows]) & ~np.isnan(means).any(axis=0)
    cultures, places = len(by_culture), np.flatnonzero(named).tolist()
    counts = np.zeros(cultures, dtype=np.int64)
    for place in places:
        *_, second, first = np.argsort(means[:, place], kind="stable").tolist()
        gap = float(means[first, place] - means[second, place])
        counts[first] += apart(gap, (errors[first, place], errors[second, place]), len(places) * comb(cultures, 2))
    if len(places) < 2 or counts.max() == 0 or (counts == counts.max()).sum() > 1:
        return None
    return int(counts.argmax()), int(counts.max()), len(places)
