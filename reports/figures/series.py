"""Series of models, training stages and sizes: Table 3, Appendix I and section 6.1.

A t-test over models x dimensions counts values that are not independent: it stands here as the paper has it, and the
test that survives scrutiny beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import log

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CellAnalysis, CultureAnalysis
from defsurvey.reports.cells.comparing import Contrast, Plan, compare, contrasts
from defsurvey.reports.cells.items import Floats
from defsurvey.reports.figures.matching import matching_figure
from defsurvey.reports.figures.parts import NotRun, main_cells
from defsurvey.reports.metrics.aggregate import mean_known
from defsurvey.reports.metrics.significance import TwoSamples, compare_samples, spearman
from defsurvey.reports.number_format import counted

#: Fewest models whose sizes are correlated with anything.
SIZES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesTest:
    """Two series in one culture."""

    culture: str
    first: str
    second: str
    paper: TwoSamples  #: of the plug-in KL by the paper's rule
    infinite: tuple[float, float]  #: of each series: share of items behind the mean that are infinite, over its models
    paper_units: tuple[str, str]  #: of each series: "Alpha: 27 = 3 models x 9 dimensions, not independent"
    sound: TwoSamples  #: of the smoothed KL
    sound_units: tuple[str, str]
    by_question: Contrast | None  #: paired by question; None where too few answers can be compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Table 3."""

    tests: tuple[SeriesTest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMean:
    """One training stage in one culture."""

    culture: str
    stage: str
    models: tuple[str, ...]  #: that have a headline: the means are theirs
    sound: float  #: mean headline divergence
    excess: float  #: over the noise floor
    paper: float  #: mean plug-in KL by the paper's rule; nan where one of them has no finite value
    infinite: float  #: share of items behind the mean that are infinite in the paper's way
    match: float  #: mean share of matching items; nan where it is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeCorrelation:
    """Do larger models do better? Spearman's correlation over the models of one culture."""

    culture: str
    models: int
    divergence: float  #: with the logarithm of size; negative: larger is closer
    divergence_p: float  #: two-sided permutation
    match: float  #: positive: larger matches more


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Appendix I and section 6.1."""

    stages: tuple[StageMean, ...]
    contrasts: tuple[tuple[str, str, Contrast], ...]  #: culture, series, stage against stage within it
    sizes: tuple[SizeCorrelation, ...]


def parameters(written: str) -> float:
    """How many parameters a card says: "7B", "135M", "46.7e9"; nan where it says none.

    >>> parameters("7B"), parameters("135M"), parameters("")
    (7000000000.0, 135000000.0, nan)
    """
    text = written.strip().upper()
    scale = {"B": 1e9, "M": 1e6, "K": 1e3}.get(text[-1:], 1.0)
    number = text[:-1] if scale > 1 else text
    try:
        return float(number) * scale if number else float("nan")
    except ValueError:
        return float("nan")


def _facts(analysis: Analysis, name: str) -> dict[str, str]:
    """What the cards of the run's models say under one name, where they say it."""
    facts = {model: known.get(name, "") for model, known in analysis.results.model_facts.items()}
    return {model: value for model, value in facts.items() if value}


def _by(cells: Sequence[CellAnalysis], facts: Mapping[str, str]) -> dict[str, list[CellAnalysis]]:
    groups: dict[str, list[CellAnalysis]] = {}
    for cell in cells:
        if cell.cell.model in facts:
            groups.setdefault(facts[cell.cell.model], []).append(cell)
    return dict(sorted(groups.items()))


def _comparable(analysis: Analysis, culture: CultureAnalysis) -> list[CellAnalysis]:
    """The culture's main cells with answers enough to be compared: one without takes nothing from the others."""
    mine = [cell for cell in main_cells(analysis) if cell.cell.culture == culture.culture.code]
    return [cell for cell in mine if cell.comparable]


def _contrasts(
    analysis: Analysis, culture: CultureAnalysis, cells: Sequence[CellAnalysis], planned: Sequence[Plan]
) -> tuple[Contrast, ...]:
    if not cells or not planned:
        return ()
    compared = compare({cell.name: cell.sample for cell in cells}, analysis.items, culture.reference)
    return () if compared is None else contrasts(compared, planned)


def _names(cells: Sequence[CellAnalysis]) -> list[str]:
    return [cell.name for cell in cells]


def series(analysis: Analysis) -> Series | NotRun:
    """Table 3: every two series that have at least two models each, in every culture."""
    facts = _facts(analysis, "series")
    if not facts:
        return NotRun(reason="the model cards name no series")
    tests: list[SeriesTest] = []
    for culture in analysis.cultures:
        mine = [cell for cell in main_cells(analysis) if cell.cell.culture == culture.culture.code]
        groups = {name: cells for name, cells in _by(mine, facts).items() if len(cells) > 1}
        pairs = list(combinations(groups, 2))
        enough = _comparable(analysis, culture)
        usable = {name: [cell for cell in cells if cell in enough] for name, cells in groups.items()}
        planned = [(a, _names(usable[a]), b, _names(usable[b])) for a, b in pairs if usable[a] and usable[b]]
        involved = [cell for cells in usable.values() for cell in cells]
        found = {(c.first, c.second): c for c in _contrasts(analysis, culture, involved, planned)}
        tests += [_series_test(culture, a, groups[a], b, groups[b], found.get((a, b))) for a, b in pairs]
    return Series(tests=tuple(tests)) if tests else NotRun(reason="fewer than two series have two models or more")


def _series_test(
    culture: CultureAnalysis,
    first: str,
    mine: Sequence[CellAnalysis],
    second: str,
    theirs: Sequence[CellAnalysis],
    contrast: Contrast | None,
) -> SeriesTest:
    def values(cells: Sequence[CellAnalysis], *, paper: bool) -> Floats:
        return np.stack([(cell.paper if paper else cell.sound).by_dimension for cell in cells])

    paper, sound = ([values(cells, paper=way) for cells in (mine, theirs)] for way in (True, False))
    return SeriesTest(
        culture=culture.culture.code,
        first=first,
        second=second,
        paper=compare_samples(paper[0].ravel(), paper[1].ravel()),
        infinite=(_infinite(mine), _infinite(theirs)),
        paper_units=(_units(first, paper[0]), _units(second, paper[1])),
        sound=compare_samples(sound[0].ravel(), sound[1].ravel()),
        sound_units=(_units(first, sound[0]), _units(second, sound[1])),
        by_question=contrast,
    )


def _infinite(cells: Sequence[CellAnalysis]) -> float:
    return float(mean_known([cell.paper_values.infinite_share for cell in cells]))


def _units(series: str, values: Floats) -> str:
    """What a t-test counts as units: values of models by dimensions, shape (M, D), of which some may be missing."""
    known = ~np.isnan(values)
    n, models, dimensions = int(known.sum()), int(known.any(axis=1).sum()), int(known.any(axis=0).sum())
    of = counted(models, "model"), counted(dimensions, "dimension")
    units = f"{n} = {' x '.join(of)}" if n == models * dimensions else f"{counted(n, 'value')} of {' and '.join(of)}"
    return f"{series}: {units}, not independent"


def training(analysis: Analysis) -> Training | NotRun:
    """Appendix I: stages and sizes of the models of the main condition."""
    stages, sizes = _facts(analysis, "stage"), _facts(analysis, "parameters")
    if not stages and not sizes:
        return NotRun(reason="the model cards name neither training stage nor size")
    match = analysis.figure(matching_figure).shares
    means: list[StageMean] = []
    found: list[tuple[str, str, Contrast]] = []
    correlations: list[SizeCorrelation] = []
    for culture in analysis.cultures:
        code = culture.culture.code
        mine = [cell for cell in main_cells(analysis) if cell.cell.culture == code]
        matched = match.get(code, {})
        means += [_stage_mean(code, stage, cells, matched) for stage, cells in _by(mine, stages).items()]
        found += _stage_contrasts(analysis, culture, stages)
        correlation = _size_correlation(code, mine, sizes, matched)
        correlations += [] if correlation is None else [correlation]
    return Training(stages=tuple(means), contrasts=tuple(found), sizes=tuple(correlations))


def _stage_mean(culture: str, stage: str, cells: Sequence[CellAnalysis], match: Mapping[str, float]) -> StageMean:
    known = [cell for cell in cells if np.isfinite(cell.sound.headline)]
    return StageMean(
        culture=culture,
        stage=stage,
        models=tuple(cell.cell.model for cell in known),
        sound=float(mean_known([cell.sound.headline for cell in known])),
        excess=float(mean_known([cell.excess for cell in known])),
        paper=float(np.mean([cell.paper.headline for cell in known])) if known else np.nan,
        infinite=_infinite(known),
        match=float(mean_known([match.get(cell.name, np.nan) for cell in known])),
    )


def _stage_contrasts(
    analysis: Analysis, culture: CultureAnalysis, stages: Mapping[str, str]
) -> list[tuple[str, str, Contrast]]:
    """Stages within a series: between series, stage and everything else differ together."""
    named, planned, where = _facts(analysis, "series"), [], []
    enough = _comparable(analysis, culture)
    for family, cells in _by(enough, named).items():
        groups = _by(cells, stages)
        for a, b in combinations(groups, 2):
            planned.append((a, _names(groups[a]), b, _names(groups[b])))
            where.append((culture.culture.code, family))
    involved = [cell for cell in enough if cell.cell.model in named and cell.cell.model in stages]
    found = _contrasts(analysis, culture, involved, planned)
    return [(*place, contrast) for place, contrast in zip(where, found, strict=False)]


def _size_correlation(
    culture: str, cells: Sequence[CellAnalysis], sizes: Mapping[str, str], match: Mapping[str, float]
) -> SizeCorrelation | None:
    known = [
        (log(parameters(sizes[cell.cell.model])), cell.sound.headline, match.get(cell.name, np.nan))
        for cell in cells
        if cell.cell.model in sizes and parameters(sizes[cell.cell.model]) > 0 and not np.isnan(cell.sound.headline)
    ]
    if len(known) < SIZES:
        return None
    size, divergence, matched = np.array(known).T
    rho, p = spearman(size, divergence)
    whole = not np.isnan(matched).any()
    return SizeCorrelation(
        culture=culture,
        models=len(known),
        divergence=rho,
        divergence_p=p,
        match=spearman(size, matched)[0] if whole else np.nan,
    )
