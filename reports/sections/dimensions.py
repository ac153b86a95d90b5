"""Figures 5 and 6: divergence dimension by dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite, isnan

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.charts.dimensions import mean_plots, spread_plots
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.extremes import furthest, nameable
from defsurvey.reports.figures.by_dimension import QUANTILES, ByDimension, DimensionRow, by_dimension
from defsurvey.reports.figures.parts import NotRun
from defsurvey.reports.figures.words import (
    MODEL,
    RULE,
    culture_names,
    dimension_columns,
    listed,
    missing,
    named_cultures,
    places,
)
from defsurvey.reports.finding import NAMED
from defsurvey.reports.metrics.aggregate import mean_known
from defsurvey.reports.number_format import counted, fixed, nats
from defsurvey.reports.page import Column, Entry, Fold, Section, Table, TableRow
from defsurvey.reports.sections.means import mean_table, paper_mean_table

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
    rows, reason = [], "no valid answer to an item of this dimension" + (", or no finite value at all" if paper else "")
    for code, name in names.items():
        for row in (row for row in part.rows if row.culture == code):
            entries = []
            for place in places(analysis):
                quartiles = (row.paper_quantiles if paper else row.sound_quantiles)[place]
                known = isfinite(quartiles[middle])
                entries.append(
                    Entry(
                        text=fixed(quartiles[middle]),
                        beneath=f"{fixed(quartiles[lower])}–{fixed(quartiles[upper])}" if known else "",
                        why="" if known else reason,
                    )
                )
            if paper:
                entries.append(Entry(text=f"{row.infinite.sum():.0f}"))
            rows.append(TableRow(head=Entry(text=row.name), group=name, entries=tuple(entries)))
    kind = "The paper's way: median of the plug-in" if paper else "Median of the smoothed"
    infinite = Column(text="Infinite", meaning="items of a dimension whose plug-in KL is infinite before the rule")
    return Table(
        anchor="figure-6-quartiles-plug-in" if paper else "figure-6-quartiles",
        caption=f"{kind} KL of a dimension's items, quartiles beneath (nats)",
        grouped_by="Culture",
        columns=(MODEL, *dimension_columns(analysis), *([infinite] if paper else [])),
        rows=tuple(rows),
        notes=(RULE,) if paper else (),
    )
