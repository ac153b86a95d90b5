"""Whose answers a model gives where they are people's or not: Figures 11 and 12, and Appendix G."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, CultureAnalysis
from defsurvey.reports.cells import Floats, ReferenceTable, reference_table
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.rows import Frame, Mark, Scale, reach
from defsurvey.reports.figures.matching import matching_figure
from defsurvey.reports.figures.words import (
    ENOUGH,
    LEVEL,
    NotRun,
    culture_charts,
    culture_names,
    culture_table,
    largest,
    main_cells,
    missing,
    named_cultures,
    places,
)
from defsurvey.reports.metrics.bias import (
    AGES,
    GENDERS,
    Profile,
    ProfileShares,
    mismatch_tensor,
    profile,
    profile_shares,
)
from defsurvey.reports.metrics.quality import wilson_rate
from defsurvey.reports.number_format import NAMED, fixed, percent
from defsurvey.reports.page import Entry, Field, Fold, Section, Table, table
from defsurvey.reports.untrusted import visible
from defsurvey.storage.surveys.survey import Group

#: The groups of a profile, in the order of every group axis.
GROUPS = (Group.MALE, Group.FEMALE, Group.AGE_LE29, Group.AGE_30_49, Group.AGE_50PLUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRow:
    """Figures 11 and 12, Appendix G: one model in one culture, one way of measuring."""

    name: str
    model: str
    culture: str
    matching: ProfileShares  #: of the matching items
    mismatching: ProfileShares
    tensor: Floats  #: mismatching items by dimension, sex and age, shape (D, 2, 3)
    lift: Floats  #: of the mismatching items, mean per group, shape (5,): how much more typical than of all people


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileCoverage:
    """How far a culture's references name groups."""

    culture: str
    items: int  #: with a reference
    genders: int  #: of them, with both sexes
    ages: int  #: with all three ages
    low_n: int  #: of those with any group, resting on too few people
    dimensions: tuple[str, ...]  #: without a single item that has sexes and ages


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """Figures 11 and 12 and Appendix G."""

    coverage: tuple[ProfileCoverage, ...]
    sound: tuple[ProfileRow, ...]  #: by P(option | group)
    paper: tuple[ProfileRow, ...]  #: by raw counts of people


def profiles(analysis: Analysis) -> Profiles | NotRun:
    """Figures 11 and 12 and Appendix G, over the items whose groups are known."""
    groups = {
        culture.culture.code: tuple(
            reference_table(analysis.results.survey, analysis.items, culture.culture.code, group) for group in GROUPS
        )
        for culture in analysis.cultures
    }
    coverage = tuple(_coverage(analysis, culture, groups[culture.culture.code]) for culture in analysis.cultures)
    if not any(known.genders or known.ages for known in coverage):
        return NotRun(reason="no reference of this survey tells the sexes or ages apart")
    sound: list[ProfileRow] = []
    paper: list[ProfileRow] = []
    for cell, row in zip(main_cells(analysis), analysis.figure(matching_figure).rows, strict=True):
        culture = next(each for each in analysis.cultures if each.culture.code == cell.cell.culture)
        tables = groups[cell.cell.culture]
        for raw, rows in ((False, sound), (True, paper)):
            found = profile(
                cell.counts,
                culture.reference.shares,
                np.stack([table.shares for table in tables]),
                np.stack([table.asked for table in tables]),
                np.stack([table.low_n for table in tables]),
                raw_counts=raw,
            )
            rows.append(_profile_row(analysis, cell, row.matching.match, found))
    return Profiles(coverage=coverage, sound=tuple(sound), paper=tuple(paper))


