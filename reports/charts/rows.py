"""Figures on rows: a mark per row and series, its interval, the noise floor or what uniform answers would give.

Most of the report's charts are of this kind, so that reading one teaches to read all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from typing import Any

from defsurvey.reports.charts import drawing
from defsurvey.reports.charts.drawing import INK, ROW, SOFT, Chart, Row, layer
from defsurvey.reports.untrusted import visible


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


@dataclass(frozen=True, slots=True)
class Scale:
    """The horizontal axis."""

    title: str
    low: float = 0.0
    high: float = 1.0
    percent: bool = False


NATS = "smoothed KL divergence, nats; left is closer"


def reach(values: Iterable[float]) -> float:
    """How far an axis goes that shows all of these."""
    return 1.04 * max((value for value in values if isfinite(value)), default=1.0)


def rows_chart(
    marks: Sequence[Mark],
    name: str,
    title: str,
    description: str,
    scale: Scale,
    *,
    series: int = 1,
    first: int = 0,
    rules: Sequence[float] = (),
    room: float = 0.0,
    rows: Sequence[str] = (),
) -> Chart:
    """Marks on rows, the first row on top; long names of rows are cut.

    Args:
        marks: one per row and series.
        name: of the chart.
        title: what stands above it.
        description: what a reader who cannot see it is told.
        scale: the horizontal axis.
        series: how many colours there are.
        first: the colour of series 0.
        rules: where dashed lines stand.
        room: for the names of rows, at least.
        rows: in this order; those of the marks where none are given.
    """

    def make() -> Any:
        import altair as alt

        raw = list(rows or dict.fromkeys(mark.row for mark in marks))
        names, several = [visible(row) for row in raw], series if series > 1 else 0
        labels, wide = dict(zip(raw, drawing.shortened(names), strict=True)), max(drawing.room_for(names), room)
        place = row_places(alt, list(labels.values()), wide, several)
        layers = _layers(alt, [replace(mark, row=labels[mark.row]) for mark in marks], place, scale, series, first)
        if rules:
            lines = layer(alt, [{"at": value} for value in rules]).mark_rule(color=SOFT, strokeDash=[3, 3], aria=False)
            layers.insert(1, lines.encode(x=row_axis(alt, "at", scale, labelFlush=False)))
        return alt.layer(*layers).properties(width=drawing.width_beside(wide), height=row_height(alt, several))

    return Chart(name=name, title=title, description=description, make=make)


def row_places(alt: Any, labels: Sequence[str], room: float, series: int) -> dict[str, Any]:
    """The vertical axis: the names of rows, the first on top, and within a row its series; 0: marks have none."""
    look = {"labelLimit": 0, "labelPadding": 8, "ticks": False, "domain": False, "labelColor": INK, "labelFontSize": 13}
    axis, scale = alt.Axis(minExtent=room, **look), alt.Scale(domain=list(labels))
    places = {"y": alt.Y("row:N", sort=list(labels), scale=scale, title=None, axis=axis)}
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
    axis = alt.Axis(**drawing.AXIS, **look, **({"format": ".0%"} if scale.percent else {}))
    limits = alt.Scale(domain=[scale.low, scale.high], nice=False, zero=False)
    return alt.X(f"{field}:Q", scale=limits, axis=axis, title=scale.title)


def _layers(alt: Any, marks: Sequence[Mark], place: dict[str, Any], scale: Scale, series: int, first: int) -> list[Any]:
    """Floors beneath, then intervals, ticks of uniform answers, what is compared with, and the marks."""
    colour, shape = drawing.looks(alt, "series", {str(at): first + at for at in range(series)})
    own, other = ([mark for mark in marks if mark.quiet is quiet] for quiet in (False, True))

    def x(field: str) -> Any:
        return row_axis(alt, field, scale, labelFlush=False)

    def known(marks: Iterable[Mark], *fields: str) -> Any:
        """A layer of the marks of which every field named is known."""
        rows: list[Row] = []
        for mark in marks:
            values = {name: getattr(mark, name) for name in fields}
            if all(not isinstance(value, float) or isfinite(value) for value in values.values()):
                rows.append({"row": mark.row, "series": str(mark.series), **values})
        return layer(alt, rows)

    bars = known(marks, "floor").mark_bar(color=drawing.FLOOR, aria=False, **({"size": ROW} if series == 1 else {}))
    lines = known(own, "low", "high").mark_rule(strokeWidth=2.5, opacity=0.55, aria=False)
    ticks = known(own, "expected").mark_tick(color=INK, thickness=2, size=11, aria=False)
    open_look = {"size": 46, "filled": False, "stroke": SOFT, "strokeWidth": 1.6, "shape": "diamond"}
    compared = known(other, "value", "says").mark_point(**open_look, opacity=1)
    points = known(own, "value", "says").mark_point(size=90 if series == 1 else 58, filled=True, opacity=1)
    return [
        bars.encode(x=x("floor"), **place),
        lines.encode(x=x("low"), x2="high:Q", color=colour, **place),
        ticks.encode(x=x("expected"), **place),
        *([compared.encode(x=x("value"), description="says:N", **place)] if other else []),
        points.encode(x=x("value"), color=colour, shape=shape, description="says:N", **place),
    ]
