"""Means of each model in each culture as tables, the sound way and the paper's.

They stand with Figure 5.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CellAnalysis
from defsurvey.reports.figures.words import (
    INFINITE,
    MODEL,
    dimension_columns,
    infinite_entry,
    interval_entry,
    largest,
    shaded,
)
from defsurvey.reports.metrics.aggregate import Means
from defsurvey.reports.number_format import fixed, signed
from defsurvey.reports.page import Column, Entry, Table, TableRow


def mean_table(analysis: Analysis) -> Table:
    """Smoothed KL by cell and dimension, the floor beneath each figure."""
    most = largest(cell.sound.by_dimension for cell in analysis.cells)
    rows = []
    for culture in analysis.cultures:
        for cell in culture.cells:
            sound, floor = cell.sound, cell.sound_floor
            reason = "" if isfinite(sound.headline) else sound.reason
            rows.append(
                TableRow(
                    head=Entry(text=cell.name),
                    group=culture.name,
                    entries=(
                        *shaded(analysis, sound.by_dimension, most, floor.by_dimension),
                        Entry(text=fixed(sound.headline), beneath=fixed(floor.headline), why=reason),
                        _intervals(cell),
                        Entry(text=signed(sound.headline - floor.headline), why=reason),
                        *_by_question(analysis, sound, floor),
                    ),
                )
            )
    return Table(
        grouped_by="Culture",
        anchor="table-smoothed",
        caption=f"Smoothed KL divergence from people{_by(analysis)} (nats; lower is closer)",
        columns=(
            MODEL,
            *dimension_columns(analysis),
            _mean_column(analysis),
            Column(text="95% interval", meaning="for other participants; beneath, for other questions too"),
            Column(text="Excess", meaning="mean less what equally many people would score"),
            *_question_column(analysis),
        ),
        rows=tuple(rows),
        notes=(
            (
                "The small figure beneath is the noise floor: what equally many real people would score. The upper "
                "interval is about these questions, the lower one about questions like these."
            ),
        ),
    )


def _by(analysis: Analysis) -> str:
    return ", by value dimension" if analysis.dimensions else ""


def _mean_column(analysis: Analysis) -> Column:
    """The mean behind the headline: over dimensions, or over questions where none speaks to a dimension."""
    weighed = "dimension" if analysis.dimensions else "question"
    return Column(text="Mean", meaning=f"over {weighed}s: every {weighed} weighs the same")


def _question_column(analysis: Analysis) -> tuple[Column, ...]:
    """The mean over questions, where it is not the mean already."""
    meaning = "mean over all questions: every question weighs the same"
    return (Column(text="By question", meaning=meaning),) if analysis.dimensions else ()


def _by_question(analysis: Analysis, means: Means, floor: Means) -> tuple[Entry, ...]:
    """What stands in that column."""
    figure = Entry(text=fixed(means.question_mean), beneath=fixed(floor.question_mean))
    return (figure,) if analysis.dimensions else ()


def _intervals(cell: CellAnalysis) -> Entry:
    """Over participants, and beneath over participants and questions."""
    narrow, wide = cell.interval, cell.intervals.two_way
    beneath = interval_entry(wide.low, wide.high, least=0.0).text if isfinite(wide.low) else ""
    return replace(interval_entry(narrow.low, narrow.high, least=0.0, reason=narrow.reason), beneath=beneath)


def paper_mean_table(analysis: Analysis) -> Table:
    """Plug-in KL by the paper's rules, the floor of the same beneath each figure."""
    most = largest(cell.paper.by_dimension for cell in analysis.cells)
    return Table(
        grouped_by="Culture",
        anchor="table-plug-in",
        caption=f"The paper's way: plug-in KL divergence from people{_by(analysis)} (nats)",
        columns=(
            MODEL,
            *dimension_columns(analysis),
            _mean_column(analysis),
            *_question_column(analysis),
            INFINITE,
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=cell.name),
                group=culture.name,
                entries=(
                    *shaded(
                        analysis,
                        cell.paper.by_dimension,
                        most,
                        cell.paper_floor.by_dimension,
                        why=cell.paper_values.reason,
                    ),
                    Entry(
                        text=fixed(cell.paper.headline),
                        beneath=fixed(cell.paper_floor.headline),
                        why=cell.paper_reason,
                    ),
                    *_by_question(analysis, cell.paper, cell.paper_floor),
                    infinite_entry(cell.paper_values.infinite_share),
                ),
            )
            for culture in analysis.cultures
            for cell in culture.cells
        ),
        notes=(
            (
                "An infinite value counts as the largest finite one of its row, plus 1: where many are infinite, "
                "that rule makes the mean."
            ),
        ),
    )
