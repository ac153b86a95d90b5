"""Everything a report says, worked out once: Results in, one frozen Analysis out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from defsurvey.reports.cells.cells import (
    CellAnalysis,
    CultureAnalysis,
    Measured,
    cell_names,
    english,
    in_sentence,
    measure,
)
from defsurvey.reports.cells.distinguishing import Distinguished, distinguish
from defsurvey.reports.cells.items import ItemTable
from defsurvey.reports.cells.replies import judgeable
from defsurvey.reports.figures.by_dimension import ByDimension, by_dimension
from defsurvey.reports.figures.configured import Configured, Drawn, configured, drawn
from defsurvey.reports.figures.contamination import Contamination, contamination
from defsurvey.reports.figures.first_token import FirstToken, first_token
from defsurvey.reports.figures.frameworks import (
    Ablation,
    Frameworks,
    Languages,
    ModelTable,
    ablation,
    frameworks,
    languages,
    model_table,
)
from defsurvey.reports.figures.judging import Insensitivity, JudgeNotes, insensitivity
from defsurvey.reports.figures.landscape import (
    Cases,
    Landscape,
    NearQuestion,
    ScoreRow,
    cases,
    landscape,
    near_question,
    score_rows,
)
from defsurvey.reports.figures.mapping import CulturalMap, Projection, cultural_map, paper_map
from defsurvey.reports.figures.matching import (
    MatchingFigure,
    Profiles,
    RankAgreement,
    matching_figure,
    profiles,
    rank_agreement,
)
from defsurvey.reports.figures.parts import NotRun
from defsurvey.reports.figures.placement import Placement, placement
from defsurvey.reports.figures.series import Series, Training, series, training
from defsurvey.reports.figures.throughput import ThroughputRow, throughput
from defsurvey.reports.metrics.insensitivity import Verdicts
from defsurvey.reports.metrics.quality import Quality, quality
from defsurvey.storage.runs.results import DrawArrays, Results

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
