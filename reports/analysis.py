"""A run, measured: what every figure of a report is computed from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from defsurvey.reports.cells.cells import CellAnalysis, CultureAnalysis, cell_names, culture_analysis
from defsurvey.reports.cells.items import ItemTable, item_table, reference_table
from defsurvey.reports.metrics.judges import JudgeNotes, Verdicts
from defsurvey.reports.metrics.quality import Quality, quality
from defsurvey.storage.runs.results import DrawArrays, Results

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """A run, measured cell by cell."""

    results: Results
    items: ItemTable
    cultures: tuple[CultureAnalysis, ...]  #: in the order of the run's cells
    overall: Quality
    draws: DrawArrays | None = None  #: what participants drew; None: not read
    verdicts: Sequence[Verdicts] = ()  #: one per judge that was asked
    notes: JudgeNotes = field(default_factory=JudgeNotes)
    figures: dict[Callable[..., Any], Any] = field(default_factory=dict, repr=False, compare=False)  #: computed so far

    def figure(self, compute: Callable[[Analysis], T]) -> T:
        """What ``compute`` makes of this run, computed when it is first asked for."""
        if compute not in self.figures:
            self.figures[compute] = compute(self)
        found: T = self.figures[compute]
        return found

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
    """Measure every cell of a run, finished or not.

    Args:
        results: the run.
        draws: what its participants drew; None: not read, and what needs it is not run.
        verdicts: one per judge that was asked.
        notes: what is to be said of judges beside their verdicts.

    Raises:
        UnknownName: the run names a question or culture that its survey lacks.
    """
    survey, run, progress = results.survey, results.run, results.progress
    items = item_table(survey, run.questions)
    codes = tuple(dict.fromkeys(cell.culture for cell in run.cells))
    references = {code: reference_table(survey, items, code) for code in codes}
    names = cell_names(run.cells)
    return Analysis(
        results=results,
        items=items,
        cultures=tuple(culture_analysis(results, items, survey.culture(code), references, names) for code in codes),
        overall=quality(
            planned=progress.planned,
            answered=progress.answered,
            refused=progress.refused,
            unparsable=progress.unparsable,
            failed=progress.failed,
        ),
        draws=draws,
        verdicts=verdicts,
        notes=notes or JudgeNotes(),
    )
