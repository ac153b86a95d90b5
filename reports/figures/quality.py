"""How answers ended, and whether models know the survey."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, NotRun
from defsurvey.reports.figures.words import MODEL, culture_names, culture_table
from defsurvey.reports.merge import run_ids
from defsurvey.reports.metrics.contamination import CLOSE, VERBATIM, Guessed, Recalled, guessed, recalled, similarity
from defsurvey.reports.metrics.quality import Rate
from defsurvey.reports.number_format import NONE, chance, fixed, percent
from defsurvey.reports.page import Entry, Field, Fold, Section, Table, Term, table
from defsurvey.storage.runs.probes import Probe, ProbeKind
from defsurvey.storage.surveys.survey import Question, Survey


def quality_section(analysis: Analysis) -> Section:
    """How the answers ended, how much they differ, and whether the models know the survey."""
    valid, how = analysis.overall.valid, _HOW
    tables, folds = [_quality(analysis), _diversity(analysis)], []
    try:
        checked = analysis.figure(contamination)
        tables += [each for each in _checks(checked, analysis) if each.rows]
        folds = [_fold(checked, analysis)]
    except NotRun as missing:
        how = f"Whether the models have seen the survey was not checked: {missing.reason}."
    return Section(
        anchor="quality",
        contents="Answer quality",
        title="How the answers ended" if not valid.n else f"{percent(valid.share)} of the answers are valid",
        paragraphs=(_VALID_ONLY, _DIVERSITY, how),
        tables=tuple(tables),
        folds=tuple(folds),
    )


_VALID_ONLY = (
    "Divergence is measured on valid answers only. Refused, unparsable and failed answers are counted here and are "
    "never turned into a choice."
)
_DIVERSITY = (
    "D counts distinct full replies; the options used say whether the choices differ too. A model can word one opinion "
    "in twenty ways."
)
_HOW = (
    "Whether a model has seen the survey: it was given each question's wording alone and asked for the options, and "
    "for the percentages of each country. The controls are the options of the other questions, and the published "
    "percentages dealt out anew to the options. A small p alone is no proof: many options and opinions can be guessed. "
    "Options word for word, or percentages to the point, cannot."
)


def _quality(analysis: Analysis) -> Table:
    fields: list[Field[CellAnalysis]] = [
        MODEL,
        Field("Planned", lambda cell: f"{cell.quality.planned:,}"),
        Field("Ended", lambda cell: percent(cell.quality.coverage), "share of the planned answers that have ended"),
        Field("Answered", lambda cell: _rate(cell.quality.valid), "valid answers, of those that ended"),
        Field("Refused", lambda cell: _rate(cell.quality.refused)),
        Field("Unparsable", lambda cell: _rate(cell.quality.unparsable), "a reply from which no answer can be read"),
        Field("Failed", lambda cell: _rate(cell.quality.failed), "the engine gave up"),
    ]
    note = (
        "Wilson intervals at the effective number of answers: those of one participant end alike. Where all or none "
        "ended so, nothing tells how much they do, and a participant counts as one answer."
    )
    caption = "How the planned answers ended, with 95% intervals"
    return culture_table(analysis, analysis.cells, fields, "table-quality", caption, notes=(note,))


def _rate(rate: Rate) -> Entry:
    if rate.reason:
        return Entry(NONE, why=rate.reason)
    return Entry(percent(rate.share), beneath=f"{percent(rate.low)} to {percent(rate.high)}")


def _diversity(analysis: Analysis) -> Table:
    def distinct(cell: CellAnalysis) -> str:
        return fixed(cell.distinct_choices, 2) if cell.quality.valid.count else NONE

    def d(text: str, value: Callable[[CellAnalysis], float], meaning: str = "") -> Field[CellAnalysis]:
        return Field(text, lambda cell: Entry(fixed(value(cell)), why=cell.diversity.reason), meaning)

    used, of_people = "exp(entropy) of the choices, mean over items with a reference", "effective options of people"
    fields: list[Field[CellAnalysis]] = [
        MODEL,
        d("D", lambda cell: cell.diversity.d, "distinct full replies, Eq. 6 of the paper"),
        Field("Maximum", lambda cell: fixed(cell.diversity.maximum), "of D at this number of replies"),
        d("D / max", lambda cell: cell.diversity.relative),
        Field("Distinct answers", distinct, "mean over questions"),
        Field("Effective options", lambda cell: fixed(cell.effective_options), used),
        Field("People", lambda cell: fixed(cell.human_effective_options), f"{of_people}, the same items"),
    ]
    note = (
        "Few participants cannot use many options: with n of them the effective options are at most n, while the "
        "column for people rests on thousands."
    )
    caption = "Diversity of replies and of choices"
    return culture_table(analysis, analysis.cells, fields, "table-diversity", caption, notes=(note,))


Test = TypeVar("Test", Recalled, Guessed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedRow(Generic[Test]):
    """What one model knows, asked in one language: the options, or the percentages of one culture."""

    model: str
    culture: str  #: empty of options
    language: str
    questions: tuple[str, ...]  #: whose options have words, or whose percentages could be read
    asked: int
    test: Test


@dataclass(frozen=True, slots=True, kw_only=True)
class Contamination:
    """Both checks, in the order of models, cultures and languages."""

    recalled: tuple[ProbedRow[Recalled], ...]
    guessed: tuple[ProbedRow[Guessed], ...]


def contamination(analysis: Analysis) -> Contamination:
    """What the probes of a run say, by models and questions in the run's order; not run where nobody asked."""
    results, survey = analysis.results, analysis.results.survey
    if not results.probes:
        asking = [f"defsurvey contamination {run}" for run in run_ids(results.run)]
        raise NotRun(f"nobody asked; {' and '.join(asking)} {'does' if len(asking) == 1 else 'do'}")
    models, place = [cell.model for cell in results.run.cells], results.run.questions.index
    asked: dict[tuple[ProbeKind, str, str, str], list[Probe]] = {}
    for probe in sorted(
        results.probes, key=lambda p: (models.index(p.model), p.culture, p.language, place(p.question))
    ):
        culture = probe.culture if probe.kind is ProbeKind.PERCENTAGES else ""
        asked.setdefault((probe.kind, probe.model, culture, probe.language), []).append(probe)
    of = {kind: [probes for key, probes in asked.items() if key[0] is kind] for kind in ProbeKind}
    seed = results.run.protocol.seed
    return Contamination(
        recalled=tuple(_recalled(survey, probes, seed) for probes in of[ProbeKind.OPTIONS]),
        guessed=tuple(_guessed(survey, probes, seed) for probes in of[ProbeKind.PERCENTAGES]),
    )


