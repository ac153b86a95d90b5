"""Does the order in which options are shown move the answers?

Knows which answers can tell: valid ones, of one option, to questions that were shown in several orders.
Deliberately knows nothing of the options' meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports.cells import Measured
from reports.items import ANSWERED, Ints, ItemTable
from reports.metrics.comparisons import holm
from reports.metrics.position import PositionBias, position_bias
from reports.parts import NotRun
from storage.survey import QuestionType

#: A cell with an adjusted p below this and answers drawn to the first option is flagged.
LEVEL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRow:
    """One cell."""

    name: str
    culture: str
    bias: PositionBias
    p_holm: float  #: over the cells of the run; nan where there is no test

    @property
    def flagged(self) -> bool:
        """Whether the option shown first draws answers, or repels them, more than chance does."""
        return self.p_holm < LEVEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Every cell of a run."""

    rows: tuple[PlacementRow, ...]


def placement(measured: Measured) -> Placement | NotRun:
    """Test every cell whose options were shown in more than one order."""
    answers, items = measured.results.answers, measured.items
    single = np.array([question.type is not QuestionType.MULTIPLE for question in items.questions], dtype=bool)
    usable = (answers.state == ANSWERED) & single[answers.question] & (answers.choices > 0)
    order = np.flatnonzero(usable)
    order = order[np.argsort(answers.cell[order], kind="stable")]
    bounds = np.searchsorted(answers.cell[order], np.arange(len(measured.results.run.cells) + 1))
    question = answers.question[order].astype(np.int64)
    # the number of zeros below the one bit set is the position of the option chosen
    chosen = np.bitwise_count(answers.choices[order] - 1).astype(np.int64)
    shown = _positions(items, question, answers.shown[order])
    options, found = items.offered.shape[1], []
    for cell in measured.cells:
        here = slice(bounds[cell.place], bounds[cell.place + 1])
        found.append((cell, position_bias(question[here], chosen[here], shown[here], options)))
    if not any(bias.answers for _, bias in found):
        return NotRun(reason="every question was shown in one order only")
    adjusted = holm([bias.p for _, bias in found])
    return Placement(
        rows=tuple(
            PlacementRow(name=cell.name, culture=cell.cell.culture, bias=bias, p_holm=float(p))
            for (cell, bias), p in zip(found, adjusted, strict=True)
        )
    )


def _positions(items: ItemTable, question: Ints, code: Ints) -> Ints:
    """Position of an option in its question, by its code, shape (n,)."""
    codes = [question.codes for question in items.questions]
    lowest = min(min(each) for each in codes)
    table = np.zeros((len(codes), max(max(each) for each in codes) - lowest + 1), dtype=np.int64)
    for place, each in enumerate(codes):
        table[place, np.array(each) - lowest] = np.arange(len(each))
    return np.asarray(table[question, code - lowest], dtype=np.int64)
