"""The cultural variation map, Figure 7, and what scores mean, Appendix C."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from math import cos, hypot, isfinite, isnan, pi, radians, sin
from typing import Any

import numpy as np

from defsurvey.reports.analysis import Analysis, NotRun
from defsurvey.reports.charts.drawing import AXIS, INK, SOFT, Chart, Row, layer, looks, shortened
from defsurvey.reports.figures.projection import (
    WRITTEN_OUT,
    MapArrow,
    MapRow,
    Projection,
    all_of,
    cultural_map,
    paper_map,
)
from defsurvey.reports.figures.words import culture_names, meanings, named_cultures, section
from defsurvey.reports.metrics.cultural_map import Way
from defsurvey.reports.number_format import NONE, counted, fixed, listed, signed
from defsurvey.reports.page import Entry, Field, Fold, Section, Table, fields_of, table
from defsurvey.reports.untrusted import visible

_NOISE = (
    "Few participants lie elsewhere in every culture by chance alone: what resamples of them add to the squared length "
    "is taken off, and a way that is no longer than they would make it in 95 of 100 cases has no direction."
)
_READING = (
    "Large marks and the thick line: people. Dashed: 95% ellipses, of people and, where they are few, of models with "
    "four participants or more. "
    "The map shows two components; cosine and length below are taken in all dimensions."
)
_RAW = "Raw option codes: questions with more options weigh more, and a high code need not mean more of a dimension."
_ONLY_PEOPLE = " Only people have lines here: those of so many models would cover the marks."


@section("figure-7", "Fig. 7 · Map", "Cultural variation map", "Fig. 7")
def map_section(analysis: Analysis, section: Section) -> Section:
    """Figure 7."""
    names, named = culture_names(analysis), named_cultures(analysis)
    section = replace(section, legend=tuple(names.values()))

    def raw(paper: Projection) -> dict[str, Any]:
        chart = culture_map("map-paper", "The map of raw codes", paper, names)
        return {"charts": (chart,), "tables": _tables(paper, "figure-7-paper", names)}

    try:
        part = analysis.figure(cultural_map)
    except NotRun as missing:
        paper = analysis.figure_if_run(paper_map)
        if paper is None:
            raise
        title, said = "Cultural variation map, the paper's way", f"The sound way is not run: {missing.reason}. {_RAW}"
        return replace(section, title=title, paragraphs=(said,), chart_note=_reading(paper), **raw(paper))
    first, *others = (named[code] for code in part.cultures)
    lines = f"{'A line goes' if len(others) == 1 else 'Lines go'} from {first} to {listed(others)}"
    how = (
        f"Mean scores of each dimension from the {counted(part.items, 'item')} that people of "
        f"{all_of(len(part.cultures))} answered, scaled to 0–1 and turned so that more is more of it. {lines}."
    )
    title = "The paper's way: raw option codes"
    paper_way = Fold(anchor="figure-7-paper", title=title, paragraphs=(_RAW,), **raw(part.paper))
    scores = (_scores(analysis, part.sound, names),)
    return replace(
        section,
        title=_direction(analysis, part.sound) or section.title,
        paragraphs=(how,),
        charts=(culture_map("map-sound", "Where people and models stand", part.sound, names),),
        chart_note=_reading(part.sound),
        tables=_tables(part.sound, "figure-7", names),
        side_by_side=True,
        folds=(Fold(anchor="figure-7-scores", title="Scores behind the map", tables=scores), paper_way),
    )


def _reading(projection: Projection) -> str:
    return f"{_READING}{_ONLY_PEOPLE if projection.crowded else ''}"


def _scores(analysis: Analysis, projection: Projection, names: Mapping[str, str]) -> Table:
    """The mean scores, culture by culture as the map has them."""
    heads = [(code, analysis.results.survey.dimensions[code].get("en", "")) for code in projection.dimensions]

    def score(row: MapRow, at: int) -> Entry:
        return Entry(fixed(float(row.scores[at]), 2), shade=float(row.scores[at]))

    subject: Field[MapRow] = Field("Subject", lambda row: row.subject, words=True)
    return table(
        [row for code in projection.cultures for row in projection.rows if row.culture == code],
        [subject, *fields_of(heads, score)],
        "figure-7-score-table",
        "Mean score of each dimension, 0 to 1",
        group=lambda row: names[row.culture],
        grouped_by="Culture",
        quiet=lambda row: row.human,
    )


def _direction(analysis: Analysis, projection: Projection) -> str:
    """Which way models move, of those that have answers enough in both cultures; empty where no way can be told."""
    arrows = [each for each in projection.arrows if each.comparable and not isnan(each.arrow.length_free)]
    ways = [each.arrow.way for each in arrows if each.arrow.way is not Way.UNKNOWN]
    if not ways:
        return ""
    if len(arrows) == 1:
        subject, moved = arrows[0].subject, arrows[0].arrow
        return f"Between cultures {subject} moves {moved.way}, {fixed(moved.length_free, 1)} times as far"
    # who answers alike in both cultures has no direction, and does not move as people do
    far = fixed(float(np.median([each.arrow.length_free for each in arrows])), 1)
    way = Way.AS_PEOPLE if Way.AS_PEOPLE in ways else max(dict.fromkeys(ways), key=ways.count)
    count = f"{ways.count(way)} of {len(arrows)}"
    if len({each.to for each in arrows}) > 1:
        kind = {Way.AS_PEOPLE: "as people's", Way.ANOTHER: "others than people's"}.get(way, "against people's")
        return f"{count} ways between cultures are clearly {kind}; the median way is {far} times as far"
    models = {cell.cell.model for cell in analysis.cells}
    one, of = ("model", "") if {each.subject for each in arrows} <= models else ("pair", " of model and language")
    return f"{count} {one}s{of} clearly move between cultures {way}; the median {one} goes {far} times as far"


def _tables(projection: Projection, anchor: str, names: dict[str, str]) -> tuple[Table, Table]:
    """Ways against people's, and loadings."""
    numbers, components = projection.numbers, projection.components
    first, *others = projection.cultures
    several = len(others) > 1

    def interval(each: MapArrow) -> Entry:
        if isnan(each.arrow.cosine_low):
            return Entry(NONE, why="no longer than chance would make it, or too few participants to say")
        return Entry(f"{signed(each.arrow.cosine_low, 2)} to {signed(each.arrow.cosine_high, 2)}")

    number: Field[MapArrow] = Field("No.", lambda each: numbers[each.subject], "on the map")
    same, apart = (
        "1: the same way as people; 0: across; −1: the opposite",
        "1: as far apart as people of the two cultures",
    )
    fields: list[Field[MapArrow]] = [
        Field("Model", lambda each: each.subject, words=True),
        *([number] if numbers else ()),
        Field("Cosine", lambda each: signed(each.arrow.cosine, 2), same),
        Field("95% interval", interval, "of the cosine, participants resampled and their noise taken off"),
        Field("Length", lambda each: fixed(each.arrow.length_free, 2), f"{apart}; noise taken off"),
        Field("As measured", lambda each: fixed(each.arrow.length_ratio, 2), "the length with what chance adds to it"),
        Field("Cosine, map", lambda each: signed(each.arrow.map_cosine, 2), "of the two components shown, as drawn"),
        Field("Length, map", lambda each: fixed(each.arrow.map_length_ratio, 2)),
    ]
    ways = table(
        projection.arrows,
        fields,
        f"{anchor}-arrows",
        f"Each model's way {f'from {names[first]} ' if several else 'between cultures '}against people's",
        group=lambda each: names[each.to] if several else "",
        grouped_by="To" if several else "",
        notes=(_NOISE, *(f"{name} is left out: it has no score in some dimension." for name in projection.left_out)),
    )
    heads = [(f"PC{n} ({share:.0%})", "") for n, share in enumerate(components.explained.tolist(), start=1)]
    dimension: Field[tuple[int, str]] = Field("Dimension", lambda place: place[1], words=True)

    def loading(place: tuple[int, str], n: int) -> str:
        return signed(float(components.loadings[n, place[0]]), 2)

    columns, rows = [dimension, *fields_of(heads, loading)], enumerate(projection.dimensions)
    return ways, table(rows, columns, f"{anchor}-loadings", "Loadings of the two components")


