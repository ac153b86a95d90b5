"""The map of cultures: how answers become mean scores, how far those vary, and where they lie on two components.

Residual options ("other") have no place on a scale and enter no score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, CultureAnalysis, NotRun
from defsurvey.reports.cells import Bools, Floats, ItemTable
from defsurvey.reports.metrics.aggregate import grouped_mean
from defsurvey.reports.metrics.cultural_map import (
    Arrow,
    Components,
    Ellipse,
    arrow,
    ellipse,
    ellipse_of,
    principal_components,
)
from defsurvey.reports.metrics.intervals import weights_of

#: Resamples of participants behind an ellipse and the noise of a way.
DRAWS = 500
#: Seed of the resamples.
MAP_SEED = 20250314
#: Most subjects whose ellipses are drawn and whose names are written out: more of them cover each other.
WRITTEN_OUT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """score = slope * code + offset, for the items used; all of shape (I,)."""

    used: Bools
    slope: Floats
    offset: Floats

    def values(self, items: ItemTable) -> Floats:
        """The score of every category, shape (I, K); 0 where it has no place on a scale."""
        code = np.where(items.placed, items.code, 0.0)
        return np.where(items.placed, code * self.slope[:, None] + self.offset[:, None], 0.0)


def scored(items: ItemTable) -> Bools:
    """Which items have a score: of a value dimension, with two options or more on a scale, shape (I,)."""
    return np.asarray((items.grouping.dimension >= 0) & (items.placed.sum(axis=-1) > 1))


def scaled(items: ItemTable, used: Bools) -> Scoring:
    """The sound way: codes scaled to [0, 1] and turned so that more is more of the dimension."""
    low = np.nanmin(np.where(items.placed, items.code, np.inf), axis=-1)
    high = np.nanmax(np.where(items.placed, items.code, -np.inf), axis=-1)
    span = np.where(used, high - low, 1.0)
    turned = items.direction < 0
    offset = np.where(turned, high, -low) / span
    return Scoring(used=used, slope=np.where(turned, -1.0, 1.0) / span, offset=np.where(used, offset, 0.0))


def raw(used: Bools) -> Scoring:
    """The paper's way: option codes as they are."""
    return Scoring(used=used, slope=np.ones(len(used)), offset=np.zeros(len(used)))


def people_scores(culture: CultureAnalysis, scoring: Scoring, items: ItemTable) -> Floats:
    """Mean score of people per item, shape (I,)."""
    placed = np.where(items.placed, culture.reference.shares, 0.0)
    return _mean((placed * scoring.values(items)).sum(axis=-1), placed.sum(axis=-1))


def people_variance(culture: CultureAnalysis, scoring: Scoring, items: ItemTable) -> Floats:
    """Sampling variance of people's mean score per dimension, shape (D,).

    From that of each item's mean; items are taken as independent, which makes it a little small.
    """
    placed, values = np.where(items.placed, culture.reference.shares, 0.0), scoring.values(items)
    total = np.maximum(placed.sum(axis=-1, keepdims=True), 1e-12)
    mean = (placed * values).sum(axis=-1, keepdims=True) / total
    variance = ((placed * (values - mean) ** 2).sum(axis=-1) / total[:, 0]) / culture.reference.n
    kept, dimension = scoring.used & ~np.isnan(culture.reference.n), items.grouping.dimension
    size = np.bincount(dimension[kept], minlength=items.grouping.dimensions).astype(np.float64)
    by_dimension = np.bincount(dimension[kept], weights=variance[kept], minlength=items.grouping.dimensions)
    return np.asarray(by_dimension / np.maximum(size, 1) ** 2, dtype=np.float64)


def model_scores(cell: CellAnalysis, scoring: Scoring, known_items: Bools) -> Floats:
    """Mean score per item of a cell's participants, shape (I,)."""
    known = ~np.isnan(cell.participant_code)
    mean = _mean(np.where(known, cell.participant_code, 0.0).sum(axis=0), known.sum(axis=0))
    return np.where(known_items, mean * scoring.slope + scoring.offset, np.nan)


