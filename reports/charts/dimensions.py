"""Figures 5 and 6: divergence by value dimension, its means and its spread, one chart per model.

Cultures stand beneath each other on the row of a dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.charts.dots import NATS
from defsurvey.reports.charts.drawing import FLOOR, INK, LINE, SOFT, Chart, Row, room_for, shortened, width_beside
from defsurvey.reports.charts.rows import Frame, Mark, Scale, looks, reach, rows_axis, rows_chart
from defsurvey.reports.figures.by_dimension import QUANTILES, ByDimension, DimensionRow
from defsurvey.reports.number_format import counted, nats
from defsurvey.reports.untrusted import visible

_FIVE, _QUARTER, _MEDIAN, _THREE, _NINETY_FIVE = (QUANTILES.index(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95))


def mean_plots(analysis: Analysis, part: ByDimension) -> tuple[Chart, ...]:
    """Figure 5: means with intervals and floor; the dashed lines are the mean over all models, by culture."""
    high = reach(
        value
        for row in part.rows
        for values in (row.sound.tolist(), row.floor.tolist(), [interval.high for interval in row.intervals])
        for value in values
    )
    scale = Scale(title=NATS, high=high)
    rows = _labels(analysis)
    return tuple(
        rows_chart(
            _mean_marks(analysis, mine),
            Frame(
                name=f"dimensions-{place}",
                title=visible(model),
                description="Mean smoothed KL divergence by value dimension, with 95% intervals.",
                scale=scale,
                series=len(analysis.cultures),
                rows=tuple(rows.values()),
            ),
        )
        for place, (model, mine) in enumerate(_by_model(part).items())
    )


def spread_plots(analysis: Analysis, part: ByDimension) -> tuple[Chart, ...]:
    """Figure 6: quartiles and the 5th to 95th percentile of the divergence of a dimension's items."""
    scale = reach(
        value
        for row in part.rows
        for values in (row.sound_quantiles[:, _NINETY_FIVE].tolist(), row.floor.tolist())
        for value in values
    )
    return tuple(
        _spread_plot(analysis, visible(model), place, mine, scale)
        for place, (model, mine) in enumerate(_by_model(part).items())
    )


def _by_model(part: ByDimension) -> dict[str, list[DimensionRow]]:
    found: dict[str, list[DimensionRow]] = {}
    for row in part.rows:
        if any(isfinite(value) for value in row.sound.tolist()):
            found.setdefault(row.model, []).append(row)
    return found


def _labels(analysis: Analysis) -> dict[int, str]:
    """Place of each dimension that the run's items speak to -> how its row is called."""
    names = analysis.results.survey.dimensions
    order = list(names)
    return {order.index(code): dimension_label(code, names) for code in analysis.dimensions}


def dimension_label(code: str, names: Mapping[str, Mapping[str, str]]) -> str:
    """A dimension's name with its code."""
    name = names[code].get("en", "")
    return visible(f"{name[:1].upper()}{name[1:]} ({code})" if name and name != code else code)


def _mean_marks(analysis: Analysis, rows: Sequence[DimensionRow]) -> list[Mark]:
    cultures = [culture.culture.code for culture in analysis.cultures]
    names = {culture.culture.code: culture.name for culture in analysis.cultures}
    marks = []
    for row in rows:
        for place, label in _labels(analysis).items():
            value, floor, interval = float(row.sound[place]), float(row.floor[place]), row.intervals[place]
            if isfinite(value):
                between = f" ({nats(max(interval.low, 0))} to {nats(interval.high)})" if isfinite(interval.low) else ""
                marks.append(
                    Mark(
                        row=label,
                        value=value,
                        says=f"{names[row.culture]}, {label}: {nats(value)}{between}; as many people: {nats(floor)}",
                        series=cultures.index(row.culture),
                        low=max(interval.low, 0.0) if isfinite(interval.low) else interval.low,
                        high=interval.high,
                        floor=floor,
                    )
                )
    return marks


def _spread_plot(analysis: Analysis, model: str, place: int, rows: Sequence[DimensionRow], high: float) -> Chart:
    says = "Spread of the smoothed KL divergence of a dimension's items."
    drawn = partial(_drawn, analysis, rows, high)
    return Chart(name=f"spread-{place}", title=model, description=says, make=drawn)


def _drawn(analysis: Analysis, rows: Sequence[DimensionRow], high: float) -> Any:
    import altair as alt

    labels = list(_labels(analysis).values())
    series = [str(number) for number in range(len(analysis.cultures))]
    data = alt.InlineData(values=list(_boxes(analysis, rows)))
    common: dict[str, Any] = {
        "y": rows_axis(alt, shortened(labels), room_for(labels)),
        "yOffset": alt.YOffset("series:N", sort=series, scale=alt.Scale(domain=series, paddingInner=0.1)),
    }
    colour, shape = looks(alt, len(series))

    def x(field: str) -> Any:
        axis = alt.Axis(
            tickCount=5,
            gridColor=LINE,
            domain=False,
            ticks=False,
            labelColor=SOFT,
            titleColor=SOFT,
            titleFontWeight="normal",
        )
        return alt.X(f"{field}:Q", scale=alt.Scale(domain=[0, high], nice=False), axis=axis, title=NATS)

    base = alt.Chart(data)
    return alt.layer(
        base.mark_bar(color=FLOOR, aria=False).encode(x=x("floor"), **common),
        base.mark_rule(strokeWidth=1.5, aria=False).encode(x=x("low"), x2="high:Q", color=colour, **common),
        base.mark_bar(size=8, opacity=0.75).encode(
            x=x("quarter"), x2="three:Q", color=colour, description="says:N", **common
        ),
        base.mark_point(color=INK, filled=True, size=44, opacity=1, aria=False).encode(
            x=x("median"), shape=shape, **common
        ),
    ).properties(width=width_beside(room_for(labels)), height=alt.Step(max(13, 26 // len(series)), **{"for": "offset"}))


def _boxes(analysis: Analysis, rows: Sequence[DimensionRow]) -> list[Row]:
    cultures = [culture.culture.code for culture in analysis.cultures]
    names = {culture.culture.code: culture.name for culture in analysis.cultures}
    called, found = _labels(analysis), []
    cut = dict(zip(called, shortened(list(called.values())), strict=True))
    for row in rows:
        for place, label in called.items():
            quantiles = row.sound_quantiles[place].tolist()
            if isfinite(quantiles[_MEDIAN]):
                found.append(
                    {
                        "row": cut[place],
                        "series": str(cultures.index(row.culture)),
                        "floor": float(row.floor[place]),
                        "low": quantiles[_FIVE],
                        "quarter": quantiles[_QUARTER],
                        "median": quantiles[_MEDIAN],
                        "three": quantiles[_THREE],
                        "high": quantiles[_NINETY_FIVE],
                        "says": f"{names[row.culture]}, {label}: median {nats(quantiles[_MEDIAN])}, quartiles "
                        f"{nats(quantiles[_QUARTER])} and {nats(quantiles[_THREE])}, "
                        f"{counted(round(row.items[place]), 'item')}",
                    }
                )
    return found