@section("appendix-c", "App. C · Meaning", "What a high and a low score mean", "Appendix C")
def score_section(analysis: Analysis, section: Section) -> Section:
    """Appendix C: what scores of each dimension asked about mean, and those of people, where there is a map."""
    if not analysis.dimensions:
        raise NotRun("no question of this run speaks to a value dimension")
    part, names = analysis.figure_if_run(cultural_map), culture_names(analysis)
    known, dimensions = meanings(), analysis.results.survey.dimensions
    mapped = part.sound.dimensions if part else ()
    people = [row for row in part.sound.rows if row.human] if part else []

    def score(code: str, at: int) -> str:
        return fixed(float(people[at].scores[mapped.index(code)]), 2) if code in mapped else NONE

    def meaning(text: str, which: str) -> Field[str]:
        of = {code: each[which] for code, each in known.items()}
        return Field(text, lambda code: Entry(of.get(code, "the survey does not say"), words=True), words=True)

    fields: list[Field[str]] = [
        Field("Dimension", lambda code: Entry(dimensions[code].get("en", code), code), words=True),
        meaning("A high score", "high"),
        meaning("A low score", "low"),
        *fields_of([(names[row.culture], "mean score of its people, 0 to 1") for row in people], score),
    ]
    caption = "Value dimensions; mean scores of people, 0 to 1"
    return replace(section, tables=(table(analysis.dimensions, fields, "appendix-c-meanings", caption),))


