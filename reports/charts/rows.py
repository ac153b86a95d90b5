"""Figures on rows: a mark per row and series, its interval, the noise floor or what uniform answers would give.

Most of the report's charts are of this kind, so that reading one teaches to read all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite, isnan, nan
from typing import Any

from defsurvey.reports.analysis import CellAnalysis
from defsurvey.reports.charts.drawing import (
    FLOOR,
    INK,
    LINE,
    ROW,
    SOFT,
    Chart,
    Row,
    look,
    room_for,
    shortened,
    width_beside,
)
from defsurvey.reports.number_format import nats


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One figure on a row."""

    row: str
    value: float
    says: str  #: the figure in words
    series: int = 0  #: which colour and shape
    low: float = nan  #: of its interval
    high: float = nan
    floor: float = nan  #: a shaded bar from 0: what people would score
    expected: float = nan  #: a tick: what uniform answers would give
    quiet: bool = False  #: something to compare with, drawn open


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The horizontal axis."""

    title: str
    low: float = 0.0
    high: float = 1.0
    percent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What surrounds the marks."""

    name: str
    title: str
    description: str
    scale: Scale
    series: int = 1  #: how many colours there are
    first: int = 0  #: the colour of series 0
    rules: tuple[float, ...] = ()  #: dashed lines
    room: float = 0.0  #: for the names of rows, at least
    rows: tuple[str, ...] = field(default=())  #: in this order; those of the marks where there are none given


def reach(values: Iterable[float]) -> float:
    """How far an axis goes that shows all of these."""
    return 1.04 * max((value for value in values if isfinite(value)), default=1.0)


def rows_chart(marks: Sequence[Mark], frame: Frame) -> Chart:
    """Marks on rows, the first row on top; long names of rows are cut."""
    drawn = partial(_drawn, marks, frame)
    return Chart(name=frame.name, title=frame.title, description=frame.description, make=drawn)


def _drawn(marks: Sequence[Mark], frame: Frame) -> Any:
    import altair as alt

    names = list(frame.rows or dict.fromkeys(mark.row for mark in marks))
    room = max(room_for(names), frame.room)
    labels = dict(zip(names, shortened(names), strict=True))
    marks = [replace(mark, row=labels[mark.row]) for mark in marks]
    y = rows_axis(alt, list(labels.values()), room)
    series = [str(place) for place in range(frame.series)]
    together: dict[str, Any] = {"y": y}
    if frame.series > 1:
        together["yOffset"] = alt.YOffset(
            "series:N", sort=series, scale=alt.Scale(domain=series, paddingInner=0.1), title=None
        )
    layers = [*_beneath(alt, marks, frame, together), *_upon(alt, marks, frame, together)]
    step = alt.Step(max(13, ROW // frame.series), **{"for": "offset"}) if frame.series > 1 else alt.Step(ROW)
    return alt.layer(*layers).properties(width=width_beside(room), height=step)


def rows_axis(alt: Any, labels: Sequence[str], room: float) -> Any:
    """The vertical axis: the names of rows, the first on top."""
    return alt.Y(
        "row:N",
        sort=list(labels),
        scale=alt.Scale(domain=list(labels)),
        title=None,
        axis=alt.Axis(
            minExtent=room,
            labelLimit=0,
            labelPadding=8,
            ticks=False,
            domain=False,
            labelColor=INK,
            labelFontSize=13,
        ),
    )


def _rows(marks: Iterable[Mark], **fields: str) -> list[Row]:
    """Rows for one layer: only marks of which every field named is known."""
    found = []
    for mark in marks:
        values = {name: getattr(mark, source) for name, source in fields.items()}
        if all(not isinstance(value, float) or isfinite(value) for value in values.values()):
            found.append({"row": mark.row, "series": str(mark.series), **values})
    return found


def _x(alt: Any, field: str, scale: Scale) -> Any:
    axis = alt.Axis(
        tickCount=5,
        gridColor=LINE,
        domain=False,
        ticks=False,
        labelColor=SOFT,
        titleColor=SOFT,
        titleFontWeight="normal",
        labelFlush=False,
        **({"format": ".0%"} if scale.percent else {}),
    )
    limits = alt.Scale(domain=[scale.low, scale.high], nice=False, zero=False)
    return alt.X(f"{field}:Q", scale=limits, axis=axis, title=scale.title)


def looks(alt: Any, series: int, first: int = 0) -> tuple[Any, Any]:
    """Colour and shape of that many series, beginning with those of the first."""
    colours, shapes = zip(*(look(first + at) for at in range(series)), strict=True)
    domain = [str(at) for at in range(series)]
    return (
        alt.Color("series:N", scale=alt.Scale(domain=domain, range=list(colours)), legend=None),
        alt.Shape("series:N", scale=alt.Scale(domain=domain, range=list(shapes)), legend=None),
    )


def _layer(alt: Any, rows: list[Row]) -> Any:
    return alt.Chart(alt.InlineData(values=rows))


def _beneath(alt: Any, marks: Sequence[Mark], frame: Frame, place: dict[str, Any]) -> list[Any]:
    floors = _rows(marks, floor="floor")
    size = {"size": ROW} if frame.series == 1 else {}
    layers = [
        _layer(alt, floors).mark_bar(color=FLOOR, aria=False, **size).encode(x=_x(alt, "floor", frame.scale), **place)
    ]
    if frame.rules:
        rules = [{"at": value} for value in frame.rules]
        layers.append(
            _layer(alt, rules).mark_rule(color=SOFT, strokeDash=[3, 3], aria=False).encode(x=_x(alt, "at", frame.scale))
        )
    return layers


def _upon(alt: Any, marks: Sequence[Mark], frame: Frame, place: dict[str, Any]) -> list[Any]:
    colour, shape = looks(alt, frame.series, frame.first)
    own = [mark for mark in marks if not mark.quiet]
    other = [mark for mark in marks if mark.quiet]
    x = _x(alt, "value", frame.scale)
    layers = [
        _layer(alt, _rows(own, low="low", high="high"))
        .mark_rule(strokeWidth=2.5, opacity=0.55, aria=False)
        .encode(x=_x(alt, "low", frame.scale), x2="high:Q", color=colour, **place),
        _layer(alt, _rows(own, at="expected"))
        .mark_tick(color=INK, thickness=2, size=11, aria=False)
        .encode(x=_x(alt, "at", frame.scale), **place),
    ]
    if other:
        layers.append(
            _layer(alt, _rows(other, value="value", says="says"))
            .mark_point(size=46, filled=False, stroke=SOFT, strokeWidth=1.6, shape="diamond", opacity=1)
            .encode(x=x, description="says:N", **place)
        )
    layers.append(
        _layer(alt, _rows(own, value="value", says="says"))
        .mark_point(size=90 if frame.series == 1 else 58, filled=True, opacity=1)
        .encode(x=x, color=colour, shape=shape, description="says:N", **place)
    )
    return layers


NATS = "smoothed KL divergence, nats; left is closer"


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
