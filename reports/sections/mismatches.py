"""Appendix G: how many mismatching items fall to each dimension, sex and age.

Knows the tensors of ``reports.matching``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.analysis import Analysis
from reports.matching import ProfileRow
from reports.metrics.bias import GENDERS
from reports.page import Column, Entry, Fold, Section, Table, TableRow
from reports.parts import NotRun
from reports.sections.profiles import AGE_LABELS
from reports.sections.words import (
    culture_names,
    largest,
    missing,
    places,
)


def heatmap_section(analysis: Analysis) -> Section:
    """Appendix G."""
    part = analysis.parts.profiles
    section = Section(
        anchor="appendix-g",
        contents="App. G · Mismatches",
        title="Mismatching items by dimension, sex and age",
        number="Appendix G",
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    names = culture_names(analysis)
    folds = []
    for code, name in names.items():
        rows = [row for row in part.sound if row.culture == code]
        if any(row.tensor.any() for row in rows):
            folds.append(
                Fold(
                    anchor=f"appendix-g-{code}",
                    title=f"{name}, model by model",
                    tables=(_heatmap(analysis, rows, code),),
                )
            )
    if not folds:
        return missing(section, NotRun(reason="no mismatching item has a reference for sexes and ages"))
    return replace(
        section,
        paragraphs=(
            (
                "How many mismatching items fall to each group, an item split where its profile is; items without a "
                "known sex or age are left out."
            ),
        ),
        folds=tuple(folds),
    )


def _heatmap(analysis: Analysis, rows: Sequence[ProfileRow], code: str) -> Table:
    most = largest(row.tensor for row in rows)
    order = list(analysis.results.survey.dimensions)
    return Table(
        anchor=f"appendix-g-table-{code}",
        caption=f"Mismatching items, {culture_names(analysis)[code]}",
        grouped_by="Model",
        columns=(
            Column(text="Dimension", words=True),
            *(Column(text=f"{sex}, {age}") for sex in GENDERS for age in AGE_LABELS),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=order[place]),
                group=row.name,
                entries=tuple(
                    Entry(
                        text=f"{value:.1f}".removesuffix(".0") if value else "", shade=value / most if value else None
                    )
                    for value in row.tensor[place].ravel().tolist()
                ),
            )
            for row in rows
            for place in places(analysis)
        ),
    )