def resampled_scores(cell: CellAnalysis, scoring: Scoring, known_items: Bools) -> Floats:
    """Mean score per item of resampled participants, shape (DRAWS, I): as many as ``participants_behind``."""
    present = cell.participant_code[~np.isnan(cell.participant_code).all(axis=1)]
    known = ~np.isnan(present)
    weights = weights_of(len(present), DRAWS, MAP_SEED)
    mean = _mean(weights @ np.where(known, present, 0.0), weights @ known)
    return np.where(known_items, mean * scoring.slope + scoring.offset, np.nan)


def _mean(total: Floats, count: Floats) -> Floats:
    return np.asarray(np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0), dtype=np.float64)


def participants_behind(cell: CellAnalysis) -> int:
    """Participants with a score on any item, who are resampled."""
    return int((~np.isnan(cell.participant_code)).any(axis=1).sum())


def noise(resampled: Floats, participants: int) -> Floats | None:
    """What P participants add to their mean scores by chance, of mean 0, shape (B, C); None where fewer than two tell.

    Resamples, of shape (B, C), vary by (P - 1) / P of what means of P participants do.
    """
    if participants < 2:
        return None
    return np.asarray((resampled - np.nanmean(resampled, axis=0)) * np.sqrt(participants / (participants - 1)))


def way_noise(start: Floats | None, stop: Floats | None) -> Floats | None:
    """Noise of a way by that of its ends, each of shape (B, C); resamples without a score in some dimension left out.

    Participants of equal number share their draws in all cultures, and so they are resampled together; where their
    numbers differ they are drawn apart.
    """
    if start is None or stop is None:
        return None
    together = stop - start
    together = together[~np.isnan(together).any(axis=1)]
    return together if len(together) > 1 else None


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
    rows: tuple[MapRow, ...]  #: people first
    arrows: tuple[MapArrow, ...]  #: models only, culture by culture
    left_out: tuple[str, ...]  #: subjects without a score in some dimension

    @property
    def cultures(self) -> list[str]:
        """Codes; lines go from the first to each of the others."""
        return [row.culture for row in self.rows if row.human]

    @property
    def numbers(self) -> dict[str, str]:
        """Subject -> its number on the map, where names would cover each other; empty where they are written out."""
        subjects = list(dict.fromkeys(row.subject for row in self.rows if not row.human))
        return {subject: str(n) for n, subject in enumerate(subjects, start=1)} if len(subjects) > WRITTEN_OUT else {}

    @property
    def crowded(self) -> bool:
        """Whether lines of many models between more than two cultures would cover the marks: only people have some."""
        return len(self.cultures) > 2 and bool(self.numbers)


def project(analysis: Analysis, cultures: Sequence[CultureAnalysis], scoring: Scoring) -> Projection:
    """Map people of all cultures, and models that have a score in every dimension that all people have one in.

    People of the first culture lie to the right of the others' middle.
    """
    items, dimensions = analysis.items, analysis.results.survey.dimensions
    used = scoring.used

    def columns(by_item: Floats) -> Floats:
        return grouped_mean(by_item[..., used], items.grouping.dimension[used], items.grouping.dimensions)

    people = np.stack([columns(people_scores(culture, scoring, items)) for culture in cultures])
    asked = np.asarray(~np.isnan(people).any(axis=0))
    known = {culture.culture.code: used & ~np.isnan(culture.reference.n) for culture in cultures}
    whole, left_out, found = [], [], [*people]
    for name, cell in _subjects(analysis):
        mean = columns(model_scores(cell, scoring, known[cell.cell.culture]))
        if np.isnan(mean[asked]).any():
            left_out.append(f"{name}, {cell.cell.culture}")
        else:
            whole.append((name, cell))
            found.append(mean)
    if not whole:
        raise NotRun("no model has a score in every dimension")
    table = np.stack(found)[:, asked]
    components = principal_components(table, right=0, left=range(1, len(people)))
    points: list[tuple[float, float]] = [(x, y) for x, y in components.points.tolist()]
    rows = []
    for culture, score, point in zip(cultures, table, points, strict=False):
        variance = people_variance(culture, scoring, items)[asked]
        around = ellipse_of(point, (components.loadings * variance) @ components.loadings.T)
        code = culture.culture.code
        rows.append(MapRow(subject="people", culture=code, human=True, scores=score, point=point, ellipse=around))
    noises: dict[tuple[str, str], Floats | None] = {}
    for (name, cell), score, point in zip(whole, table[len(people) :], points[len(people) :], strict=True):
        code, behind = cell.cell.culture, participants_behind(cell)
        resampled = columns(resampled_scores(cell, scoring, known[code]))[:, asked]
        noises[name, code] = noise(resampled, behind)
        around = ellipse(components.project(resampled), behind)
        rows.append(MapRow(subject=name, culture=code, human=False, scores=score, point=point, ellipse=around))
    comparable = {(name, cell.cell.culture) for name, cell in whole if cell.comparable}
    return Projection(
        dimensions=tuple(c for c, known in zip(dimensions, asked, strict=True) if known),
        components=components,
        rows=tuple(rows),
        arrows=_arrows(rows, components, noises, comparable),
        left_out=tuple(left_out),
    )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class CulturalMap:
    """Figure 7."""

    cultures: tuple[str, ...]  #: two or more, in the survey's order; arrows go from the first to each of the others
    items: int  #: that people of all of them answered
    sound: Projection  #: codes scaled to [0, 1] and turned so that more is more of the dimension, these items
    paper: Projection  #: raw option codes, whatever each culture was asked


