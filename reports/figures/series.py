"""Series of models, training stages and sizes: Table 3, Appendix I and section 6.1.

A t-test over models x dimensions counts values that are not independent: it stands here as the paper has it, and the
test that survives scrutiny beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import isfinite, isnan, log, nan
from typing import Any

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, CultureAnalysis, NotRun
from defsurvey.reports.cells import Contrast
from defsurvey.reports.figures import words
from defsurvey.reports.figures.shared import LEVEL, contrasts_of, main_cells_of, matching_shares
from defsurvey.reports.metrics.aggregate import Means, mean_known
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
    def infinite(self) -> float:
        """Share of items behind the mean that are infinite in the paper's way."""
        return self.mean(lambda cell: cell.paper_values.infinite_share)


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


def series(analysis: Analysis) -> tuple[SeriesTest, ...]:
    """Table 3: every two series that have at least two models each, in every culture."""
    facts = _facts(analysis, "series")
    if not facts:
        raise NotRun("the model cards name no series")
    tests: list[SeriesTest] = []
    for culture in analysis.cultures:
        groups = {name: of for name, of in _by(main_cells_of(analysis, culture), facts).items() if len(of) > 1}
        # a cell without answers enough to be compared takes nothing from the others
        usable = {name: [cell for cell in cells if cell.comparable] for name, cells in groups.items()}
        contrasts = _between(analysis, culture, {name: cells for name, cells in usable.items() if cells})
        found = {(contrast.first, contrast.second): contrast for contrast in contrasts}
        for pair in combinations(groups, 2):
            named = {name: groups[name] for name in pair}
            first, second = (mean_known([c.paper_values.infinite_share for c in cells]) for cells in named.values())
            test = SeriesTest(
                culture=culture.culture.code,
                first=pair[0],
                second=pair[1],
                sound=_way(named, lambda cell: cell.sound),
                paper=_way(named, lambda cell: cell.paper),
                infinite=(float(first), float(second)),
                by_question=found.get(pair),
            )
            tests.append(test)
    if not tests:
        raise NotRun("fewer than two series have two models or more")
    return tuple(tests)


def _between(
    analysis: Analysis, culture: CultureAnalysis, groups: Mapping[str, Sequence[CellAnalysis]]
) -> tuple[Contrast, ...]:
    """Every two groups of cells compared on the same questions."""
    names = {name: [cell.name for cell in cells] for name, cells in groups.items()}
    planned = [(a, names[a], b, names[b]) for a, b in combinations(groups, 2)]
    return contrasts_of(analysis, culture, [cell for cells in groups.values() for cell in cells], planned)


def _way(named: Mapping[str, Sequence[CellAnalysis]], of: Callable[[CellAnalysis], Means]) -> Way:
    """Two series by these means of their cells: values of models by dimensions, of which some may be missing."""
    values, units = [np.stack([of(cell).by_dimension for cell in cells]) for cells in named.values()], []
    for series, each in zip(named, values, strict=True):
        known = ~np.isnan(each)
        n, models, dimensions = int(known.sum()), int(known.any(axis=1).sum()), int(known.any(axis=0).sum())
        by = counted(models, "model"), counted(dimensions, "dimension")
        whole = n == models * dimensions
        counts = f"{n} = {' x '.join(by)}" if whole else f"{counted(n, 'value')} of {' and '.join(by)}"
        units.append(f"{series}: {counts}, not independent")
    return Way(test=compare_samples(*(each.ravel() for each in values)), units=(units[0], units[1]))


