"""Figure 7: the cultural variation map."""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from typing import Any

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.charts.cultures import culture_map, numbered
from defsurvey.reports.figures.mapping import CulturalMap, Projection, cultural_map, every, paper_map
from defsurvey.reports.figures.words import NotRun, culture_names, listed, missing, named_cultures
from defsurvey.reports.metrics.ways import Arrow, Way
from defsurvey.reports.number_format import NONE, counted, fixed, signed
from defsurvey.reports.page import Column, Entry, Fold, Section, Table, TableRow


def map_section(analysis: Analysis) -> Section:
    """Figure 7."""
    part, paper = analysis.figure(cultural_map), analysis.figure(paper_map)
    section = Section(anchor="figure-7", contents="Fig. 7 · Map", title="Cultural variation map", number="Fig. 7")
    if isinstance(part, NotRun):
        if isinstance(paper, NotRun):
            return missing(section, part)
        return replace(
            section,
            title="Cultural variation map, the paper's way",
            paragraphs=(f"The sound way is not run: {part.reason}. {_RAW}",),
            legend=tuple(culture_names(analysis).values()),
            chart_note=_reading(paper),
            **_paper(analysis, paper),
        )
    names, named = culture_names(analysis), named_cultures(analysis)
    first, *others = (named[code] for code in part.cultures)
    lines = (
        f"A line goes from {first} to {others[0]}" if len(others) == 1 else f"Lines go from {first} to {listed(others)}"
    )
    return replace(
        section,
        title=_direction(analysis, part.sound),
        paragraphs=(
            (
                f"Mean scores of each dimension from the {counted(part.items, 'item')} that people of "
                f"{every(len(part.cultures))} answered, scaled to 0–1 and turned so that more is more of it. {lines}."
            ),
        ),
        legend=tuple(names.values()),
        charts=(culture_map("map-sound", "Where people and models stand", part.sound, names),),
        chart_note=_reading(part.sound),
        tables=(_arrows(part.sound, "figure-7-arrows", names), _loadings(part.sound, "figure-7-loadings")),
        side_by_side=True,
        folds=(
            Fold(anchor="figure-7-scores", title="Scores behind the map", tables=(_scores(analysis, part),)),
            *(() if isinstance(paper, NotRun) else (_paper_fold(analysis, paper),)),
        ),
    )


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


_ONLY_PEOPLE = "Only people have lines here: those of so many models would cover the marks."


def _reading(projection: Projection) -> str:
    """How to read a map."""
    many = sum(row.human for row in projection.rows) > 2 and numbered(projection)
    return f"{_READING} {_ONLY_PEOPLE}" if many else _READING


def _paper(analysis: Analysis, projection: Projection) -> dict[str, Any]:
    """The map of raw codes and its tables, as fields of a section or a fold."""
    names = culture_names(analysis)
    return {
        "charts": (culture_map("map-paper", "The map of raw codes", projection, names),),
        "tables": (
            _arrows(projection, "figure-7-paper-arrows", names),
            _loadings(projection, "figure-7-paper-loadings"),
        ),
    }


def _paper_fold(analysis: Analysis, projection: Projection) -> Fold:
    return Fold(
        anchor="figure-7-paper",
        title="The paper's way: raw option codes",
        paragraphs=(_RAW,),
        **_paper(analysis, projection),
    )


def _direction(analysis: Analysis, projection: Projection) -> str:
    """Which way models move, of those that have answers enough in both cultures; neutral where no way can be told."""
    arrows = [each for each in projection.arrows if each.comparable and not isnan(each.arrow.length_free)]
    ways = [each.arrow.way for each in arrows if each.arrow.way is not Way.UNKNOWN]
    if not ways:
        return "Cultural variation map"
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


def _signed(value: float) -> str:
    return signed(value, 2)


def _arrows(projection: Projection, anchor: str, names: dict[str, str]) -> Table:
    numbers = numbered(projection)
    first, *others = (row.culture for row in projection.rows if row.human)
    several = len(others) > 1
    return Table(
        anchor=anchor,
        caption=f"Each model's way {f'from {names[first]} ' if several else 'between cultures '}against people's",
        grouped_by="To" if several else "",
        columns=(
            Column(text="Model", words=True),
            *((Column(text="No.", meaning="on the map"),) if numbers else ()),
            Column(text="Cosine", meaning="1: the same way as people; 0: across; −1: the opposite"),
            Column(text="95% interval", meaning="of the cosine, participants resampled and their noise taken off"),
            Column(text="Length", meaning="1: as far apart as people of the two cultures; noise taken off"),
            Column(text="As measured", meaning="the length with what chance adds to it"),
            Column(text="Cosine, map", meaning="of the two components shown, as drawn"),
            Column(text="Length, map"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=each.subject),
                group=names[each.to] if several else "",
                entries=(
                    *((Entry(text=numbers[each.subject]),) if numbers else ()),
                    Entry(text=_signed(each.arrow.cosine)),
                    _cosines(each.arrow),
                    Entry(text=fixed(each.arrow.length_free, 2)),
                    Entry(text=fixed(each.arrow.length_ratio, 2)),
                    Entry(text=_signed(each.arrow.map_cosine)),
                    Entry(text=fixed(each.arrow.map_length_ratio, 2)),
                ),
            )
            for each in projection.arrows
        ),
        notes=(_NOISE, *(f"{name} is left out: it has no score in some dimension." for name in projection.left_out)),
    )


def _cosines(arrow: Arrow) -> Entry:
    """The interval of a cosine; a dash where the way is no longer than chance would make it."""
    if isnan(arrow.cosine_low):
        return Entry(text=NONE, why="no longer than chance would make it, or too few participants to say")
    return Entry(text=f"{_signed(arrow.cosine_low)} to {_signed(arrow.cosine_high)}")


def _loadings(projection: Projection, anchor: str) -> Table:
    shares = projection.components.explained.tolist()
    return Table(
        anchor=anchor,
        caption="Loadings of the two components",
        columns=(
            Column(text="Dimension", words=True),
            *(Column(text=f"PC{n} ({share:.0%})") for n, share in enumerate(shares, start=1)),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=code),
                entries=tuple(Entry(text=_signed(float(each[place]))) for each in projection.components.loadings),
            )
            for place, code in enumerate(projection.dimensions)
        ),
    )


def _scores(analysis: Analysis, part: CulturalMap) -> Table:
    names, survey = culture_names(analysis), analysis.results.survey
    return Table(
        anchor="figure-7-score-table",
        caption="Mean score of each dimension, 0 to 1",
        grouped_by="Culture",
        columns=(
            Column(text="Subject", words=True),
            *(Column(text=code, meaning=survey.dimensions[code].get("en", "")) for code in part.sound.dimensions),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=row.subject),
                group=names[culture],
                quiet=row.human,
                entries=tuple(Entry(text=fixed(float(score), 2), shade=float(score)) for score in row.scores),
            )
            for culture in part.cultures
            for row in part.sound.rows
            if row.culture == culture
        ),
    )
