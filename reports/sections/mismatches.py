"""Appendix G: how many mismatching items fall to each dimension, sex and age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.figures.matching import ProfileRow, profiles
from defsurvey.reports.figures.words import NotRun, culture_names, largest, missing, places
from defsurvey.reports.metrics.bias import GENDERS
from defsurvey.reports.page import Column, Entry, Fold, Section, Table, TableRow
from defsurvey.reports.sections.profiles import AGE_LABELS


def heatmap_section(analysis: Analysis) -> Section:
    """Appendix G."""
    part = analysis.figure(profiles)
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
        sound, paper = ([row for row in rows if row.culture == code] for rows in (part.sound, part.paper))
        if any(row.tensor.any() for row in sound):
            tables = [_heatmap(analysis, sound, code)]
            if any(not np.array_equal(one.tensor, other.tensor) for one, other in zip(sound, paper, strict=True)):
                tables.append(_heatmap(analysis, paper, code, paper=True))
            folds.append(
                Fold(anchor=f"appendix-g-{code}", title=f"{name}, model by model", tables=tuple(tables)),
            )
    if not folds:
        return missing(section, NotRun(reason="no mismatching item has a reference for sexes and ages"))
    return replace(
        section,
        paragraphs=(
            (
                "How many mismatching items fall to each group, an item split where its profile is; items without a "
                "known sex or age are left out. The paper's way gives an option to the group with the most people who "
                "chose it, which favours the larger group; it stands below where it differs."
            ),
        ),
        folds=tuple(folds),
    )


def _heatmap(analysis: Analysis, rows: Sequence[ProfileRow], code: str, *, paper: bool = False) -> Table:
    most = largest(row.tensor for row in rows)
    kind = "The paper's way: mismatching items" if paper else "Mismatching items"
    order = list(analysis.results.survey.dimensions)
    return Table(
        anchor=f"appendix-g-{'paper-' if paper else ''}table-{code}",
        caption=f"{kind}, {culture_names(analysis)[code]}",
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
