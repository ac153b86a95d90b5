"""Figure 7: the map of cultures, a line per subject from the first culture to each of the others.

Ellipses are drawn as polygons, since a specification knows none.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from math import cos, hypot, isfinite, pi, radians, sin
from typing import Any

from defsurvey.reports.charts.drawing import INK, LINE, SOFT, Chart, Row, look, shortened
from defsurvey.reports.metrics.cultural_map import Ellipse, MapRow, Projection
from defsurvey.reports.number_format import fixed
from defsurvey.reports.untrusted import visible

#: Corners of an ellipse.
CORNERS = 40
#: Most subjects whose ellipses are drawn: more of them cover each other.
ELLIPSES = 4
#: Width of the map.
SIZE = 560


def culture_map(name: str, title: str, projection: Projection, spelled: dict[str, str]) -> Chart:
    """The map.

    Args:
        name: of the chart.
        title: what stands above it.
        projection: sound or paper.
        spelled: code -> name of every culture of the run, whose colours and shapes go by their places here.
    """
    drawn = partial(_drawn, projection, spelled)
    return Chart(name=name, title=title, description=_description(projection), make=drawn)


def _drawn(projection: Projection, spelled: dict[str, str]) -> Any:
    import altair as alt

    x, y, height = _axes(alt, projection)
    cultures = [row.culture for row in projection.rows if row.human]
    points = [_point(row, spelled) for row in projection.rows]
    subjects = list(dict.fromkeys(row.subject for row in projection.rows))
    colours, shapes = zip(*(look(list(spelled).index(code)) for code in cultures), strict=True)
    colour = alt.Color("culture:N", scale=alt.Scale(domain=cultures, range=list(colours)), legend=None)
    shape = alt.Shape("culture:N", scale=alt.Scale(domain=cultures, range=list(shapes)), legend=None)
    layers = [_ellipses(alt, projection, subjects, x, y, colour), _arrows(alt, projection, cultures, x, y)]
    for human, size in ((True, 130), (False, 60)):
        rows = [point for point in points if point["human"] is human]
        layers.append(
            alt.Chart(alt.InlineData(values=rows))
            .mark_point(size=size, filled=True, opacity=1)
            .encode(x=x, y=y, color=colour, shape=shape, description="says:N")
        )
    layers += _labels(alt, projection, spelled, x, y)
    return alt.layer(*layers).properties(width=SIZE, height=height)


def _description(projection: Projection) -> str:
    first, second = (f"{share:.0%}" for share in projection.components.explained.tolist())
    return (
        f"Two principal components, {first} and {second} of the variance of {len(projection.rows)} points; an "
        "arrow per subject between cultures."
    )


def _axes(alt: Any, projection: Projection) -> tuple[Any, Any, float]:
    """Both axes at one scale, so that lengths and angles can be read off; and how tall the map is."""
    across, along = zip(*(row.point for row in projection.rows), strict=True)
    span = max(max(across) - min(across), 1e-9)
    margin = 0.14 * span
    tall = max(max(along) - min(along) + 2 * margin, 0.4 * span)
    middle = (max(along) + min(along)) / 2
    axis = alt.Axis(
        gridColor=LINE,
        domain=False,
        ticks=False,
        labelColor=SOFT,
        titleColor=SOFT,
        tickCount=5,
        titleFontWeight="normal",
    )
    first, second = projection.components.explained.tolist()
    wide = [min(across) - margin, max(across) + margin]
    high = [middle - tall / 2, middle + tall / 2]
    return (
        alt.X("x:Q", scale=alt.Scale(domain=wide, nice=False, zero=False), axis=axis, title=f"PC1 ({first:.0%})"),
        alt.Y("y:Q", scale=alt.Scale(domain=high, nice=False, zero=False), axis=axis, title=f"PC2 ({second:.0%})"),
        SIZE * tall / (wide[1] - wide[0]),
    )


def _point(row: MapRow, spelled: dict[str, str]) -> Row:
    subject = "People" if row.human else visible(row.subject)
    across, along = (fixed(place, 2) for place in row.point)
    return {
        "x": row.point[0],
        "y": row.point[1],
        "culture": row.culture,
        "human": row.human,
        "says": f"{subject}, {spelled[row.culture]}: {across}, {along}",
    }


def _ellipses(alt: Any, projection: Projection, subjects: list[str], x: Any, y: Any, colour: Any) -> Any:
    few = set(subjects[: ELLIPSES + 1]) if len(subjects) <= ELLIPSES + 1 else {"people"}
    rows: list[Row] = []
    for number, row in enumerate(projection.rows):
        if row.subject in few and isfinite(row.ellipse.angle):
            rows += [
                {"x": across, "y": along, "culture": row.culture, "of": str(number), "at": at}
                for at, (across, along) in enumerate(_corners(row.ellipse, row.point))
            ]
    return (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(strokeWidth=1, strokeDash=[3, 2], opacity=0.8, aria=False, clip=True)
        .encode(x=x, y=y, color=colour, detail="of:N", order="at:Q")
    )


def _corners(ellipse: Ellipse, centre: tuple[float, float]) -> list[tuple[float, float]]:
    turn, (long, short) = radians(ellipse.angle), ellipse.half_axes
    corners = []
    for corner in range(CORNERS + 1):
        at = 2 * pi * corner / CORNERS
        across, along = long * cos(at), short * sin(at)
        corners.append(
            (centre[0] + across * cos(turn) - along * sin(turn), centre[1] + across * sin(turn) + along * cos(turn))
        )
    return corners


def _arrows(alt: Any, projection: Projection, cultures: Sequence[str], x: Any, y: Any) -> Any:
    """Lines from the first culture; the way they go is told by the shapes at their ends.

    Where many models meet more than two cultures, their lines would cover the marks: then only people have lines.
    """
    ends = {(row.subject, row.culture): row for row in projection.rows}
    first, *others = cultures
    crowded = len(others) > 1 and bool(numbered(projection))
    rows = []
    for subject, to in product(dict.fromkeys(row.subject for row in projection.rows), others):
        start, stop = ends.get((subject, first)), ends.get((subject, to))
        if start is not None and stop is not None and (start.human or not crowded):
            rows.append(
                {
                    "x": start.point[0],
                    "y": start.point[1],
                    "x2": stop.point[0],
                    "y2": stop.point[1],
                    "width": 3.0 if start.human else 1.2,
                    "human": start.human,
                }
            )
    return (
        alt.Chart(alt.InlineData(values=rows))
        .mark_rule(aria=False)
        .encode(
            x=x,
            y=y,
            x2="x2:Q",
            y2="y2:Q",
            strokeWidth=alt.StrokeWidth("width:Q", scale=None, legend=None),
            color=alt.condition("datum.human", alt.value(INK), alt.value(SOFT)),
        )
    )


def numbered(projection: Projection) -> dict[str, str]:
    """Subject -> its number on the map, where names would cover each other; empty where they are written out."""
    subjects = list(dict.fromkeys(row.subject for row in projection.rows if not row.human))
    return {subject: str(n) for n, subject in enumerate(subjects, start=1)} if len(subjects) > ELLIPSES else {}


def _labels(alt: Any, projection: Projection, spelled: dict[str, str], x: Any, y: Any) -> list[Any]:
    """Names at the ends of people's lines, and at the beginning of every model's lines its name or number."""
    numbers, people = numbered(projection), [row.culture for row in projection.rows if row.human]
    subjects = [visible(row.subject) for row in projection.rows]
    cut, rows = dict(zip(subjects, shortened(subjects), strict=True)), []
    for row in projection.rows:
        if row.human or row.culture == people[0]:
            across, along = _beyond(row.point, _others(projection, row), projection, 0.07 if row.human else 0.035)
            called = "People" if len(people) == 2 else visible(spelled[row.culture])
            name = called if row.human else numbers.get(row.subject, cut[visible(row.subject)])
            rows.append({"x": across, "y": along, "name": name, "weight": "bold" if row.human else "normal"})
    base = alt.Chart(alt.InlineData(values=rows))
    return [
        base.transform_filter(f"datum.weight === '{weight}'")
        .mark_text(color=colour, fontWeight=weight, fontSize=12, aria=False)
        .encode(x=x, y=y, text="name:N")
        for weight, colour in (("bold", INK), ("normal", SOFT))
    ]


def _others(projection: Projection, row: MapRow) -> tuple[float, float]:
    """The middle of a subject's places in other cultures; that of the map where it has none."""
    points = [
        other.point for other in projection.rows if other.subject == row.subject and other.culture != row.culture
    ] or [(0.0, 0.0)]
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _beyond(
    point: tuple[float, float], other: tuple[float, float], projection: Projection, by: float
) -> tuple[float, float]:
    """A place further along the line from the other end, by a part of the map, where a name covers no line."""
    reach = by * (max(row.point[0] for row in projection.rows) - min(row.point[0] for row in projection.rows))
    across, along = point[0] - other[0], point[1] - other[1]
    length = max(hypot(across, along), 1e-12)
    return point[0] + reach * across / length, point[1] + reach * along / length