def training(analysis: Analysis) -> Training:
    """Appendix I: stages and sizes of the models of the main condition."""
    stages, sizes = _facts(analysis, "stage"), _facts(analysis, "parameters")
    if not stages and not sizes:
        raise NotRun("the model cards name neither training stage nor size")
    match, means, correlations = matching_shares(analysis), [], []
    contrasts: list[tuple[str, str, Contrast]] = []
    for culture in analysis.cultures:
        code = culture.culture.code
        mine, matched = main_cells_of(analysis, culture), match.get(code, {})
        for stage, cells in _by(mine, stages).items():
            known = tuple(cell for cell in cells if isfinite(cell.sound.headline))
            share = float(mean_known([matched.get(cell.name, nan) for cell in known]))
            means.append(StageMean(culture=code, stage=stage, cells=known, match=share))
        contrasts += _stage_contrasts(analysis, culture, stages)
        correlations += _size_correlation(code, mine, sizes, matched)
    return Training(stages=tuple(means), contrasts=tuple(contrasts), sizes=tuple(correlations))


def _stage_contrasts(
    analysis: Analysis, culture: CultureAnalysis, stages: Mapping[str, str]
) -> list[tuple[str, str, Contrast]]:
    """Stages within a series: between series, stage and everything else differ together."""
    planned, where = [], []
    enough = [cell for cell in main_cells_of(analysis, culture) if cell.comparable and cell.cell.model in stages]
    families = _by(enough, _facts(analysis, "series"))
    for family, cells in families.items():
        names = {stage: [cell.name for cell in of] for stage, of in _by(cells, stages).items()}
        for a, b in combinations(names, 2):
            planned.append((a, names[a], b, names[b]))
            where.append((culture.culture.code, family))
    found = contrasts_of(analysis, culture, [cell for cells in families.values() for cell in cells], planned)
    return [(*place, contrast) for place, contrast in zip(where, found, strict=False)]


def _size_correlation(
    culture: str, cells: Sequence[CellAnalysis], sizes: Mapping[str, str], match: Mapping[str, float]
) -> list[SizeCorrelation]:
    """One, or none of too few models."""
    known = []
    for cell in cells:
        size = parameters(sizes.get(cell.cell.model, ""))
        if size > 0 and not isnan(cell.sound.headline):
            known.append((log(size), cell.sound.headline, match.get(cell.name, nan)))
    if len(known) < SIZES:
        return []
    logs, divergence, matched = np.array(known).T
    rho, p = spearman(logs, divergence)
    of_match = nan if np.isnan(matched).any() else spearman(logs, matched)[0]
    return [SizeCorrelation(culture=culture, models=len(known), divergence=rho, divergence_p=p, match=of_match)]


@words.section("table-3", "Table 3 · Series", "Series of models against each other", "Table 3", printed="table3")
def series_section(analysis: Analysis, section: Section) -> Section:
    """Table 3."""
    tests = analysis.figure(series)
    note = (
        "Values of one model, and of one dimension, go together: the t-tests count them as independent, as the paper "
        "does. The comparison by question does not, and is the one to rely on."
    )
    by_test = (_tests(analysis, tests, paper=paper) for paper in (False, True))
    tables = (_by_question(analysis, tests), *by_test, _summaries(analysis, tests))
    return replace(section, title=_apart(analysis, tests) or section.title, paragraphs=(note,), tables=tables)


def _apart(analysis: Analysis, tests: Sequence[SeriesTest]) -> str:
    """Which series is closer than which, and where; empty where nothing could be compared."""
    found: dict[tuple[str, str], list[str]] = {}
    for test in tests:
        contrast = test.by_question
        if contrast is not None and contrast.p_holm < LEVEL:
            pair = (test.first, test.second) if contrast.difference < 0 else (test.second, test.first)
            found.setdefault(pair, []).append(words.named_cultures(analysis)[test.culture])
    if not found:
        return "No series is told from another" if any(test.by_question for test in tests) else ""
    said = [f"{closer} than {other} in {listed(cultures)}" for (closer, other), cultures in found.items()]
    return "Closer to people: " + "; ".join(said)


SERIES: Field[SeriesTest] = Field("Series", lambda test: f"{test.first} − {test.second}", words=True)


