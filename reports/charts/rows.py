"""Figures on rows: a mark per row and series, its interval, the noise floor or what uniform answers would give.

Most of the report's charts are of this kind, so that reading one teaches to read all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite, nan
from typing import Any

from defsurvey.reports.charts.drawing import (
    AXIS,
    FLOOR,
    INK,
    ROW,
    SOFT,
    Chart,
    Row,
    layer,
    looks,
    room_for,
    shortened,
    width_beside,
)


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
    rows: tuple[str, ...] = ()  #: in this order; those of the marks where there are none given


NATS = "smoothed KL divergence, nats; left is closer"


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
    series = frame.series if frame.series > 1 else 0
    layers = _layers(alt, marks, frame, row_places(alt, list(labels.values()), room, series))
    return alt.layer(*layers).properties(width=width_beside(room), height=row_height(alt, series))


def row_places(alt: Any, labels: Sequence[str], room: float, series: int) -> dict[str, Any]:
    """The vertical axis: the names of rows, the first on top, and within a row its series; 0: marks have none."""
    axis = alt.Axis(
        minExtent=room, labelLimit=0, labelPadding=8, ticks=False, domain=False, labelColor=INK, labelFontSize=13
    )
    places = {"y": alt.Y("row:N", sort=list(labels), scale=alt.Scale(domain=list(labels)), title=None, axis=axis)}
    if series:
        names = [str(place) for place in range(series)]
        inner = alt.Scale(domain=names, paddingInner=0.1)
        places["yOffset"] = alt.YOffset("series:N", sort=names, scale=inner, title=None)
    return places


def row_height(alt: Any, series: int) -> Any:
    """How tall a row is, or each series in it where marks have one."""
    return alt.Step(max(13, ROW // series), **{"for": "offset"}) if series else alt.Step(ROW)


def row_axis(alt: Any, field: str, scale: Scale, **look: Any) -> Any:
    """The horizontal axis, for one field; it looks as all do but for what is given."""
    axis = alt.Axis(**AXIS, **look, **({"format": ".0%"} if scale.percent else {}))
    limits = alt.Scale(domain=[scale.low, scale.high], nice=False, zero=False)
    return alt.X(f"{field}:Q", scale=limits, axis=axis, title=scale.title)


def _rows(marks: Iterable[Mark], **fields: str) -> list[Row]:
    """Rows for one layer: only marks of which every field named is known."""
    found = []
    for mark in marks:
        values = {name: getattr(mark, source) for name, source in fields.items()}
        if all(not isinstance(value, float) or isfinite(value) for value in values.values()):
            found.append({"row": mark.row, "series": str(mark.series), **values})
    return found


def _layers(alt: Any, marks: Sequence[Mark], frame: Frame, place: dict[str, Any]) -> list[Any]:
    """Floors and rules beneath, then intervals, ticks of uniform answers, what is compared with, and the marks."""
    one = frame.series == 1
    colour, shape = looks(alt, "series", {str(at): frame.first + at for at in range(frame.series)})
    own, other = ([mark for mark in marks if mark.quiet is quiet] for quiet in (False, True))

    def x(field: str) -> Any:
        return row_axis(alt, field, frame.scale, labelFlush=False)

    layers = [
        layer(alt, _rows(marks, floor="floor"))
        .mark_bar(color=FLOOR, aria=False, **({"size": ROW} if one else {}))
        .encode(x=x("floor"), **place)
    ]
    if frame.rules:
        rules = layer(alt, [{"at": value} for value in frame.rules])
        layers.append(rules.mark_rule(color=SOFT, strokeDash=[3, 3], aria=False).encode(x=x("at")))
    layers += [
        layer(alt, _rows(own, low="low", high="high"))
        .mark_rule(strokeWidth=2.5, opacity=0.55, aria=False)
        .encode(x=x("low"), x2="high:Q", color=colour, **place),
        layer(alt, _rows(own, at="expected"))
        .mark_tick(color=INK, thickness=2, size=11, aria=False)
        .encode(x=x("at"), **place),
    ]
    if other:
        layers.append(
            layer(alt, _rows(other, value="value", says="says"))
            .mark_point(size=46, filled=False, stroke=SOFT, strokeWidth=1.6, shape="diamond", opacity=1)
            .encode(x=x("value"), description="says:N", **place)
        )
    layers.append(
        layer(alt, _rows(own, value="value", says="says"))
        .mark_point(size=90 if one else 58, filled=True, opacity=1)
        .encode(x=x("value"), color=colour, shape=shape, description="says:N", **place)
    )
    return layers
