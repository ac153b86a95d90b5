"""The report's first chart: how far each cell lies from people, one chart per culture."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, isnan

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CellAnalysis, CultureAnalysis
from defsurvey.reports.charts.drawing import Chart, room_for
from defsurvey.reports.charts.rows import Frame, Mark, Scale, reach, rows_chart
from defsurvey.reports.number_format import nats
from defsurvey.reports.untrusted import visible

#: Most cells whose figures are told beneath a drawing where none of them is the closest.
FEW = 3
NATS = "smoothed KL divergence, nats; left is closer"


def dot_plots(analysis: Analysis) -> tuple[Chart, ...]:
    """One chart per culture: cells with intervals, simple respondents, the noise floor; one scale for all."""
    high = reach(
        [value for cell in analysis.cells for value in cell_figures(cell)]
        + [control.mean for culture in analysis.cultures for control in culture.controls]
    )
    room = room_for(
        [visible(cell.name) for cell in analysis.cells]
        + [control.name for culture in analysis.cultures for control in culture.controls]
    )
    return tuple(
        _dot_plot(culture, place, Scale(title=NATS, high=high), room)
        for place, culture in enumerate(analysis.cultures)
        if any(isfinite(cell.sound.headline) for cell in culture.cells)
    )


def _dot_plot(culture: CultureAnalysis, place: int, scale: Scale, room: float) -> Chart:
    cells = sorted(
        (cell for cell in culture.cells if isfinite(cell.sound.headline)), key=lambda cell: cell.sound.headline
    )
    known = [control for control in culture.controls if isfinite(control.mean)]
    marks = [cell_mark(visible(cell.name), cell) for cell in cells]
    marks += [
        Mark(row=control.name, value=control.mean, says=f"{control.name}: {nats(control.mean)}", quiet=True)
        for control in known
    ]
    return rows_chart(
        marks,
        Frame(
            name=f"dots-{place}",
            title=f"Distance from people: {culture.name}",
            description=" ".join(
                ["Smoothed KL divergence in nats, with 95% intervals.", *_told(culture, cells, marks[: len(cells)])]
            ),
            scale=scale,
            first=place,
            room=room,
        ),
    )


def _told(culture: CultureAnalysis, cells: Sequence[CellAnalysis], marks: Sequence[Mark]) -> list[str]:
    """The closest cell with its figures, if one holds the first place alone; else those of a few, of more none."""
    closest = [mark for mark, cell in zip(marks, cells, strict=True) if cell.name == culture.ranking.winner]
    if closest:
        return [f"Closest: {closest[0].says}."]
    return [f"{mark.says}." for mark in marks] if len(marks) <= FEW else []


def cell_figures(cell: CellAnalysis) -> tuple[float, ...]:
    """All that :func:`cell_mark` draws of a cell, for its axis to reach."""
    return (cell.sound.headline, cell.interval.high, cell.sound_floor.headline, cell.sound_random.headline)


def cell_mark(row: str, cell: CellAnalysis, *, series: int = 0, prefix: str = "") -> Mark:
    """A cell's headline divergence with its interval, and what as many people and uniform answers would score."""
    low, high = cell.interval.low, cell.interval.high
    between = "" if isnan(low) else f" ({nats(max(low, 0.0))} to {nats(high)})"
    return Mark(
        row=row,
        value=cell.sound.headline,
        says=f"{prefix or row}: {nats(cell.sound.headline)}{between}; "
        f"as many people: {nats(cell.sound_floor.headline)}, uniform answers: {nats(cell.sound_random.headline)}",
        series=series,
        low=max(low, 0.0) if isfinite(low) else low,
        high=high,
        floor=cell.sound_floor.headline,
        expected=cell.sound_random.headline,
    )
