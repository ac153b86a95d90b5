"""Figures 8, 11 and 12, Appendix G, and the rank by matching: whom the commonest answers resemble.

Knows matching items, and profiles by sex and age with their coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite, isnan

import numpy as np

from reports.analysis import Analysis
from reports.charts.drawing import Chart
from reports.charts.rows import Frame, Mark, Scale, reach, rows_chart
from reports.figures import NONE, fixed, percent
from reports.matching import MatchingRow, ProfileCoverage, ProfileRow, Profiles
from reports.metrics.bias import AGES, GENDERS
from reports.page import Column, Entry, Fold, Section, Table, TableRow
from reports.parts import NotRun
from reports.sections.words import (
    MODEL,
    chance,
    culture_names,
    dimension_columns,
    largest,
    missing,
    named_cultures,
    places,
)
from reports.untrusted import visible

_AGES = tuple(age.replace("<=", "to ").replace("-", "–") for age in AGES)


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


def gender_section(analysis: Analysis) -> Section:
    """Figure 11."""
    part = analysis.parts.profiles
    section = Section(
        anchor="figure-11", contents="Fig. 11 · Gender", title="Whose answers: women and men", number="Fig. 11"
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    known = {each.culture for each in part.coverage if each.genders}
    rows = [row for row in part.sound if row.culture in known and isfinite(row.mismatching.gender[0])]
    if not rows:
        return missing(section, NotRun(reason="no mismatching item has a reference for women and men"))
    skewed = max(rows, key=lambda row: abs(float(row.mismatching.gender[0]) - 0.5))
    men = float(skewed.mismatching.gender[0])
    who, share = ("men", men) if men > 0.5 else ("women", 1 - men)
    return replace(
        section,
        title=f"Furthest from even: {skewed.name}, whose mismatching answers are {percent(share)} typical of {who}",
        paragraphs=(_explained(), *_coverage(analysis, part.coverage)),
        charts=_gender_charts(analysis, rows),
        chart_note="Dashed: half. Items where the model's commonest answer is not people's.",
        tables=(_profile_table(analysis, part.sound, "figure-11-shares", gender=True),),
        folds=(_raw(analysis, part, "figure-11-paper", gender=True),),
    )


def _explained() -> str:
    return (
        "An answer is most typical of the group that gives it with the largest share; ties are split. The paper counts "
        "people instead, which favours whatever group is larger: that is folded below."
    )


def _coverage(analysis: Analysis, coverage: Sequence[ProfileCoverage]) -> tuple[str, ...]:
    names = culture_names(analysis)
    said = []
    for each in coverage:
        text = f"{names[each.culture]}: of {each.items} items, {each.genders} have both sexes and {each.ages} all ages"
        if each.dimensions:
            text += f", none in {', '.join(each.dimensions)}"
        if each.low_n:
            text += f"; {each.low_n} rest on too few people"
        said.append(text + ".")
    return tuple(said)


def _gender_charts(analysis: Analysis, rows: Sequence[ProfileRow]) -> tuple[Chart, ...]:
    charts = []
    for place, culture in enumerate(analysis.cultures):
        marks = [
            Mark(
                row=visible(row.name),
                value=float(row.mismatching.gender[0]),
                says=f"{visible(row.name)}: {percent(float(row.mismatching.gender[0]))} typical of men, "
                f"{row.mismatching.gender_items} items",
            )
            for row in rows
            if row.culture == culture.culture.code
        ]
        if marks:
            charts.append(
                rows_chart(
                    marks,
                    Frame(
                        name=f"gender-{place}",
                        title=f"Mismatching answers: {culture.name}",
                        description="Share of mismatching items whose answer is most typical of men.",
                        scale=Scale(title="share most typical of men; left: of women", percent=True),
                        first=place,
                        rules=(0.5,),
                    ),
                )
            )
    return tuple(charts)


def age_section(analysis: Analysis) -> Section:
    """Figure 12."""
    part = analysis.parts.profiles
    section = Section(anchor="figure-12", contents="Fig. 12 · Age", title="Whose answers: age groups", number="Fig. 12")
    if isinstance(part, NotRun):
        return missing(section, part)
    rows = [row for row in part.sound if isfinite(row.mismatching.age[0])]
    if not rows:
        return missing(section, NotRun(reason="no mismatching item has a reference for all three age groups"))
    means = np.mean([row.mismatching.age for row in rows], axis=0)
    most = int(means.argmax())
    return replace(
        section,
        title=f"Mismatching answers are most often typical of people {_spoken(most)}: {percent(float(means[most]))}",
        paragraphs=(_explained(), *_coverage(analysis, part.coverage)),
        legend=_AGES,
        charts=_age_charts(analysis, rows),
        chart_note="Dashed: a third. Items where the model's commonest answer is not people's.",
        tables=(_profile_table(analysis, part.sound, "figure-12-shares", gender=False),),
        folds=(_raw(analysis, part, "figure-12-paper", gender=False),),
    )


def _spoken(age: int) -> str:
    return ("up to 29", "from 30 to 49", "of 50 and more")[age]


def _age_charts(analysis: Analysis, rows: Sequence[ProfileRow]) -> tuple[Chart, ...]:
    charts = []
    high = reach(float(value) for row in rows for value in row.mismatching.age)
    for place, culture in enumerate(analysis.cultures):
        marks = [
            Mark(
                row=visible(row.name),
                value=float(value),
                series=age,
                says=f"{visible(row.name)}, {_AGES[age]}: {percent(float(value))}",
            )
            for row in rows
            if row.culture == culture.culture.code
            for age, value in enumerate(row.mismatching.age)
        ]
        if marks:
            charts.append(
                rows_chart(
                    marks,
                    Frame(
                        name=f"age-{place}",
                        title=f"Mismatching answers: {culture.name}",
                        description="Share of mismatching items whose answer is most typical of each age group.",
                        scale=Scale(title="share most typical of the age group", high=min(high, 1.0), percent=True),
                        series=len(AGES),
                        rules=(1 / 3,),
                    ),
                )
            )
    return tuple(charts)


def _profile_table(analysis: Analysis, rows: Sequence[ProfileRow], anchor: str, *, gender: bool) -> Table:
    names = culture_names(analysis)
    groups = GENDERS if gender else _AGES
    shown = []
    for code, name in names.items():
        for row in (row for row in rows if row.culture == code):
            entries: list[Entry] = []
            for shares in (row.mismatching, row.matching):
                values = shares.gender if gender else shares.age
                items = shares.gender_items if gender else shares.age_items
                entries += [Entry(text=percent(float(value))) for value in values]
                entries.append(Entry(text=f"{items} of {shares.items}"))
            lifts = row.lift[: len(GENDERS)] if gender else row.lift[len(GENDERS) :]
            entries += [Entry(text=fixed(float(value), 2)) for value in lifts]
            shown.append(TableRow(head=Entry(text=row.name), group=name, entries=tuple(entries)))
    return Table(
        anchor=anchor,
        caption=f"Shares of items by {'sex' if gender else 'age'} whose answer it is most typical of",
        grouped_by="Culture",
        columns=(
            MODEL,
            *(Column(text=f"Mismatch, {group}") for group in groups),
            Column(text="Items", meaning="mismatching items with such a reference"),
            *(Column(text=f"Match, {group}") for group in groups),
            Column(text="Items", meaning="matching items with such a reference"),
            *(
                Column(text=f"Lift, {group}", meaning="share in the group over share of all, mismatches")
                for group in groups
            ),
        ),
        rows=tuple(shown),
    )


def _raw(analysis: Analysis, part: Profiles, anchor: str, *, gender: bool) -> Fold:
    return Fold(
        anchor=anchor,
        title="The paper's way: by counts of people",
        paragraphs=("A larger group has more people behind every answer: shares lean towards it by that alone.",),
        tables=(_profile_table(analysis, part.paper, f"{anchor}-shares", gender=gender),),
    )


def heatmap_section(analysis: Analysis) -> Section:
    """Appendix G."""
    part = analysis.parts.profiles
    section = Section(
        anchor="appendix-g",
        contents="App. G · Mismatches",
        title="Mismatching items by dimension, sex and age",
        number="Appendix G",
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    names = culture_names(analysis)
    folds = []
    for code, name in names.items():
        rows = [row for row in part.sound if row.culture == code]
        if any(row.tensor.any() for row in rows):
            folds.append(
                Fold(
                    anchor=f"appendix-g-{code}",
                    title=f"{name}, model by model",
                    tables=(_heatmap(analysis, rows, code),),
                )
            )
    if not folds:
        return missing(section, NotRun(reason="no mismatching item has a reference for sexes and ages"))
    return replace(
        section,
        paragraphs=(
            (
                "How many mismatching items fall to each group, an item split where its profile is; items without a "
                "known sex or age are left out."
            ),
        ),
        folds=tuple(folds),
    )


def _heatmap(analysis: Analysis, rows: Sequence[ProfileRow], code: str) -> Table:
    most = largest(row.tensor for row in rows)
    order = list(analysis.results.survey.dimensions)
    return Table(
        anchor=f"appendix-g-table-{code}",
        caption=f"Mismatching items, {culture_names(analysis)[code]}",
        grouped_by="Model",
        columns=(
            Column(text="Dimension", words=True),
            *(Column(text=f"{sex}, {age}") for sex in GENDERS for age in _AGES),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=order[place]),
                group=row.name,
                entries=tuple(
                    Entry(
                        text=f"{value:.1f}".removesuffix(".0") if value else "", shade=value / most if value else None
                    )
                    for value in row.tensor[place].ravel().tolist()
                ),
            )
            for row in rows
            for place in places(analysis)
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
