"""How often a model's commonest answers are people's: Figure 8, and the rank by matching."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, isnan

import numpy as np
from scipy.stats import rankdata

from defsurvey.reports.analysis import Analysis, CellAnalysis, CultureAnalysis
from defsurvey.reports.cells import Floats, answered, uniform_shares
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.rows import Frame, Mark, Scale
from defsurvey.reports.figures.words import (
    ENOUGH,
    LEVEL,
    NotRun,
    culture_charts,
    culture_names,
    culture_table,
    main_cells,
    missing,
    named_cultures,
    per_dimension,
)
from defsurvey.reports.metrics.bias import (
    Matching,
    matching,
)
from defsurvey.reports.metrics.comparisons import holm, spearman
from defsurvey.reports.number_format import NAMED, chance, counted, fixed, listed, percent
from defsurvey.reports.page import Entry, Field, Section, Table, table
from defsurvey.reports.untrusted import visible


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingRow:
    """One model in one culture."""

    name: str  #: of the cell
    model: str
    culture: str
    matching: Matching
    by_dimension: Floats  #: share of matching items, shape (D,)
    uniform_by_dimension: Floats  #: shape (D,)
    comparable: bool  #: whether it has answers enough to all questions for a heading


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingFigure:
    """Figure 8."""

    rows: tuple[MatchingRow, ...]

    @property
    def shares(self) -> Mapping[str, Mapping[str, float]]:
        """Culture -> cell name -> share of matching items."""
        found: dict[str, dict[str, float]] = {}
        for row in self.rows:
            found.setdefault(row.culture, {})[row.name] = row.matching.share
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RankAgreement:
    """Does the order by matching follow the order by divergence? One culture."""

    culture: str
    models: tuple[str, ...]  #: cell names, closest by divergence first
    divergence_rank: tuple[float, ...]  #: 1 the closest; ties share the mean
    matching_rank: tuple[float, ...]  #: 1 the most matching
    rho: float  #: Spearman's; 1: the same order
    p: float  #: two-sided permutation


def matching_figure(analysis: Analysis) -> MatchingFigure:
    """Figure 8: every model of the main condition."""
    uniform = uniform_shares(analysis.items)
    cultures = {culture.culture.code: culture for culture in analysis.cultures}
    return MatchingFigure(
        rows=tuple(_row(analysis, cultures[cell.cell.culture], cell, uniform) for cell in main_cells(analysis))
    )


def _row(analysis: Analysis, culture: CultureAnalysis, cell: CellAnalysis, uniform: Floats) -> MatchingRow:
    found = matching(cell.counts, culture.reference.shares, uniform, culture.reference.low_n)
    grouping = analysis.items.grouping
    return MatchingRow(
        name=cell.name,
        model=cell.cell.model,
        culture=cell.cell.culture,
        matching=found,
        by_dimension=found.by(grouping.dimension, grouping.dimensions),
        uniform_by_dimension=found.uniform_by(grouping.dimension, grouping.dimensions),
        comparable=answered(cell.counts, analysis.items, culture.reference),
    )


def rank_agreement(analysis: Analysis) -> tuple[RankAgreement, ...] | NotRun:
    """The rank by matching against the order of closeness, per culture with at least three ranked models."""
    found, figure = [], analysis.figure(matching_figure)
    for culture in analysis.cultures:
        cells = [cell for cell in main_cells(analysis) if cell.cell.culture == culture.culture.code]
        shares, ranked = figure.shares.get(culture.culture.code, {}), dict(culture.ranking.order)
        known = [
            (cell.name, ranked[cell.name], shares[cell.name])
            for cell in cells
            if cell.name in ranked and not np.isnan(shares[cell.name])
        ]
        if len(known) > 2:
            found.append(_agreement(culture.culture.code, sorted(known, key=lambda each: (each[1], each[0]))))
    return tuple(found) if found else NotRun(reason="fewer than three models are ranked: no order to compare")


def _agreement(culture: str, known: list[tuple[str, float, float]]) -> RankAgreement:
    divergence, match = np.array([each[1] for each in known]), np.array([each[2] for each in known])
    rho, p = spearman(divergence, -match)
    return RankAgreement(
        culture=culture,
        models=tuple(each[0] for each in known),
        divergence_rank=tuple(rankdata(divergence).tolist()),
        matching_rank=tuple(rankdata(-match).tolist()),
        rho=rho,
        p=p,
    )


_NONE = "no valid answer meets a reference distribution"
#: Fewest models whose order can be told from chance: of 4! orders two lie furthest out, a p of at least 2/24.
TESTABLE = 5


def matching_section(analysis: Analysis) -> Section:
    """Figure 8."""
    rows = [row for row in analysis.figure(matching_figure).rows if isfinite(row.matching.share)]
    section = Section(
        anchor="figure-8", contents="Fig. 8 · Matching", title="Commonest answers that match people's", number="Fig. 8"
    )
    if not rows:
        return missing(section, NotRun(reason=_NONE))
    return replace(
        section,
        title=_matched(analysis, rows) or section.title,
        charts=_charts(analysis, rows),
        chart_note="Dark ticks: the share that as many uniform answers would match.",
        tables=(_table(analysis, analysis.figure(matching_figure).rows),),
    )


def _matched(analysis: Analysis, rows: Sequence[MatchingRow]) -> str:
    """On how many items those match who have items and answers enough, by culture; empty where nobody has."""
    enough = [row for row in rows if row.comparable and row.matching.items >= ENOUGH]
    by_culture = {
        name: [row.matching for row in enough if row.culture == code] for code, name in named_cultures(analysis).items()
    }
    known = {name: found for name, found in by_culture.items() if found}
    if not known:
        return ""
    begin = "The commonest answer is people's on"
    if len(known) <= NAMED:
        return f"{begin} {'; on '.join(f'{_on(found)} in {name}' for name, found in known.items())}"
    return f"{begin} {_on([row.matching for row in enough])} in {len(known)} cultures"


def _on(found: Sequence[Matching]) -> str:
    """The share of items that match, the lowest and highest of several, and what uniform answers would match."""
    share, expected = (
        _span([percent(low), percent(high)])
        for low, high in (
            (min(values), max(values)) for values in zip(*((each.share, each.expected) for each in found), strict=True)
        )
    )
    items = _span([str(min(each.items for each in found)), str(max(each.items for each in found))])
    return f"{share} of {items} items (uniform answers: {expected})"


def _span(ends: Sequence[str]) -> str:
    return " to ".join(dict.fromkeys(ends))


def _charts(analysis: Analysis, rows: Sequence[MatchingRow]) -> tuple[Chart, ...]:
    def marks(culture: str) -> list[Mark]:
        return [
            Mark(
                row=visible(row.name),
                value=row.matching.share,
                expected=row.matching.expected,
                says=f"{visible(row.name)}: {percent(row.matching.share)} of {counted(row.matching.items, 'item')}; "
                f"uniform answers {percent(row.matching.expected)}",
            )
            for row in sorted(rows, key=lambda row: -row.matching.share)
            if row.culture == culture
        ]

    return culture_charts(
        analysis,
        marks,
        lambda place, culture: Frame(
            name=f"matching-{place}",
            title=f"Matching items: {culture.name}",
            description="Share of items on which the model's commonest answer is people's.",
            scale=Scale(title="share of items that match", percent=True),
            first=place,
        ),
    )


def _table(analysis: Analysis, rows: Sequence[MatchingRow]) -> Table:
    def at(place: int) -> Callable[[MatchingRow], Entry]:
        return lambda row: _share(
            row.by_dimension[place],
            row.uniform_by_dimension[place],
            why=f"{_NONE} in this dimension",
            shade=None if isnan(row.by_dimension[place]) else float(row.by_dimension[place]),
        )

    return culture_table(
        analysis,
        rows,
        [
            Field("Model", lambda row: row.name, words=True),
            *per_dimension(analysis, at),
            Field(
                "All",
                lambda row: _share(row.matching.share, row.matching.expected, why=_NONE),
                "all items, also those that speak to no dimension",
            ),
            Field("Items", lambda row: str(row.matching.items)),
            Field("Few people", lambda row: str(row.matching.low_n), "items whose reference rests on too few people"),
        ],
        anchor="figure-8-dimensions",
        caption="Share of matching items by dimension; beneath, of as many uniform answers",
    )


def _share(share: float, uniform: float, *, why: str, shade: float | None = None) -> Entry:
    return Entry(text=percent(share), beneath=percent(uniform), why=why if isnan(share) else "", shade=shade)


#: What a correlation of two figures of one sample is worth.
_SAME = (
    "Both ranks come from the same answers: what chance does to one it does to the other, so that models which are "
    "alike are in like order too. The heading corrects for the number of cultures (Holm)."
)


def rank_section(analysis: Analysis) -> Section:
    """The rank by matching against the rank by divergence."""
    part = analysis.figure(rank_agreement)
    section = Section(
        anchor="ranks",
        contents="Sec. 5.2.4 · Ranks",
        title="Rank by matching against rank by divergence",
        number="Section 5.2.4",
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    names = culture_names(analysis)
    fields: list[Field[tuple[str, float, float]]] = [
        Field("Model", lambda ranks: ranks[0], words=True),
        Field("By divergence", lambda ranks: f"{ranks[1]:g}", "of the questions behind the mean, at equal n"),
        Field("By matching", lambda ranks: f"{ranks[2]:g}", "of all items"),
    ]
    return replace(
        section,
        title=_followed(analysis, part) or section.title,
        tables=tuple(
            table(
                zip(each.models, each.divergence_rank, each.matching_rank, strict=True),
                fields,
                anchor=f"ranks-{each.culture}",
                caption=f"Ranks, {names[each.culture]}",
                notes=(f"Spearman's correlation {fixed(each.rho, 2)}, p {chance(each.p)} by permutation.", _SAME),
            )
            for each in part
        ),
        side_by_side=True,
    )


def _adjusted(part: Sequence[RankAgreement]) -> dict[str, float]:
    """Culture -> p, Holm over the cultures with models enough for any; nan for the rest."""
    p = holm([each.p if len(each.models) >= TESTABLE else np.nan for each in part])
    return {each.culture: float(adjusted) for each, adjusted in zip(part, p, strict=True)}


def _followed(analysis: Analysis, part: Sequence[RankAgreement]) -> str:
    """Where one rank follows the other or runs against it beyond chance; empty where nothing could be told."""
    adjusted = _adjusted(part)
    tested = [each for each in part if not isnan(adjusted[each.culture])]
    clauses = []
    for verb, sign in (("follows", 1), ("runs against", -1)):
        where = [
            f"{named_cultures(analysis)[each.culture]} ({fixed(each.rho, 2)})"
            for each in tested
            if adjusted[each.culture] < LEVEL and sign * each.rho > 0
        ]
        if where:
            clauses.append(f"{verb} rank by divergence in {listed(where)}")
    if clauses:
        return f"Rank by matching {', and '.join(clauses)}"
    return "Rank by matching follows rank by divergence no more than chance would" if tested else ""
