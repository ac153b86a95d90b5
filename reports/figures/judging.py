"""What a judge found, Figures 9 and 19, and how far it agrees with itself and with people."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from statistics import fmean

import numpy as np

from defsurvey.reports.analysis import ON_EXPLANATIONS, Analysis, judgeable, why_not
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.radar import Loop, Spokes, radar, rounded_reach
from defsurvey.reports.charts.rows import Frame, Mark, Scale, rows_chart
from defsurvey.reports.figures.words import NotRun, culture_charts, culture_names, culture_table, main_cells, missing
from defsurvey.reports.metrics.judges import (
    FAIL,
    NAMES,
    VERDICTS,
    Audit,
    CellRates,
    JudgeNotes,
    Verdicts,
    agreement,
    cell_rates,
    mcnemar,
)
from defsurvey.reports.metrics.quality import Rate
from defsurvey.reports.number_format import NONE, chance, counted, fixed, percent
from defsurvey.reports.page import Entry, Field, Section, Table, table
from defsurvey.reports.untrusted import visible
from defsurvey.storage.runs.judgement import DIMENSIONS, Rubric, rubric_in
from defsurvey.storage.runs.verdicts import JudgeArrays, Pairs, RunJudgements


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRow:
    """One model in one culture."""

    name: str
    model: str
    culture: str
    rates: CellRates


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """All that one judge said."""

    judge: str  #: name and version
    rows: tuple[JudgedRow, ...]
    audits: tuple[Audit, ...] = ()
    partial: bool = False  #: whether it did not come to its end


@dataclass(frozen=True, slots=True, kw_only=True)
class Insensitivity:
    """Figures 9 and 19, judge by judge."""

    judges: tuple[Judged, ...]
    silent: tuple[str, ...] = ()  #: why judges, these or others, did not come to their end


def insensitivity(analysis: Analysis) -> Insensitivity | NotRun:
    """Failure rates of every model of the main condition, by every judge that was asked."""
    notes, reply = analysis.notes, analysis.results.run.protocol.reply
    judges = tuple(
        Judged(
            judge=given.judge,
            rows=tuple(
                JudgedRow(
                    name=cell.name,
                    model=cell.cell.model,
                    culture=cell.cell.culture,
                    rates=cell_rates(given, cell.place),
                )
                for cell in main_cells(analysis)
            ),
            audits=notes.audits.get(given.judge, ()),
            partial=given.judge in notes.partial,
        )
        for given in (judgeable(each, reply) for each in analysis.verdicts)
        if given.cell.size
    )
    if judges:
        return Insensitivity(judges=judges, silent=notes.silent)
    return NotRun(reason=": ".join(["no judge", "; ".join(notes.silent)]) if notes.silent else "no judge")


def judged_by(found: RunJudgements) -> tuple[tuple[Verdicts, ...], JudgeNotes]:
    """What is stored of judges, as the analysis takes it: verdicts, and what is to be said beside them."""
    audits = {judge.judge: _audits(judge) for judge in found.judges}
    notes = JudgeNotes(audits=audits, silent=found.told, partial=found.partial)
    return tuple(_verdicts(judge) for judge in found.judges), notes


def _verdicts(judge: JudgeArrays) -> Verdicts:
    return Verdicts(
        judge=judge.judge,
        cell=judge.cell,
        answer=judge.answer,
        dimension=judge.dimension,
        verdict=judge.verdict,
        weight=judge.weight,
    )


def _audits(judge: JudgeArrays) -> tuple[Audit, ...]:
    return tuple(
        _audit(pairs, dimension)
        for pairs in judge.pairs
        for dimension in ("", *DIMENSIONS)
        if not dimension or (pairs.dimension == DIMENSIONS.index(dimension)).any()
    )


def _audit(pairs: Pairs, dimension: str) -> Audit:
    of = pairs.dimension == DIMENSIONS.index(dimension) if dimension else np.ones(pairs.dimension.size, dtype=bool)
    first, second = pairs.first[of], pairs.second[of]
    return Audit(
        other=pairs.other,
        dimension=dimension,
        agreement=agreement(first, second, len(VERDICTS)),
        stricter=mcnemar(first == FAIL, second == FAIL),
    )


def audit_tables(judged: Judged, number: int) -> tuple[Table, ...]:
    """One table of a judge's audits; none where it was never audited."""
    if not judged.audits:
        return ()
    fields: list[Field[Audit]] = [
        Field("Dimension", lambda audit: NAMES.get(audit.dimension, "all dimensions"), words=True),
        Field("Verdicts", lambda audit: f"{audit.agreement.n:,}", "given by both"),
        Field(
            "Alike",
            lambda audit: _agreement(audit, percent(audit.agreement.observed) if audit.agreement.n else NONE),
            "share of equal verdicts",
        ),
        Field(
            "Kappa",
            lambda audit: _agreement(audit, fixed(audit.agreement.kappa, 2).replace("-", "−")),
            "Cohen's: 0 as by chance, 1 always alike",
        ),
        Field(
            "AC1",
            lambda audit: _agreement(audit, fixed(audit.agreement.ac1, 2).replace("-", "−")),
            "Gwet's; it does not sink where nearly all verdicts are alike",
        ),
        Field(
            "Fails",
            lambda audit: f"{audit.stricter.first_only} : {audit.stricter.second_only}",
            "by the judge alone : by the other alone",
        ),
        Field("p", lambda audit: chance(audit.stricter.exact_p), "McNemar, exact: is one of them stricter?"),
    ]
    return (
        table(
            judged.audits,
            fields,
            anchor=f"figure-9-audit-{number}",
            caption=f"{judged.judge} against itself and against people",
            group=lambda audit: audit.other or "itself, asked again",
            grouped_by="Beside",
        ),
    )


