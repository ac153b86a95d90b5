"""The cultural variation map: Figure 7, and the map of Figure 10."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CellAnalysis, CultureAnalysis
from defsurvey.reports.cells.items import Floats
from defsurvey.reports.figures.map_scores import (
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
from defsurvey.reports.figures.words import NotRun, main_condition
from defsurvey.reports.metrics.aggregate import grouped_mean
from defsurvey.reports.metrics.cultural_map import Components, Ellipse, ellipse, ellipse_of, principal_components
from defsurvey.reports.metrics.ways import Arrow, arrow
from defsurvey.storage.surveys.survey import Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRow:
    """One subject (people, or a model) in one culture."""

    subject: str  #: "people", or the model, with its language where it was asked in several
    culture: str
    human: bool
    scores: Floats  #: mean score per dimension used, shape (C,)
    point: tuple[float, float]
    ellipse: Ellipse  #: 95%, from resampled participants, nan where they are few; of people from their number


@dataclass(frozen=True, slots=True, kw_only=True)
class MapArrow:
    """How a subject moves from the first culture to another, against people."""

    subject: str
    to: str  #: code of that other culture
    arrow: Arrow
    comparable: bool  #: whether it has answers enough in both


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """One way of measuring: the whole map."""

    dimensions: tuple[str, ...]  #: codes of the columns used
    components: Components
    rows: tuple[MapRow, ...]
    arrows: tuple[MapArrow, ...]  #: models only, culture by culture
    left_out: tuple[str, ...]  #: subjects without a score in some dimension


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
