"""Everything a report says, worked out once: Results in, one frozen Analysis out.

Knows the parts and which needs which. Deliberately knows nothing of how a part is measured (see the modules imported
here), nor of how any of it is worded or drawn (see ``reports.finding``, ``reports.charts``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.by_dimension import ByDimension, by_dimension
from reports.cells import (
    CellAnalysis,
    CultureAnalysis,
    Measured,
    cell_names,
    english,
    in_sentence,
    measure,
)
from reports.configured import Configured, Drawn, configured, drawn
from reports.contamination import Contamination, contamination
from reports.distinguishing import Distinguished, distinguish
from reports.first_token import FirstToken, first_token
from reports.frameworks import (
    Ablation,
    Frameworks,
    Languages,
    ModelTable,
    ablation,
    frameworks,
    languages,
    model_table,
)
from reports.items import ItemTable
from reports.judging import Insensitivity, JudgeNotes, insensitivity
from reports.landscape import (
    Cases,
    Landscape,
    NearQuestion,
    ScoreRow,
    cases,
    landscape,
    near_question,
    score_rows,
)
from reports.mapping import CulturalMap, Projection, cultural_map, paper_map
from reports.matching import (
    MatchingFigure,
    Profiles,
    RankAgreement,
    matching_figure,
    profiles,
    rank_agreement,
)
from reports.metrics.insensitivity import Verdicts
from reports.metrics.quality import Quality, quality
from reports.parts import NotRun
from reports.placement import Placement, placement
from reports.replies import judgeable
from reports.series import Series, Training, series, training
from reports.throughput import ThroughputRow, throughput
from storage.results import DrawArrays, Results

__all__ = ["Analysis", "CellAnalysis", "CultureAnalysis", "Parts", "analyse", "cell_names", "english", "in_sentence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Every figure beyond the headline, in the order of the report; ``NotRun`` says what a run lacks for one."""

    frameworks: Frameworks | NotRun  #: Table 1
    models: ModelTable  #: Table 2
    landscape: Landscape  #: Figure 3
    near_question: NearQuestion | NotRun  #: Figure 4
    by_dimension: ByDimension | NotRun  #: Figures 5 and 6
    series: Series | NotRun  #: Table 3
    map: CulturalMap | NotRun  #: Figure 7
    paper_map: Projection | NotRun  #: Figure 7 the paper's way; run where the cultures share no question too
    matching: MatchingFigure  #: Figure 8
    insensitivity: Insensitivity | NotRun  #: Figures 9 and 19
    ablation: Ablation | NotRun  #: Table 4
    languages: Languages | NotRun  #: Figure 10
    profiles: Profiles | NotRun  #: Figures 11 and 12, Appendix G
    scores: tuple[ScoreRow, ...]  #: Appendix C
    cases: Cases | NotRun  #: Appendix E
    configurations: Configured | NotRun  #: Appendix F
    training: Training | NotRun  #: Appendix I, section 6.1
    rank_agreement: tuple[RankAgreement, ...] | NotRun  #: by matching against by divergence
    position: Placement | NotRun
    first_token: FirstToken | NotRun
    contamination: Contamination | NotRun
    distinguished: Distinguished  #: the G-test of every question
    draws: Drawn | NotRun
    throughput: tuple[ThroughputRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """All figures of one run."""

    results: Results
    items: ItemTable
    cultures: tuple[CultureAnalysis, ...]  #: in the order of the run's cells
    overall: Quality
    parts: Parts

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Codes of the value dimensions that the run's items speak to, in the survey's order."""
        spoken = set(self.items.grouping.dimension.tolist())
        return tuple(code for place, code in enumerate(self.results.survey.dimensions) if place in spoken)

    @property
    def cells(self) -> tuple[CellAnalysis, ...]:
        """All cells, culture by culture."""
        return tuple(cell for culture in self.cultures for cell in culture.cells)


def analyse(
    results: Results,
    *,
    draws: DrawArrays | None = None,
    verdicts: Sequence[Verdicts] = (),
    notes: JudgeNotes | None = None,
) -> Analysis:
    """Work out every figure of a run, finished or not.

    Args:
        results: the run.
        draws: what its participants drew; None: not read, and what needs it is not run.
        verdicts: one per judge that was asked.
        notes: what is to be said of judges beside their verdicts.

    Raises:
        UnknownName: the run names a question or culture that its survey lacks.
    """
    measured, progress = measure(results), results.progress
    return Analysis(
        results=results,
        items=measured.items,
        cultures=measured.cultures,
        overall=quality(
            planned=progress.planned,
            answered=progress.answered,
            refused=progress.refused,
            unparsable=progress.unparsable,
            failed=progress.failed,
        ),
        parts=_parts(measured, draws, verdicts, notes),
    )


def _parts(
    measured: Measured, draws: DrawArrays | None, verdicts: Sequence[Verdicts], notes: JudgeNotes | None
) -> Parts:
    matched, mapped = matching_figure(measured), cultural_map(measured)
    return Parts(
        frameworks=frameworks(measured),
        models=model_table(measured),
        landscape=landscape(measured),
        near_question=near_question(measured),
        by_dimension=by_dimension(measured),
        series=series(measured),
        map=mapped,
        paper_map=mapped.paper if isinstance(mapped, CulturalMap) else paper_map(measured),
        matching=matched,
        insensitivity=insensitivity(
            measured, [judgeable(given, measured.results.run.protocol.reply) for given in verdicts], notes
        ),
        ablation=ablation(measured),
        languages=languages(measured),
        profiles=profiles(measured, matched),
        scores=score_rows(measured, mapped),
        cases=cases(measured),
        configurations=configured(measured, draws),
        training=training(measured, matched.shares),
        rank_agreement=rank_agreement(measured, matched),
        position=placement(measured),
        first_token=first_token(measured),
        contamination=contamination(measured.results),
        distinguished=distinguish(measured),
        draws=drawn(measured, draws),
        throughput=throughput(measured),
    )
