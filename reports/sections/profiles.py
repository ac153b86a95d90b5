"""Figures 11 and 12: whom the commonest answers resemble.

Knows profiles by sex and age, and how far the references cover them. Says nothing of a handful of items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

import numpy as np

from reports.analysis import Analysis
from reports.charts.drawing import Chart
from reports.charts.rows import Frame, Mark, Scale, reach, rows_chart
from reports.figures import fixed, percent
from reports.finding import ENOUGH
from reports.matching import ProfileCoverage, ProfileRow, Profiles
from reports.metrics.bias import AGES, GENDERS
from reports.metrics.quality import wilson_rate
from reports.page import Column, Entry, Fold, Section, Table, TableRow
from reports.parts import NotRun
from reports.sections.words import (
    MODEL,
    culture_names,
    missing,
    named_cultures,
)
from reports.untrusted import visible

AGE_LABELS = tuple(age.replace("<=", "to ").replace("-", "–") for age in AGES)


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
    return replace(
        section,
        title=_skewed(analysis, rows),
        paragraphs=(_explained(), *_coverage(analysis, part.coverage)),
        charts=_gender_charts(analysis, rows),
        chart_note="Dashed: half. Lines: 95% Wilson intervals. Items whose commonest answer is not people's.",
        tables=(_profile_table(analysis, part.sound, "figure-11-shares", gender=True),),
        folds=(_raw(analysis, part, "figure-11-paper", gender=True),),
    )


def _skewed(analysis: Analysis, rows: Sequence[ProfileRow]) -> str:
    """Who leans furthest, among those with items enough to say."""
    enough = [row for row in rows if row.mismatching.gender_items >= ENOUGH]
    if not enough:
        return "Whose answers: too few mismatching items with a known sex to say"
    skewed = max(enough, key=lambda row: abs(float(row.mismatching.gender[0]) - 0.5))
    men = float(skewed.mismatching.gender[0])
    if men == 0.5:
        return "Mismatching answers are as often most typical of women as of men"
    who, share = ("men", men) if men > 0.5 else ("women", 1 - men)
    return (
        f"Furthest from even: {skewed.name}, {percent(share)} of whose mismatching answers in "
        f"{named_cultures(analysis)[skewed.culture]} are most typical of {who}"
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
        text = f"{names[each.culture]}: of {each.items} items both sexes are known for {each.genders}, all ages for"
        text += f" {each.ages}"
        if each.dimensions:
            text += f", none in {', '.join(each.dimensions)}"
        if each.low_n:
            text += f"; too few people stand behind {each.low_n}"
        said.append(text + ".")
    return tuple(said)


def _gender_charts(analysis: Analysis, rows: Sequence[ProfileRow]) -> tuple[Chart, ...]:
    charts = []
    for place, culture in enumerate(analysis.cultures):
        marks = [
            Mark(
                row=visible(row.name),
                value=float(row.mismatching.gender[0]),
                low=_uncertain(float(row.mismatching.gender[0]), row.mismatching.gender_items)[0],
                high=_uncertain(float(row.mismatching.gender[0]), row.mismatching.gender_items)[1],
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


def _uncertain(share: float, items: int) -> tuple[float, float]:
    """Wilson's interval of a share of items, as if they were independent."""
    rate = wilson_rate(share, float(items), count=round(share * items), n=items)
    return rate.low, rate.high


def age_section(analysis: Analysis) -> Section:
    """Figure 12."""
    part = analysis.parts.profiles
    section = Section(anchor="figure-12", contents="Fig. 12 · Age", title="Whose answers: age groups", number="Fig. 12")
    if isinstance(part, NotRun):
        return missing(section, part)
    rows = [row for row in part.sound if isfinite(row.mismatching.age[0])]
    if not rows:
        return missing(section, NotRun(reason="no mismatching item has a reference for all three age groups"))
    return replace(
        section,
        title=_oldest(rows),
        paragraphs=(_explained(), *_coverage(analysis, part.coverage)),
        legend=AGE_LABELS,
        charts=_age_charts(analysis, rows),
        chart_note="Dashed: a third. Lines: 95% Wilson intervals. Items whose commonest answer is not people's.",
        tables=(_profile_table(analysis, part.sound, "figure-12-shares", gender=False),),
        folds=(_raw(analysis, part, "figure-12-paper", gender=False),),
    )


def _oldest(rows: Sequence[ProfileRow]) -> str:
    """The age that most items of all models are typical of, where there are enough to say."""
    enough = [row for row in rows if row.mismatching.age_items >= ENOUGH]
    if not enough:
        return "Whose answers: too few mismatching items with known ages to say"
    weights = np.array([row.mismatching.age_items for row in enough], dtype=np.float64)
    means = np.average([row.mismatching.age for row in enough], axis=0, weights=weights)
    most = int(means.argmax())
    return f"Mismatching answers are most often typical of people {_spoken(most)}: {percent(float(means[most]))}"


def _spoken(age: int) -> str:
    return ("up to 29", "from 30 to 49", "of 50 and more")[age]


def _age_charts(analysis: Analysis, rows: Sequence[ProfileRow]) -> tuple[Chart, ...]:
    charts = []
    high = reach(
        _uncertain(float(value), row.mismatching.age_items)[1] for row in rows for value in row.mismatching.age
    )
    for place, culture in enumerate(analysis.cultures):
        marks = [
            Mark(
                row=visible(row.name),
                value=float(value),
                low=_uncertain(float(value), row.mismatching.age_items)[0],
                high=_uncertain(float(value), row.mismatching.age_items)[1],
                series=age,
                says=f"{visible(row.name)}, {AGE_LABELS[age]}: {percent(float(value))}",
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
    groups = GENDERS if gender else AGE_LABELS
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
            Column(text="Items, mismatch", meaning="mismatching items with such a reference"),
            *(Column(text=f"Match, {group}") for group in groups),
            Column(text="Items, match", meaning="matching items with such a reference"),
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
