"""Whose answers a model gives where they are people's or not: Figures 11 and 12, and Appendix G."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from typing import Any

import numpy as np

from defsurvey.reports.analysis import Analysis, CultureAnalysis, NotRun
from defsurvey.reports.cells import Floats, ReferenceTable, reference_table
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.rows import Mark, Scale, reach
from defsurvey.reports.figures import words
from defsurvey.reports.figures.shared import ENOUGH, LEVEL, MatchingRow, OfCell, matching_figure
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
from defsurvey.reports.page import Entry, Field, Fold, Section, Table, fields_of, table
from defsurvey.storage.surveys.survey import Group

#: The groups of a profile, in the order of every group axis.
GROUPS = (Group.MALE, Group.FEMALE, Group.AGE_LE29, Group.AGE_30_49, Group.AGE_50PLUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRow(OfCell):
    """Figures 11 and 12, Appendix G: one model in one culture, one way of measuring."""

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


def profiles(analysis: Analysis) -> Profiles:
    """Figures 11 and 12 and Appendix G, over the items whose groups are known."""
    survey, items = analysis.results.survey, analysis.items
    groups = {
        culture.culture.code: [reference_table(survey, items, culture.culture.code, group) for group in GROUPS]
        for culture in analysis.cultures
    }
    coverage = tuple(_coverage(analysis, culture, groups[culture.culture.code]) for culture in analysis.cultures)
    if not any(known.genders or known.ages for known in coverage):
        raise NotRun("no reference of this survey tells the sexes or ages apart")
    references = {culture.culture.code: culture.reference for culture in analysis.cultures}

    def measured(row: MatchingRow, raw: bool) -> ProfileRow:
        of = [np.stack([getattr(t, name) for t in groups[row.culture]]) for name in ("shares", "asked", "low_n")]
        found = profile(row.cell.counts, references[row.culture].shares, *of, raw_counts=raw)
        return _profile_row(analysis, row, found)

    sound, paper = (tuple(measured(row, raw) for row in analysis.figure(matching_figure)) for raw in (False, True))
    return Profiles(coverage=coverage, sound=sound, paper=paper)


def _profile_row(analysis: Analysis, row: MatchingRow, found: Profile) -> ProfileRow:
    grouping, match = analysis.items.grouping, row.matching.match
    lifts = found.lift[match == 0]
    known = ~np.isnan(lifts)
    total, count = np.where(known, lifts, 0.0).sum(axis=0), known.sum(axis=0)
    return ProfileRow(
        cell=row.cell,
        matching=profile_shares(found, match == 1),
        mismatching=profile_shares(found, match == 0),
        tensor=mismatch_tensor(found, match, grouping.dimension, grouping.dimensions),
        lift=np.divide(total, count, out=np.full(len(GROUPS), np.nan), where=count > 0),
    )


def _coverage(analysis: Analysis, culture: CultureAnalysis, tables: Sequence[ReferenceTable]) -> ProfileCoverage:
    known = np.stack([~np.isnan(table.n) for table in tables])
    sexes, ages = known[:2].all(axis=0), known[2:].all(axis=0)
    low = np.stack([table.low_n for table in tables]).any(axis=0)
    covered = set(analysis.items.grouping.dimension[sexes & ages].tolist())
    places = enumerate(analysis.results.survey.dimensions)
    return ProfileCoverage(
        culture=culture.culture.code,
        items=int((~np.isnan(culture.reference.n)).sum()),
        genders=int(sexes.sum()),
        ages=int(ages.sum()),
        low_n=int((low & known.any(axis=0)).sum()),
        dimensions=tuple(code for place, code in places if code in analysis.dimensions and place not in covered),
    )


_LINES = "Lines: 95% Wilson intervals, as if items were independent. Items whose commonest answer is not people's."
_EXPLAINED = (
    "An answer is most typical of the group that gives it with the largest share; ties are split. The paper counts "
    "people instead, which favours whatever group is larger: that is folded below."
)
_TYPICAL = "Share of mismatching items whose answer is most typical of"
_MISMATCHING = "Mismatching answers: {}".format
AGE_LABELS = tuple(age.replace("<=", "to ").replace("-", "–") for age in AGES)


def _paragraphs(analysis: Analysis, part: Profiles) -> tuple[str, ...]:
    names = words.culture_names(analysis)
    said = [_EXPLAINED]
    for each in part.coverage:
        text = f"{names[each.culture]}: of {each.items} items both sexes are known for {each.genders}, all ages for"
        text += f" {each.ages}"
        text += f", none in {', '.join(each.dimensions)}" if each.dimensions else ""
        text += f"; too few people stand behind {each.low_n}" if each.low_n else ""
        said.append(text + ".")
    return tuple(said)


@words.section("figure-11", "Fig. 11 · Gender", "Whose answers: women and men", "Fig. 11")
def gender_section(analysis: Analysis, section: Section) -> Section:
    """Figure 11."""
    part = analysis.figure(profiles)
    known = {each.culture for each in part.coverage if each.genders}
    rows = [row for row in part.sound if row.culture in known and isfinite(row.mismatching.gender[0])]
    if not rows:
        raise NotRun("no mismatching item has a reference for women and men")
    drawn = replace(section, title=_skewed(analysis, rows), charts=_gender_charts(analysis, rows))
    return _shown(analysis, part, drawn, "half", gender=True)


def _shown(analysis: Analysis, part: Profiles, drawn: Section, dashed: str, *, gender: bool) -> Section:
    """The tables of sexes or ages beneath their charts, the paper's way folded."""
    anchor = drawn.anchor
    raw = Fold(
        anchor=f"{anchor}-paper",
        title="The paper's way: by counts of people",
        paragraphs=("A larger group has more people behind every answer: shares lean towards it by that alone.",),
        tables=(_profile_table(analysis, part.paper, f"{anchor}-paper-shares", gender=gender),),
    )
    return replace(
        drawn,
        paragraphs=_paragraphs(analysis, part),
        chart_note=f"Dashed: {dashed}. {_LINES}",
        tables=(_profile_table(analysis, part.sound, f"{anchor}-shares", gender=gender),),
        folds=(raw,),
    )


