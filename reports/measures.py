"""A run as flat rows, for export: its answers, and the figures of cells, dimensions, questions, items and options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import nan
from typing import Any, NamedTuple

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, CultureAnalysis
from defsurvey.reports.cells import Floats
from defsurvey.reports.figures.questions import distinguish, placement
from defsurvey.reports.figures.shared import matching_figure
from defsurvey.reports.merge import run_of_cells
from defsurvey.reports.metrics.intervals import Interval
from defsurvey.reports.metrics.quality import Rate
from defsurvey.storage.runs.results import STATES, Results

#: Columns of every figure's row, in order. ``way``: ``sound`` or ``paper`` where a figure has two.
MEASURES: dict[str, type] = {
    **dict.fromkeys(("run", "model", "culture", "condition", "language", "level", "dimension", "question"), str),
    "option": int,
    **dict.fromkeys(("metric", "way"), str),
    **dict.fromkeys(("value", "floor", "low", "high", "n"), float),
}
_EMPTY: dict[str, Any] = {name: {str: "", int: None, float: nan}[kind] for name, kind in MEASURES.items()}


class Figure(NamedTuple):
    """A figure, what people or chance would give, its interval, and how many it rests on; nan where there is none."""

    value: float
    floor: float = nan
    low: float = nan
    high: float = nan
    n: float = nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a metric of a cell is taken from."""

    analysis: Analysis
    culture: CultureAnalysis
    cell: CellAnalysis

    def found_in(self, rows: Any) -> Any:
        """The cell's row of a figure of the report; None where it has none."""
        here = (self.culture.culture.code, self.cell.name)
        return next((row for row in rows if (row.culture, row.name) == here), None)

    @property
    def place(self) -> int | None:
        """Where the cell stands among those that are ranked."""
        return next((at for at, (name, _) in enumerate(self.culture.ranking.order) if name == self.cell.name), None)


def _with_interval(value: float, floor: float, interval: Interval) -> Figure:
    return Figure(value, floor, interval.low, interval.high)


def _rate(rate: Rate) -> Figure:
    return Figure(rate.share, low=rate.low, high=rate.high, n=float(rate.n))


def _matching(of: Measured) -> Figure | None:
    row = of.found_in(of.analysis.figure(matching_figure))
    return row and Figure(row.matching.share, floor=row.matching.expected, n=float(row.matching.items))


def _not_told(of: Measured) -> Figure:
    test = of.found_in(of.analysis.figure(distinguish))
    return Figure(test.share_alike, n=float(test.questions))


def _position(of: Measured) -> Any:
    return of.found_in(of.analysis.figure_if_run(placement) or ())


def _moved(of: Measured) -> Figure | None:
    row = _position(of)
    return row and Figure(row.bias.moved, n=float(row.bias.answers))


def _moved_p(of: Measured) -> Figure | None:
    row = _position(of)
    return row and Figure(row.p_holm)


def _corrected_kl(of: Measured) -> Figure | None:
    ranking = of.culture.ranking
    return None if of.place is None else Figure(ranking.order[of.place][1], floor=ranking.people)


def _place(of: Measured) -> Figure | None:
    if of.place is None:
        return None
    held = of.culture.ranking.places[of.place]
    return Figure(float(held.first), low=float(held.first), high=float(held.last), n=float(of.culture.ranking.n))


#: Metrics of a cell, in the order of their rows: name and way, and the figure; no row where that is None.
OF_CELLS: Mapping[tuple[str, str], Callable[[Measured], Figure | None]] = {
    ("smoothed_kl", "sound"): lambda of: _with_interval(
        of.cell.sound.headline, of.cell.sound_floor.headline, of.cell.interval
    ),
    ("smoothed_kl_two_way", "sound"): lambda of: _with_interval(
        of.cell.sound.headline, of.cell.sound_floor.headline, of.cell.intervals.two_way
    ),
    ("smoothed_kl_by_question", "sound"): lambda of: Figure(
        of.cell.sound.question_mean, of.cell.sound_floor.question_mean
    ),
    ("plug_in_kl", "paper"): lambda of: Figure(of.cell.paper.headline, of.cell.paper_floor.headline),
    ("infinite_share", "paper"): lambda of: Figure(of.cell.paper_values.infinite_share),
    ("diversity", ""): lambda of: Figure(of.cell.diversity.d),
    ("relative_diversity", ""): lambda of: Figure(of.cell.diversity.relative),
    ("distinct_choices", ""): lambda of: Figure(of.cell.distinct_choices),
    ("effective_options", ""): lambda of: Figure(of.cell.effective_options),
    ("effective_options_people", ""): lambda of: Figure(of.cell.human_effective_options),
    ("coverage", ""): lambda of: Figure(of.cell.quality.coverage),
    ("valid", ""): lambda of: _rate(of.cell.quality.valid),
    ("refused", ""): lambda of: _rate(of.cell.quality.refused),
    ("unparsable", ""): lambda of: _rate(of.cell.quality.unparsable),
    ("failed", ""): lambda of: _rate(of.cell.quality.failed),
    ("matching", ""): _matching,
    ("not_told_from_people", ""): _not_told,
    ("moved_by_order", ""): _moved,
    ("moved_by_order_p_holm", ""): _moved_p,
    ("corrected_kl", "sound"): _corrected_kl,
    ("place", ""): _place,
}


