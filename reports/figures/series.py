"""Series of models, training stages and sizes: Table 3, Appendix I and section 6.1.

A t-test over models x dimensions counts values that are not independent: it stands here as the paper has it, and the
test that survives scrutiny beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import isfinite, isnan, log, nan

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, CultureAnalysis, NotRun
from defsurvey.reports.cells import Contrast, Floats
from defsurvey.reports.figures.shared import LEVEL, contrasts_of, main_cells_of, matching_shares
from defsurvey.reports.figures.words import (
    culture_names,
    culture_table,
    infinite_field,
    interval_entry,
    named_cultures,
    section,
)
from defsurvey.reports.metrics.aggregate import mean_known
from defsurvey.reports.metrics.comparisons import TTest, TwoSamples, compare_samples, spearman
from defsurvey.reports.number_format import NONE, chance, counted, fixed, listed, percent, signed
from defsurvey.reports.page import Entry, Field, Section, Table, table

#: What the column n of a comparison means.
BROUGHT_DOWN = "valid answers per question that every model was brought down to"
#: Fewest models whose sizes are correlated with anything.
SIZES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Two series compared in one way of measuring."""

    test: TwoSamples
    units: tuple[str, str]  #: of each series: "Alpha: 27 = 3 models x 9 dimensions, not independent"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesTest:
    """Two series in one culture."""

    culture: str
    first: str
    second: str
    sound: Way  #: of the smoothed KL
    paper: Way  #: of the plug-in KL by the paper's rule
    infinite: tuple[float, float]  #: of each series: share of items behind the mean that are infinite, over its models
    by_question: Contrast | None  #: paired by question; None where too few answers can be compared


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMean:
    """One training stage in one culture."""

    culture: str
    stage: str
    cells: tuple[CellAnalysis, ...]  #: of its models that have a headline: the means are theirs
    match: float  #: mean share of matching items; nan where it is not known

    def mean(self, of: Callable[[CellAnalysis], float]) -> float:
        """Over the models of which that is known."""
        return float(mean_known([of(cell) for cell in self.cells]))

    @property
    def sound(self) -> float:
        """Mean headline divergence."""
        return self.mean(lambda cell: cell.sound.headline)

    @property
    def infinite(self) -> float:
        """Share of items behind the mean that are infinite in the paper's way."""
        return _infinite(self.cells)


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
    try:
        return float(text[:-1] if scale > 1 else text) * scale
    except ValueError:
        return nan


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


def _names(cells: Sequence[CellAnalysis]) -> list[str]:
    return [cell.name for cell in cells]


def series(analysis: Analysis) -> tuple[SeriesTest, ...]:
    """Table 3: every two series that have at least two models each, in every culture."""
    facts = _facts(analysis, "series")
    if not facts:
        raise NotRun("the model cards name no series")
    tests: list[SeriesTest] = []
    for culture in analysis.cultures:
        groups = {name: of for name, of in _by(main_cells_of(analysis, culture), facts).items() if len(of) > 1}
        pairs = list(combinations(groups, 2))
        # a cell without answers enough to be compared takes nothing from the others
        usable = {name: [cell for cell in cells if cell.comparable] for name, cells in groups.items()}
        planned = [(a, _names(usable[a]), b, _names(usable[b])) for a, b in pairs if usable[a] and usable[b]]
        involved = [cell for cells in usable.values() for cell in cells]
        found = {(c.first, c.second): c for c in contrasts_of(analysis, culture, involved, planned)}
        tests += [
            SeriesTest(
                culture=culture.culture.code,
                first=a,
                second=b,
                sound=_way(a, b, *(np.stack([cell.sound.by_dimension for cell in groups[each]]) for each in (a, b))),
                paper=_way(a, b, *(np.stack([cell.paper.by_dimension for cell in groups[each]]) for each in (a, b))),
                infinite=(_infinite(groups[a]), _infinite(groups[b])),
                by_question=found.get((a, b)),
            )
            for a, b in pairs
        ]
    if not tests:
        raise NotRun("fewer than two series have two models or more")
    return tuple(tests)


