"""How answers ended, and whether models know the survey."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis
from defsurvey.reports.figures.words import NotRun, culture_names, culture_table
from defsurvey.reports.merge import run_ids
from defsurvey.reports.metrics.contamination import CLOSE, VERBATIM, Guessed, Recalled, guessed, recalled, similarity
from defsurvey.reports.metrics.quality import Rate
from defsurvey.reports.number_format import NONE, chance, fixed, percent
from defsurvey.reports.page import Entry, Field, Fold, Section, Table, Tile, table
from defsurvey.storage.runs.probes import Probe, ProbeKind
from defsurvey.storage.runs.results import Results
from defsurvey.storage.surveys.survey import Question, Survey


def quality_section(analysis: Analysis) -> Section:
    """How the answers ended, how much they differ, and whether the models know the survey."""
    valid, checked = analysis.overall.valid, analysis.figure(contamination)
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
            f"Whether the models have seen the survey was not checked: {checked.reason}."
            if isinstance(checked, NotRun)
            else _HOW,
        ),
        tables=(
            _quality(analysis),
            _diversity(analysis),
            *(() if isinstance(checked, NotRun) else _tables(checked, analysis)),
        ),
        folds=() if isinstance(checked, NotRun) else (_fold(checked, analysis),),
    )


def _quality(analysis: Analysis) -> Table:
    fields: list[Field[CellAnalysis]] = [
        Field("Model", lambda cell: cell.name, words=True),
        Field("Planned", lambda cell: f"{cell.quality.planned:,}"),
        Field("Ended", lambda cell: percent(cell.quality.coverage), "share of the planned answers that have ended"),
        Field("Answered", lambda cell: _rate(cell.quality.valid), "valid answers, of those that ended"),
        Field("Refused", lambda cell: _rate(cell.quality.refused)),
        Field("Unparsable", lambda cell: _rate(cell.quality.unparsable), "a reply from which no answer can be read"),
        Field("Failed", lambda cell: _rate(cell.quality.failed), "the engine gave up"),
    ]
    return culture_table(
        analysis,
        analysis.cells,
        fields,
        anchor="table-quality",
        caption="How the planned answers ended, with 95% intervals",
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
    fields: list[Field[CellAnalysis]] = [
        Field("Model", lambda cell: cell.name, words=True),
        Field(
            "D",
            lambda cell: Entry(text=fixed(cell.diversity.d), why=cell.diversity.reason),
            "distinct full replies, Eq. 6 of the paper",
        ),
        Field("Maximum", lambda cell: fixed(cell.diversity.maximum), "of D at this number of replies"),
        Field("D / max", lambda cell: Entry(text=fixed(cell.diversity.relative), why=cell.diversity.reason)),
        Field(
            "Distinct answers",
            lambda cell: fixed(cell.distinct_choices, 2) if cell.quality.valid.count else NONE,
            "mean over questions",
        ),
        Field(
            "Effective options",
            lambda cell: fixed(cell.effective_options),
            "exp(entropy) of the choices, mean over items with a reference",
        ),
        Field(
            "People", lambda cell: fixed(cell.human_effective_options), "effective options of people, the same items"
        ),
    ]
    return culture_table(
        analysis,
        analysis.cells,
        fields,
        anchor="table-diversity",
        caption="Diversity of replies and of choices",
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


def _tables(part: Contamination, analysis: Analysis) -> list[Table]:
    recalled_fields: list[Field[RecalledRow]] = [
        Field("Model", lambda row: row.model, words=True),
        Field("Language", lambda row: row.language, words=True),
        Field(
            "Own",
            lambda row: fixed(row.test.mean_own, 2),
            "similarity to the question's own options, 0 to 1, mean over questions",
        ),
        Field(
            "Others",
            lambda row: Entry(text=fixed(row.test.mean_others, 2), why=row.test.reason),
            "the same with questions and options paired at random",
        ),
        Field(
            "p",
            lambda row: Entry(text=chance(row.test.p_all), why=row.test.reason),
            "share of random pairings that come as near",
        ),
        Field(
            "Nearest",
            lambda row: f"{row.test.nearest.sum()} of {len(row.questions)}",
            "questions whose own options come nearer than all others",
        ),
        Field(
            "Verbatim",
            lambda row: f"{row.test.verbatim.sum()} of {len(row.questions)}",
            f"questions with a similarity of at least {VERBATIM:g}",
        ),
    ]
    guessed_fields: list[Field[GuessedRow]] = [
        Field("Model", lambda row: row.model, words=True),
        Field("Language", lambda row: row.language, words=True),
        Field(
            "Error",
            lambda row: Entry(text=fixed(row.test.mean_error, 1), why=row.test.reason),
            "mean absolute error in percentage points, mean over questions",
        ),
        Field(
            "Shuffled",
            lambda row: Entry(text=fixed(row.test.mean_shuffled, 1), why=row.test.reason),
            "the same against the published percentages dealt out anew",
        ),
        Field(
            "p",
            lambda row: Entry(text=chance(row.test.p_all), why=row.test.reason),
            "share of shuffles whose error is as small",
        ),
        Field(
            "Exact",
            lambda row: f"{row.test.close.sum()} of {len(row.questions)}",
            f"questions with an error of at most {CLOSE:g} point, of those read",
        ),
        Field(
            "Read",
            lambda row: f"{len(row.questions)} of {row.asked}",
            "questions whose reply gives a percentage for every option, of those asked",
        ),
    ]
    options = table(
        part.recalled,
        recalled_fields,
        anchor="table-options-recalled",
        caption="Options recalled from the wording alone",
        notes=("Nearest and verbatim: of the questions asked. One whose options are all numbers is left out.",),
    )
    percentages = culture_table(
        analysis,
        part.guessed,
        guessed_fields,
        anchor="table-percentages-recalled",
        caption="Published percentages given from the wording alone",
    )
    return [each for each in (options, percentages) if each.rows]


def _fold(part: Contamination, analysis: Analysis) -> Fold:
    names = culture_names(analysis)
    options = _by_question(
        [
            (f"{row.model}, {row.language}", question, figures)
            for row in part.recalled
            for question, *figures in zip(row.questions, row.test.own, row.test.others, row.test.p, strict=True)
        ],
        ("Own", "Others"),
        digits=2,
        anchor="table-options-by-question",
        caption="Similarity to the question's own options, and to other questions'",
    )
    percentages = _by_question(
        [
            (f"{row.model}, {names.get(row.culture, row.culture)}, {row.language}", question, figures)
            for row in part.guessed
            for question, *figures in zip(row.questions, row.test.error, row.test.shuffled, row.test.p, strict=True)
        ],
        ("Error", "Shuffled"),
        digits=1,
        anchor="table-percentages-by-question",
        caption="Error of the percentages given, in points, and against those dealt out anew",
    )
    return Fold(
        anchor="contamination-by-question",
        title="What models know, question by question",
        tables=tuple(each for each in (options, percentages) if each.rows),
    )


def _by_question(
    rows: list[tuple[str, str, list[float]]], heads: tuple[str, str], *, digits: int, anchor: str, caption: str
) -> Table:
    """A row per model and question: a figure, the same by chance, and p."""
    first, second = heads
    return table(
        rows,
        [
            Field("Question", lambda row: row[1], words=True),
            Field(first, lambda row: fixed(float(row[2][0]), digits)),
            Field(second, lambda row: fixed(float(row[2][1]), digits)),
            Field("p", lambda row: chance(float(row[2][2])), "not adjusted"),
        ],
        anchor=anchor,
        caption=caption,
        group=lambda row: row[0],
        grouped_by="Model",
    )


def tiles(analysis: Analysis) -> tuple[Tile, ...]:
    """The figures at the top of the report: how many answers, and how they ended."""
    overall = analysis.overall
    sizes = sorted({cell.participants for cell in analysis.results.run.cells})
    people = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,}–{sizes[-1]:,}"
    unfinished = (Tile(value=f"{overall.done:,}", label="of them ended"),) if overall.done < overall.planned else ()
    return (
        Tile(value=f"{overall.planned:,}", label="answers planned"),
        *unfinished,
        Tile(value=percent(overall.valid.share), label="answered"),
        Tile(value=percent(overall.refused.share), label="refused"),
        Tile(value=percent(overall.unparsable.share), label="unparsable"),
        Tile(value=percent(overall.failed.share), label="failed"),
        Tile(value=people, label="participants per cell"),
    )
