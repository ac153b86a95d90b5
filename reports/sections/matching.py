"""Figure 8 and the rank by matching: on which items the commonest answer is people's.

Knows matching items and what chance would match.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite, isnan

import numpy as np

from reports.analysis import Analysis
from reports.charts.drawing import Chart
from reports.charts.rows import Frame, Mark, Scale, rows_chart
from reports.figures import NONE, fixed, percent
from reports.matching import MatchingRow
from reports.page import Column, Entry, Section, Table, TableRow
from reports.parts import NotRun
from reports.sections.words import (
    MODEL,
    chance,
    culture_names,
    dimension_columns,
    missing,
    named_cultures,
    places,
)
from reports.untrusted import visible


def matching_section(analysis: Analysis) -> Section:
    """Figure 8."""
    rows = [row for row in analysis.parts.matching.rows if isfinite(row.matching.share)]
    section = Section(
        anchor="figure-8", contents="Fig. 8 · Matching", title="Commonest answers that match people's", number="Fig. 8"
    )
    if not rows:
        return missing(section, NotRun(reason="no valid answer meets a reference distribution"))
    low, high = min(row.matching.share for row in rows), max(row.matching.share for row in rows)
    expected = float(np.mean([row.matching.expected for row in rows]))
    span = percent(low) if low == high else f"{percent(low)} to {percent(high)}"
    return replace(
        section,
        title=f"The commonest answer is people's on {span} of items; at random it would be on {percent(expected)}",
        charts=_charts(analysis, rows),
        chart_note="Dark ticks: the share that as many answers at random would match.",
        tables=(_table(analysis, analysis.parts.matching.rows),),
    )


def _charts(analysis: Analysis, rows: Sequence[MatchingRow]) -> tuple[Chart, ...]:
    charts = []
    for place, culture in enumerate(analysis.cultures):
        mine = [row for row in rows if row.culture == culture.culture.code]
        marks = [
            Mark(
                row=visible(row.name),
                value=row.matching.share,
                expected=row.matching.expected,
                says=f"{visible(row.name)}: {percent(row.matching.share)} of {row.matching.items} items; "
                f"at random {percent(row.matching.expected)}",
            )
            for row in sorted(mine, key=lambda row: -row.matching.share)
        ]
        if marks:
            charts.append(
                rows_chart(
                    marks,
                    Frame(
                        name=f"matching-{place}",
                        title=f"Matching items: {culture.name}",
                        description="Share of items on which the model's commonest answer is people's.",
                        scale=Scale(title="share of items that match", percent=True),
                        first=place,
                    ),
                )
            )
    return tuple(charts)


def _table(analysis: Analysis, rows: Sequence[MatchingRow]) -> Table:
    names = culture_names(analysis)
    return Table(
        anchor="figure-8-dimensions",
        caption="Share of matching items by dimension; beneath, at random",
        grouped_by="Culture",
        columns=(
            MODEL,
            *dimension_columns(analysis),
            Column(text="All", meaning="all items, also those that speak to no dimension"),
            Column(text="Items"),
            Column(text="Few people", meaning="items whose reference rests on too few people"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=row.name),
                group=name,
                entries=(
                    *(
                        Entry(
                            text=percent(row.by_dimension[place]),
                            beneath=percent(row.chance_by_dimension[place]),
                            shade=None if isnan(row.by_dimension[place]) else float(row.by_dimension[place]),
                        )
                        for place in places(analysis)
                    ),
                    Entry(text=percent(row.matching.share), beneath=percent(row.matching.expected)),
                    Entry(text=str(row.matching.items)),
                    Entry(text=str(row.matching.low_n)),
                ),
            )
            for code, name in names.items()
            for row in rows
            if row.culture == code
        ),
    )


def rank_section(analysis: Analysis) -> Section:
    """The rank by matching against the rank by divergence."""
    part = analysis.parts.rank_agreement
    section = Section(
        anchor="ranks",
        contents="Sec. 5.2.4 · Ranks",
        title="Rank by matching against rank by divergence",
        number="Section 5.2.4",
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    names = culture_names(analysis)
    said = [f"{fixed(each.rho, 2).replace('-', '−')} in {named_cultures(analysis)[each.culture]}" for each in part]
    return replace(
        section,
        title=f"Rank by matching follows rank by divergence with a correlation of {', '.join(said)}",
        tables=tuple(
            Table(
                anchor=f"ranks-{each.culture}",
                caption=f"Ranks, {names[each.culture]}",
                columns=(MODEL, Column(text="By divergence"), Column(text="By matching")),
                rows=tuple(
                    TableRow(head=Entry(text=model), entries=(Entry(text=_rank(one)), Entry(text=_rank(two))))
                    for model, one, two in zip(each.models, each.divergence_rank, each.matching_rank, strict=True)
                ),
                notes=(f"Spearman's correlation {fixed(each.rho, 2)}, p {chance(each.p)} by permutation.",),
            )
            for each in part
        ),
        side_by_side=True,
    )


def _rank(rank: float) -> str:
    return NONE if isnan(rank) else f"{rank:g}"
