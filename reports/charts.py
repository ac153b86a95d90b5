"""Charts as inline SVG: Altair specifications, drawn by vl-convert, coloured by the page.

Knows how to draw an Analysis. Colours leave here as CSS variables and type as the page's own, so that
one drawing serves light, dark and print; marks carry their figures as titles. Deliberately knows
nothing of the page around it. The same Analysis gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite, isnan
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

from reports.analysis import Analysis, CellAnalysis, CultureAnalysis
from reports.figures import nats
from reports.untrusted import visible

if TYPE_CHECKING:
    import altair

#: Colours as the specification knows them -> what the page calls them.
PALETTE: Mapping[str, str] = {
    "#010101": "var(--ink)",
    "#020202": "var(--soft)",
    "#030303": "var(--line)",
    "#040404": "var(--floor)",
    "#050505": "var(--paper)",
    "#060601": "var(--series-1)",
    "#060602": "var(--series-2)",
    "#060603": "var(--series-3)",
    "#060604": "var(--series-4)",
    "#060605": "var(--series-5)",
    "#060606": "var(--series-6)",
}
INK, SOFT, LINE, FLOOR, PAPER, *SERIES = PALETTE
#: A shape beside every colour, so that colour alone tells nothing.
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
#: Height of one row of a chart, in CSS pixels.
ROW = 26
#: Width of the drawing without its labels.
WIDTH = 260

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One drawing."""

    name: str  #: unique in its report; part of the ids within the drawing
    title: str
    description: str
    svg: str


def dot_plots(analysis: Analysis) -> tuple[Chart, ...]:
    """One chart per culture: cells with intervals, simple respondents, the noise floor; one scale for all."""
    reach = _reach(
        [value for cell in analysis.cells for value in (cell.sound.headline, cell.interval.high)]
        + [control.mean for culture in analysis.cultures for control in culture.controls]
    )
    room = _room(
        [visible(cell.name) for cell in analysis.cells]
        + [control.name for culture in analysis.cultures for control in culture.controls]
    )
    return tuple(
        _dot_plot(culture, place, reach, room)
        for place, culture in enumerate(analysis.cultures)
        if any(isfinite(cell.sound.headline) for cell in culture.cells)
    )


def dimension_plots(analysis: Analysis) -> tuple[Chart, ...]:
    """One chart per model (and condition): its divergence by dimension, a row per culture; one scale for all."""
    cells = [cell for cell in analysis.cells if isfinite(cell.sound.macro)]
    reach = _reach([float(value) for cell in cells for value in cell.sound.by_dimension])
    names = dict.fromkeys(cell.name for cell in cells)
    return tuple(_dimension_plot(analysis, name, place, reach) for place, name in enumerate(names))


def _reach(values: Iterable[float]) -> float:
    return 1.04 * max((value for value in values if isfinite(value)), default=1.0)


def _dot_plot(culture: CultureAnalysis, place: int, reach: float, room: float) -> Chart:
    cells = sorted(
        (cell for cell in culture.cells if isfinite(cell.sound.headline)), key=lambda cell: cell.sound.headline
    )
    rows = [_cell_row(cell) for cell in cells]
    known = [control for control in culture.controls if isfinite(control.mean)]
    rows += [
        {
            "name": control.name,
            "kind": "control",
            "value": control.mean,
            "says": f"{control.name}: {nats(control.mean)}",
        }
        for control in known
    ]
    rules = [row for row in rows if row["kind"] == "control" and row["name"] == "answers at random"]
    import altair as alt

    order = [str(row["name"]) for row in rows]
    y = alt.Y("name:N", sort=order, axis=_names_axis(room), title=None)
    layers = [
        _bars(alt, rows, y, reach),
        _rules(alt, rules, reach),
        *_dots(alt, rows, y, reach, SERIES[place % len(SERIES)], SHAPES[place % len(SHAPES)]),
    ]
    title = f"Distance from people: {culture.name}"
    drawn = alt.layer(*layers).properties(width=WIDTH, height=alt.Step(ROW))
    best = f"Closest: {rows[0]['says']}." if cells else ""
    return _draw(drawn, f"dots-{place}", title, f"Smoothed KL divergence in nats, with 95% intervals. {best}")