def _agreement(audit: Audit, text: str) -> Entry:
    return Entry(text=text, why=audit.agreement.reason)


_TITLE = "Answers that fail a judge"
#: Fewest clear verdicts on a dimension that the heading speaks of.
ENOUGH = 30


def judge_section(analysis: Analysis) -> Section:
    """Figures 9 and 19."""
    part = analysis.figure(insensitivity)
    section = Section(anchor="figure-9", contents="Fig. 9, 19 · Judged", title=_TITLE, number="Fig. 9 and Fig. 19")
    if isinstance(part, NotRun):
        return missing(section, part)
    judges = list(enumerate(part.judges))
    return replace(
        section,
        title=_worst(part.judges[0], named=len(part.judges) > 1),
        paragraphs=(
            (
                f"Judged by {'; '.join(judged.judge for judged in part.judges)}. A rate is of the answers judged "
                "clearly, pass or fail and not unsure, strata weighted; with 95% Wilson intervals."
            ),
            *_rubrics(part),
            *_unfinished(part),
        ),
        legend=tuple(culture_names(analysis).values()),
        charts=tuple(
            chart
            for number, judged in judges
            for draw in (_dimensions, _charts, _radars)
            for chart in draw(analysis, judged, number)
        ),
        chart_note=(
            "By dimension: the mean of the models' rates. Then answers with at least one failure, model by model. "
            "Radars: failures by dimension, one for every model, all on one scale; "
            f"{', '.join(f'{code}: {NAMES[code]}' for code in DIMENSIONS)}."
        ),
        tables=tuple(
            each
            for number, judged in judges
            for each in (_table(analysis, judged, number), *audit_tables(judged, number))
        ),
    )


def _rubrics(part: Insensitivity) -> tuple[str, ...]:
    """What a rubric that is not our own asks for."""
    if all(rubric_in(judged.judge) is Rubric.OWN for judged in part.judges):
        return ()
    said = (
        "Rubric code: qc is the type of the question and how many options it allows, rp the first person, iu the two "
        "parts of an answer and a preference, ir grammar and completeness too, as the published code of Liu et al. "
        "(2025) asks for. Rates by two rubrics are not of the same thing."
    )
    return (said,)


def _unfinished(part: Insensitivity) -> tuple[str, ...]:
    """Why judges did not come to their end, whose rates may rest on a few answers."""
    if not part.silent:
        return ()
    rest = " Rates rest on what was judged until then." if any(judged.partial for judged in part.judges) else ""
    return (f"Judging did not come to its end: {'; '.join(part.silent)}.{rest}",)


def _worst(judged: Judged, *, named: bool) -> str:
    """On what answers fail most often; several judges may differ, so that the one who says it is named.

    Nothing is claimed of a judge that did not come to its end, since it may have seen next to nothing of a model, nor
    where it gave few clear verdicts, or speaks of one dimension alone.
    """
    if judged.partial:
        return _TITLE
    rates = {
        name: [row.rates.fail[place] for row in judged.rows if isfinite(row.rates.fail[place].share)]
        for place, name in enumerate(DIMENSIONS)
    }
    means = sorted(
        ((fmean(rate.share for rate in of), name) for name, of in rates.items() if sum(r.n for r in of) >= ENOUGH),
        reverse=True,
    )
    if len(means) < 2:
        return _TITLE
    share, name = means[0]
    said = f"answers fail most often on {NAMES[name]}: {percent(share)}" if share > 0 else _none_fails(judged)
    return f"Judged by {judged.judge}, {said}" if named else said[0].upper() + said[1:]


def _none_fails(judged: Judged) -> str:
    """Of a sample: how many may still fail among all answers, by the interval of whom least is known of."""
    highs = [row.rates.any_fail.high for row in judged.rows if isfinite(row.rates.any_fail.high)]
    of = "its 95% interval reaches" if len(highs) == 1 else "the widest 95% interval of a model reaches"
    return f"no judged answer fails; {of} {percent(max(highs))}"


