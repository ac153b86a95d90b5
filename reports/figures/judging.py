"""What a judge found, Figures 9 and 19, and how far it agrees with itself and with people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from statistics import fmean

import numpy as np

from defsurvey.reports.analysis import Analysis, NotRun, why_not
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.radar import Loop, Spokes, radar, rounded_reach
from defsurvey.reports.charts.rows import Frame, Mark, Scale, rows_chart
from defsurvey.reports.figures.shared import OfCell, main_cells, usable_verdicts
from defsurvey.reports.figures.words import MODEL, culture_charts, culture_names, culture_table, section
from defsurvey.reports.metrics.judges import (
    FAIL,
    NAMES,
    ON_EXPLANATIONS,
    VERDICTS,
    Agreement,
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

#: Fewest clear verdicts on a dimension that the heading speaks of.
ENOUGH = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRow(OfCell):
    """One model in one culture."""

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


def insensitivity(analysis: Analysis) -> Insensitivity:
    """Failure rates of every model of the main condition, by every judge that was asked."""
    notes = analysis.notes
    judges = tuple(
        Judged(
            judge=given.judge,
            rows=tuple(JudgedRow(cell=cell, rates=cell_rates(given, cell.place)) for cell in main_cells(analysis)),
            audits=notes.audits.get(given.judge, ()),
            partial=given.judge in notes.partial,
        )
        for given in usable_verdicts(analysis)
    )
    if not judges:
        raise NotRun(": ".join(["no judge", "; ".join(notes.silent)]) if notes.silent else "no judge")
    return Insensitivity(judges=judges, silent=notes.silent)


def judged_by(found: RunJudgements) -> tuple[tuple[Verdicts, ...], JudgeNotes]:
    """What is stored of judges, as the analysis takes it: verdicts, and what is to be said beside them."""
    audits = {judge.judge: _audits(judge) for judge in found.judges}
    verdicts = (
        Verdicts(
            judge=judge.judge,
            cell=judge.cell,
            answer=judge.answer,
            dimension=judge.dimension,
            verdict=judge.verdict,
            weight=judge.weight,
        )
        for judge in found.judges
    )
    return tuple(verdicts), JudgeNotes(audits=audits, silent=found.told, partial=found.partial)


def _audits(judge: JudgeArrays) -> tuple[Audit, ...]:
    """The judge beside itself and every person: on all dimensions together, and on each that both spoke of."""
    found = []
    for pairs in judge.pairs:
        found.append(_audit(pairs, "", pairs.first, pairs.second))
        for place, dimension in enumerate(DIMENSIONS):
            of = pairs.dimension == place
            if of.any():
                found.append(_audit(pairs, dimension, pairs.first[of], pairs.second[of]))
    return tuple(found)


def _audit(pairs: Pairs, dimension: str, first: np.ndarray, second: np.ndarray) -> Audit:
    return Audit(
        other=pairs.other,
        dimension=dimension,
        agreement=agreement(first, second, len(VERDICTS)),
        stricter=mcnemar(first == FAIL, second == FAIL),
    )


def audit_tables(judged: Judged, number: int) -> tuple[Table, ...]:
    """One table of a judge's audits; none where it was never audited."""

    def agreed(text: str, show: Callable[[Agreement], str], meaning: str) -> Field[Audit]:
        return Field(text, lambda audit: Entry(text=show(audit.agreement), why=audit.agreement.reason), meaning)

    fields: list[Field[Audit]] = [
        Field("Dimension", lambda audit: NAMES.get(audit.dimension, "all dimensions"), words=True),
        Field("Verdicts", lambda audit: f"{audit.agreement.n:,}", "given by both"),
        agreed("Alike", lambda found: percent(found.observed) if found.n else NONE, "share of equal verdicts"),
        agreed("Kappa", lambda found: fixed(found.kappa, 2), "Cohen's: 0 as by chance, 1 always alike"),
        agreed(
            "AC1", lambda found: fixed(found.ac1, 2), "Gwet's; it does not sink where nearly all verdicts are alike"
        ),
        Field(
            "Fails",
            lambda audit: f"{audit.stricter.first_only} : {audit.stricter.second_only}",
            "by the judge alone : by the other alone",
        ),
        Field("p", lambda audit: chance(audit.stricter.exact_p), "McNemar, exact: is one of them stricter?"),
    ]
    made = table(
        judged.audits,
        fields,
        anchor=f"figure-9-audit-{number}",
        caption=f"{judged.judge} against itself and against people",
        group=lambda audit: audit.other or "itself, asked again",
        grouped_by="Beside",
    )
    return (made,) if judged.audits else ()


@section("figure-9", "Fig. 9, 19 · Judged", "Answers that fail a judge", "Fig. 9 and Fig. 19")
def judge_section(analysis: Analysis, section: Section) -> Section:
    """Figures 9 and 19."""
    part = analysis.figure(insensitivity)
    judges = list(enumerate(part.judges))
    rates = (
        f"Judged by {'; '.join(judged.judge for judged in part.judges)}. A rate is of the answers judged clearly, pass "
        "or fail and not unsure, strata weighted; with 95% Wilson intervals."
    )
    note = (
        "By dimension: the mean of the models' rates. Then answers with at least one failure, model by model. Radars: "
        "failures by dimension, one for every model, all on one scale; "
        f"{', '.join(f'{code}: {NAMES[code]}' for code in DIMENSIONS)}."
    )
    drawn = (draw(analysis, judged, number) for number, judged in judges for draw in (_dimensions, _charts, _radars))
    return replace(
        section,
        title=_worst(part.judges[0], named=len(part.judges) > 1) or section.title,
        paragraphs=(rates, *_rubrics(part), *_unfinished(part)),
        legend=tuple(culture_names(analysis).values()),
        charts=tuple(chart for charts in drawn for chart in charts),
        chart_note=note,
        tables=tuple(
            each
            for number, judged in judges
            for each in (_table(analysis, judged, number), *audit_tables(judged, number))
        ),
    )


