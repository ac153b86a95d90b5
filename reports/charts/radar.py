"""Shares on spokes: Figure 19.

A radar's area means nothing and its order of spokes shapes it: bars come first, this is beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, isfinite, pi, sin
from typing import Any

from defsurvey.reports.charts.drawing import INK, LINE, SOFT, Chart, Row, layer, looks, turn
from defsurvey.reports.number_format import percent

#: Width and height, labels included.
SIZE = 320
#: How far the drawing goes, in lengths of a spoke: room for the names.
ROOM = 1.24
#: Rings between the middle and the ends of the spokes, these included.
RINGS = 4
#: Dashes of the lines, beside colours and shapes.
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [10, 4])


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One closed line: a share per spoke."""

    values: tuple[float, ...]  #: nan: not known
    says: tuple[str, ...]  #: each share in words
    series: int  #: which colour, shape and dash, however many there are


def rounded_reach(shares: Sequence[float]) -> float:
    """The end of a spoke that shows all of these: the next tenth, so that rings are readable.

    >>> rounded_reach([.31, .08]), rounded_reach([]), rounded_reach([1.0])
    (0.4, 0.1, 1.0)
    """
    largest = max((share for share in shares if isfinite(share)), default=0.0)
    return min(max(int(largest * 10 + 0.999999) / 10, 0.1), 1.0)


def radar(loops: Sequence[Loop], name: str, title: str, description: str, axes: Sequence[str], most: float) -> Chart:
    """Loops on spokes; a loop that lacks a share is drawn as points alone, since no line would be true.

    ``axes``, at least three, go clockwise from the top; ``most`` is the share at the end of a spoke, above 0.
    """

    def make() -> Any:
        import altair as alt

        limits = alt.Scale(domain=[-ROOM, ROOM], nice=False, zero=False)
        places = {"x": alt.X("x:Q", scale=limits, axis=None), "y": alt.Y("y:Q", scale=limits, axis=None)}
        series = [str(place) for place in range(max((loop.series for loop in loops), default=0) + 1)]
        colour, shape = looks(alt, "series", {each: place for place, each in enumerate(series)})
        dashes = [DASHES[turn(place, len(DASHES))] for place in range(len(series))]
        dash = alt.StrokeDash("series:N", scale=alt.Scale(domain=series, range=dashes), legend=None)
        whole = [loop for loop in loops if all(isfinite(value) for value in loop.values)]
        # the number of a line keeps it apart from others that look like it
        lines = [row | {"loop": number} for number, loop in enumerate(whole) for row in _points(loop, most)]
        drawn = layer(alt, lines).mark_line(interpolate="linear-closed", strokeWidth=2, aria=False)
        points = [row for loop in loops for row in _points(loop, most)]
        marks = layer(alt, points).mark_point(size=42, filled=True, opacity=1)
        layers = [
            *_web(alt, axes, most, places),
            drawn.encode(**places, color=colour, strokeDash=dash, detail="loop:N", order="at:Q"),
            marks.encode(**places, color=colour, shape=shape, description="says:N"),
        ]
        return alt.layer(*layers).properties(width=SIZE, height=SIZE)

    return Chart(name=name, title=title, description=description, make=make)


def _place(axis: int, of: int, length: float) -> Row:
    """Where a length on a spoke lies: the first spoke goes up, the others follow clockwise."""
    angle = pi / 2 - 2 * pi * axis / of
    return {"x": length * cos(angle), "y": length * sin(angle)}


def _points(loop: Loop, most: float) -> list[Row]:
    return [
        _place(at, len(loop.values), value / most) | {"series": str(loop.series), "at": at, "says": says}
        for at, (value, says) in enumerate(zip(loop.values, loop.says, strict=True))
        if isfinite(value)
    ]


def _web(alt: Any, axes: Sequence[str], most: float, places: dict[str, Any]) -> list[Any]:
    """Rings, spokes, the names at their ends and the shares of the rings."""
    count = len(axes)
    rings = [_place(at, count, n / RINGS) | {"ring": n, "at": at} for n in range(1, RINGS + 1) for at in range(count)]
    spokes = [_place(at, count, 1.0) | {"x2": 0.0, "y2": 0.0} for at in range(count)]
    names = [_place(at, count, 1.13) | {"name": name} for at, name in enumerate(axes)]
    shares = [{"x": 0.03, "y": ring / RINGS, "name": percent(most * ring / RINGS)} for ring in (2, RINGS)]
    circles = layer(alt, rings).mark_line(interpolate="linear-closed", color=LINE, strokeWidth=1, aria=False)
    titles = layer(alt, names).mark_text(color=INK, fontSize=13, aria=False)
    scale = layer(alt, shares).mark_text(color=SOFT, fontSize=11, align="left", dy=-5, aria=False)
    return [
        circles.encode(**places, detail="ring:N", order="at:Q"),
        layer(alt, spokes).mark_rule(color=LINE, aria=False).encode(**places, x2="x2:Q", y2="y2:Q"),
        titles.encode(**places, text="name:N"),
        scale.encode(**places, text="name:N"),
    ]