def _by_question(analysis: Analysis, tests: Sequence[SeriesTest]) -> Table:
    few = Entry(NONE, why="too few valid answers to compare")

    def of(
        text: str, show: Callable[[Contrast], str], meaning: str = "", none: Entry | str = NONE
    ) -> Field[SeriesTest]:
        """What is shown of the comparison by question, or a dash without one."""
        return Field(text, lambda test: none if test.by_question is None else show(test.by_question), meaning)

    fields: list[Field[SeriesTest]] = [
        SERIES,
        of("Difference", lambda found: signed(found.difference), "below 0: the first is closer", few),
        of("p", lambda found: chance(found.p), "over questions and over participants, the larger; two-sided"),
        of("p, Holm", lambda found: chance(found.p_holm), "adjusted over a culture's comparisons"),
        of("Questions", lambda found: str(found.questions)),
        of("n", lambda found: str(found.n), BROUGHT_DOWN),
    ]
    caption = "Series compared on the same questions (corrected KL, nats)"
    return words.culture_table(analysis, tests, fields, "table-3-by-question", caption)


def _tests(analysis: Analysis, tests: Sequence[SeriesTest], *, paper: bool) -> Table:
    def way(test: SeriesTest) -> Way:
        return test.paper if paper else test.sound

    def of_test(
        which: Callable[[SeriesTest], TTest], digits: int, name: str, *meanings: str
    ) -> list[Field[SeriesTest]]:
        """t, degrees of freedom to that many digits, standard error of the difference and p."""
        t, sed = meanings
        return [
            Field(f"{name}t", lambda test: Entry(fixed(which(test).t, 2), why=which(test).reason), t),
            Field(f"{name}df", lambda test: fixed(which(test).df, digits)),
            Field(f"{name}SED", lambda test: fixed(which(test).sed), sed),
            Field(f"{name}p", lambda test: chance(which(test).p)),
        ]

    def interval(test: SeriesTest) -> Entry:
        return words.interval_entry(way(test).test.effect.low, way(test).test.effect.high)

    sed = "standard error of the difference"
    fields = [
        SERIES,
        *of_test(lambda test: way(test).test.pooled, 0, "", "equal variances assumed", sed),
        *of_test(lambda test: way(test).test.welch, 1, "Welch ", "variances of their own", ""),
        Field("g", lambda test: signed(way(test).test.effect.g), "Hedges' g"),
        Field("95% interval", interval, "of g"),
    ]
    anchor = f"table-3-t-{'plug-in' if paper else 'smoothed'}"
    kind = "plug-in KL, the paper's way" if paper else "smoothed KL"
    units = dict.fromkeys(unit for test in tests for unit in way(test).units)
    caption, notes = f"t-tests over models and dimensions: {kind}", ("; ".join(units) + ".",)
    return words.culture_table(analysis, tests, fields, anchor, caption, notes=notes)


def _summaries(analysis: Analysis, tests: Sequence[SeriesTest]) -> Table:
    """Each series of each culture once, both ways of measuring."""
    rows = {}
    for test in tests:
        sound, paper = test.sound.test, test.paper.test
        rows[test.culture, test.first] = sound.first, paper.first, test.infinite[0]
        rows[test.culture, test.second] = sound.second, paper.second, test.infinite[1]
    fields: list[Field[Any]] = [
        Field("Series", lambda row: row[1], words=True),
        Field("n", lambda row: str(row[2].n), "values: of each model in each dimension, where there is one"),
        Field("Mean", lambda row: fixed(row[2].mean), "smoothed KL"),
        Field("SD", lambda row: fixed(row[2].sd)),
        Field("SEM", lambda row: fixed(row[2].sem)),
        Field("n, plug-in", lambda row: str(row[3].n)),
        Field("Mean, plug-in", lambda row: fixed(row[3].mean), "the paper's way"),
        Field("SD, plug-in", lambda row: fixed(row[3].sd)),
        Field("SEM, plug-in", lambda row: fixed(row[3].sem)),
        words.infinite_field(lambda row: row[4]),
    ]
    caption, items = "Mean, standard deviation and standard error of each series (nats)", rows.items()
    return words.culture_table(analysis, [(*key, *row) for key, row in items], fields, "table-3-series", caption)


