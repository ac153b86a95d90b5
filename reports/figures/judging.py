"""What a judge found, Figures 9 and 19, and how far it agrees with itself and with people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import isfinite
from statistics import fmean

import numpy as np

from defsurvey.reports.analysis import Analysis, NotRun, why_not
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.radar import Loop, radar, rounded_reach
from defsurvey.reports.charts.rows import Mark, Scale, rows_chart
from defsurvey.reports.figures.shared import OfCell, main_cells, usable_verdicts
from defsurvey.reports.figures.words import MODEL, culture_charts, culture_names, culture_table, section
from defsurvey.reports.metrics import judges
from defsurvey.reports.metrics.quality import Rate
from defsurvey.reports.number_format import NONE, chance, counted, fixed, percent
from defsurvey.reports.page import Entry, Field, Section, Table, fields_of, table
from defsurvey.storage.runs.judgement import DIMENSIONS, Rubric, rubric_in
from defsurvey.storage.runs.verdicts import JudgeArrays, RunJudgements

#: Fewest clear verdicts on a dimension that the heading speaks of.
ENOUGH = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRow(OfCell):
    """One model in one culture."""

    rates: judges.CellRates


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """All that one judge said."""

    judge: str  #: name and version
    rows: tuple[JudgedRow, ...]
    audits: tuple[judges.Audit, ...] = ()
    partial: bool = False  #: whether it did not come to its end


def insensitivity(analysis: Analysis) -> tuple[Judged, ...]:
    """Failure rates of every model of the main condition, by every judge that was asked."""
    notes = analysis.notes
    found = tuple(
        Judged(
            judge=given.judge,
            rows=tuple(
                JudgedRow(cell=cell, rates=judges.cell_rates(given, cell.place)) for cell in main_cells(analysis)
            ),
            audits=notes.audits.get(given.judge, ()),
            partial=given.judge in notes.partial,
        )
        for given in usable_verdicts(analysis)
    )
    if not found:
        raise NotRun(": ".join(["no judge", "; ".join(notes.silent)]) if notes.silent else "no judge")
    return found


def judged_by(found: RunJudgements) -> tuple[tuple[judges.Verdicts, ...], judges.JudgeNotes]:
    """What is stored of judges, as the analysis takes it: verdicts, and what is to be said beside them."""
    names = [field.name for field in fields(judges.Verdicts)]
    verdicts = (judges.Verdicts(**{name: getattr(judge, name) for name in names}) for judge in found.judges)
    audits = {judge.judge: _audits(judge) for judge in found.judges}
    return tuple(verdicts), judges.JudgeNotes(audits=audits, silent=found.told, partial=found.partial)


def _audits(judge: JudgeArrays) -> tuple[judges.Audit, ...]:
    """The judge beside itself and every person: on all dimensions together, and on each that both spoke of."""
    found = []
    for pairs in judge.pairs:
        everything = np.ones(len(pairs.dimension), dtype=bool)
        of = {"": everything} | {code: pairs.dimension == place for place, code in enumerate(DIMENSIONS)}
        for dimension, here in of.items():
            if here.any() or not dimension:
                first, second = pairs.first[here], pairs.second[here]
                agreed, stricter = (
                    judges.agreement(first, second, len(judges.VERDICTS)),
                    judges.mcnemar(first == judges.FAIL, second == judges.FAIL),
                )
                audit = judges.Audit(other=pairs.other, dimension=dimension, agreement=agreed, stricter=stricter)
                found.append(audit)
    return tuple(found)


def audit_tables(judged: Judged, number: int) -> tuple[Table, ...]:
    """One table of a judge's audits; none where it was never audited."""

    def agreed(text: str, show: Callable[[judges.Agreement], str], meaning: str) -> Field[judges.Audit]:
        return Field(text, lambda audit: Entry(show(audit.agreement), why=audit.agreement.reason), meaning)

    def fails(audit: judges.Audit) -> str:
        return f"{audit.stricter.first_only} : {audit.stricter.second_only}"

    gwet = "Gwet's; it does not sink where nearly all verdicts are alike"
    columns: list[Field[judges.Audit]] = [
        Field("Dimension", lambda audit: judges.NAMES.get(audit.dimension, "all dimensions"), words=True),
        Field("Verdicts", lambda audit: f"{audit.agreement.n:,}", "given by both"),
        agreed("Alike", lambda found: percent(found.observed) if found.n else NONE, "share of equal verdicts"),
        agreed("Kappa", lambda found: fixed(found.kappa, 2), "Cohen's: 0 as by chance, 1 always alike"),
        agreed("AC1", lambda found: fixed(found.ac1, 2), gwet),
        Field("Fails", fails, "by the judge alone : by the other alone"),
        Field("p", lambda audit: chance(audit.stricter.exact_p), "McNemar, exact: is one of them stricter?"),
    ]
    anchor, caption = f"figure-9-audit-{number}", f"{judged.judge} against itself and against people"
    beside = "itself, asked again"
    made = table(
        judged.audits, columns, anchor, caption, group=lambda audit: audit.other or beside, grouped_by="Beside"
    )
    return (made,) if judged.audits else ()


