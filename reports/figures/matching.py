"""Whom a model's commonest answers match and resemble: Figures 8, 11 and 12, Appendix G, and the rank by matching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CellAnalysis, CultureAnalysis
from defsurvey.reports.cells.comparing import answered
from defsurvey.reports.cells.items import Floats, ReferenceTable, reference_table
from defsurvey.reports.cells.respondents import uniform_shares
from defsurvey.reports.figures.words import NotRun, main_cells
from defsurvey.reports.metrics.bias import (
    Matching,
    Profile,
    ProfileShares,
    matching,
    mismatch_tensor,
    profile,
    profile_shares,
)
from defsurvey.reports.metrics.significance import spearman
from defsurvey.storage.surveys.survey import Group

#: The groups of a profile, in the order of every group axis.
GROUPS = (Group.MALE, Group.FEMALE, Group.AGE_LE29, Group.AGE_30_49, Group.AGE_50PLUS)


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
