"""How answers ended, and whether models know the survey."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CellAnalysis
from defsurvey.reports.figures.words import MODEL, NotRun, culture_names
from defsurvey.reports.merge import run_ids
from defsurvey.reports.metrics.contamination import CLOSE, VERBATIM, Guessed, Recalled, guessed, recalled, similarity
from defsurvey.reports.metrics.quality import Rate
from defsurvey.reports.number_format import NONE, chance, fixed, percent
from defsurvey.reports.page import Column, Entry, Fold, Section, Table, TableRow
from defsurvey.storage.runs.probes import Probe, ProbeKind
from defsurvey.storage.runs.results import Results
from defsurvey.storage.surveys.survey import Question, Survey


def quality_section(analysis: Analysis) -> Section:
    """How the answers ended and how much they differ."""
    valid = analysis.overall.valid
    return Section(
        anchor="quality",
        contents="Answer quality",
        title="How the answers ended" if not valid.n else f"{percent(valid.share)} of the answers are valid",
        paragraphs=(
            (
                "Divergence is measured on valid answers only. Refused, unparsable and failed answers are counted "
                "here and are never turned into a choice."
            ),
            (
                "D counts distinct full replies; the options used say whether the choices differ too. A model can "
                "word one opinion in twenty ways."
            ),
        ),
        tables=(_quality(analysis), _diversity(analysis)),
    )


def _rows(analysis: Analysis) -> list[tuple[str, CellAnalysis]]:
    return [(culture.name, cell) for culture in analysis.cultures for cell in culture.cells]


def _quality(analysis: Analysis) -> Table:
    return Table(
        grouped_by="Culture",
        anchor="table-quality",
        caption="How the planned answers ended, with 95% intervals",
        columns=(
            MODEL,
            Column(text="Planned"),
            Column(text="Ended", meaning="share of the planned answers that have ended"),
            Column(text="Answered", meaning="valid answers, of those that ended"),
            Column(text="Refused"),
            Column(text="Unparsable", meaning="a reply from which no answer can be read"),
            Column(text="Failed", meaning="the engine gave up"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=cell.name),
                group=name,
                entries=(
                    Entry(text=f"{cell.quality.planned:,}"),
                    Entry(text=percent(cell.quality.coverage)),
                    *(
                        _rate(rate)
                        for rate in (
                            cell.quality.valid,
                            cell.quality.refused,
                            cell.quality.unparsable,
                            cell.quality.failed,
                        )
                    ),
                ),
            )
            for name, cell in _rows(analysis)
        ),
        notes=(
            (
                "Wilson intervals at the effective number of answers: those of one participant end alike. Where all or "
                "none ended so, nothing tells how much they do, and a participant counts as one answer."
            ),
        ),
    )


def _rate(rate: Rate) -> Entry:
    if rate.reason:
        return Entry(text=NONE, why=rate.reason)
    return Entry(text=percent(rate.share), beneath=f"{percent(rate.low)} to {percent(rate.high)}")


def _diversity(analysis: Analysis) -> Table:
    return Table(
        grouped_by="Culture",
        anchor="table-diversity",
        caption="Diversity of replies and of choices",
        columns=(
            MODEL,
            Column(text="D", meaning="distinct full replies, Eq. 6 of the paper"),
            Column(text="Maximum", meaning="of D at this number of replies"),
            Column(text="D / max"),
            Column(text="Distinct answers", meaning="mean over questions"),
            Column(text="Effective options", meaning="exp(entropy) of the choices, mean over items with a reference"),
            Column(text="People", meaning="effective options of people, the same items"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=cell.name),
                group=name,
                entries=(
                    Entry(text=fixed(cell.diversity.d), why=cell.diversity.reason),
                    Entry(text=fixed(cell.diversity.maximum)),
                    Entry(text=fixed(cell.diversity.relative), why=cell.diversity.reason),
                    Entry(text=fixed(cell.distinct_choices, 2) if cell.quality.valid.count else NONE),
                    Entry(text=fixed(cell.effective_options)),
                    Entry(text=fixed(cell.human_effective_options)),
                ),
            )
            for name, cell in _rows(analysis)
        ),
        notes=(
            (
                "Few participants cannot use many options: with n of them the effective options are at most n, "
                "while the column for people rests on thousands."
            ),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalledRow:
    """What one model recalls of the options, asked in one language."""

    model: str
    language: str
    questions: tuple[str, ...]  #: whose options have words
    test: Recalled


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessedRow:
    """How near one model comes to the published percentages of one culture, asked in one language."""

    model: str
    culture: str
    language: str
    questions: tuple[str, ...]  #: whose percentages could be read
    asked: int
    test: Guessed


@dataclass(frozen=True, slots=True, kw_only=True)
class Contamination:
    """Both checks, in the order of models, cultures and languages."""

    recalled: tuple[RecalledRow, ...]
    guessed: tuple[GuessedRow, ...]


def contamination(analysis: Analysis) -> Contamination | NotRun:
    """What the probes of a run say; not run where nobody asked."""
    results = analysis.results
    if not results.probes:
        asking = [f"defsurvey contamination {run}" for run in run_ids(results.run)]
        return NotRun(reason=f"nobody asked; {' and '.join(asking)} {'does' if len(asking) == 1 else 'do'}")
    by_kind = {kind: [probe for probe in _in_order(results) if probe.kind is kind] for kind in ProbeKind}
    survey, seed = results.survey, results.run.protocol.seed
    keys = dict.fromkeys((probe.model, probe.language) for probe in by_kind[ProbeKind.OPTIONS])
    asked = dict.fromkeys((probe.model, probe.culture, probe.language) for probe in by_kind[ProbeKind.PERCENTAGES])
    return Contamination(
        recalled=tuple(
            _recalled(survey, [p for p in by_kind[ProbeKind.OPTIONS] if (p.model, p.language) == key], seed)
            for key in keys
        ),
        guessed=tuple(
            _guessed(
                survey, [p for p in by_kind[ProbeKind.PERCENTAGES] if (p.model, p.culture, p.language) == key], seed
            )
            for key in asked
        ),
    )


def _in_order(results: Results) -> list[Probe]:
    """The probes in the order of the run's models and questions; cultures and languages follow the models."""
    models = list(dict.fromkeys(cell.model for cell in results.run.cells))
    questions = {name: place for place, name in enumerate(results.run.questions)}
    return sorted(results.probes, key=lambda p: (models.index(p.model), p.culture, p.language, questions[p.question]))