def _way(first: str, second: str, mine: Floats, theirs: Floats) -> Way:
    return Way(test=compare_samples(mine.ravel(), theirs.ravel()), units=(_units(first, mine), _units(second, theirs)))


def _infinite(cells: Sequence[CellAnalysis]) -> float:
    return float(mean_known([cell.paper_values.infinite_share for cell in cells]))


def _units(series: str, values: Floats) -> str:
    """What a t-test counts as units: values of models by dimensions, shape (M, D), of which some may be missing."""
    known = ~np.isnan(values)
    n, models, dimensions = int(known.sum()), int(known.any(axis=1).sum()), int(known.any(axis=0).sum())
    of = counted(models, "model"), counted(dimensions, "dimension")
    units = f"{n} = {' x '.join(of)}" if n == models * dimensions else f"{counted(n, 'value')} of {' and '.join(of)}"
    return f"{series}: {units}, not independent"


def training(analysis: Analysis) -> Training:
    """Appendix I: stages and sizes of the models of the main condition."""
    stages, sizes = _facts(analysis, "stage"), _facts(analysis, "parameters")
    if not stages and not sizes:
        raise NotRun("the model cards name neither training stage nor size")
    match = matching_shares(analysis)
    means: list[StageMean] = []
    found: list[tuple[str, str, Contrast]] = []
    correlations: list[SizeCorrelation] = []
    for culture in analysis.cultures:
        code = culture.culture.code
        mine, matched = main_cells_of(analysis, culture), match.get(code, {})
        means += [_stage_mean(code, stage, cells, matched) for stage, cells in _by(mine, stages).items()]
        found += _stage_contrasts(analysis, culture, stages)
        correlations += _size_correlation(code, mine, sizes, matched)
    return Training(stages=tuple(means), contrasts=tuple(found), sizes=tuple(correlations))


def _stage_mean(culture: str, stage: str, cells: Sequence[CellAnalysis], match: Mapping[str, float]) -> StageMean:
    known = tuple(cell for cell in cells if isfinite(cell.sound.headline))
    matched = float(mean_known([match.get(cell.name, nan) for cell in known]))
    return StageMean(culture=culture, stage=stage, cells=known, match=matched)


def _stage_contrasts(
    analysis: Analysis, culture: CultureAnalysis, stages: Mapping[str, str]
) -> list[tuple[str, str, Contrast]]:
    """Stages within a series: between series, stage and everything else differ together."""
    named, planned, where = _facts(analysis, "series"), [], []
    enough = [cell for cell in main_cells_of(analysis, culture) if cell.comparable]
    for family, cells in _by(enough, named).items():
        groups = _by(cells, stages)
        for a, b in combinations(groups, 2):
            planned.append((a, _names(groups[a]), b, _names(groups[b])))
            where.append((culture.culture.code, family))
    involved = [cell for cell in enough if cell.cell.model in named and cell.cell.model in stages]
    found = contrasts_of(analysis, culture, involved, planned)
    return [(*place, contrast) for place, contrast in zip(where, found, strict=False)]


def _size_correlation(
    culture: str, cells: Sequence[CellAnalysis], sizes: Mapping[str, str], match: Mapping[str, float]
) -> list[SizeCorrelation]:
    """One, or none of too few models."""
    known = [
        (log(size), cell.sound.headline, match.get(cell.name, nan))
        for cell in cells
        if (size := parameters(sizes.get(cell.cell.model, ""))) > 0 and not isnan(cell.sound.headline)
    ]
    if len(known) < SIZES:
        return []
    size, divergence, matched = np.array(known).T
    rho, p = spearman(size, divergence)
    of_match = nan if np.isnan(matched).any() else spearman(size, matched)[0]
    return [SizeCorrelation(culture=culture, models=len(known), divergence=rho, divergence_p=p, match=of_match)]