def _cell_row(cell: CellAnalysis) -> Row:
    low, high = cell.interval.low, cell.interval.high
    between = "" if isnan(low) else f" ({nats(max(low, 0.0))} to {nats(high)})"
    return {
        "name": visible(cell.name),
        "kind": "cell",
        "value": cell.sound.headline,
        "low": None if isnan(low) else max(low, 0.0),
        "high": None if isnan(high) else high,
        "floor": cell.sound_floor.headline,
        "says": f"{visible(cell.name)}: {nats(cell.sound.headline)}{between}; "
        f"as many people: {nats(cell.sound_floor.headline)}",
    }


def _dimension_plot(analysis: Analysis, name: str, place: int, reach: float) -> Chart:
    import altair as alt

    survey = analysis.results.survey
    order = list(survey.dimensions)
    rows: list[Row] = []
    cultures = [culture.name for culture in analysis.cultures]
    for culture in analysis.cultures:
        for cell in culture.cells:
            if cell.name == name:
                rows += _dimension_rows(culture.name, cell, order, survey.dimensions)
    labels = [_label(code, survey.dimensions) for code in analysis.dimensions]
    y = alt.Y("name:N", sort=labels, scale=alt.Scale(domain=labels), axis=_names_axis(_room(labels)), title=None)
    offset = alt.YOffset("culture:N", sort=cultures, scale=alt.Scale(domain=cultures, paddingInner=0.1))
    colours = list(SERIES[: len(cultures)]) if len(cultures) <= len(SERIES) else [SERIES[0]] * len(cultures)
    data = alt.InlineData(values=rows)
    x = _x(alt, "value", reach)
    bars = alt.Chart(data).mark_bar(color=FLOOR).encode(x=_x(alt, "floor", reach), y=y, yOffset=offset)
    dots = (
        alt.Chart(data)
        .mark_point(size=58, filled=True, opacity=1)
        .encode(
            x=x,
            y=y,
            yOffset=offset,
            color=alt.Color("culture:N", scale=alt.Scale(domain=cultures, range=colours), legend=None),
            shape=alt.Shape(
                "culture:N",
                scale=alt.Scale(domain=cultures, range=[SHAPES[i % len(SHAPES)] for i in range(len(cultures))]),
                legend=None,
            ),
            description="says:N",
        )
    )
    step = alt.Step(max(13, ROW // max(1, len(cultures))), **{"for": "offset"})
    drawn = alt.layer(bars, dots).properties(width=WIDTH, height=step)
    return _draw(drawn, f"dimensions-{place}", visible(name), "Smoothed KL divergence in nats, by value dimension.")


def _dimension_rows(
    culture: str, cell: CellAnalysis, order: Sequence[str], names: Mapping[str, Mapping[str, str]]
) -> Iterable[Row]:
    for code, value, floor in zip(order, cell.sound.by_dimension, cell.sound_floor.by_dimension, strict=True):
        if not isnan(value):
            yield {
                "name": _label(code, names),
                "culture": culture,
                "value": float(value),
                "floor": float(floor),
                "says": f"{culture}, {_label(code, names)}: {nats(value)}; as many people: {nats(floor)}",
            }


def _label(code: str, names: Mapping[str, Mapping[str, str]]) -> str:
    name = names[code].get("en", "")
    return f"{name[:1].upper()}{name[1:]} ({code})" if name and name != code else code


def _room(labels: Iterable[str]) -> float:
    """Room for labels, counted out: the page's font is not known where the chart is drawn."""
    return 16 + 6.9 * max((sum(2 if east_asian_width(c) in "WF" else 1 for c in label) for label in labels), default=0)


def _names_axis(room: float) -> altair.Axis:
    import altair as alt

    return alt.Axis(
        minExtent=room, labelLimit=0, labelPadding=8, ticks=False, domain=False, labelColor=INK, labelFontSize=13
    )


def _x(alt: Any, field: str, reach: float) -> altair.X:
    axis = alt.Axis(
        tickCount=5,
        gridColor=LINE,
        domain=False,
        ticks=False,
        labelColor=SOFT,
        titleColor=SOFT,
        titleFontWeight="normal",
    )
    scale = alt.Scale(domain=[0, reach], nice=False)
    found: altair.X = alt.X(f"{field}:Q", scale=scale, axis=axis, title="smoothed KL divergence, nats; left is closer")
    return found


def _bars(alt: Any, rows: Sequence[Row], y: altair.Y, reach: float) -> altair.Chart:
    cells = [row for row in rows if row["kind"] == "cell"]
    chart: altair.Chart = (
        alt.Chart(alt.InlineData(values=cells)).mark_bar(color=FLOOR, size=ROW).encode(x=_x(alt, "floor", reach), y=y)
    )
    return chart


def _rules(alt: Any, rows: Sequence[Row], reach: float) -> altair.Chart:
    rule = alt.Chart(alt.InlineData(values=list(rows))).mark_rule(color=SOFT, strokeDash=[3, 3])
    chart: altair.Chart = rule.encode(x=_x(alt, "value", reach))
    return chart


def _dots(
    alt: Any, rows: Sequence[Row], y: altair.Y, reach: float, colour: str, shape: str
) -> tuple[altair.Chart, ...]:
    cells = alt.InlineData(values=[row for row in rows if row["kind"] == "cell"])
    controls = alt.InlineData(values=[row for row in rows if row["kind"] == "control"])
    x = _x(alt, "value", reach)
    interval = alt.Chart(alt.InlineData(values=[row for row in rows if row.get("low") is not None]))
    return (
        interval.mark_rule(color=colour, strokeWidth=2.5, opacity=0.55).encode(
            x=_x(alt, "low", reach), x2="high:Q", y=y
        ),
        alt.Chart(controls)
        .mark_point(size=46, filled=False, stroke=SOFT, strokeWidth=1.6, shape="diamond", opacity=1)
        .encode(x=x, y=y, description="says:N"),
        alt.Chart(cells)
        .mark_point(size=90, filled=True, color=colour, shape=shape, opacity=1)
        .encode(x=x, y=y, description="says:N"),
    )


def _draw(chart: altair.LayerChart | altair.FacetChart, name: str, title: str, description: str) -> Chart:
    import vl_convert

    settled = (
        chart.configure_view(stroke="transparent")
        .configure(background="transparent", padding=2)
        .configure_axis(labelFontSize=12, titleFontSize=12)
    )
    svg = vl_convert.vegalite_to_svg(settled.to_dict())
    return Chart(name=name, title=title, description=description, svg=_settle(svg, name, title, description))


def _settle(svg: str, name: str, title: str, description: str) -> str:
    """Give a drawing the page's colours and type, its own ids, and titles that show on hover."""
    for colour, variable in PALETTE.items():
        svg = svg.replace(f'"{colour}"', f'"{variable}"')
    svg = re.sub(r' font-family="[^"]*"', "", svg)
    found = dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg))
    for place, old in enumerate(found):
        svg = svg.replace(f'id="{old}"', f'id="{name}-{place}"').replace(f"url(#{old})", f"url(#{name}-{place})")
    svg = re.sub(
        r'<path aria-label="([^"]*)"([^>]*?)/>',
        lambda mark: f'<path aria-label="{mark[1]}"{mark[2]}><title>{mark[1]}</title></path>',
        svg,
    )
    label = escape(f"{title}. {description}")
    opening = re.match(r'<svg [^>]*?width="([\d.]+)" height="([\d.]+)" viewBox="([^"]+)">', svg)
    assert opening is not None, "vl-convert draws a root with width, height and viewBox"
    root = (
        f'<svg class="chart" viewBox="{opening[3]}" style="max-width:{opening[1]}px" role="group" aria-label="{label}">'
    )
    return root + svg[opening.end() :]
