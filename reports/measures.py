"""The figures of cells, dimensions, questions, items, options and simple respondents as flat rows, for export."""

from __future__ import annotations

from collections.abc import Iterator
from math import nan
from typing import Any

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, CultureAnalysis
from defsurvey.reports.cells.items import Floats
from defsurvey.reports.figures.matching import matching_figure
from defsurvey.reports.figures.questions import distinguish, placement
from defsurvey.reports.figures.words import NotRun
from defsurvey.reports.merge import run_of_cells
from defsurvey.reports.metrics.intervals import Interval
from defsurvey.reports.metrics.quality import Rate

#: Columns of every row, in order. ``way``: ``sound`` or ``paper`` where a figure has two; ``of``: people compared.
MEASURES: dict[str, type] = {
    "run": str,
    "model": str,
    "culture": str,
    "condition": str,
    "language": str,
    "level": str,
    "dimension": str,
    "question": str,
    "option": int,
    "metric": str,
    "way": str,
    "value": float,
    "floor": float,
    "low": float,
    "high": float,
    "n": float,
}

#: Which cell a row is of.
_Key = dict[str, Any]


def measure_rows(analysis: Analysis) -> Iterator[dict[str, Any]]:
    """One row per figure: of cells, of dimensions, of questions, of items and of options; nan where there is none.

    ``model`` is empty for people and simple respondents, which ``metric`` then names; of a report of several runs they
    are of all of these, and every cell of its own.
    """
    extra, runs = _Extra(analysis), run_of_cells(analysis.results.run)
    for culture in analysis.cultures:
        people = {**_EMPTY, "run": analysis.results.run.id, "culture": culture.culture.code}
        for control in culture.controls:
            yield {**people, "level": "control", "metric": control.name, "value": control.mean, "n": float(control.n)}
        yield from _shares(analysis, people, culture.reference.shares, culture.reference.asked)
        for cell in culture.cells:
            key = people | {
                "run": runs[cell.place].id,
                "model": cell.cell.model,
                "condition": cell.cell.condition.name,
                "language": cell.cell.language,
            }
            yield from _of_cell(cell, key)
            yield from extra.of_cell(culture, cell, key)
            yield from _of_dimensions(analysis, cell, key)
            yield from _of_questions(analysis, cell, key)
            yield from extra.of_questions(culture, cell, key)
            yield from _of_items(analysis, culture, cell, key)
            yield from _shares(analysis, key, cell.counts, cell.counts.sum(axis=-1))


_EMPTY: _Key = {
    "model": "",
    "condition": "",
    "language": "",
    "level": "",
    "dimension": "",
    "question": "",
    "option": None,
    "metric": "",
    "way": "",
    "value": nan,
    "floor": nan,
    "low": nan,
    "high": nan,
    "n": nan,
}


def _bounds(interval: Interval | Rate) -> _Key:
    return {"low": interval.low, "high": interval.high}


def _of_cell(cell: CellAnalysis, key: _Key) -> Iterator[_Key]:
    base = key | {"level": "cell"}
    sound = {"metric": "smoothed_kl", "way": "sound", "floor": cell.sound_floor.headline}
    yield base | sound | {"value": cell.sound.headline} | _bounds(cell.interval)
    two_way = {"metric": "smoothed_kl_two_way", "way": "sound", "floor": cell.sound_floor.headline}
    yield base | two_way | {"value": cell.sound.headline} | _bounds(cell.intervals.two_way)
    sound["floor"] = cell.sound_floor.question_mean
    yield base | sound | {"metric": "smoothed_kl_by_question", "value": cell.sound.question_mean}
    paper = {"metric": "plug_in_kl", "way": "paper", "floor": cell.paper_floor.headline}
    yield base | paper | {"value": cell.paper.headline}
    yield base | {"metric": "infinite_share", "way": "paper", "value": cell.paper_values.infinite_share}
    for name, value in (
        ("diversity", cell.diversity.d),
        ("relative_diversity", cell.diversity.relative),
        ("distinct_choices", cell.distinct_choices),
        ("effective_options", cell.effective_options),
        ("effective_options_people", cell.human_effective_options),
        ("coverage", cell.quality.coverage),
    ):
        yield base | {"metric": name, "value": value}
    for name in ("valid", "refused", "unparsable", "failed"):
        rate: Rate = getattr(cell.quality, name)
        yield base | {"metric": name, "value": rate.share, "n": float(rate.n)} | _bounds(rate)