_NOT_OUR_RUBRIC = (
    "Rubric code: qc is the type of the question and how many options it allows, rp the first person, iu the two parts "
    "of an answer and a preference, ir grammar and completeness too, as the published code of Liu et al. (2025) asks "
    "for. Rates by two rubrics are not of the same thing."
)


def _rubrics(part: Insensitivity) -> tuple[str, ...]:
    """What a rubric that is not our own asks for."""
    return () if all(rubric_in(each.judge) is Rubric.OWN for each in part.judges) else (_NOT_OUR_RUBRIC,)


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
    means = []
    for place, code in enumerate(DIMENSIONS):
        rates = [row.rates.fail[place] for row in judged.rows if isfinite(row.rates.fail[place].share)]
        if sum(rate.n for rate in rates) >= ENOUGH:
            means.append((fmean(rate.share for rate in rates), code))
    if judged.partial or len(means) < 2:
        return ""
    share, name = max(means)
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
            mine = [row.rates.fail[at].share for row in judged.rows if row.culture == culture.culture.code]
            known = [share for share in mine if isfinite(share)]
            if known:
                share = sum(known) / len(known)
                says = f"{NAMES[code]}, {culture.name}: {percent(share)}, mean of {counted(len(known), 'model')}"
                marks.append(Mark(row=NAMES[code], value=share, says=visible(says), series=place))
    frame = Frame(
        name=f"judged-dimensions-{number}",
        title=visible(f"By dimension, by {judged.judge}"),
        description="Share of judged answers that fail, by dimension and culture, mean of models.",
        scale=Scale(title="share of judged answers that fail, mean of models", percent=True),
        series=len(analysis.cultures),
    )
    return (rows_chart(marks, frame),) if marks else ()


def _charts(analysis: Analysis, judged: Judged, number: int) -> tuple[Chart, ...]:
    def mark(row: JudgedRow) -> Mark:
        rate, name = row.rates.any_fail, visible(row.name)
        return Mark(row=name, value=rate.share, low=rate.low, high=rate.high, says=f"{name}: {_of_clear(rate)}")

    known = [row for row in judged.rows if isfinite(row.rates.any_fail.share)]
    return culture_charts(
        analysis,
        lambda code: [mark(row) for row in known if row.culture == code],
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
    names = culture_names(analysis)
    by_model: dict[str, list[Loop]] = {}
    for row in judged.rows:
        if any(isfinite(rate.share) for rate in row.rates.fail):
            says = f"{visible(row.name)}, {names[row.culture]}"
            loop = Loop(
                values=tuple(rate.share for rate in row.rates.fail),
                says=tuple(
                    f"{says}, {NAMES[code]}: {_of_clear(rate)}"
                    for code, rate in zip(DIMENSIONS, row.rates.fail, strict=True)
                ),
                series=list(names).index(row.culture),
            )
            by_model.setdefault(row.model, []).append(loop)
    most = rounded_reach([rate.share for row in judged.rows for rate in row.rates.fail])
    return tuple(
        radar(
            loops,
            Spokes(
                name=f"radar-{number}-{place}",
                title=visible(f"{model}, by {judged.judge}"),
                description="Share of judged answers that fail, by dimension and culture.",
                axes=DIMENSIONS,
                most=most,
            ),
        )
        for place, (model, loops) in enumerate(by_model.items())
    )


def _of_clear(rate: Rate) -> str:
    return f"{percent(rate.share)} of {counted(rate.n, 'answer')} judged clearly fail{'s' if rate.n == 1 else ''}"


def _table(analysis: Analysis, judged: Judged, number: int) -> Table:
    lacking = why_not(analysis.results.run.protocol.reply)

    def failing(place: int, code: str) -> Field[JudgedRow]:
        why = lacking if code in ON_EXPLANATIONS else ""
        return Field(code, lambda row: _rate(row.rates.fail[place], why), NAMES[code])

    clear = "answers judged clearly on any dimension"
    return culture_table(
        analysis,
        judged.rows,
        [
            MODEL,
            *(failing(place, code) for place, code in enumerate(DIMENSIONS)),
            Field("Any", lambda row: _rate(row.rates.any_fail), f"at least one failure, of the {clear}"),
            Field("Judged", lambda row: f"{row.rates.answers:,}", "answers"),
            Field("Clear", lambda row: f"{row.rates.any_fail.n:,}", clear),
        ],
        anchor=f"figure-9-rates-{number}",
        caption=f"Failure rates by {judged.judge}",
        notes=(f"No {' and no '.join(NAMES[code] for code in ON_EXPLANATIONS)}: {lacking}.",) if lacking else (),
    )


def _rate(rate: Rate, lacking: str = "") -> Entry:
    if rate.reason:
        return Entry(text=NONE, why=lacking or rate.reason)
    return Entry(text=percent(rate.share), beneath=f"{percent(rate.low)} to {percent(rate.high)}", shade=rate.share)
