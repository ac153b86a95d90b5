"""Series of models, training stages and sizes: Table 3, Appendix I and section 6.1.

A t-test over models x dimensions counts values that are not independent: it stands here as the paper has it, and the
test that survives scrutiny beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import isnan, log

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, CultureAnalysis
from defsurvey.reports.cells import Contrast, Floats, Plan, compare, contrasts
from defsurvey.reports.figures.matching import matching_figure
from defsurvey.reports.figures.words import (
    LEVEL,
    NotRun,
    culture_names,
    infinite_field,
    interval_entry,
    main_cells,
    missing,
    named_cultures,
    published_fold,
    published_tables,
)
from defsurvey.reports.metrics.aggregate import mean_known
from defsurvey.reports.metrics.comparisons import Summary, TTest, TwoSamples, compare_samples, spearman
from defsurvey.reports.number_format import NONE, chance, counted, fixed, listed, percent, signed
from defsurvey.reports.page import Entry, Field, Section, Table, table

#: What the column n of a comparison means.
BROUGHT_DOWN = "valid answers per question that every model was brought down to"
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


def _contrast(show: Callable[[Contrast], str]) -> Callable[[SeriesTest], str]:
    """What is shown of the comparison by question, or a dash without one."""
    return lambda test: NONE if test.by_question is None else show(test.by_question)


SERIES: Field[SeriesTest] = Field("Series", lambda test: f"{test.first} − {test.second}", words=True)


def _by_question(analysis: Analysis, tests: Sequence[SeriesTest]) -> Table:
    names = culture_names(analysis)

    def difference(test: SeriesTest) -> Entry:
        found = test.by_question
        why = "too few valid answers to compare"
        return Entry(text=NONE, why=why) if found is None else Entry(text=signed(found.difference))

    return table(
        tests,
        [
            SERIES,
            Field("Difference", difference, "below 0: the first is closer"),
            Field(
                "p",
                _contrast(lambda found: chance(found.p)),
                "over questions and over participants, the larger; two-sided",
            ),
            Field("p, Holm", _contrast(lambda found: chance(found.p_holm)), "adjusted over a culture's comparisons"),
            Field("Questions", _contrast(lambda found: str(found.questions))),
            Field("n", _contrast(lambda found: str(found.n)), BROUGHT_DOWN),
        ],
        anchor="table-3-by-question",
        caption="Series compared on the same questions (corrected KL, nats)",
        group=lambda test: names[test.culture],
        grouped_by="Culture",
    )


def _fields_of_test(
    which: Callable[[TwoSamples], TTest],
    way: Callable[[SeriesTest], TwoSamples],
    digits: int,
    name: str,
    t: str,
    sed: str,
) -> list[Field[SeriesTest]]:
    """t, degrees of freedom to that many digits, standard error of the difference and p."""
    return [
        Field(
            f"{name}t",
            lambda test: Entry(text=fixed(which(way(test)).t, 2), why=which(way(test)).reason),
            t,
        ),
        Field(f"{name}df", lambda test: fixed(which(way(test)).df, digits)),
        Field(f"{name}SED", lambda test: fixed(which(way(test)).sed), sed),
        Field(f"{name}p", lambda test: chance(which(way(test)).p)),
    ]


def _tests(analysis: Analysis, tests: Sequence[SeriesTest], *, paper: bool) -> Table:
    names = culture_names(analysis)

    def way(test: SeriesTest) -> TwoSamples:
        return test.paper if paper else test.sound

    units = [unit for test in tests for unit in (test.paper_units if paper else test.sound_units)]
    kind = "plug-in KL, the paper's way" if paper else "smoothed KL"
    return table(
        tests,
        [
            SERIES,
            *_fields_of_test(
                lambda found: found.pooled, way, 0, "", "equal variances assumed", "standard error of the difference"
            ),
            *_fields_of_test(lambda found: found.welch, way, 1, "Welch ", "variances of their own", ""),
            Field("g", lambda test: signed(way(test).effect.g), "Hedges' g"),
            Field("95% interval", lambda test: interval_entry(way(test).effect.low, way(test).effect.high), "of g"),
        ],
        anchor=f"table-3-t-{'plug-in' if paper else 'smoothed'}",
        caption=f"t-tests over models and dimensions: {kind}",
        group=lambda test: names[test.culture],
        grouped_by="Culture",
        notes=("; ".join(dict.fromkeys(units)) + ".",),
    )


def _summaries(analysis: Analysis, tests: Sequence[SeriesTest]) -> Table:
    """Each series of each culture once, both ways of measuring."""
    names = culture_names(analysis)
    rows = {
        (test.culture, name): (test.culture, name, sound, paper, infinite)
        for test in tests
        for name, sound, paper, infinite in (
            (test.first, test.sound.first, test.paper.first, test.infinite[0]),
            (test.second, test.sound.second, test.paper.second, test.infinite[1]),
        )
    }
    fields: list[Field[tuple[str, str, Summary, Summary, float]]] = [
        Field("Series", lambda row: row[1], words=True),
        Field("n", lambda row: str(row[2].n), "values: of each model in each dimension, where there is one"),
        Field("Mean", lambda row: fixed(row[2].mean), "smoothed KL"),
        Field("SD", lambda row: fixed(row[2].sd)),
        Field("SEM", lambda row: fixed(row[2].sem)),
        Field("n, plug-in", lambda row: str(row[3].n)),
        Field("Mean, plug-in", lambda row: fixed(row[3].mean), "the paper's way"),
        Field("SD, plug-in", lambda row: fixed(row[3].sd)),
        Field("SEM, plug-in", lambda row: fixed(row[3].sem)),
        infinite_field(lambda row: row[4]),
    ]
    return table(
        sorted(rows.values(), key=lambda row: list(names).index(row[0])),
        fields,
        anchor="table-3-series",
        caption="Mean, standard deviation and standard error of each series (nats)",
        group=lambda row: names[row[0]],
        grouped_by="Culture",
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
            made
            for made in (_stages(analysis, part), _stage_tests(analysis, part), _sizes(analysis, part))
            if made.rows
        ),
    )


def _stages(analysis: Analysis, part: Training) -> Table:
    names = culture_names(analysis)

    def models(stage: StageMean) -> Entry:
        why = ", ".join(stage.models) or "no model of this stage has a figure"
        return Entry(text=str(len(stage.models)), why=why)

    def plug_in(stage: StageMean) -> Entry:
        why = "all values of one of the models are infinite" if stage.models and isnan(stage.paper) else ""
        return Entry(text=fixed(stage.paper), why=why)

    return table(
        part.stages,
        [
            Field("Stage", lambda stage: stage.stage, words=True),
            Field("Models", models, "that have a figure"),
            Field("Smoothed KL", lambda stage: fixed(stage.sound), "mean over models, nats"),
            Field("Excess", lambda stage: signed(stage.excess), "over the noise floor"),
            Field("Plug-in KL", plug_in, "the paper's way, mean over models, nats"),
            infinite_field(lambda stage: stage.infinite),
            Field(
                "Matching", lambda stage: percent(stage.match), "share of all items whose commonest answer is people's"
            ),
        ],
        anchor="appendix-i-stages",
        caption="Means by training stage",
        group=lambda stage: names[stage.culture],
        grouped_by="Culture",
    )


def _stage_tests(analysis: Analysis, part: Training) -> Table:
    names = culture_names(analysis)
    fields: list[Field[tuple[str, str, Contrast]]] = [
        Field("Comparison", lambda row: f"{row[1]}: {row[2].first} − {row[2].second}", words=True),
        Field("Difference", lambda row: signed(row[2].difference), "below 0: the first is closer"),
        Field("p, Holm", lambda row: chance(row[2].p_holm)),
        Field(
            "Questions",
            lambda row: str(row[2].questions),
            "behind the mean, with n valid answers from every model compared",
        ),
        Field("n", lambda row: str(row[2].n), BROUGHT_DOWN),
    ]
    return table(
        part.contrasts,
        fields,
        anchor="appendix-i-contrasts",
        caption="Stage against stage within a series (corrected KL, nats)",
        group=lambda row: names[row[0]],
        grouped_by="Culture",
    )


def _sizes(analysis: Analysis, part: Training) -> Table:
    names = culture_names(analysis)
    return table(
        part.sizes,
        [
            Field("Culture", lambda size: names[size.culture], words=True),
            Field("Models", lambda size: str(size.models)),
            Field("Divergence", lambda size: signed(size.divergence), "of the mean; below 0: larger is closer"),
            Field("p", lambda size: chance(size.divergence_p), "permutation, two-sided"),
            Field("Matching", lambda size: signed(size.match), "of all items; above 0: larger matches more"),
        ],
        anchor="appendix-i-sizes",
        caption="Spearman's correlation with the number of parameters",
    )