def _recalled(survey: Survey, probes: list[Probe], seed: int) -> RecalledRow:
    """Nothing is compared with a question whose options are all numbers: any reply is as near to them as any other."""
    first, language = probes[0], probes[0].language
    offered = [(probe, _labels(survey.question(probe.question), language)) for probe in probes]
    worded = [(probe, labels) for probe, labels in offered if labels]
    labels = [each for _, each in worded]
    near = {each: [similarity(probe.completion, each) for probe, _ in worded] for each in dict.fromkeys(labels)}
    size = len(worded)
    return RecalledRow(
        model=first.model,
        language=language,
        questions=tuple(probe.question for probe, _ in worded),
        test=recalled(
            np.array([near[each] for each in labels]).reshape(size, size).T,
            np.array([[one == other for other in labels] for one in labels]).reshape(size, size),
            np.random.default_rng(seed),
        ),
    )


def _labels(question: Question, language: str) -> tuple[str, ...]:
    """What a question offers but for "other": with the points of a scale that have no label of their own left out."""
    labels = (option.label[language] for option in question.options if not option.residual)
    return tuple(label for label in labels if not label.strip().isdecimal())


def _guessed(survey: Survey, probes: list[Probe], seed: int) -> GuessedRow:
    first = probes[0]
    read = [(probe, shares) for probe in probes if probe.percent and (shares := _published(survey, probe))]
    test = guessed(
        [[probe.percent[code] for code in shares] for probe, shares in read if probe.percent],
        [list(shares.values()) for _, shares in read],
        np.random.default_rng(seed),
    )
    return GuessedRow(
        model=first.model,
        culture=first.culture,
        language=first.language,
        questions=tuple(probe.question for probe, _ in read),
        asked=len(probes),
        test=test,
    )


def _published(survey: Survey, probe: Probe) -> dict[int, float]:
    """Option code -> published percentage, of the options whose share is known."""
    reference = survey.reference(probe.question, probe.culture)
    shares: Iterable[tuple[int, float]] = reference.shares.items() if reference is not None else ()
    return {code: 100 * share for code, share in shares}


_HOW = (
    "Whether a model has seen the survey: it was given each question's wording alone and asked for the options, and "
    "for the percentages of each country. The controls are the options of the other questions, and the published "
    "percentages dealt out anew to the options. A small p alone is no proof: many options and opinions can be guessed. "
    "Options word for word, or percentages to the point, cannot."
)


def with_contamination(section: Section, analysis: Analysis) -> Section:
    """The section with what the check found, or with the reason for which it was not run."""
    part = analysis.figure(contamination)
    if isinstance(part, NotRun):
        told = f"Whether the models have seen the survey was not checked: {part.reason}."
        return replace(section, paragraphs=(*section.paragraphs, told))
    return replace(
        section,
        paragraphs=(*section.paragraphs, _HOW),
        tables=(*section.tables, *_tables(part, analysis)),
        folds=(*section.folds, *_folds(part, analysis)),
    )


