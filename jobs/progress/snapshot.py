"""How far a run and its cells have come at one moment: the nouns, and what follows from their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from defsurvey.storage.runs.run import AnswerState, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class CellProgress:
    """How far one cell has come."""

    model: str
    culture: str
    condition: str
    language: str
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How far a run has come at one moment."""

    run: str
    state: str  #: waiting, running, judging, finished, cancelled or budget reached
    progress: Progress
    participants: dict[str, int]
    cells: tuple[CellProgress, ...]
    rate_per_second: float
    report: str | None  #: path of the newest HTML report
    reported: bool = False  #: whether that report shows all that there is
    missing: bool = False  #: whether that report has been written and its file is not there any more
    budget: float | None = None  #: US dollars that the run may cost; None: whatever it costs
    spent: float = 0.0  #: US dollars, where there is a budget
    unweighed: int = 0  #: questions whose options could not be weighed; they are no planned answers

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until everything has ended at the present rate, or None where nothing moves."""
        if self.progress.remaining == 0:
            return 0.0
        return self.progress.remaining / self.rate_per_second if self.rate_per_second > 0 else None

    @property
    def complete(self) -> bool:
        """Whether all that was planned is there, nothing failed, and there was money left to judge it.

        Who weighs options has no planned answers, and is missed by no count of them where it was set aside.
        """
        without = self.participants["quarantined"] + self.unweighed + self.progress.failed + self.progress.remaining
        return without == 0 and self.state != "budget reached"

    @property
    def reporting(self) -> bool:
        """Whether nothing is left to be asked, or no money for it, so that only the report is still to come."""
        open_ = self.participants["waiting"] + self.participants["running"]
        return not open_ and self.state in ("finished", "budget reached")

    def to_json(self) -> dict[str, Any]:
        """What ``status --json`` prints."""
        eta = self.eta_seconds
        return {
            "run": self.run,
            "name": self.run,
            "state": self.state,
            **_counts(self.progress),
            "participants": self.participants,
            "cells": [
                {
                    "model": cell.model,
                    "culture": cell.culture,
                    "condition": cell.condition,
                    "language": cell.language,
                    **_counts(cell.progress),
                }
                for cell in self.cells
            ],
            "rate_per_second": round(self.rate_per_second, 3),
            "eta_seconds": None if eta is None else round(eta, 1),
            "report": None if self.missing else self.report,
            **({} if self.budget is None else {"budget": self.budget, "spent": round(self.spent, 6)}),
            **({"unweighed": self.unweighed} if self.unweighed else {}),
        }


def _counts(progress: Progress) -> dict[str, int]:
    ended = {state.value: getattr(progress, state.value) for state in AnswerState}
    return {"planned": progress.planned, **ended, "remaining": progress.remaining}