class _Extra:
    """Figures of cells that stand in parts of their own, by culture and cell."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._matching = {(row.culture, row.name): row for row in analysis.figure(matching_figure).rows}
        self._tests = {(cell.culture, cell.name): cell for cell in analysis.figure(distinguish).cells}
        placed = analysis.figure(placement)
        position = () if isinstance(placed, NotRun) else placed.rows
        self._position = {(row.culture, row.name): row for row in position}

    def of_cell(self, culture: CultureAnalysis, cell: CellAnalysis, key: _Key) -> Iterator[_Key]:
        """Matching, questions not told from people, position bias, place."""
        base, name = key | {"level": "cell"}, (culture.culture.code, cell.name)
        if name in self._matching:
            found = self._matching[name].matching
            values = {"value": found.share, "floor": found.expected, "n": float(found.items)}
            yield base | {"metric": "matching"} | values
        test = self._tests[name]
        yield base | {"metric": "not_told_from_people", "value": test.share_alike, "n": float(test.questions)}
        if name in self._position:
            row = self._position[name]
            moved = {"metric": "moved_by_order", "value": row.bias.moved, "n": float(row.bias.answers)}
            yield base | moved
            yield base | {"metric": "moved_by_order_p_holm", "value": row.p_holm}
        for (ranked, value), place in zip(culture.ranking.order, culture.ranking.places, strict=True):
            if ranked == cell.name:
                held = {"low": float(place.first), "high": float(place.last), "n": float(culture.ranking.n)}
                yield base | {"metric": "corrected_kl", "way": "sound", "value": value, "floor": culture.ranking.people}
                yield base | {"metric": "place", "value": float(place.first)} | held

    def of_questions(self, culture: CultureAnalysis, cell: CellAnalysis, key: _Key) -> Iterator[_Key]:
        """p of the G-test of each question, as it is and adjusted."""
        test = self._tests[culture.culture.code, cell.name]
        for place, question in enumerate(self._analysis.items.questions):
            base = key | {"level": "question", "question": question.id}
            yield base | {"metric": "g_test_p", "value": float(test.p[place])}
            yield base | {"metric": "g_test_p_adjusted", "value": float(test.adjusted[place])}


def _of_dimensions(analysis: Analysis, cell: CellAnalysis, key: _Key) -> Iterator[_Key]:
    order = list(analysis.results.survey.dimensions)
    for code in analysis.dimensions:
        place = order.index(code)
        base = key | {"level": "dimension", "dimension": code}
        sound = {"value": float(cell.sound.by_dimension[place]), "floor": float(cell.sound_floor.by_dimension[place])}
        interval = _bounds(cell.intervals.by_dimension[place])
        yield base | {"metric": "smoothed_kl", "way": "sound"} | sound | interval
        paper = {"value": float(cell.paper.by_dimension[place]), "floor": float(cell.paper_floor.by_dimension[place])}
        yield base | {"metric": "plug_in_kl", "way": "paper"} | paper


def _of_questions(analysis: Analysis, cell: CellAnalysis, key: _Key) -> Iterator[_Key]:
    for place, question in enumerate(analysis.items.questions):
        base = key | {"level": "question", "question": question.id, "n": float(cell.n_valid[place])}
        sound = {"value": float(cell.sound.by_question[place]), "floor": float(cell.sound_floor.by_question[place])}
        yield base | {"metric": "smoothed_kl", "way": "sound"} | sound
        paper = {"value": float(cell.paper.by_question[place]), "floor": float(cell.paper_floor.by_question[place])}
        yield base | {"metric": "plug_in_kl", "way": "paper"} | paper


def _of_items(analysis: Analysis, culture: CultureAnalysis, cell: CellAnalysis, key: _Key) -> Iterator[_Key]:
    """Distances of each item; ``option`` is set for an item of a list."""
    items, found, floor = analysis.items, cell.divergences, cell.floor
    nominal = culture.floor.js_distances(cell.n_valid[items.question])
    columns = [
        ("js_distance", found.js_distance.tolist(), nominal.tolist()),
        ("total_variation", found.total_variation.tolist(), floor.total_variation.tolist()),
        ("wasserstein", found.wasserstein.tolist(), floor.wasserstein.tolist()),
    ]
    for item, (place, option) in enumerate(zip(items.question.tolist(), items.option.tolist(), strict=True)):
        question = items.questions[place]
        base = key | {
            "level": "item",
            "question": question.id,
            "option": question.options[option].code if option >= 0 else None,
        }
        for name, values, floors in columns:
            if name != "wasserstein" or question.type.ordered:
                yield base | {"metric": name, "value": values[item], "floor": floors[item]}


def _shares(analysis: Analysis, key: _Key, weights: Floats, n: Floats) -> Iterator[_Key]:
    """Share of each option: of an ordinary question, or of every option of a list."""
    items = analysis.items
    totals = weights.sum(axis=-1)
    shares = np.divide(weights, totals[:, None], out=np.full_like(weights, np.nan), where=totals[:, None] > 0)
    counted = n.tolist()
    for item, (place, option) in enumerate(zip(items.question.tolist(), items.option.tolist(), strict=True)):
        question = items.questions[place]
        base = key | {"level": "option", "question": question.id, "metric": "share", "n": counted[item]}
        values = shares[item].tolist()
        if option >= 0:
            yield base | {"option": question.options[option].code, "value": values[1]}
        else:
            for code, value in zip(question.codes, values, strict=False):
                yield base | {"option": code, "value": value}