def measure_rows(analysis: Analysis) -> Iterator[dict[str, Any]]:
    """One row per figure: of cells, of dimensions, of questions, of items and of options; nan where there is none.

    ``model`` is empty for people and simple respondents, which ``metric`` then names; of a report of several runs they
    are of all of these, and every cell of its own.
    """
    runs = run_of_cells(analysis.results.run)
    for culture in analysis.cultures:
        people = {**_EMPTY, "run": analysis.results.run.id, "culture": culture.culture.code}
        for control in culture.controls:
            yield {**people, "level": "control", "metric": control.name, "value": control.mean, "n": float(control.n)}
        yield from _shares(analysis, people, culture.reference.shares, culture.reference.asked)
        for cell in culture.cells:
            of = Measured(analysis=analysis, culture=culture, cell=cell)
            key = people | {
                "run": runs[cell.place].id,
                "model": cell.cell.model,
                "condition": cell.cell.condition.name,
                "language": cell.cell.language,
            }
            for (metric, way), measure in OF_CELLS.items():
                if (figure := measure(of)) is not None:
                    yield key | {"level": "cell", "metric": metric, "way": way} | figure._asdict()
            order = list(analysis.results.survey.dimensions)
            for code in analysis.dimensions:
                at = order.index(code)
                interval = cell.intervals.by_dimension[at]
                yield from _both_ways(
                    key | {"level": "dimension", "dimension": code},
                    _with_interval(*_at(at, cell.sound.by_dimension, cell.sound_floor.by_dimension), interval),
                    Figure(*_at(at, cell.paper.by_dimension, cell.paper_floor.by_dimension)),
                )
            yield from _of_questions(of, key)
            yield from _of_items(analysis, culture, cell, key)
            yield from _shares(analysis, key, cell.counts, cell.counts.sum(axis=-1))


def _at(place: int, values: Floats, floors: Floats) -> tuple[float, float]:
    return float(values[place]), float(floors[place])


def _both_ways(key: dict[str, Any], sound: Figure, paper: Figure) -> Iterator[dict[str, Any]]:
    yield key | {"metric": "smoothed_kl", "way": "sound"} | sound._asdict()
    yield key | {"metric": "plug_in_kl", "way": "paper"} | paper._asdict()


def _of_questions(of: Measured, key: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Divergences of each question, then the p of its G-test, as it is and adjusted."""
    cell, questions = of.cell, of.analysis.items.questions
    test = of.found_in(of.analysis.figure(distinguish))
    for place, question in enumerate(questions):
        n = float(cell.n_valid[place])
        yield from _both_ways(
            key | {"level": "question", "question": question.id},
            Figure(*_at(place, cell.sound.by_question, cell.sound_floor.by_question), n=n),
            Figure(*_at(place, cell.paper.by_question, cell.paper_floor.by_question), n=n),
        )
    for place, question in enumerate(questions):
        base = key | {"level": "question", "question": question.id}
        yield base | {"metric": "g_test_p", "value": float(test.p[place])}
        yield base | {"metric": "g_test_p_adjusted", "value": float(test.adjusted[place])}


def _of_items(
    analysis: Analysis, culture: CultureAnalysis, cell: CellAnalysis, key: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Distances of each item; ``option`` is set for an item of a list."""
    items, found, floor = analysis.items, cell.divergences, cell.floor
    nominal = [culture.floor.js_distance(item, n) for item, n in enumerate(cell.n_valid[items.question].tolist())]
    columns = [
        ("js_distance", found.js_distance.tolist(), nominal),
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


def _shares(analysis: Analysis, key: dict[str, Any], weights: Floats, n: Floats) -> Iterator[dict[str, Any]]:
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


#: Columns of every answer's row, in order.
ANSWERS: dict[str, type] = {
    **dict.fromkeys(("run", "model", "culture", "condition", "language"), str),
    "participant": int,
    "question": str,
    "slot": int,
    "state": str,
    "choices": str,
    "shown_first": int,
}


def answer_rows(results: Results) -> Iterator[dict[str, Any]]:
    """One row per stored answer, in the order of the arrays; choices are option codes, separated by spaces.

    The text of replies is in the ledger, and is exported from there (``defsurvey export``).
    """
    answers, run = results.answers, results.run
    questions = [results.survey.question(name) for name in run.questions]
    cells = [
        (of.id, cell.model, cell.culture, cell.condition.name, cell.language)
        for of, cell in zip(run_of_cells(run), run.cells, strict=True)
    ]

    @cache
    def codes(question: int, chosen: int) -> str:
        known = enumerate(questions[question].codes)
        return " ".join(str(code) for bit, code in known if chosen >> bit & 1)

    columns = (
        answers.cell,
        answers.participant,
        answers.question,
        answers.slot,
        answers.state,
        answers.choices,
        answers.shown,
    )
    for cell, person, place, slot, state, chosen, first in zip(*(c.tolist() for c in columns), strict=True):
        asked, said = questions[place].id, STATES[state].value
        row = (*cells[cell], person, asked, slot, said, codes(place, chosen), first)
        yield dict(zip(ANSWERS, row, strict=True))