@words.section(
    "appendix-i", "App. I · Training and size", "Training stage, size and closeness", "Appendix I, section 6.1"
)
def training_section(analysis: Analysis, section: Section) -> Section:
    """Appendix I and section 6.1."""
    part = analysis.figure(training)
    apart = sum(contrast.p_holm < LEVEL for _, _, contrast in part.contrasts)
    title = f"Training stages differ in {apart} of {len(part.contrasts)} comparisons within a series"
    note = (
        "Stages are compared within a series: between series everything else differs too. Sizes of a few models prove "
        "nothing; the correlation is shown because the paper speaks of it."
    )
    tables = tuple(made for make in (_stages, _stage_tests, _sizes) if (made := make(analysis, part)).rows)
    return replace(section, title=title if part.contrasts else section.title, paragraphs=(note,), tables=tables)


def _stages(analysis: Analysis, part: Training) -> Table:
    def models(stage: StageMean) -> Entry:
        why = ", ".join(cell.cell.model for cell in stage.cells) or "no model of this stage has a figure"
        return Entry(str(len(stage.cells)), why=why)

    def plug_in(stage: StageMean) -> Entry:
        lost = any(isnan(cell.paper.headline) for cell in stage.cells)
        mean = nan if lost else stage.mean(lambda cell: cell.paper.headline)
        return Entry(fixed(mean), why="all values of one of the models are infinite" if lost else "")

    of_all = "share of all items whose commonest answer is people's"
    sound = "mean over models, nats"
    fields: list[Field[StageMean]] = [
        Field("Stage", lambda stage: stage.stage, words=True),
        Field("Models", models, "that have a figure"),
        Field("Smoothed KL", lambda stage: fixed(stage.mean(lambda cell: cell.sound.headline)), sound),
        Field("Excess", lambda stage: signed(stage.mean(lambda cell: cell.excess)), "over the noise floor"),
        Field("Plug-in KL", plug_in, f"the paper's way, {sound}"),
        words.infinite_field(lambda stage: stage.infinite),
        Field("Matching", lambda stage: percent(stage.match), of_all),
    ]
    return words.culture_table(analysis, part.stages, fields, "appendix-i-stages", "Means by training stage")


def _stage_tests(analysis: Analysis, part: Training) -> Table:
    behind = "behind the mean, with n valid answers from every model compared"
    fields: list[Field[tuple[str, str, Contrast]]] = [
        Field("Comparison", lambda row: f"{row[1]}: {row[2].first} − {row[2].second}", words=True),
        Field("Difference", lambda row: signed(row[2].difference), "below 0: the first is closer"),
        Field("p, Holm", lambda row: chance(row[2].p_holm)),
        Field("Questions", lambda row: str(row[2].questions), behind),
        Field("n", lambda row: str(row[2].n), BROUGHT_DOWN),
    ]
    caption = "Stage against stage within a series (corrected KL, nats)"
    return words.culture_table(analysis, part.contrasts, fields, "appendix-i-contrasts", caption)


def _sizes(analysis: Analysis, part: Training) -> Table:
    names = words.culture_names(analysis)
    fields: list[Field[SizeCorrelation]] = [
        Field("Culture", lambda size: names[size.culture], words=True),
        Field("Models", lambda size: str(size.models)),
        Field("Divergence", lambda size: signed(size.divergence), "of the mean; below 0: larger is closer"),
        Field("p", lambda size: chance(size.divergence_p), "permutation, two-sided"),
        Field("Matching", lambda size: signed(size.match), "of all items; above 0: larger matches more"),
    ]
    return table(part.sizes, fields, "appendix-i-sizes", "Spearman's correlation with the number of parameters")