def _dimensions(analysis: Analysis, judged: Judged, number: int) -> tuple[Chart, ...]:
    """One chart: every dimension, a mark for each culture."""
    marks = []
    for at, code in enumerate(DIMENSIONS):
        for place, culture in enumerate(analysis.cultures):
            known = [
                row.rates.fail[at].share
                for row in judged.rows
                if row.culture == culture.culture.code and isfinite(row.rates.fail[at].share)
            ]
            if known:
                share = sum(known) / len(known)
                says = f"{NAMES[code]}, {culture.name}: {percent(share)}, mean of {counted(len(known), 'model')}"
                marks.append(Mark(row=NAMES[code], value=share, says=visible(says), series=place))
    if not marks:
        return ()
    frame = Frame(
        name=f"judged-dimensions-{number}",
        title=visible(f"By dimension, by {judged.judge}"),
        description="Share of judged answers that fail, by dimension and culture, mean of models.",
        scale=Scale(title="share of judged answers that fail, mean of models", percent=True),
        series=len(analysis.cultures),
    )
    return (rows_chart(marks, frame),)


def _charts(analysis: Analysis, judged: Judged, number: int) -> tuple[Chart, ...]:
    def marks(culture: str) -> list[Mark]:
        return [
            Mark(
                row=visible(row.name),
                value=row.rates.any_fail.share,
                low=row.rates.any_fail.low,
                high=row.rates.any_fail.high,
                says=f"{visible(row.name)}: {_of_clear(row.rates.any_fail)}",
            )
            for row in judged.rows
            if row.culture == culture and isfinite(row.rates.any_fail.share)
        ]

    return culture_charts(
        analysis,
        marks,
        lambda place, culture: Frame(
            name=f"judged-{number}-{place}",
            title=visible(f"{culture.name}, by {judged.judge}"),
            description="Share of judged answers with at least one failure.",
            scale=Scale(title="share of answers with a failure", percent=True),
            first=place,
        ),
    )


def _radars(analysis: Analysis, judged: Judged, number: int) -> tuple[Chart, ...]:
    """One radar per model, its cultures on it; all to one scale, so that sizes compare."""
    most = rounded_reach([rate.share for row in judged.rows for rate in row.rates.fail])
    codes = [culture.culture.code for culture in analysis.cultures]
    by_model: dict[str, list[JudgedRow]] = {}
    for row in judged.rows:
        if any(isfinite(rate.share) for rate in row.rates.fail):
            by_model.setdefault(row.model, []).append(row)
    return tuple(
        radar(
            [_loop(analysis, row, codes.index(row.culture)) for row in rows],
            Spokes(
                name=f"radar-{number}-{place}",
                title=visible(f"{model}, by {judged.judge}"),
                description="Share of judged answers that fail, by dimension and culture.",
                axes=DIMENSIONS,
                most=most,
            ),
        )
        for place, (model, rows) in enumerate(by_model.items())
    )


def _loop(analysis: Analysis, row: JudgedRow, place: int) -> Loop:
    named = culture_names(analysis)[row.culture]
    return Loop(
        values=tuple(rate.share for rate in row.rates.fail),
        says=tuple(
            f"{visible(row.name)}, {named}, {NAMES[code]}: {_of_clear(rate)}"
            for code, rate in zip(DIMENSIONS, row.rates.fail, strict=True)
        ),
        series=place,
    )


def _of_clear(rate: Rate) -> str:
    return f"{percent(rate.share)} of {counted(rate.n, 'answer')} judged clearly fail{'s' if rate.n == 1 else ''}"


def _table(analysis: Analysis, judged: Judged, number: int) -> Table:
    lacking = why_not(analysis.results.run.protocol.reply)

    def failing(place: int, code: str) -> Field[JudgedRow]:
        why = lacking if code in ON_EXPLANATIONS else ""
        return Field(code, lambda row: _rate(row.rates.fail[place], why), NAMES[code])

    return culture_table(
        analysis,
        judged.rows,
        [
            Field("Model", lambda row: row.name, words=True),
            *(failing(place, code) for place, code in enumerate(DIMENSIONS)),
            Field(
                "Any",
                lambda row: _rate(row.rates.any_fail),
                "at least one failure, of the answers judged clearly on any dimension",
            ),
            Field("Judged", lambda row: f"{row.rates.answers:,}", "answers"),
            Field("Clear", lambda row: f"{row.rates.any_fail.n:,}", "answers judged clearly on any dimension"),
        ],
        anchor=f"figure-9-rates-{number}",
        caption=f"Failure rates by {judged.judge}",
        notes=(f"No {' and no '.join(NAMES[code] for code in ON_EXPLANATIONS)}: {lacking}.",) if lacking else (),
    )


def _rate(rate: Rate, lacking: str = "") -> Entry:
    if rate.reason:
        return Entry(text=NONE, why=lacking or rate.reason)
    return Entry(text=percent(rate.share), beneath=f"{percent(rate.low)} to {percent(rate.high)}", shade=rate.share)