def _skewed(analysis: Analysis, rows: Sequence[ProfileRow]) -> str:
    """Who leans furthest, among those with items enough to say, and whether that is told from even.

    The furthest of several is held to the interval at the level that Bonferroni asks of so many.
    """
    enough = [row for row in rows if row.mismatching.gender_items >= ENOUGH]
    if not enough:
        return "Whose answers: too few mismatching items with a known sex to say"

    def lean(row: ProfileRow) -> tuple[float, int]:
        return float(row.mismatching.gender.max()), row.mismatching.gender_items

    told = [row for row in enough if _uncertain(*lean(row), len(enough))[0] > 0.5]
    skewed = max(told or enough, key=lean)
    (share, items), who = lean(skewed), ("men", "women")[int(skewed.mismatching.gender.argmax())]
    return (
        f"{'Furthest from even' if told else 'No lean to a sex is told; furthest from even'}: {skewed.name}, "
        f"{percent(share)} of whose {items} mismatching answers in {words.named_cultures(analysis)[skewed.culture]} "
        f"are most typical of {who} ({_between(share, items)})"
    )


def _gender_charts(analysis: Analysis, rows: Sequence[ProfileRow]) -> tuple[Chart, ...]:
    def mark(row: ProfileRow) -> Mark:
        men, items = float(row.mismatching.gender[0]), row.mismatching.gender_items
        low, high = _uncertain(men, items)
        says = f"{row.name}: {percent(men)} typical of men, {items} items"
        return Mark(row=row.name, value=men, low=low, high=high, says=says)

    marks = [(row.culture, mark(row)) for row in rows]
    scale = Scale("share most typical of men; left: of women", percent=True)
    return words.culture_charts(analysis, marks, "gender", _MISMATCHING, f"{_TYPICAL} men.", scale, rules=(0.5,))


def _uncertain(share: float, items: int, compared: int = 1) -> tuple[float, float]:
    """Wilson's interval of a share of items, as if they were independent; of several together by Bonferroni."""
    rate = wilson_rate(share, float(items), count=round(share * items), n=items, level=1 - LEVEL / compared)
    return rate.low, rate.high


def _between(share: float, items: int) -> str:
    return "95% interval {} to {}".format(*map(percent, _uncertain(share, items)))


@words.section("figure-12", "Fig. 12 · Age", "Whose answers: age groups", "Fig. 12")
def age_section(analysis: Analysis, section: Section) -> Section:
    """Figure 12."""
    part = analysis.figure(profiles)
    rows = [row for row in part.sound if isfinite(row.mismatching.age[0])]
    if not rows:
        raise NotRun("no mismatching item has a reference for all three age groups")
    drawn = replace(section, title=_ages(analysis, rows), legend=AGE_LABELS, charts=_age_charts(analysis, rows))
    return _shown(analysis, part, drawn, "a third", gender=False)


def _ages(analysis: Analysis, rows: Sequence[ProfileRow]) -> str:
    """The age that most items of a culture's models are typical of, where there are enough to say."""
    enough = [row for row in rows if row.mismatching.age_items >= ENOUGH]
    if not enough:
        return "Whose answers: too few mismatching items with known ages to say"
    clauses, commonest = [], []
    for code, name in words.named_cultures(analysis).items():
        mine = [row.mismatching for row in enough if row.culture == code]
        if mine:
            means = np.average([each.age for each in mine], axis=0, weights=[each.age_items for each in mine])
            age, items = int(means.argmax()), sum(each.age_items for each in mine)
            share, models = float(means[age]), f"{len(mine)} models"
            commonest.append(("up to 29", "from 30 to 49", "of 50 and more")[age])
            clauses.append(
                f"{percent(share)} of {items} in {name} are most typical of people {commonest[-1]} "
                f"({_between(share, items) if len(mine) == 1 else models})"
            )
    if len(clauses) <= NAMED:
        return f"Mismatching answers: {'; '.join(clauses)}"
    most = max(dict.fromkeys(commonest), key=commonest.count)
    count = f"{commonest.count(most)} of {len(clauses)} cultures"
    return f"Mismatching answers are most often typical of people {most} in {count}"