def _recalled(survey: Survey, probes: list[Probe], seed: int) -> ProbedRow[Recalled]:
    """Nothing is compared with a question whose options are all numbers: any reply is as near to them as any other."""
    first = probes[0]
    offered = [(probe, _labels(survey.question(probe.question), first.language)) for probe in probes]
    worded = [(probe, labels) for probe, labels in offered if labels]
    labels, size = [each for _, each in worded], len(worded)
    near = {each: [similarity(probe.completion, each) for probe, _ in worded] for each in dict.fromkeys(labels)}
    likeness = np.array([near[each] for each in labels]).reshape(size, size).T
    same = np.array([[one == other for other in labels] for one in labels]).reshape(size, size)
    test = recalled(likeness, same, np.random.default_rng(seed))
    return _probed(first, "", [probe.question for probe, _ in worded], len(probes), test)


def _probed(first: Probe, culture: str, questions: list[str], asked: int, test: Test) -> ProbedRow[Test]:
    where = {"model": first.model, "culture": culture, "language": first.language}
    return ProbedRow(**where, questions=tuple(questions), asked=asked, test=test)


def _labels(question: Question, language: str) -> tuple[str, ...]:
    """What a question offers but for "other": with the points of a scale that have no label of their own left out."""
    labels = (option.label[language] for option in question.options if not option.residual)
    return tuple(label for label in labels if not label.strip().isdecimal())


def _guessed(survey: Survey, probes: list[Probe], seed: int) -> ProbedRow[Guessed]:
    """Of the replies with percentages, against those published of the options whose share is known."""
    questions, given, published = [], [], []
    for probe in probes:
        reference = survey.reference(probe.question, probe.culture)
        if probe.percent and reference is not None and reference.shares:
            questions.append(probe.question)
            given.append([probe.percent[code] for code in reference.shares])
            published.append([100 * share for share in reference.shares.values()])
    test = guessed(given, published, np.random.default_rng(seed))
    return _probed(probes[0], probes[0].culture, questions, len(probes), test)