#: Corners of an ellipse.
CORNERS = 40
#: Width of the map.
SIZE = 560


def culture_map(name: str, title: str, projection: Projection, spelled: dict[str, str]) -> Chart:
    """The map, a line per subject from the first culture to each of the others; ``spelled`` are all cultures' names."""
    first, second = (f"{share:.0%}" for share in projection.components.explained.tolist())
    of = f"{first} and {second} of the variance of {len(projection.rows)} points"
    description = f"Two principal components, {of}; an arrow per subject between cultures."
    return Chart(name=name, title=title, description=description, make=partial(_drawn, projection, spelled))


def _drawn(projection: Projection, spelled: dict[str, str]) -> Any:
    import altair as alt

    axes, height = _axes(alt, projection)
    colour, shape = looks(alt, "culture", {code: list(spelled).index(code) for code in projection.cultures})
    ellipses, lines = layer(alt, _ellipses(projection)), layer(alt, _lines(projection)).mark_rule(aria=False)
    ellipses = ellipses.mark_line(strokeWidth=1, strokeDash=[3, 2], opacity=0.8, aria=False, clip=True)
    width = alt.StrokeWidth("width:Q", scale=None, legend=None)
    ink = alt.condition("datum.human", alt.value(INK), alt.value(SOFT))
    layers = [
        ellipses.encode(**axes, color=colour, detail="of:N", order="at:Q"),
        lines.encode(**axes, x2="x2:Q", y2="y2:Q", strokeWidth=width, color=ink),
    ]
    for human, size in ((True, 130), (False, 60)):
        marks = layer(alt, [_point(row, spelled) for row in projection.rows if row.human is human])
        marks = marks.mark_point(size=size, filled=True, opacity=1)
        layers.append(marks.encode(**axes, color=colour, shape=shape, description="says:N"))
    labels = layer(alt, _labels(projection, spelled))
    for weight, colour_of in (("bold", INK), ("normal", SOFT)):
        texts = labels.transform_filter(f"datum.weight === '{weight}'")
        texts = texts.mark_text(color=colour_of, fontWeight=weight, fontSize=12, aria=False)
        layers.append(texts.encode(**axes, text="name:N"))
    return alt.layer(*layers).properties(width=SIZE, height=height)