def _age_charts(analysis: Analysis, rows: Sequence[ProfileRow]) -> tuple[Chart, ...]:
    drawn = []
    for row in rows:
        for age, value in enumerate(row.mismatching.age.tolist()):
            low, high = _uncertain(value, row.mismatching.age_items)
            says = f"{row.name}, {AGE_LABELS[age]}: {percent(value)}"
            mark = Mark(row=row.name, value=value, low=low, high=high, series=age, says=says)
            drawn.append((row.culture, mark))
    most = min(reach(mark.high for _, mark in drawn), 1.0)
    scale = Scale("share most typical of the age group", high=most, percent=True)
    more: dict[str, Any] = {"series": len(AGES), "first": 0, "rules": (1 / 3,)}
    return words.culture_charts(analysis, drawn, "age", _MISMATCHING, f"{_TYPICAL} each age group.", scale, **more)


def _profile_table(analysis: Analysis, rows: Sequence[ProfileRow], anchor: str, *, gender: bool) -> Table:
    groups, first = (GENDERS, 0) if gender else (AGE_LABELS, len(GENDERS))

    def shares(row: ProfileRow, matching: bool) -> tuple[Floats, int, int]:
        """The shares of sexes or ages, of how many items, of how many in all."""
        found = row.matching if matching else row.mismatching
        return (found.gender, found.gender_items, found.items) if gender else (found.age, found.age_items, found.items)

    fields: list[Field[ProfileRow]] = [words.MODEL]
    for matching, name in ((False, "Mismatch"), (True, "Match")):
        share = partial(lambda row, at, matching: percent(float(shares(row, matching)[0][at])), matching=matching)
        fields += fields_of([(f"{name}, {group}", "") for group in groups], share)
        items = partial(lambda row, matching: "{1} of {2}".format(*shares(row, matching)), matching=matching)
        fields.append(Field(f"Items, {name.lower()}", items, f"{name.lower()}ing items with such a reference"))
    over = "share in the group over share of all, mismatches"
    lifts = [(f"Lift, {group}", over) for group in groups]
    fields += fields_of(lifts, lambda row, at: fixed(float(row.lift[first + at]), 2))
    caption = f"Shares of items by {'sex' if gender else 'age'} whose answer it is most typical of"
    return words.culture_table(analysis, rows, fields, anchor, caption)


@words.section("appendix-g", "App. G · Mismatches", "Mismatching items by dimension, sex and age", "Appendix G")
def heatmap_section(analysis: Analysis, section: Section) -> Section:
    """Appendix G."""
    part, folds = analysis.figure(profiles), []
    for code, name in words.culture_names(analysis).items():
        sound, paper = ([row for row in rows if row.culture == code] for rows in (part.sound, part.paper))
        if any(row.tensor.any() for row in sound):
            differ = any(not np.array_equal(a.tensor, b.tensor) for a, b in zip(sound, paper, strict=True))
            tables = [_heatmap(analysis, sound, f"table-{code}", f"Mismatching items, {name}")]
            if differ:
                caption = f"The paper's way: mismatching items, {name}"
                tables.append(_heatmap(analysis, paper, f"paper-table-{code}", caption))
            folds.append(Fold(anchor=f"appendix-g-{code}", title=f"{name}, model by model", tables=tuple(tables)))
    if not folds:
        raise NotRun("no mismatching item has a reference for sexes and ages")
    note = (
        "How many mismatching items fall to each group, an item split where its profile is; items without a known sex "
        "or age are left out. The paper's way gives an option to the group with the most people who chose it, which "
        "favours the larger group; it stands below where it differs."
    )
    return replace(section, paragraphs=(note,), folds=tuple(folds))


def _heatmap(analysis: Analysis, rows: Sequence[ProfileRow], anchor: str, caption: str) -> Table:
    most, dimensions = words.largest(row.tensor for row in rows), analysis.results.survey.dimensions
    items = [(row, at, code) for row in rows for at, code in enumerate(dimensions) if code in analysis.dimensions]

    def count(item: tuple[ProfileRow, int, str], group: int) -> Entry:
        value = float(item[0].tensor[item[1]].ravel()[group])
        return words.count_entry(value, most, f"{value:.1f}".removesuffix(".0"))

    heads = [(f"{sex}, {age}", "") for sex in GENDERS for age in AGE_LABELS]
    dimension: Field[tuple[ProfileRow, int, str]] = Field("Dimension", lambda item: item[2], words=True)
    fields = [dimension, *fields_of(heads, count)]
    anchor = f"appendix-g-{anchor}"
    return table(items, fields, anchor, caption, group=lambda item: item[0].name, grouped_by="Model")
