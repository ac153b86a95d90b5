"""What a judge found: Figures 9 and 19.

Knows verdicts per judge, and pools none. Deliberately knows no rubric and no judge's call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.cells import Measured
from reports.metrics.insensitivity import CellRates, Verdicts, cell_rates
from reports.parts import NotRun, main_cells


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Insensitivity:
    """Figures 9 and 19, judge by judge."""

    judges: tuple[Judged, ...]


def insensitivity(measured: Measured, verdicts: Sequence[Verdicts]) -> Insensitivity | NotRun:
    """Failure rates of every model of the main condition, by every judge that was asked."""
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
                for cell in main_cells(measured)
            ),
        )
        for given in verdicts
        if given.cell.size
    )
    return Insensitivity(judges=judges) if judges else NotRun(reason="no judge")