def _axes(alt: Any, projection: Projection) -> tuple[dict[str, Any], float]:
    """Both axes at one scale, so that lengths and angles can be read off; and how tall the map is."""
    across, along = zip(*(row.point for row in projection.rows), strict=True)
    span = max(max(across) - min(across), 1e-9)
    margin = 0.14 * span
    tall = max(max(along) - min(along) + 2 * margin, 0.4 * span)
    middle = (max(along) + min(along)) / 2
    axis = alt.Axis(**AXIS)
    first, second = projection.components.explained.tolist()
    wide = [min(across) - margin, max(across) + margin]
    high = [middle - tall / 2, middle + tall / 2]
    x = alt.X("x:Q", scale=alt.Scale(domain=wide, nice=False, zero=False), axis=axis, title=f"PC1 ({first:.0%})")
    y = alt.Y("y:Q", scale=alt.Scale(domain=high, nice=False, zero=False), axis=axis, title=f"PC2 ({second:.0%})")
    return {"x": x, "y": y}, SIZE * tall / (wide[1] - wide[0])


def _point(row: MapRow, spelled: dict[str, str]) -> Row:
    (x, y), subject = row.point, "People" if row.human else row.subject
    says = f"{subject}, {spelled[row.culture]}: {fixed(x, 2)}, {fixed(y, 2)}"
    return {"x": x, "y": y, "culture": row.culture, "human": row.human, "says": says}


def _ellipses(projection: Projection) -> list[Row]:
    """Corners of polygons, since a specification knows no ellipses."""
    subjects = list(dict.fromkeys(row.subject for row in projection.rows))
    few = set(subjects) if len(subjects) <= WRITTEN_OUT + 1 else {"people"}
    corners: list[Row] = []
    for number, row in enumerate(projection.rows):
        if row.subject not in few or not isfinite(row.ellipse.angle):
            continue
        turn, (long, short) = radians(row.ellipse.angle), row.ellipse.half_axes
        for at in range(CORNERS + 1):
            angle = 2 * pi * at / CORNERS
            across, along = long * cos(angle), short * sin(angle)
            x = row.point[0] + across * cos(turn) - along * sin(turn)
            y = row.point[1] + across * sin(turn) + along * cos(turn)
            corners.append({"x": x, "y": y, "culture": row.culture, "of": str(number), "at": at})
    return corners


def _lines(projection: Projection) -> list[Row]:
    """From the first culture; which way they go is told by the shapes at their ends."""
    ends = {(row.subject, row.culture): row for row in projection.rows}
    first, *others = projection.cultures
    lines = []
    for subject, to in product(dict.fromkeys(row.subject for row in projection.rows), others):
        start, stop = ends.get((subject, first)), ends.get((subject, to))
        if start is not None and stop is not None and (start.human or not projection.crowded):
            (x, y), (x2, y2) = start.point, stop.point
            width = 3.0 if start.human else 1.2
            lines.append({"x": x, "y": y, "x2": x2, "y2": y2, "width": width, "human": start.human})
    return lines


def _labels(projection: Projection, spelled: dict[str, str]) -> list[Row]:
    """Names at the ends of people's lines, and at the beginning of every model's lines its name or number."""
    cultures, subjects = projection.cultures, [row.subject for row in projection.rows]
    cut = dict(zip(subjects, shortened([visible(subject) for subject in subjects]), strict=True))
    labels = []
    for row in projection.rows:
        if row.human or row.culture == cultures[0]:
            across, along = _beyond(row, projection, 0.07 if row.human else 0.035)
            called = "People" if len(cultures) == 2 else spelled[row.culture]
            name = called if row.human else projection.numbers.get(row.subject, cut[row.subject])
            labels.append({"x": across, "y": along, "name": name, "weight": "bold" if row.human else "normal"})
    return labels


def _beyond(row: MapRow, projection: Projection, by: float) -> tuple[float, float]:
    """A place further along the line from the subject's other places, by a part of the map, where no line is covered.

    Of a subject without other places the line comes from the middle of the map.
    """
    others = [each.point for each in projection.rows if each.subject == row.subject and each.culture != row.culture]
    middle = np.mean(others or [(0.0, 0.0)], axis=0).tolist()
    reach = by * (max(row.point[0] for row in projection.rows) - min(row.point[0] for row in projection.rows))
    across, along = row.point[0] - middle[0], row.point[1] - middle[1]
    length = max(hypot(across, along), 1e-12)
    return row.point[0] + reach * across / length, row.point[1] + reach * along / length
