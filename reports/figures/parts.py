"""What the parts of a report have in common: some are not run, and most speak of one condition and language."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CellAnalysis
from defsurvey.storage.runs.run import Cell

#: The condition that figures of models are about, where a run has it.
DEF = "def"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRun:
    """A figure of the paper that this run does not cover."""

    reason: str  #: begins in lower case and ends without a full stop: "one language: nothing to compare"


def main_condition(cells: Iterable[Cell]) -> str:
    """The condition that figures of models are about: ``def``, or else the run's first that gives answers."""
    known = list(cells)
    names = [cell.condition.name for cell in known if cell.condition.method.slots] or [known[0].condition.name]
    return DEF if DEF in names else names[0]


def conditions(analysis: Analysis) -> list[str]:
    """The conditions whose answers were measured, in the run's order."""
    return list(dict.fromkeys(cell.cell.condition.name for cell in sorted(analysis.cells, key=lambda c: c.place)))


def language_of(analysis: Analysis, culture: str) -> str:
    """The language that figures of models are about: the culture's own where the run has it, or else its first."""
    spoken = list(dict.fromkeys(cell.language for cell in analysis.results.run.cells if cell.culture == culture))
    native = analysis.results.survey.culture(culture).language
    return native if native in spoken else spoken[0]


def spoken(analysis: Analysis) -> tuple[CellAnalysis, ...]:
    """The cells of one language per culture."""
    return tuple(cell for cell in analysis.cells if cell.cell.language == language_of(analysis, cell.cell.culture))


def main_cells(analysis: Analysis) -> tuple[CellAnalysis, ...]:
    """One cell per model and culture: the main condition, one language per culture."""
    condition = main_condition(analysis.results.run.cells)
    return tuple(cell for cell in spoken(analysis) if cell.cell.condition.name == condition)


def models(cells: Iterable[CellAnalysis]) -> tuple[str, ...]:
    """The models of some cells, each once, in the run's order."""
    return tuple(dict.fromkeys(cell.cell.model for cell in sorted(cells, key=lambda cell: cell.place)))
