"""Appendix F and the distribution of draws: which configurations went with close and with distant answers.

Says that the best and the worst were picked after the fact.
"""

from __future__ import annotations

from dataclasses import replace
from math import isnan

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.figures.configured import Configuration, Configured, ConfiguredCell, configured, drawn
from defsurvey.reports.figures.words import (
    LEVEL,
    NAMED,
    NotRun,
    chance,
    culture_names,
    interval_entry,
    listed,
    missing,
    named_cultures,
)
from defsurvey.reports.metrics.comparisons import holm
from defsurvey.reports.metrics.configurations import Extreme
from defsurvey.reports.number_format import NONE, counted, fixed, percent
from defsurvey.reports.page import Column, Entry, Fold, Section, Table, TableRow


def configuration_section(analysis: Analysis) -> Section:
    """Appendix F."""
    part = analysis.figure(configured)
    section = Section(
        anchor="appendix-f",
        contents="App. F · Configurations",
        title="Best and worst configurations",
        number="Appendix F",
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    return replace(
        section,
        title=_moving(part) or section.title,
        paragraphs=(
            *_untested(analysis, part),
            part.warning,
            (
                "A participant's figure is the mean divergence of its own answers over all questions, what is due to "
                "the questions it happened to answer taken off."
            ),
        ),
        tables=(_extremes(analysis, part), _axes(analysis, part)),
        folds=(Fold(anchor="appendix-f-levels", title="Every level of every axis", tables=(_levels(analysis, part),)),),
    )


def _adjusted(part: Configured) -> dict[tuple[str, str, str], float]:
    """Holm over all axes of all cells."""
    keys = [(cell.culture, cell.name, axis.name) for cell in part.cells for axis in cell.axes]
    p = holm([axis.axis.p for cell in part.cells for axis in cell.axes])
    return dict(zip(keys, p.tolist(), strict=True))


def _testable(part: Configured) -> set[tuple[str, str, str]]:
    """The axes with a test of which p, adjusted for all of them, could be below the level."""
    least = {
        (cell.culture, cell.name, axis.name): axis.axis.least
        for cell in part.cells
        for axis in cell.axes
        if not isnan(axis.axis.p)
    }
    return {key for key, smallest in least.items() if smallest * len(least) < LEVEL}


def _moving(part: Configured) -> str:
    """How many axes go with the divergence, of those that could be tested; empty where none could."""
    adjusted, testable = _adjusted(part), _testable(part)
    if not testable:
        return ""
    moving, others = sum(adjusted[key] < LEVEL for key in testable), len(adjusted) - len(testable)
    begin = f"{moving} of the {len(testable)}" if moving else f"None of the {len(testable)}"
    verb = "go" if moving > 1 else "goes"
    rest = f"; {others} could not be tested" if others else ""
    return f"{begin} axes that could be tested {verb} with the divergence beyond chance{rest}"


def _untested(analysis: Analysis, part: Configured) -> tuple[str, ...]:
    """Which axes could not be tested: their levels have too few participants for any p to be small enough."""
    names, axes, testable = named_cultures(analysis), _adjusted(part), _testable(part)
    several = len({cell.name for cell in part.cells}) > 1
    cells: dict[str, list[str]] = {}
    for culture, name, axis in axes:
        if (culture, name, axis) not in testable:
            cells.setdefault(axis, []).append(f"{name} in {names[culture]}" if several else names[culture])
    told = "; ".join(
        f"{axis} ({listed(where) if len(where) <= NAMED else f'{len(where)} of {len(part.cells)} cells'})"
        for axis, where in cells.items()
    )
    few = f"for too few participants, or one level only (p is adjusted for all {counted(len(axes), 'axis', 'axes')})"
    return (f"An axis is tested for each model and culture by itself. Not testable, {few}: {told}.",) if told else ()


def _by_culture(analysis: Analysis, part: Configured) -> list[tuple[str, ConfiguredCell]]:
    return [
        (name, cell) for code, name in culture_names(analysis).items() for cell in part.cells if cell.culture == code
    ]


def _extremes(analysis: Analysis, part: Configured) -> Table:
    rows = []
    for name, cell in _by_culture(analysis, part):
        rows += [
            TableRow(
                head=Entry(text=f"{cell.name}, {each.label}"),
                group=name,
                entries=(*_configuration(analysis, cell.culture, each.configuration), *_value(each.value)),
            )
            for each in cell.extremes
        ]
        if not cell.extremes:
            none = Entry(text=NONE, why="no participant has answered half of the questions")
            rows.append(TableRow(head=Entry(text=cell.name), group=name, entries=(none,) * 7))
    return Table(
        anchor="appendix-f-extremes",
        caption="The participants with the lowest and the highest divergence, picked after the fact",
        grouped_by="Culture",
        columns=(
            Column(text="Model", words=True),
            Column(text="Participant"),
            Column(text="Beams"),
            Column(text="Sampling"),
            Column(text="Memory", meaning="capacity"),
            Column(text="Region"),
            Column(text="Divergence", meaning="mean smoothed KL of its own answers, nats"),
            Column(text="95% interval", meaning="questions resampled"),
        ),
        rows=tuple(rows),
        notes=("Only participants that answered at least half of the questions are picked from.",),
    )


def _configuration(analysis: Analysis, culture: str, who: Configuration) -> tuple[Entry, ...]:
    region = region_name(analysis, culture, who.region)
    return tuple(Entry(text=text) for text in (str(who.participant), who.num_beams, who.do_sample, who.memory, region))


def region_name(analysis: Analysis, culture: str, code: str) -> str:
    """The English name of a region, or what stands in its place."""
    for region in analysis.results.survey.culture(culture).regions:
        if region.code == code:
            return region.name.get("en", code)
    return code


def _value(value: Extreme) -> tuple[Entry, Entry]:
    return Entry(text=fixed(value.value)), interval_entry(
        value.interval.low, value.interval.high, least=0.0, reason=value.interval.reason
    )


def _axes(analysis: Analysis, part: Configured) -> Table:
    adjusted = _adjusted(part)
    names = tuple(dict.fromkeys(axis.name for cell in part.cells for axis in cell.axes))
    rows = []
    for name, cell in _by_culture(analysis, part):
        entries = []
        for axis in names:
            p = adjusted.get((cell.culture, cell.name, axis), np.nan)
            means = {each.name: [level.mean for level in each.axis.levels] for each in cell.axes}.get(axis, [])
            spread = f"{fixed(min(means), 2)}–{fixed(max(means), 2)}" if len(means) > 1 else ""
            entries.append(
                Entry(text=chance(p), beneath=spread, why="one level, or too few participants" if isnan(p) else "")
            )
        rows.append(TableRow(head=Entry(text=cell.name), group=name, entries=tuple(entries)))
    return Table(
        anchor="appendix-f-axes",
        caption="Does an axis go with the divergence? p, Holm over all of them; beneath, lowest and highest level mean",
        grouped_by="Culture",
        columns=(Column(text="Model", words=True), *(Column(text=name.capitalize()) for name in names)),
        rows=tuple(rows),
        notes=("Levels are dealt out anew among participants; a level that few drew has a mean that varies much.",),
    )


def _levels(analysis: Analysis, part: Configured) -> Table:
    rows = []
    for name, cell in _by_culture(analysis, part):
        for axis in cell.axes:
            for label, level in zip(axis.labels, axis.axis.levels, strict=True):
                rows.append(
                    TableRow(
                        head=Entry(text=f"{cell.name}, {axis.name}: {region_name(analysis, cell.culture, label)}"),
                        group=name,
                        entries=(
                            Entry(text=str(level.participants)),
                            Entry(text=fixed(level.mean)),
                            interval_entry(
                                level.interval.low, level.interval.high, least=0.0, reason=level.interval.reason
                            ),
                        ),
                    )
                )
    return Table(
        anchor="appendix-f-level-means",
        caption="Mean divergence of the participants at each level (nats)",
        grouped_by="Culture",
        columns=(
            Column(text="Level", words=True),
            Column(text="Participants"),
            Column(text="Mean"),
            Column(text="95% interval", meaning="t interval over participants"),
        ),
        rows=tuple(rows),
    )


def draw_section(analysis: Analysis) -> Section:
    """How often each level of each axis was drawn."""
    part = analysis.figure(drawn)
    section = Section(anchor="draws", contents="Draws", title="What participants drew")
    if isinstance(part, NotRun):
        return missing(section, part)
    names = culture_names(analysis)
    rows = []
    for code, axes in part.by_culture:
        for axis in axes:
            total = sum(count for _, count in axis.levels)
            rows += [
                TableRow(
                    head=Entry(text=f"{axis.name}: {region_name(analysis, code, label)}"),
                    group=names[code],
                    entries=(
                        Entry(text=f"{count:,}"),
                        Entry(text=percent(count / total) if total else NONE, bar=count / total if total else None),
                    ),
                )
                for label, count in axis.levels
            ]
    return replace(
        section,
        paragraphs=(
            ("Drawn anew for every question." if part.per_question else "Drawn once per participant.")
            + " Equal participants of different models share the draws of one seed and count once.",
        ),
        tables=(
            Table(
                anchor="draws-levels",
                caption="Levels drawn, by culture",
                grouped_by="Culture",
                columns=(Column(text="Level", words=True), Column(text="Draws"), Column(text="Share of the axis")),
                rows=tuple(rows),
            ),
        ),
    )
