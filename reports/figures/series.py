"""Series of models, training stages and sizes: Table 3, Appendix I and section 6.1.

A t-test over models x dimensions counts values that are not independent: it stands here as the paper has it, and the
test that survives scrutiny beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import isnan, log

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CellAnalysis, CultureAnalysis
from defsurvey.reports.cells.comparing import Contrast, Plan, compare, contrasts
from defsurvey.reports.cells.items import Floats
from defsurvey.reports.figures.matching import matching_figure
from defsurvey.reports.figures.words import (
    INFINITE,
    LEVEL,
    NotRun,
    chance,
    culture_names,
    infinite_entry,
    interval_entry,
    listed,
    main_cells,
    missing,
    named_cultures,
    published_fold,
    published_tables,
    told,
)
from defsurvey.reports.metrics.aggregate import mean_known
from defsurvey.reports.metrics.significance import Summary, TTest, TwoSamples, compare_samples, spearman
from defsurvey.reports.number_format import NONE, counted, fixed, percent, signed
from defsurvey.reports.page import Column, Entry, Section, Table, TableRow

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


def series_section(analysis: Analysis) -> Section:
    """Table 3."""
    part = analysis.figure(series)
    section = Section(
        anchor="table-3",
        contents="Table 3 · Series",
        title="Series of models against each other",
        number="Table 3",
        folds=published_fold(analysis, "table3"),
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    return replace(
        section,
        title=_apart(analysis, part.tests),
        paragraphs=(
            (
                "Values of one model, and of one dimension, go together: the t-tests count them as independent, as the "
                "paper does. The comparison by question does not, and is the one to rely on."
            ),
        ),
        tables=(
            _by_question(analysis, part.tests),
            _tests(analysis, part.tests, paper=False),
            _tests(analysis, part.tests, paper=True),
            _summaries(analysis, part.tests),
            *published_tables(analysis, "table3"),
        ),
    )


def _apart(analysis: Analysis, tests: Sequence[SeriesTest]) -> str:
    found: dict[tuple[str, str], list[str]] = {}
    if all(test.by_question is None for test in tests):
        return "Series of models against each other"
    for test in tests:
        contrast = test.by_question
        if contrast is not None and contrast.p_holm < LEVEL:
            pair = (test.first, test.second) if contrast.difference < 0 else (test.second, test.first)
            found.setdefault(pair, []).append(named_cultures(analysis)[test.culture])
    if not found:
        return "No series is told from another"
    said = [f"{closer} than {other} in {listed(cultures)}" for (closer, other), cultures in found.items()]
    return "Closer to people: " + "; ".join(said)


def _pair(test: SeriesTest) -> Entry:
    return Entry(text=f"{test.first} − {test.second}")


def _by_question(analysis: Analysis, tests: Sequence[SeriesTest]) -> Table:
    names = culture_names(analysis)
    rows = []
    for test in tests:
        contrast = test.by_question
        entries: tuple[Entry, ...]
        if contrast is None:
            entries = (Entry(text=NONE, why="too few valid answers to compare"), *(Entry(text=NONE) for _ in range(4)))
        else:
            entries = (
                Entry(text=signed(contrast.difference)),
                told(contrast.p),
                told(contrast.p_holm),
                Entry(text=str(contrast.questions)),
                Entry(text=str(contrast.n)),
            )
        rows.append(TableRow(head=_pair(test), group=names[test.culture], entries=entries))
    return Table(
        anchor="table-3-by-question",
        caption="Series compared on the same questions (corrected KL, nats)",
        grouped_by="Culture",
        columns=(
            Column(text="Series", words=True),
            Column(text="Difference", meaning="below 0: the first is closer"),
            Column(text="p", meaning="over questions and over participants, the larger; two-sided"),
            Column(text="p, Holm", meaning="adjusted over a culture's comparisons"),
            Column(text="Questions"),
            Column(text="n", meaning="valid answers per question that every model was brought down to"),
        ),
        rows=tuple(rows),
    )


def _tests(analysis: Analysis, tests: Sequence[SeriesTest], *, paper: bool) -> Table:
    names = culture_names(analysis)
    rows: list[TableRow] = []
    units: list[str] = []
    for test in tests:
        found = test.paper if paper else test.sound
        units += test.paper_units if paper else test.sound_units
        rows.append(
            TableRow(
                head=_pair(test),
                group=names[test.culture],
                entries=(
                    *_test(found.pooled, 0),
                    *_test(found.welch, 1),
                    Entry(text=signed(found.effect.g)),
                    interval_entry(found.effect.low, found.effect.high),
                ),
            )
        )
    kind = "plug-in KL, the paper's way" if paper else "smoothed KL"
    return Table(
        anchor=f"table-3-t-{'plug-in' if paper else 'smoothed'}",
        caption=f"t-tests over models and dimensions: {kind}",
        grouped_by="Culture",
        columns=(
            Column(text="Series", words=True),
            Column(text="t", meaning="equal variances assumed"),
            Column(text="df"),
            Column(text="SED", meaning="standard error of the difference"),
            Column(text="p"),
            Column(text="Welch t", meaning="variances of their own"),
            Column(text="Welch df"),
            Column(text="Welch SED"),
            Column(text="Welch p"),
            Column(text="g", meaning="Hedges' g"),
            Column(text="95% interval", meaning="of g"),
        ),
        rows=tuple(rows),
        notes=("; ".join(dict.fromkeys(units)) + ".",),
    )


def _test(test: TTest, digits: int) -> tuple[Entry, ...]:
    """t, df to that many digits, SED and p."""
    return (
        Entry(text=fixed(test.t, 2).replace("-", "−"), why=test.reason),
        Entry(text=fixed(test.df, digits)),
        Entry(text=fixed(test.sed)),
        Entry(text=chance(test.p)),
    )


def _summary(way: Summary) -> tuple[Entry, ...]:
    return (Entry(text=str(way.n)), *(Entry(text=fixed(figure)) for figure in (way.mean, way.sd, way.sem)))


def _summaries(analysis: Analysis, tests: Sequence[SeriesTest]) -> Table:
    names = culture_names(analysis)
    rows: dict[tuple[str, str], TableRow] = {}
    for test in tests:
        for name, paper, sound, infinite in (
            (test.first, test.paper.first, test.sound.first, test.infinite[0]),
            (test.second, test.paper.second, test.sound.second, test.infinite[1]),
        ):
            rows[test.culture, name] = TableRow(
                head=Entry(text=name),
                group=names[test.culture],
                entries=(*_summary(sound), *_summary(paper), infinite_entry(infinite)),
            )
    return Table(
        anchor="table-3-series",
        caption="Mean, standard deviation and standard error of each series (nats)",
        grouped_by="Culture",
        columns=(
            Column(text="Series", words=True),
            Column(text="n", meaning="values: of each model in each dimension, where there is one"),
            Column(text="Mean", meaning="smoothed KL"),
            Column(text="SD"),
            Column(text="SEM"),
            Column(text="n, plug-in"),
            Column(text="Mean, plug-in", meaning="the paper's way"),
            Column(text="SD, plug-in"),
            Column(text="SEM, plug-in"),
            INFINITE,
        ),
        rows=tuple(sorted(rows.values(), key=lambda row: list(names.values()).index(row.group))),
    )


def training_section(analysis: Analysis) -> Section:
    """Appendix I and section 6.1."""
    part = analysis.figure(training)
    section = Section(
        anchor="appendix-i",
        contents="App. I · Training and size",
        title="Training stage, size and closeness",
        number="Appendix I, section 6.1",
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    apart = sum(contrast.p_holm < LEVEL for _, _, contrast in part.contrasts)
    return replace(
        section,
        title=f"Training stages differ in {apart} of {len(part.contrasts)} comparisons within a series"
        if part.contrasts
        else section.title,
        paragraphs=(
            (
                "Stages are compared within a series: between series everything else differs too. Sizes of a few "
                "models prove nothing; the correlation is shown because the paper speaks of it."
            ),
        ),
        tables=tuple(
            table
            for table in (_stages(analysis, part), _stage_tests(analysis, part), _sizes(analysis, part))
            if table.rows
        ),
    )


def _stages(analysis: Analysis, part: Training) -> Table:
    names = culture_names(analysis)
    return Table(
        anchor="appendix-i-stages",
        caption="Means by training stage",
        grouped_by="Culture",
        columns=(
            Column(text="Stage", words=True),
            Column(text="Models", meaning="that have a figure"),
            Column(text="Smoothed KL", meaning="mean over models, nats"),
            Column(text="Excess", meaning="over the noise floor"),
            Column(text="Plug-in KL", meaning="the paper's way, mean over models, nats"),
            INFINITE,
            Column(text="Matching", meaning="share of all items whose commonest answer is people's"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=stage.stage),
                group=names[stage.culture],
                entries=(
                    Entry(
                        text=str(len(stage.models)),
                        why=", ".join(stage.models) or "no model of this stage has a figure",
                    ),
                    Entry(text=fixed(stage.sound)),
                    Entry(text=signed(stage.excess)),
                    Entry(
                        text=fixed(stage.paper),
                        why="all values of one of the models are infinite"
                        if stage.models and isnan(stage.paper)
                        else "",
                    ),
                    infinite_entry(stage.infinite),
                    Entry(text=percent(stage.match)),
                ),
            )
            for stage in part.stages
        ),
    )


def _stage_tests(analysis: Analysis, part: Training) -> Table:
    names = culture_names(analysis)
    return Table(
        anchor="appendix-i-contrasts",
        caption="Stage against stage within a series (corrected KL, nats)",
        grouped_by="Culture",
        columns=(
            Column(text="Comparison", words=True),
            Column(text="Difference", meaning="below 0: the first is closer"),
            Column(text="p, Holm"),
            Column(text="Questions", meaning="behind the mean, with n valid answers from every model compared"),
            Column(text="n", meaning="valid answers per question that every model was brought down to"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=f"{series}: {contrast.first} − {contrast.second}"),
                group=names[culture],
                entries=(
                    Entry(text=signed(contrast.difference)),
                    told(contrast.p_holm),
                    Entry(text=str(contrast.questions)),
                    Entry(text=str(contrast.n)),
                ),
            )
            for culture, series, contrast in part.contrasts
        ),
    )


def _sizes(analysis: Analysis, part: Training) -> Table:
    names = culture_names(analysis)
    return Table(
        anchor="appendix-i-sizes",
        caption="Spearman's correlation with the number of parameters",
        columns=(
            Column(text="Culture", words=True),
            Column(text="Models"),
            Column(text="Divergence", meaning="of the mean; below 0: larger is closer"),
            Column(text="p", meaning="permutation, two-sided"),
            Column(text="Matching", meaning="of all items; above 0: larger matches more"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=names[size.culture]),
                entries=(
                    Entry(text=str(size.models)),
                    Entry(text=signed(size.divergence)),
                    told(size.divergence_p),
                    Entry(text=signed(size.match)),
                ),
            )
            for size in part.sizes
        ),
    )