@section("table-3", "Table 3 · Series", "Series of models against each other", "Table 3", printed="table3")
def series_section(analysis: Analysis, section: Section) -> Section:
    """Table 3."""
    tests = analysis.figure(series)
    note = (
        "Values of one model, and of one dimension, go together: the t-tests count them as independent, as the paper "
        "does. The comparison by question does not, and is the one to rely on."
    )
    return replace(
        section,
        title=_apart(analysis, tests) or section.title,
        paragraphs=(note,),
        tables=(
            _by_question(analysis, tests),
            _tests(analysis, tests, paper=False),
            _tests(analysis, tests, paper=True),
            _summaries(analysis, tests),
        ),
    )


def _apart(analysis: Analysis, tests: Sequence[SeriesTest]) -> str:
    """Which series is closer than which, and where; empty where nothing could be compared."""
    found: dict[tuple[str, str], list[str]] = {}
    for test in tests:
        contrast = test.by_question
        if contrast is not None and contrast.p_holm < LEVEL:
            pair = (test.first, test.second) if contrast.difference < 0 else (test.second, test.first)
            found.setdefault(pair, []).append(named_cultures(analysis)[test.culture])
    if not found:
        return "No series is told from another" if any(test.by_question for test in tests) else ""
    said = [f"{closer} than {other} in {listed(cultures)}" for (closer, other), cultures in found.items()]
    return "Closer to people: " + "; ".join(said)


SERIES: Field[SeriesTest] = Field("Series", lambda test: f"{test.first} − {test.second}", words=True)


def _by_question(analysis: Analysis, tests: Sequence[SeriesTest]) -> Table:
    def of(text: str, show: Callable[[Contrast], str], meaning: str = "", why: str = "") -> Field[SeriesTest]:
        """What is shown of the comparison by question, or a dash without one."""
        none = Entry(text=NONE, why=why)
        return Field(text, lambda test: none if test.by_question is None else show(test.by_question), meaning)

    few = "too few valid answers to compare"
    return culture_table(
        analysis,
        tests,
        [
            SERIES,
            of("Difference", lambda found: signed(found.difference), "below 0: the first is closer", few),
            of("p", lambda found: chance(found.p), "over questions and over participants, the larger; two-sided"),
            of("p, Holm", lambda found: chance(found.p_holm), "adjusted over a culture's comparisons"),
            of("Questions", lambda found: str(found.questions)),
            of("n", lambda found: str(found.n), BROUGHT_DOWN),
        ],
        anchor="table-3-by-question",
        caption="Series compared on the same questions (corrected KL, nats)",
    )


def _tests(analysis: Analysis, tests: Sequence[SeriesTest], *, paper: bool) -> Table:
    def way(test: SeriesTest) -> Way:
        return test.paper if paper else test.sound

    def fields(
        which: Callable[[TwoSamples], TTest], digits: int, name: str, t: str, sed: str = ""
    ) -> list[Field[SeriesTest]]:
        """t, degrees of freedom to that many digits, standard error of the difference and p."""

        def of(test: SeriesTest) -> TTest:
            return which(way(test).test)

        return [
            Field(f"{name}t", lambda test: Entry(text=fixed(of(test).t, 2), why=of(test).reason), t),
            Field(f"{name}df", lambda test: fixed(of(test).df, digits)),
            Field(f"{name}SED", lambda test: fixed(of(test).sed), sed),
            Field(f"{name}p", lambda test: chance(of(test).p)),
        ]

    def interval(test: SeriesTest) -> Entry:
        return interval_entry(way(test).test.effect.low, way(test).test.effect.high)

    kind = "plug-in KL, the paper's way" if paper else "smoothed KL"
    return culture_table(
        analysis,
        tests,
        [
            SERIES,
            *fields(lambda found: found.pooled, 0, "", "equal variances assumed", "standard error of the difference"),
            *fields(lambda found: found.welch, 1, "Welch ", "variances of their own"),
            Field("g", lambda test: signed(way(test).test.effect.g), "Hedges' g"),
            Field("95% interval", interval, "of g"),
        ],
        anchor=f"table-3-t-{'plug-in' if paper else 'smoothed'}",
        caption=f"t-tests over models and dimensions: {kind}",
        notes=("; ".join(dict.fromkeys(unit for test in tests for unit in way(test).units)) + ".",),
    )