@section("figure-9", "Fig. 9, 19 · Judged", "Answers that fail a judge", "Fig. 9 and Fig. 19")
def judge_section(analysis: Analysis, section: Section) -> Section:
    """Figures 9 and 19."""
    numbered, said = list(enumerate(part := analysis.figure(insensitivity))), list[str]()
    said.append(
        f"Judged by {'; '.join(judged.judge for judged in part)}. A rate is of the answers judged clearly, pass "
        "or fail and not unsure, strata weighted; with 95% Wilson intervals."
    )
    if any(rubric_in(judged.judge) is not Rubric.OWN for judged in part):
        said.append(_NOT_OUR_RUBRIC)
    if analysis.notes.silent:
        rest = " Rates rest on what was judged until then." if any(judged.partial for judged in part) else ""
        said.append(f"Judging did not come to its end: {'; '.join(analysis.notes.silent)}.{rest}")
    note = (
        "By dimension: the mean of the models' rates. Then answers with at least one failure, model by model. Radars: "
        "failures by dimension, one for every model, all on one scale; "
        f"{', '.join(f'{code}: {judges.NAMES[code]}' for code in DIMENSIONS)}."
    )
    drawn = (draw(analysis, judged, number) for number, judged in numbered for draw in (_dimensions, _charts, _radars))
    tables = ((_table(analysis, judged, number), *audit_tables(judged, number)) for number, judged in numbered)
    return replace(
        section,
        title=_worst(part[0], named=len(part) > 1) or section.title,
        paragraphs=tuple(said),
        legend=tuple(culture_names(analysis).values()),
        charts=tuple(chart for charts in drawn for chart in charts),
        chart_note=note,
        tables=tuple(each for of_judge in tables for each in of_judge),
    )


_NOT_OUR_RUBRIC = (
    "Rubric code: qc is the type of the question and how many options it allows, rp the first person, iu the two parts "
    "of an answer and a preference, ir grammar and completeness too, as the published code of Liu et al. (2025) asks "
    "for. Rates by two rubrics are not of the same thing."
)


def _worst(judged: Judged, *, named: bool) -> str:
    """On what answers fail most often; several judges may differ, so that the one who says it is named.

    Nothing is claimed of a judge that did not come to its end, since it may have seen next to nothing of a model, nor
    where it gave few clear verdicts, or speaks of one dimension alone. Where none of a sample fails, the interval of
    whom least is known of says how many may still fail among all answers.
    """
    means = []
    for place, code in enumerate(DIMENSIONS):
        rates = [row.rates.fail[place] for row in judged.rows if isfinite(row.rates.fail[place].share)]
        if sum(rate.n for rate in rates) >= ENOUGH:
            means.append((fmean(rate.share for rate in rates), code))
    if judged.partial or len(means) < 2:
        return ""
    share, name = max(means)
    said = f"answers fail most often on {judges.NAMES[name]}: {percent(share)}"
    if share == 0:
        highs = [row.rates.any_fail.high for row in judged.rows if isfinite(row.rates.any_fail.high)]
        of = "its 95% interval reaches" if len(highs) == 1 else "the widest 95% interval of a model reaches"
        said = f"no judged answer fails; {of} {percent(max(highs))}"
    return f"Judged by {judged.judge}, {said}" if named else said[0].upper() + said[1:]


