"""How often a model's commonest answers are people's: Figure 8, and the rank by matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite, isnan

import numpy as np
from scipy.stats import rankdata

from defsurvey.reports.analysis import Analysis, NotRun
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.rows import Mark, Scale
from defsurvey.reports.figures import words
from defsurvey.reports.figures.shared import ENOUGH, LEVEL, MatchingRow, main_cells_of, matching_figure, matching_shares
from defsurvey.reports.metrics.bias import Matching
from defsurvey.reports.metrics.comparisons import holm, spearman
from defsurvey.reports.number_format import NAMED, chance, counted, fixed, listed, percent
from defsurvey.reports.page import Entry, Field, Section, Table, table


@dataclass(frozen=True, slots=True, kw_only=True)
class RankAgreement:
    """Does the order by matching follow the order by divergence? One culture."""

    culture: str
    models: tuple[str, ...]  #: cell names, closest by divergence first
    divergence_rank: tuple[float, ...]  #: 1 the closest; ties share the mean
    matching_rank: tuple[float, ...]  #: 1 the most matching
    rho: float  #: Spearman's; 1: the same order
    p: float  #: two-sided permutation


def rank_agreement(analysis: Analysis) -> tuple[RankAgreement, ...]:
    """The rank by matching against the order of closeness, per culture with at least three ranked models."""
    found, matched = [], matching_shares(analysis)
    for culture in analysis.cultures:
        shares, ranked = matched.get(culture.culture.code, {}), dict(culture.ranking.order)
        names = [cell.name for cell in main_cells_of(analysis, culture) if cell.name in ranked]
        names = sorted((name for name in names if not isnan(shares[name])), key=lambda name: (ranked[name], name))
        if len(names) < 3:
            continue
        divergence, match = np.array([ranked[name] for name in names]), np.array([shares[name] for name in names])
        rho, p = spearman(divergence, -match)
        found.append(
            RankAgreement(
                culture=culture.culture.code,
                models=tuple(names),
                divergence_rank=tuple(rankdata(divergence).tolist()),
                matching_rank=tuple(rankdata(-match).tolist()),
                rho=rho,
                p=p,
            )
        )
    if not found:
        raise NotRun("fewer than three models are ranked: no order to compare")
    return tuple(found)


_NONE = "no valid answer meets a reference distribution"
#: Fewest models whose order can be told from chance: of 4! orders two lie furthest out, a p of at least 2/24.
TESTABLE = 5


@words.section("figure-8", "Fig. 8 · Matching", "Commonest answers that match people's", "Fig. 8")
def matching_section(analysis: Analysis, section: Section) -> Section:
    """Figure 8."""
    rows = [row for row in analysis.figure(matching_figure) if isfinite(row.matching.share)]
    if not rows:
        raise NotRun(_NONE)
    return replace(
        section,
        title=_matched(analysis, rows) or section.title,
        charts=_charts(analysis, rows),
        chart_note="Dark ticks: the share that as many uniform answers would match.",
        tables=(_table(analysis),),
    )


def _matched(analysis: Analysis, rows: Sequence[MatchingRow]) -> str:
    """On how many items those match who have items and answers enough, by culture; empty where nobody has."""
    enough = [row for row in rows if row.comparable and row.matching.items >= ENOUGH]
    names, known = words.named_cultures(analysis), dict[str, list[Matching]]()
    for row in sorted(enough, key=lambda row: list(names).index(row.culture)):
        known.setdefault(names[row.culture], []).append(row.matching)
    if not known:
        return ""
    said = "; on ".join(f"{_on(found)} in {name}" for name, found in known.items())
    if len(known) > NAMED:
        said = f"{_on([row.matching for row in enough])} in {len(known)} cultures"
    return f"The commonest answer is people's on {said}"


def _on(found: Sequence[Matching]) -> str:
    """The share of items that match, the lowest and highest of several, and what uniform answers would match."""

    def span(ends: Sequence[str]) -> str:
        return " to ".join(dict.fromkeys(ends))

    shares, expected, items = zip(*((each.share, each.expected, each.items) for each in found), strict=True)
    share, uniform = (span([percent(min(each)), percent(max(each))]) for each in (shares, expected))
    return f"{share} of {span([str(min(items)), str(max(items))])} items (uniform answers: {uniform})"


def _charts(analysis: Analysis, rows: Sequence[MatchingRow]) -> tuple[Chart, ...]:
    def mark(row: MatchingRow) -> Mark:
        found = row.matching
        says = f"{row.name}: {percent(found.share)} of {counted(found.items, 'item')}; "
        says += f"uniform answers {percent(found.expected)}"
        return Mark(row=row.name, value=found.share, expected=found.expected, says=says)

    marks = [(row.culture, mark(row)) for row in sorted(rows, key=lambda row: -row.matching.share)]
    says = "Share of items on which the model's commonest answer is people's."
    scale = Scale("share of items that match", percent=True)
    return words.culture_charts(analysis, marks, "matching", "Matching items: {}".format, says, scale)


def _table(analysis: Analysis) -> Table:
    def share(found: float, uniform: float, why: str, *, shaded: bool) -> Entry:
        known = not isnan(found)
        shade = found if known and shaded else None
        return Entry(percent(found), percent(uniform), shade, why="" if known else why)

    def at(row: MatchingRow, place: int) -> Entry:
        found, uniform = float(row.by_dimension[place]), float(row.uniform_by_dimension[place])
        return share(found, uniform, f"{_NONE} in this dimension", shaded=True)

    def overall(row: MatchingRow) -> Entry:
        return share(row.matching.share, row.matching.expected, _NONE, shaded=False)

    fields: list[Field[MatchingRow]] = [
        words.MODEL,
        *words.per_dimension(analysis, at),
        Field("All", overall, "all items, also those that speak to no dimension"),
        Field("Items", lambda row: str(row.matching.items)),
        Field("Few people", lambda row: str(row.matching.low_n), "items whose reference rests on too few people"),
    ]
    caption = "Share of matching items by dimension; beneath, of as many uniform answers"
    return words.culture_table(analysis, analysis.figure(matching_figure), fields, "figure-8-dimensions", caption)


#: What a correlation of two figures of one sample is worth.
_SAME = (
    "Both ranks come from the same answers: what chance does to one it does to the other, so that models which are "
    "alike are in like order too. The heading corrects for the number of cultures (Holm)."
)


@words.section("ranks", "Sec. 5.2.4 · Ranks", "Rank by matching against rank by divergence", "Section 5.2.4")
def rank_section(analysis: Analysis, section: Section) -> Section:
    """The rank by matching against the rank by divergence."""
    part, names, tables = analysis.figure(rank_agreement), words.culture_names(analysis), []
    fields: list[Field[tuple[str, float, float]]] = [
        Field("Model", lambda ranks: ranks[0], words=True),
        Field("By divergence", lambda ranks: f"{ranks[1]:g}", "of the questions behind the mean, at equal n"),
        Field("By matching", lambda ranks: f"{ranks[2]:g}", "of all items"),
    ]
    for each in part:
        ranks = zip(each.models, each.divergence_rank, each.matching_rank, strict=True)
        notes = (f"Spearman's correlation {fixed(each.rho, 2)}, p {chance(each.p)} by permutation.", _SAME)
        tables.append(table(ranks, fields, f"ranks-{each.culture}", f"Ranks, {names[each.culture]}", notes=notes))
    return replace(section, title=_followed(analysis, part) or section.title, tables=tuple(tables), side_by_side=True)


def _followed(analysis: Analysis, part: Sequence[RankAgreement]) -> str:
    """Where one rank follows the other or runs against it beyond chance; empty where nothing could be told."""
    names, clauses = words.named_cultures(analysis), []
    adjusted = holm([each.p if len(each.models) >= TESTABLE else np.nan for each in part])
    tested = [(each, p) for each, p in zip(part, adjusted.tolist(), strict=True) if not isnan(p)]
    for verb, sign in (("follows", 1), ("runs against", -1)):
        told = [each for each, p in tested if p < LEVEL and sign * each.rho > 0]
        if told:
            where = listed([f"{names[each.culture]} ({fixed(each.rho, 2)})" for each in told])
            clauses.append(f"{verb} rank by divergence in {where}")
    if not clauses and tested:
        clauses = ["follows rank by divergence no more than chance would"]
    return f"Rank by matching {', and '.join(clauses)}" if clauses else ""
