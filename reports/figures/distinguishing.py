"""Question by question: can a model's answers be told from those of as many people?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CellAnalysis, CultureAnalysis
from defsurvey.reports.cells.comparing import answered
from defsurvey.reports.cells.items import Floats, ItemTable, ReferenceTable
from defsurvey.reports.metrics.comparisons import benjamini_hochberg
from defsurvey.reports.metrics.divergence import smoothed_reference
from defsurvey.reports.metrics.gtest import GTests

#: A question with an adjusted p below this is told from people.
LEVEL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class DistinguishedCell:
    """One cell; arrays of shape (Q,), nan for a question without a valid answer or a reference, and for panels."""

    name: str
    culture: str
    p: Floats  #: of the G-test; of a list the smallest of its options' times their number
    adjusted: Floats  #: by Benjamini and Hochberg over the cell's questions
    questions: int  #: tested
    alike: int  #: of them, not told from people
    comparable: bool  #: whether it has answers enough to be named for that: few answers are told from nobody

    @property
    def share_alike(self) -> float:
        """Share of the tested questions that are not told from people; nan if none was tested."""
        return self.alike / self.questions if self.questions else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinguished:
    """Every cell of a run."""

    cells: tuple[DistinguishedCell, ...]


def distinguish(analysis: Analysis) -> Distinguished:
    """Test every question of every cell.

    The people compared with are the reference smoothed by its own number: an answer that none of 3,000 people gave is
    rare, not impossible.
    """
    return Distinguished(
        cells=tuple(cell for culture in analysis.cultures for cell in _culture(analysis.items, culture))
    )


def _culture(items: ItemTable, culture: CultureAnalysis) -> list[DistinguishedCell]:
    reference = culture.reference
    smoothed = smoothed_reference(reference.shares, reference.n, items.offered)
    tests = GTests(shares=smoothed, offered=items.offered)
    # a panel's answers are one sample: no test of independent people is true of them
    untested = np.full(len(items.question), np.nan)
    return [_cell(items, reference, cell, untested if cell.panel else tests.p(cell.counts)) for cell in culture.cells]


def _cell(items: ItemTable, reference: ReferenceTable, cell: CellAnalysis, by_item: Floats) -> DistinguishedCell:
    p = np.full(len(items.questions), np.inf)
    tested = np.zeros(len(items.questions))
    known = ~np.isnan(by_item)
    np.minimum.at(p, items.question[known], by_item[known])
    np.add.at(tested, items.question[known], 1)
    # Bonferroni over the options of a list: they are answered together, so that no test of their sum is exact
    p = np.where(tested > 0, np.minimum(p * np.maximum(tested, 1), 1.0), np.nan)
    adjusted = benjamini_hochberg(p)
    questions = int((tested > 0).sum())
    return DistinguishedCell(
        name=cell.name,
        culture=cell.cell.culture,
        p=p,
        adjusted=adjusted,
        questions=questions,
        alike=questions - int((adjusted < LEVEL).sum()),
        comparable=answered(cell.counts, items, reference),
    )