def _checks(part: Contamination, analysis: Analysis) -> tuple[Table, Table]:
    """What was recalled of options and of percentages, each beside its control."""

    def figure(text: str, show: Callable[[Any], str], meaning: str) -> Field[Any]:
        return Field(text, lambda row: Entry(show(row.test), why=row.test.reason), meaning)

    def share(text: str, count: Callable[[Any], int], meaning: str) -> Field[Any]:
        return Field(text, lambda row: f"{count(row.test)} of {len(row.questions)}", meaning)

    model: Field[Any] = Field("Model", lambda row: row.model, words=True)
    language: Field[Any] = Field("Language", lambda row: row.language, words=True)
    own = "similarity to the question's own options, 0 to 1, mean over questions"
    recalled_fields = [
        model,
        language,
        Field("Own", lambda row: fixed(row.test.mean_own, 2), own),
        figure("Others", lambda t: fixed(t.mean_others, 2), "the same with questions and options paired at random"),
        figure("p", lambda t: chance(t.p_all), "share of random pairings that come as near"),
        share("Nearest", lambda t: t.nearest.sum(), "questions whose own options come nearer than all others"),
        share("Verbatim", lambda t: t.verbatim.sum(), f"questions with a similarity of at least {VERBATIM:g}"),
    ]
    exact = f"questions with an error of at most {CLOSE:g} point, of those read"
    read = "questions whose reply gives a percentage for every option, of those asked"
    anew = "the same against the published percentages dealt out anew"
    guessed_fields = [
        model,
        language,
        figure(
            "Error", lambda t: fixed(t.mean_error, 1), "mean absolute error in percentage points, mean over questions"
        ),
        figure("Shuffled", lambda t: fixed(t.mean_shuffled, 1), anew),
        figure("p", lambda t: chance(t.p_all), "share of shuffles whose error is as small"),
        share("Exact", lambda t: t.close.sum(), exact),
        Field("Read", lambda row: f"{len(row.questions)} of {row.asked}", read),
    ]
    options, percentages = (
        "Options recalled from the wording alone",
        "Published percentages given from the wording alone",
    )
    notes = ("Nearest and verbatim: of the questions asked. One whose options are all numbers is left out.",)
    return (
        table(part.recalled, recalled_fields, "table-options-recalled", options, notes=notes),
        culture_table(analysis, part.guessed, guessed_fields, "table-percentages-recalled", percentages),
    )


def _fold(part: Contamination, analysis: Analysis) -> Fold:
    names, recalled_rows, guessed_rows = culture_names(analysis), [], []
    for row in part.recalled:
        figures = zip(row.test.own, row.test.others, row.test.p, strict=True)
        recalled_rows += [(f"{row.model}, {row.language}", *each) for each in zip(row.questions, figures, strict=True)]
    for given in part.guessed:
        figures = zip(given.test.error, given.test.shuffled, given.test.p, strict=True)
        name = f"{given.model}, {names.get(given.culture, given.culture)}, {given.language}"
        guessed_rows += [(name, *each) for each in zip(given.questions, figures, strict=True)]
    own = "Similarity to the question's own options, and to other questions'"
    error = "Error of the percentages given, in points, and against those dealt out anew"
    options = _by_question(recalled_rows, ("Own", "Others"), 2, "table-options-by-question", own)
    percentages = _by_question(guessed_rows, ("Error", "Shuffled"), 1, "table-percentages-by-question", error)
    tables = tuple(each for each in (options, percentages) if each.rows)
    return Fold(anchor="contamination-by-question", title="What models know, question by question", tables=tables)


def _by_question(
    rows: Sequence[tuple[str, str, tuple[float, ...]]], heads: tuple[str, str], digits: int, anchor: str, caption: str
) -> Table:
    """A row per model and question: a figure, the same by chance, and p."""
    fields: list[Field[tuple[str, str, tuple[float, ...]]]] = [
        Field("Question", lambda row: row[1], words=True),
        Field(heads[0], lambda row: fixed(float(row[2][0]), digits)),
        Field(heads[1], lambda row: fixed(float(row[2][1]), digits)),
        Field("p", lambda row: chance(float(row[2][2])), "not adjusted"),
    ]
    return table(rows, fields, anchor, caption, group=lambda row: row[0], grouped_by="Model")


def tiles(analysis: Analysis) -> tuple[Term, ...]:
    """The figures at the top of the report: how many answers, and how they ended."""
    overall = analysis.overall
    sizes = sorted({cell.participants for cell in analysis.results.run.cells})
    shown = {
        "answers planned": f"{overall.planned:,}",
        **({"of them ended": f"{overall.done:,}"} if overall.done < overall.planned else {}),
        "answered": percent(overall.valid.share),
        "refused": percent(overall.refused.share),
        "unparsable": percent(overall.unparsable.share),
        "failed": percent(overall.failed.share),
        "participants per cell": f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,}–{sizes[-1]:,}",
    }
    return tuple(Term(name=name, value=value) for name, value in shown.items())