def _profile_row(analysis: Analysis, cell: CellAnalysis, match: Floats, found: Profile) -> ProfileRow:
    grouping = analysis.items.grouping
    lifts = found.lift[match == 0]
    known = ~np.isnan(lifts)
    total, count = np.where(known, lifts, 0.0).sum(axis=0), known.sum(axis=0)
    return ProfileRow(
        name=cell.name,
        model=cell.cell.model,
        culture=cell.cell.culture,
        matching=profile_shares(found, match == 1),
        mismatching=profile_shares(found, match == 0),
        tensor=mismatch_tensor(found, match, grouping.dimension, grouping.dimensions),
        lift=np.divide(total, count, out=np.full(len(GROUPS), np.nan), where=count > 0),
    )


def _coverage(analysis: Analysis, culture: CultureAnalysis, tables: tuple[ReferenceTable, ...]) -> ProfileCoverage:
    known = np.stack([~np.isnan(table.n) for table in tables])
    sexes, ages = known[:2].all(axis=0), known[2:].all(axis=0)
    low = np.stack([table.low_n for table in tables]).any(axis=0)
    dimension = analysis.items.grouping.dimension
    spoken, covered = set(dimension.tolist()) - {-1}, set(dimension[sexes & ages].tolist())
    return ProfileCoverage(
        culture=culture.culture.code,
        items=int((~np.isnan(culture.reference.n)).sum()),
        genders=int(sexes.sum()),
        ages=int(ages.sum()),
        low_n=int((low & known.any(axis=0)).sum()),
        dimensions=tuple(
            code
            for place, code in enumerate(analysis.results.survey.dimensions)
            if place in spoken and place not in covered
        ),
    )


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
        paragraphs=(_explained(), *_covered(analysis, part.coverage)),
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


def _covered(analysis: Analysis, coverage: Sequence[ProfileCoverage]) -> tuple[str, ...]:
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
    def marks(culture: str) -> list[Mark]:
        found = []
        for row in (row for row in rows if row.culture == culture):
            men, items = float(row.mismatching.gender[0]), row.mismatching.gender_items
            low, high = _uncertain(men, items)
            says = f"{visible(row.name)}: {percent(men)} typical of men, {items} items"
            found.append(Mark(row=visible(row.name), value=men, low=low, high=high, says=says))
        return found

    return culture_charts(
        analysis,
        marks,
        lambda place, culture: Frame(
            name=f"gender-{place}",
            title=f"Mismatching answers: {culture.name}",
            description="Share of mismatching items whose answer is most typical of men.",
            scale=Scale(title="share most typical of men; left: of women", percent=True),
            first=place,
            rules=(0.5,),
        ),
    )


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
        paragraphs=(_explained(), *_covered(analysis, part.coverage)),
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
    most = reach(
        _uncertain(float(value), row.mismatching.age_items)[1] for row in rows for value in row.mismatching.age
    )

    def marks(culture: str) -> list[Mark]:
        found = []
        for row in (row for row in rows if row.culture == culture):
            for age, value in enumerate(row.mismatching.age.tolist()):
                low, high = _uncertain(value, row.mismatching.age_items)
                says = f"{visible(row.name)}, {AGE_LABELS[age]}: {percent(value)}"
                found.append(Mark(row=visible(row.name), value=value, low=low, high=high, series=age, says=says))
        return found

    return culture_charts(
        analysis,
        marks,
        lambda place, culture: Frame(
            name=f"age-{place}",
            title=f"Mismatching answers: {culture.name}",
            description="Share of mismatching items whose answer is most typical of each age group.",
            scale=Scale(title="share most typical of the age group", high=min(most, 1.0), percent=True),
            series=len(AGES),
            rules=(1 / 3,),
        ),
    )


