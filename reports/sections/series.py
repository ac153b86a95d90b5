"""Table 3: series of models against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.figures.parts import NotRun
from defsurvey.reports.figures.series import SeriesTest, series
from defsurvey.reports.figures.words import (
    INFINITE,
    LEVEL,
    chance,
    culture_names,
    infinite_entry,
    interval_entry,
    listed,
    missing,
    named_cultures,
    published_fold,
    published_tables,
    told,
)
from defsurvey.reports.metrics.significance import Summary, TTest
from defsurvey.reports.number_format import NONE, fixed, signed
from defsurvey.reports.page import Column, Entry, Section, Table, TableRow


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