def _tables(part: Contamination, analysis: Analysis) -> list[Table]:
    options = Table(
        anchor="table-options-recalled",
        caption="Options recalled from the wording alone",
        columns=(
            MODEL,
            Column(text="Language", words=True),
            Column(text="Own", meaning="similarity to the question's own options, 0 to 1, mean over questions"),
            Column(text="Others", meaning="the same with questions and options paired at random"),
            Column(text="p", meaning="share of random pairings that come as near"),
            Column(text="Nearest", meaning="questions whose own options come nearer than all others"),
            Column(text="Verbatim", meaning=f"questions with a similarity of at least {VERBATIM:g}"),
        ),
        rows=tuple(_recalled_row(row) for row in part.recalled),
        notes=("Nearest and verbatim: of the questions asked. One whose options are all numbers is left out.",),
    )
    percentages = Table(
        anchor="table-percentages-recalled",
        caption="Published percentages given from the wording alone",
        grouped_by="Culture",
        columns=(
            MODEL,
            Column(text="Language", words=True),
            Column(text="Error", meaning="mean absolute error in percentage points, mean over questions"),
            Column(text="Shuffled", meaning="the same against the published percentages dealt out anew"),
            Column(text="p", meaning="share of shuffles whose error is as small"),
            Column(text="Exact", meaning=f"questions with an error of at most {CLOSE:g} point, of those read"),
            Column(text="Read", meaning="questions whose reply gives a percentage for every option, of those asked"),
        ),
        rows=tuple(
            _guessed_row(row, name)
            for code, name in culture_names(analysis).items()
            for row in part.guessed
            if row.culture == code
        ),
    )
    return [table for table in (options, percentages) if table.rows]


def _recalled_row(row: RecalledRow) -> TableRow:
    test = row.test
    return TableRow(
        head=Entry(text=row.model),
        entries=(
            Entry(text=row.language),
            Entry(text=fixed(test.mean_own, 2)),
            Entry(text=fixed(test.mean_others, 2), why=test.reason),
            Entry(text=chance(test.p_all), why=test.reason),
            Entry(text=f"{test.nearest.sum()} of {len(row.questions)}"),
            Entry(text=f"{test.verbatim.sum()} of {len(row.questions)}"),
        ),
    )


def _guessed_row(row: GuessedRow, culture: str) -> TableRow:
    test = row.test
    return TableRow(
        head=Entry(text=row.model),
        group=culture,
        entries=(
            Entry(text=row.language),
            Entry(text=fixed(test.mean_error, 1), why=test.reason),
            Entry(text=fixed(test.mean_shuffled, 1), why=test.reason),
            Entry(text=chance(test.p_all), why=test.reason),
            Entry(text=f"{test.close.sum()} of {len(row.questions)}"),
            Entry(text=f"{len(row.questions)} of {row.asked}"),
        ),
    )


def _folds(part: Contamination, analysis: Analysis) -> list[Fold]:
    names = culture_names(analysis)
    options = Table(
        anchor="table-options-by-question",
        caption="Similarity to the question's own options, and to other questions'",
        grouped_by="Model",
        columns=(
            Column(text="Question", words=True),
            Column(text="Own"),
            Column(text="Others"),
            Column(text="p", meaning="not adjusted"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=question),
                group=f"{row.model}, {row.language}",
                entries=(
                    Entry(text=fixed(float(row.test.own[place]), 2)),
                    Entry(text=fixed(float(row.test.others[place]), 2)),
                    Entry(text=chance(float(row.test.p[place]))),
                ),
            )
            for row in part.recalled
            for place, question in enumerate(row.questions)
        ),
    )
    percentages = Table(
        anchor="table-percentages-by-question",
        caption="Error of the percentages given, in points, and against those dealt out anew",
        grouped_by="Model",
        columns=(
            Column(text="Question", words=True),
            Column(text="Error"),
            Column(text="Shuffled"),
            Column(text="p", meaning="not adjusted"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=question),
                group=f"{row.model}, {names.get(row.culture, row.culture)}, {row.language}",
                entries=(
                    Entry(text=fixed(float(row.test.error[place]), 1)),
                    Entry(text=fixed(float(row.test.shuffled[place]), 1)),
                    Entry(text=chance(float(row.test.p[place]))),
                ),
            )
            for row in part.guessed
            for place, question in enumerate(row.questions)
        ),
    )
    tables = tuple(table for table in (options, percentages) if table.rows)
    return [Fold(anchor="contamination-by-question", title="What models know, question by question", tables=tables)]
