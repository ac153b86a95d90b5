"""The cultural variation map: Figure 7, and the map of Figure 10."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CellAnalysis, CultureAnalysis
from defsurvey.reports.cells.items import Floats
from defsurvey.reports.cells.scores import (
    Scoring,
    model_scores,
    noise,
    participants_behind,
    people_scores,
    people_variance,
    raw,
    resampled_scores,
    scaled,
    scored,
    way_noise,
)
from defsurvey.reports.charts.cultural_map import culture_map, numbered
from defsurvey.reports.figures.words import NotRun, culture_names, main_condition, missing, named_cultures
from defsurvey.reports.metrics.aggregate import grouped_mean
from defsurvey.reports.metrics.cultural_map import (
    Arrow,
    Components,
    Ellipse,
    MapArrow,
    MapRow,
    Projection,
    Way,
    arrow,
    ellipse,
    ellipse_of,
    principal_components,
)
from defsurvey.reports.number_format import NONE, counted, fixed, listed, signed
from defsurvey.reports.page import Entry, Field, Fold, Section, Table, table
from defsurvey.storage.surveys.survey import Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class CulturalMap:
    """Figure 7."""

    cultures: tuple[str, ...]  #: two or more, in the survey's order; arrows go from the first to each of the others
    items: int  #: that people of all of them answered
    sound: Projection  #: codes scaled to [0, 1] and turned so that more is more of the dimension, these items
    paper: Projection  #: raw option codes, whatever each culture was asked


def cultural_map(analysis: Analysis) -> CulturalMap | NotRun:
    """Figure 7, over the items that people of all cultures answered and that speak to a dimension."""
    if len(analysis.cultures) < 2:
        return NotRun(reason="one culture: no variation between cultures to map")
    cultures, items = _in_order(analysis.cultures, analysis.results.survey), analysis.items
    known = [~np.isnan(culture.reference.n) for culture in cultures]
    used = np.asarray(np.all(known, axis=0) & scored(items))
    if len(np.unique(items.grouping.dimension[used])) < 2:
        reason = f"fewer than two value dimensions have a question that {every(len(cultures))} answered"
        return NotRun(reason=reason)
    sound, paper = _project(analysis, cultures, scaled(items, used)), analysis.figure(paper_map)
    if sound is None or isinstance(paper, NotRun):
        return NotRun(reason="no model has a score in every dimension")
    return CulturalMap(
        cultures=tuple(culture.culture.code for culture in cultures), items=int(used.sum()), sound=sound, paper=paper
    )


def every(cultures: int) -> str:
    """All the cultures of a map, in words.

    >>> every(2), every(5)
    ('both cultures', 'all 5 cultures')
    """
    return "both cultures" if cultures == 2 else f"all {cultures} cultures"


def paper_map(analysis: Analysis) -> Projection | NotRun:
    """Figure 7 as the paper has it: raw codes, and of each culture whatever it was asked.

    It stands for itself where the cultures were asked different questions, as in the paper's own dataset; their means
    then differ by what was asked too.
    """
    if len(analysis.cultures) < 2:
        return NotRun(reason="one culture: no variation between cultures to map")
    cultures, items = _in_order(analysis.cultures, analysis.results.survey), analysis.items
    used = scored(items)
    asked = (set(items.grouping.dimension[used & ~np.isnan(each.reference.n)].tolist()) for each in cultures)
    if len(set.intersection(*asked)) < 2:
        return NotRun(reason=f"fewer than two value dimensions were asked about in {every(len(cultures))}")
    found = _project(analysis, cultures, raw(items, used))
    return NotRun(reason="no model has a score in every dimension") if found is None else found


def _in_order(cultures: tuple[CultureAnalysis, ...], survey: Survey) -> tuple[CultureAnalysis, ...]:
    """The cultures of the map in the survey's order; people of the first lie to the right of the others' middle."""
    places = {culture.code: place for place, culture in enumerate(survey.cultures)}
    return tuple(sorted(cultures, key=lambda culture: places[culture.culture.code]))


def _subjects(analysis: Analysis) -> list[tuple[str, CellAnalysis]]:
    condition = main_condition(analysis.results.run.cells)
    cells = [cell for cell in analysis.cells if cell.cell.condition.name == condition]
    spoken: dict[tuple[str, str], int] = {}
    for cell in cells:
        spoken[cell.cell.model, cell.cell.culture] = spoken.get((cell.cell.model, cell.cell.culture), 0) + 1
    most = {model: max(count for (of, _), count in spoken.items() if of == model) for model, _ in spoken}
    return [(_subject(analysis, cell, most[cell.cell.model]), cell) for cell in cells]


def _subject(analysis: Analysis, cell: CellAnalysis, languages: int) -> str:
    """A model asked in several languages is several subjects: its native one, and the other or each of the others."""
    if languages == 1:
        return cell.cell.model
    native = analysis.results.survey.culture(cell.cell.culture).language == cell.cell.language
    other = "other language" if languages == 2 else f"in {cell.cell.language}, not native"
    return f"{cell.cell.model} · {'native language' if native else other}"


def _project(analysis: Analysis, cultures: tuple[CultureAnalysis, ...], scoring: Scoring) -> Projection | None:
    grouping, kept, subjects = analysis.items.grouping, scoring.keep > 0, _subjects(analysis)

    def columns(by_item: Floats) -> Floats:
        return grouped_mean(by_item[..., kept], grouping.dimension[kept], grouping.dimensions)

    people = [columns(people_scores(culture, scoring, analysis.items)) for culture in cultures]
    known = {culture.culture.code: kept & ~np.isnan(culture.reference.n) for culture in cultures}
    found = [columns(model_scores(cell, scoring, known[cell.cell.culture])) for _, cell in subjects]
    asked = np.asarray(~np.isnan(np.stack(people)).any(axis=0))
    whole = [place for place, scores in enumerate(found) if not np.isnan(scores[asked]).any()]
    table = np.stack([*people, *(found[place] for place in whole)])[:, asked]
    if len(whole) == 0:
        return None
    components = principal_components(table, right=0, left=range(1, len(people)))
    rows = [
        MapRow(
            subject="people",
            culture=culture.culture.code,
            human=True,
            scores=table[at],
            point=_point(components, at),
            ellipse=_around(components, at, people_variance(culture, scoring, analysis.items, asked)),
        )
        for at, culture in enumerate(cultures)
    ]
    noises: dict[tuple[str, str], Floats | None] = {}
    for at, place in enumerate(whole, start=len(people)):
        name, cell = subjects[place]
        behind = participants_behind(cell)
        resampled = columns(resampled_scores(cell, scoring, known[cell.cell.culture]))[:, asked]
        around = ellipse(components.project(resampled), behind)
        noises[name, cell.cell.culture] = noise(resampled, behind)
        rows.append(
            MapRow(
                subject=name,
                culture=cell.cell.culture,
                human=False,
                scores=table[at],
                point=_point(components, at),
                ellipse=around,
            )
        )
    return Projection(
        dimensions=tuple(c for c, known in zip(analysis.results.survey.dimensions, asked, strict=True) if known),
        components=components,
        rows=tuple(rows),
        arrows=_arrows(
            rows, components, noises, {(name, cell.cell.culture) for name, cell in subjects if cell.comparable}
        ),
        left_out=tuple(
            f"{name}, {cell.cell.culture}" for place, (name, cell) in enumerate(subjects) if place not in whole
        ),
    )


def _point(components: Components, at: int) -> tuple[float, float]:
    x, y = components.points[at].tolist()
    return x, y


def _around(components: Components, at: int, variance: Floats) -> Ellipse:
    """Of people, whose scores vary by that much in each dimension, shape (C,)."""
    return ellipse_of(components.points[at], (components.loadings * variance) @ components.loadings.T)


def _arrows(
    rows: list[MapRow],
    components: Components,
    noises: dict[tuple[str, str], Floats | None],
    enough: set[tuple[str, str]],
) -> tuple[MapArrow, ...]:
    """From the first culture to each of the others, of every model that has both ends."""
    people = {row.culture: row.scores for row in rows if row.human}
    ends = {(row.subject, row.culture): row.scores for row in rows if not row.human}
    first, *others = people
    return tuple(
        MapArrow(
            subject=name,
            to=to,
            arrow=arrow(
                np.stack([ends[name, first], ends[name, to]]),
                np.stack([people[first], people[to]]),
                components,
                way_noise(noises[name, first], noises[name, to]),
            ),
            comparable={(name, first), (name, to)} <= enough,
        )
        for to in others
        for name in dict.fromkeys(subject for subject, _ in ends)
        if (name, first) in ends and (name, to) in ends
    )


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
        tables=(_arrow_table(part.sound, "figure-7-arrows", names), _loadings(part.sound, "figure-7-loadings")),
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
            _arrow_table(projection, "figure-7-paper-arrows", names),
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


def _arrow_table(projection: Projection, anchor: str, names: dict[str, str]) -> Table:
    numbers = numbered(projection)
    first, *others = (row.culture for row in projection.rows if row.human)
    several = len(others) > 1
    fields: list[Field[MapArrow]] = [
        Field("Model", lambda each: each.subject, words=True),
        *([Field("No.", lambda each: numbers[each.subject], "on the map")] if numbers else []),
        Field(
            "Cosine",
            lambda each: signed(each.arrow.cosine, 2),
            "1: the same way as people; 0: across; −1: the opposite",
        ),
        Field(
            "95% interval",
            lambda each: _cosines(each.arrow),
            "of the cosine, participants resampled and their noise taken off",
        ),
        Field(
            "Length",
            lambda each: fixed(each.arrow.length_free, 2),
            "1: as far apart as people of the two cultures; noise taken off",
        ),
        Field("As measured", lambda each: fixed(each.arrow.length_ratio, 2), "the length with what chance adds to it"),
        Field("Cosine, map", lambda each: signed(each.arrow.map_cosine, 2), "of the two components shown, as drawn"),
        Field("Length, map", lambda each: fixed(each.arrow.map_length_ratio, 2)),
    ]
    return table(
        projection.arrows,
        fields,
        anchor=anchor,
        caption=f"Each model's way {f'from {names[first]} ' if several else 'between cultures '}against people's",
        group=lambda each: names[each.to] if several else "",
        grouped_by="To" if several else "",
        notes=(_NOISE, *(f"{name} is left out: it has no score in some dimension." for name in projection.left_out)),
    )


def _cosines(arrow: Arrow) -> Entry:
    """The interval of a cosine; a dash where the way is no longer than chance would make it."""
    if isnan(arrow.cosine_low):
        return Entry(text=NONE, why="no longer than chance would make it, or too few participants to say")
    return Entry(text=f"{signed(arrow.cosine_low, 2)} to {signed(arrow.cosine_high, 2)}")


def _loadings(projection: Projection, anchor: str) -> Table:
    def loading(component: int) -> Callable[[int], str]:
        return lambda place: signed(float(projection.components.loadings[component, place]), 2)

    return table(
        range(len(projection.dimensions)),
        [
            Field("Dimension", lambda place: projection.dimensions[place], words=True),
            *(
                Field(f"PC{component + 1} ({share:.0%})", loading(component))
                for component, share in enumerate(projection.components.explained.tolist())
            ),
        ],
        anchor=anchor,
        caption="Loadings of the two components",
    )


def _scores(analysis: Analysis, part: CulturalMap) -> Table:
    survey = analysis.results.survey

    def score(place: int) -> Callable[[MapRow], Entry]:
        return lambda row: Entry(text=fixed(float(row.scores[place]), 2), shade=float(row.scores[place]))

    names = culture_names(analysis)
    return table(
        [row for culture in part.cultures for row in part.sound.rows if row.culture == culture],
        [
            Field("Subject", lambda row: row.subject, words=True),
            *(
                Field(code, score(place), survey.dimensions[code].get("en", ""))
                for place, code in enumerate(part.sound.dimensions)
            ),
        ],
        anchor="figure-7-score-table",
        caption="Mean score of each dimension, 0 to 1",
        group=lambda row: names[row.culture],
        grouped_by="Culture",
        quiet=lambda row: row.human,
    )