def _dimensions(analysis: Analysis, judged: Judged, number: int) -> tuple[Chart, ...]:
    """One chart: every dimension, a mark for each culture."""
    marks = []
    for at, code in enumerate(DIMENSIONS):
        for place, culture in enumerate(analysis.cultures):
            mine = [row.rates.fail[at].share for row in judged.rows if row.culture == culture.culture.code]
            known = [share for share in mine if isfinite(share)]
            if known:
                share = sum(known) / len(known)
                says = f"{judges.NAMES[code]}, {culture.name}: {percent(share)}, mean of {counted(len(known), 'model')}"
                marks.append(Mark(row=judges.NAMES[code], value=share, says=says, series=place))
    name, title = f"judged-dimensions-{number}", f"By dimension, by {judged.judge}"
    says = "Share of judged answers that fail, by dimension and culture, mean of models."
    scale = Scale("share of judged answers that fail, mean of models", percent=True)
    return (rows_chart(marks, name, title, says, scale, series=len(analysis.cultures)),) if marks else ()


def _charts(analysis: Analysis, judged: Judged, number: int) -> tuple[Chart, ...]:
    marks = []
    for row in judged.rows:
        rate = row.rates.any_fail
        if isfinite(rate.share):
            says = f"{row.name}: {_of_clear(rate)}"
            marks.append((row.culture, Mark(row=row.name, value=rate.share, low=rate.low, high=rate.high, says=says)))
    title, says = (lambda name: f"{name}, by {judged.judge}"), "Share of judged answers with at least one failure."
    scale = Scale("share of answers with a failure", percent=True)
    return culture_charts(analysis, marks, f"judged-{number}", title, says, scale)


def _radars(analysis: Analysis, judged: Judged, number: int) -> tuple[Chart, ...]:
    """One radar per model, its cultures on it; all to one scale, so that sizes compare."""
    names = culture_names(analysis)
    by_model: dict[str, list[Loop]] = {}
    for row in judged.rows:
        rates = dict(zip(DIMENSIONS, row.rates.fail, strict=True))
        if any(isfinite(rate.share) for rate in rates.values()):
            of = f"{row.name}, {names[row.culture]}"
            told = tuple(f"{of}, {judges.NAMES[code]}: {_of_clear(rate)}" for code, rate in rates.items())
            values = tuple(rate.share for rate in rates.values())
            loop = Loop(values=values, says=told, series=list(names).index(row.culture))
            by_model.setdefault(row.model, []).append(loop)
    most = rounded_reach([rate.share for row in judged.rows for rate in row.rates.fail])
    says = "Share of judged answers that fail, by dimension and culture."
    return tuple(
        radar(loops, f"radar-{number}-{place}", f"{model}, by {judged.judge}", says, DIMENSIONS, most)
        for place, (model, loops) in enumerate(by_model.items())
    )


def _of_clear(rate: Rate) -> str:
    return f"{percent(rate.share)} of {counted(rate.n, 'answer')} judged clearly fail{'s' if rate.n == 1 else ''}"


def _table(analysis: Analysis, judged: Judged, number: int) -> Table:
    lacking = why_not(analysis.results.run.protocol.reply)

    def failing(row: JudgedRow, place: int) -> Entry:
        return _rate(row.rates.fail[place], lacking if DIMENSIONS[place] in judges.ON_EXPLANATIONS else "")

    clear = "answers judged clearly on any dimension"
    columns: list[Field[JudgedRow]] = [
        MODEL,
        *fields_of([(code, judges.NAMES[code]) for code in DIMENSIONS], failing),
        Field("Any", lambda row: _rate(row.rates.any_fail), f"at least one failure, of the {clear}"),
        Field("Judged", lambda row: f"{row.rates.answers:,}", "answers"),
        Field("Clear", lambda row: f"{row.rates.any_fail.n:,}", clear),
    ]
    anchor, caption = f"figure-9-rates-{number}", f"Failure rates by {judged.judge}"
    notes = (
        (f"No {' and no '.join(judges.NAMES[code] for code in judges.ON_EXPLANATIONS)}: {lacking}.",) if lacking else ()
    )
    return culture_table(analysis, judged.rows, columns, anchor, caption, notes=notes)


def _rate(rate: Rate, lacking: str = "") -> Entry:
    if rate.reason:
        return Entry(NONE, why=lacking or rate.reason)
    return Entry(percent(rate.share), f"{percent(rate.low)} to {percent(rate.high)}", rate.share)
