"""What a judge found, Figures 9 and 19, and how far it agrees with itself and with people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.replies import judgeable
from defsurvey.reports.figures.words import NotRun, main_cells
from defsurvey.reports.metrics.agreement import agreement, mcnemar
from defsurvey.reports.metrics.insensitivity import FAIL, VERDICTS, Audit, CellRates, JudgeNotes, Verdicts, cell_rates
from defsurvey.storage.runs.judgement import DIMENSIONS
from defsurvey.storage.runs.read_judgements import JudgeArrays, Pairs, RunJudgements


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
