"""Figures 11 and 12: whom the commonest answers resemble.

Says nothing of a handful of items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.rows import Frame, Mark, Scale, reach, rows_chart
from defsurvey.reports.figures.matching import ProfileCoverage, ProfileRow, Profiles, profiles
from defsurvey.reports.figures.words import ENOUGH, LEVEL, MODEL, NotRun, culture_names, missing, named_cultures
from defsurvey.reports.metrics.bias import AGES, GENDERS
from defsurvey.reports.metrics.quality import wilson_rate
from defsurvey.reports.number_format import NAMED, fixed, percent
from defsurvey.reports.page import Column, Entry, Fold, Section, Table, TableRow
from defsurvey.reports.untrusted import visible

_LINES = "Lines: 95% Wilson intervals, as if items were independent. Items whose commonest answer is not people's."
AGE_LABELS = tuple(age.replace("<=", "to ").replace("-", "–") for age in AGES)


def gender_section(analysis: Analysis) -> Section:
    """Figure 11."""
    part = analysis.figure(profiles)
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
        chart_note=f"Dashed: half. {_LINES}",
        tables=(_profile_table(analysis, part.sound, "figure-11-shares", gender=True),),
        folds=(_raw(analysis, part, "figure-11-paper", gender=True),),
    )


def _skewed(analysis: Analysis, rows: Sequence[ProfileRow]) -> str:
    """Who leans furthest, among those with items enough to say, and whether that is told from even.

    The furthest of several is held to the interval at the level that Bonferroni asks of so many.
    """
    enough = [row for row in rows if row.mismatching.gender_items >= ENOUGH]
    if not enough:
        return "Whose answers: too few mismatching items with a known sex to say"
    told = [row for row in enough if _told_from_even(row, len(enough))]
    skewed = max(told or enough, key=lambda row: (row.mismatching.gender.max(), row.mismatching.gender_items))
    share, items = float(skewed.mismatching.gender.max()), skewed.mismatching.gender_items
    who = ("men", "women")[int(skewed.mismatching.gender.argmax())]
    return (
        f"{'Furthest from even' if told else 'No lean to a sex is told; furthest from even'}: {skewed.name}, "
        f"{percent(share)} of whose {items} mismatching answers in {named_cultures(analysis)[skewed.culture]} are most "
        f"typical of {who} ({_between(share, items)})"
    )


def _told_from_even(row: ProfileRow, compared: int) -> bool:
    """Whether the interval of a row's larger share, at the level for so many rows, lies above half."""
    return _uncertain(float(row.mismatching.gender.max()), row.mismatching.gender_items, compared)[0] > 0.5


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


def _uncertain(share: float, items: int, compared: int = 1) -> tuple[float, float]:
    """Wilson's interval of a share of items, as if they were independent; of several together by Bonferroni."""
    rate = wilson_rate(share, float(items), count=round(share * items), n=items, level=1 - LEVEL / compared)
    return rate.low, rate.high


def _between(share: float, items: int) -> str:
    low, high = _uncertain(share, items)
    return f"95% interval {percent(low)} to {percent(high)}"


def age_section(analysis: Analysis) -> Section:
    """Figure 12."""
    part = analysis.figure(profiles)
    section = Section(anchor="figure-12", contents="Fig. 12 · Age", title="Whose answers: age groups", number="Fig. 12")
    if isinstance(part, NotRun):
        return missing(section, part)
    rows = [row for row in part.sound if isfinite(row.mismatching.age[0])]
    if not rows:
        return missing(section, NotRun(reason="no mismatching item has a reference for all three age groups"))
    return replace(
        section,
        title=_ages(analysis, rows),
        paragraphs=(_explained(), *_coverage(analysis, part.coverage)),
        legend=AGE_LABELS,
        charts=_age_charts(analysis, rows),
        chart_note=f"Dashed: a third. {_LINES}",
        tables=(_profile_table(analysis, part.sound, "figure-12-shares", gender=False),),
        folds=(_raw(analysis, part, "figure-12-paper", gender=False),),
    )


def _ages(analysis: Analysis, rows: Sequence[ProfileRow]) -> str:
    """The age that most items of a culture's models are typical of, where there are enough to say."""
    enough = [row for row in rows if row.mismatching.age_items >= ENOUGH]
    if not enough:
        return "Whose answers: too few mismatching items with known ages to say"
    clauses, commonest = [], []
    for code, name in named_cultures(analysis).items():
        mine = [row for row in enough if row.culture == code]
        if mine:
            means = np.average(
                [row.mismatching.age for row in mine], axis=0, weights=[row.mismatching.age_items for row in mine]
            )
            most, items = int(means.argmax()), sum(row.mismatching.age_items for row in mine)
            share, models = float(means[most]), f"{len(mine)} models"
            commonest.append(most)
            clauses.append(
                f"{percent(share)} of {items} in {name} are most typical of people {_spoken(most)} "
                f"({_between(share, items) if len(mine) == 1 else models})"
            )
    if len(clauses) <= NAMED:
        return f"Mismatching answers: {'; '.join(clauses)}"
    age = max(dict.fromkeys(commonest), key=commonest.count)
    count = f"{commonest.count(age)} of {len(clauses)} cultures"
    return f"Mismatching answers are most often typical of people {_spoken(age)} in {count}"


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