def _profile_table(analysis: Analysis, rows: Sequence[ProfileRow], anchor: str, *, gender: bool) -> Table:
    fields: list[Field[ProfileRow]] = [Field("Model", lambda row: row.name, words=True)]
    groups = GENDERS if gender else AGE_LABELS

    def share(matching: bool, place: int) -> Callable[[ProfileRow], str]:
        return lambda row: percent(float(_shares(row, matching, gender)[0][place]))

    def items(matching: bool) -> Callable[[ProfileRow], str]:
        return lambda row: "{1} of {2}".format(*_shares(row, matching, gender))

    def lift(place: int) -> Callable[[ProfileRow], str]:
        return lambda row: fixed(float(row.lift[place]), 2)

    for matching, name in ((False, "Mismatch"), (True, "Match")):
        fields += [Field(f"{name}, {group}", share(matching, place)) for place, group in enumerate(groups)]
        fields.append(
            Field(f"Items, {name.lower()}", items(matching), f"{name.lower()}ing items with such a reference")
        )
    fields += [
        Field(f"Lift, {group}", lift(place), "share in the group over share of all, mismatches")
        for place, group in enumerate(groups, start=0 if gender else len(GENDERS))
    ]
    return culture_table(
        analysis,
        rows,
        fields,
        anchor=anchor,
        caption=f"Shares of items by {'sex' if gender else 'age'} whose answer it is most typical of",
    )


def _shares(row: ProfileRow, matching: bool, gender: bool) -> tuple[Floats, int, int]:
    """The shares of sexes or ages, of how many items, of how many in all."""
    found = row.matching if matching else row.mismatching
    return (found.gender, found.gender_items, found.items) if gender else (found.age, found.age_items, found.items)


def _raw(analysis: Analysis, part: Profiles, anchor: str, *, gender: bool) -> Fold:
    return Fold(
        anchor=anchor,
        title="The paper's way: by counts of people",
        paragraphs=("A larger group has more people behind every answer: shares lean towards it by that alone.",),
        tables=(_profile_table(analysis, part.paper, f"{anchor}-shares", gender=gender),),
    )


def heatmap_section(analysis: Analysis) -> Section:
    """Appendix G."""
    part = analysis.figure(profiles)
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
        sound, paper = ([row for row in rows if row.culture == code] for rows in (part.sound, part.paper))
        if any(row.tensor.any() for row in sound):
            tables = [_heatmap(analysis, sound, code)]
            if any(not np.array_equal(one.tensor, other.tensor) for one, other in zip(sound, paper, strict=True)):
                tables.append(_heatmap(analysis, paper, code, paper=True))
            folds.append(
                Fold(anchor=f"appendix-g-{code}", title=f"{name}, model by model", tables=tuple(tables)),
            )
    if not folds:
        return missing(section, NotRun(reason="no mismatching item has a reference for sexes and ages"))
    return replace(
        section,
        paragraphs=(
            (
                "How many mismatching items fall to each group, an item split where its profile is; items without a "
                "known sex or age are left out. The paper's way gives an option to the group with the most people who "
                "chose it, which favours the larger group; it stands below where it differs."
            ),
        ),
        folds=tuple(folds),
    )


def _heatmap(analysis: Analysis, rows: Sequence[ProfileRow], code: str, *, paper: bool = False) -> Table:
    most = largest(row.tensor for row in rows)
    kind = "The paper's way: mismatching items" if paper else "Mismatching items"
    order = list(analysis.results.survey.dimensions)

    def at(group: int) -> Callable[[tuple[ProfileRow, int]], Entry]:
        def entry(item: tuple[ProfileRow, int]) -> Entry:
            row, place = item
            value = float(row.tensor[place].ravel()[group])
            return Entry(text=f"{value:.1f}".removesuffix(".0"), shade=value / most) if value else Entry(text="")

        return entry

    groups = [f"{sex}, {age}" for sex in GENDERS for age in AGE_LABELS]
    return table(
        [(row, place) for row in rows for place in places(analysis)],
        [
            Field("Dimension", lambda item: order[item[1]], words=True),
            *(Field(group, at(number)) for number, group in enumerate(groups)),
        ],
        anchor=f"appendix-g-{'paper-' if paper else ''}table-{code}",
        caption=f"{kind}, {culture_names(analysis)[code]}",
        group=lambda item: item[0].name,
        grouped_by="Model",
    )