def _summaries(analysis: Analysis, tests: Sequence[SeriesTest]) -> Table:
    """Each series of each culture once, both ways of measuring."""
    rows = {
        (test.culture, name): (test.culture, name, sound, paper, infinite)
        for test in tests
        for name, sound, paper, infinite in (
            (test.first, test.sound.test.first, test.paper.test.first, test.infinite[0]),
            (test.second, test.sound.test.second, test.paper.test.second, test.infinite[1]),
        )
    }
    return culture_table(
        analysis,
        rows.values(),
        [
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
        ],
        anchor="table-3-series",
        caption="Mean, standard deviation and standard error of each series (nats)",
        of=lambda row: row[0],
    )


@section("appendix-i", "App. I · Training and size", "Training stage, size and closeness", "Appendix I, section 6.1")
def training_section(analysis: Analysis, section: Section) -> Section:
    """Appendix I and section 6.1."""
    part = analysis.figure(training)
    apart = sum(contrast.p_holm < LEVEL for _, _, contrast in part.contrasts)
    title = f"Training stages differ in {apart} of {len(part.contrasts)} comparisons within a series"
    note = (
        "Stages are compared within a series: between series everything else differs too. Sizes of a few models prove "
        "nothing; the correlation is shown because the paper speaks of it."
    )
    tables = (_stages(analysis, part), _stage_tests(analysis, part), _sizes(analysis, part))
    return replace(
        section,
        title=title if part.contrasts else section.title,
        paragraphs=(note,),
        tables=tuple(made for made in tables if made.rows),
    )


def _stages(analysis: Analysis, part: Training) -> Table:
    def models(stage: StageMean) -> Entry:
        why = ", ".join(cell.cell.model for cell in stage.cells) or "no model of this stage has a figure"
        return Entry(text=str(len(stage.cells)), why=why)

    def plug_in(stage: StageMean) -> Entry:
        lost = any(isnan(cell.paper.headline) for cell in stage.cells)
        mean = nan if lost else stage.mean(lambda cell: cell.paper.headline)
        return Entry(text=fixed(mean), why="all values of one of the models are infinite" if lost else "")

    of_all = "share of all items whose commonest answer is people's"
    return culture_table(
        analysis,
        part.stages,
        [
            Field("Stage", lambda stage: stage.stage, words=True),
            Field("Models", models, "that have a figure"),
            Field("Smoothed KL", lambda stage: fixed(stage.sound), "mean over models, nats"),
            Field("Excess", lambda stage: signed(stage.mean(lambda cell: cell.excess)), "over the noise floor"),
            Field("Plug-in KL", plug_in, "the paper's way, mean over models, nats"),
            infinite_field(lambda stage: stage.infinite),
            Field("Matching", lambda stage: percent(stage.match), of_all),
        ],
        anchor="appendix-i-stages",
        caption="Means by training stage",
    )


def _stage_tests(analysis: Analysis, part: Training) -> Table:
    behind = "behind the mean, with n valid answers from every model compared"
    return culture_table(
        analysis,
        part.contrasts,
        [
            Field("Comparison", lambda row: f"{row[1]}: {row[2].first} − {row[2].second}", words=True),
            Field("Difference", lambda row: signed(row[2].difference), "below 0: the first is closer"),
            Field("p, Holm", lambda row: chance(row[2].p_holm)),
            Field("Questions", lambda row: str(row[2].questions), behind),
            Field("n", lambda row: str(row[2].n), BROUGHT_DOWN),
        ],
        anchor="appendix-i-contrasts",
        caption="Stage against stage within a series (corrected KL, nats)",
        of=lambda row: row[0],
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
