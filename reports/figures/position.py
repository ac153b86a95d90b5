"""Does the order in which options are shown move the answers?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.items import ANSWERED, Ints, ItemTable
from defsurvey.reports.figures.words import NotRun, culture_table, missing
from defsurvey.reports.metrics.comparisons import holm
from defsurvey.reports.metrics.position import PositionBias, position_bias
from defsurvey.reports.number_format import chance, counted, fixed, percent
from defsurvey.reports.page import Entry, Field, Section
from defsurvey.storage.surveys.survey import QuestionType

#: A cell with an adjusted p below this and answers drawn to the first option is flagged.
LEVEL = 0.05
#: Answers that make a cell part of the heading: of fewer, order may move a good part without being told from chance.
ENOUGH = 100


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

    @property
    def telling(self) -> bool:
        """Whether there is a test, of answers enough to be spoken of in a heading."""
        return self.bias.answers >= ENOUGH and not np.isnan(self.p_holm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Every cell of a run."""

    rows: tuple[PlacementRow, ...]


def placement(analysis: Analysis) -> Placement | NotRun:
    """Test every cell whose options were shown in more than one order."""
    answers, items = analysis.results.answers, analysis.items
    single = np.array([question.type is not QuestionType.MULTIPLE for question in items.questions], dtype=bool)
    usable = (answers.state == ANSWERED) & single[answers.question] & (answers.choices > 0)
    order = np.flatnonzero(usable)
    order = order[np.argsort(answers.cell[order], kind="stable")]
    bounds = np.searchsorted(answers.cell[order], np.arange(len(analysis.results.run.cells) + 1))
    question = answers.question[order].astype(np.int64)
    # the number of zeros below the one bit set is the position of the option chosen
    chosen = np.bitwise_count(answers.choices[order] - 1).astype(np.int64)
    shown = _positions(items, question, answers.shown[order])
    options, found = items.offered.shape[1], []
    for cell in analysis.cells:
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
    flat, sizes = np.concatenate([np.array(each, dtype=np.int64) for each in codes]), [len(each) for each in codes]
    known = np.unique(flat)  # a code may be as large as it likes: its rank among all codes is not
    place = np.repeat(np.arange(len(codes)), sizes) * known.size + np.searchsorted(known, flat)
    order = np.argsort(place)
    found = np.searchsorted(place[order], question * known.size + np.searchsorted(known, code))
    return np.asarray(np.concatenate([np.arange(size) for size in sizes])[order[found]], dtype=np.int64)


def position_section(analysis: Analysis) -> Section:
    """Does the order shown move the answer?"""
    part = analysis.figure(placement)
    section = Section(anchor="position", contents="Position bias", title="Does the order shown move the answer?")
    if isinstance(part, NotRun):
        return missing(section, part)
    fields: list[Field[PlacementRow]] = [
        Field("Model", lambda row: row.name, words=True),
        Field(
            "First",
            lambda row: Entry(text=percent(row.bias.first), why=row.bias.reason),
            "share of answers that chose the option shown first",
        ),
        Field(
            "Expected",
            lambda row: Entry(text=percent(row.bias.expected), why=row.bias.reason),
            "that share if order did not matter",
        ),
        Field(
            "Moved",
            lambda row: Entry(text=percent(row.bias.moved), why=row.bias.reason),
            "share of the answers that order would have moved",
        ),
        Field("z", lambda row: Entry(text=fixed(row.bias.z, 1), why=row.bias.reason)),
        Field("p, Holm", lambda row: Entry(text=chance(row.p_holm), why=row.bias.reason)),
        Field("Answers", lambda row: f"{row.bias.answers:,}", "to questions shown in more than one order"),
        Field("Flag", lambda row: "order matters" if row.flagged else ""),
    ]
    return replace(
        section,
        title=_ordered(part) or section.title,
        paragraphs=(
            (
                "How often the option shown first was chosen, against how often the two would meet if the answers were "
                "dealt out anew among those asked. 100% moved: always the first, whatever it says."
            ),
        ),
        tables=(
            culture_table(
                analysis,
                part.rows,
                fields,
                anchor="position-table",
                caption="Answers drawn to the option shown first",
            ),
        ),
    )


def _ordered(part: Placement) -> str:
    """Whose answers the order moves; empty where no cell was tested by answers enough."""
    tested = [row for row in part.rows if row.telling]
    flagged = [row for row in tested if row.flagged]
    names = list(dict.fromkeys(row.name for row in flagged))
    if not names:
        if not tested:
            return ""
        return f"In none of {counted(len(tested), 'cell')} tested does the order of options move answers beyond chance"
    whose = " and ".join(names) if len(names) < 3 else f"{len(flagged)} of {len(tested)} cells"
    return f"The order of options moves the answers of {whose}"