def cultural_map(analysis: Analysis) -> CulturalMap:
    """Figure 7, over the items that people of all cultures answered and that speak to a dimension."""
    cultures, items = _in_order(analysis), analysis.items
    used = np.asarray(np.all([~np.isnan(each.reference.n) for each in cultures], axis=0) & scored(items))
    if len(np.unique(items.grouping.dimension[used])) < 2:
        raise NotRun(f"fewer than two value dimensions have a question that {all_of(len(cultures))} answered")
    return CulturalMap(
        cultures=tuple(culture.culture.code for culture in cultures),
        items=int(used.sum()),
        sound=project(analysis, cultures, scaled(items, used)),
        paper=analysis.figure(paper_map),
    )


def paper_map(analysis: Analysis) -> Projection:
    """Figure 7 as the paper has it: raw codes, and of each culture whatever it was asked.

    It stands for itself where the cultures were asked different questions, as in the paper's own dataset; their means
    then differ by what was asked too.
    """
    cultures, used = _in_order(analysis), scored(analysis.items)
    dimension = analysis.items.grouping.dimension
    asked = (set(dimension[used & ~np.isnan(each.reference.n)].tolist()) for each in cultures)
    if len(set.intersection(*asked)) < 2:
        raise NotRun(f"fewer than two value dimensions were asked about in {all_of(len(cultures))}")
    return project(analysis, cultures, raw(used))


def all_of(cultures: int) -> str:
    """So many cultures in words, and no other."""
    return "both cultures" if cultures == 2 else f"all {cultures} cultures"


def _in_order(analysis: Analysis) -> list[CultureAnalysis]:
    """The cultures of the map in the survey's order; people of the first lie to the right of the others' middle."""
    if len(analysis.cultures) < 2:
        raise NotRun("one culture: no variation between cultures to map")
    places = {culture.code: place for place, culture in enumerate(analysis.results.survey.cultures)}
    return sorted(analysis.cultures, key=lambda culture: places[culture.culture.code])


def _subjects(analysis: Analysis) -> list[tuple[str, CellAnalysis]]:
    """A model asked in several languages is several subjects: its native one, and the other or each of the others."""
    condition = analysis.results.run.main_condition
    cells = [cell for cell in analysis.cells if cell.cell.condition.name == condition]
    languages = Counter((cell.cell.model, cell.culture) for cell in cells)
    subjects = []
    for cell in cells:
        name = cell.cell.model
        most = max(count for (model, _), count in languages.items() if model == name)
        if most > 1:
            native = analysis.results.survey.culture(cell.culture).language == cell.cell.language
            other = "other language" if most == 2 else f"in {cell.cell.language}, not native"
            name += f" · {'native language' if native else other}"
        subjects.append((name, cell))
    return subjects
