"""A run as flat rows, for export: its answers, and the figures of cells, dimensions, questions, items and options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import nan
from typing import Any, NamedTuple

from defsurvey.reports.analysis import Analysis, CellAnalysis, CultureAnalysis
from defsurvey.reports.figures.questions import distinguish, placement
from defsurvey.reports.figures.shared import matching_figure
from defsurvey.reports.merge import run_of_cells
from defsurvey.reports.metrics.aggregate import Floats, shares_of
from defsurvey.reports.metrics.intervals import Interval
from defsurvey.reports.metrics.quality import Rate
from defsurvey.storage.runs.results import STATES, Results
from defsurvey.storage.surveys.survey import Question

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


def _headline(of: Measured, interval: Interval) -> Figure:
    return Figure(of.cell.sound.headline, of.cell.sound_floor.headline, interval.low, interval.high)


def _rate(rate: Rate) -> Figure:
    return Figure(rate.share, low=rate.low, high=rate.high, n=float(rate.n))


def _matching(of: Measured) -> Figure | None:
    row = of.found_in(of.analysis.figure(matching_figure))
    return row and Figure(row.matching.share, floor=row.matching.expected, n=float(row.matching.items))


def _not_told(of: Measured) -> Figure:
    test = of.found_in(of.analysis.figure(distinguish))
    return Figure(test.share_alike, n=float(test.questions))


def _moved(of: Measured) -> Figure | None:
    row = of.found_in(of.analysis.figure_if_run(placement) or ())
    return row and Figure(row.bias.moved, n=float(row.bias.answers))


def _moved_p(of: Measured) -> Figure | None:
    row = of.found_in(of.analysis.figure_if_run(placement) or ())
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
    ("smoothed_kl", "sound"): lambda of: _headline(of, of.cell.intervals.headline),
    ("smoothed_kl_two_way", "sound"): lambda of: _headline(of, of.cell.intervals.two_way),
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

    ``model`` is empty for people and simple respondents, which ``metric`` then names, and ``run`` names all runs there.
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
            yield from _of_dimensions(of, key | {"level": "dimension"})
            yield from _of_questions(of, key | {"level": "question"})
            yield from _of_items(of, key | {"level": "item"})
            yield from _shares(analysis, key, cell.counts, cell.counts.sum(axis=-1))


def _both_ways(key: dict[str, Any], sound: Figure, paper: Figure) -> Iterator[dict[str, Any]]:
    yield key | {"metric": "smoothed_kl", "way": "sound"} | sound._asdict()
    yield key | {"metric": "plug_in_kl", "way": "paper"} | paper._asdict()


def _of_dimensions(of: Measured, key: dict[str, Any]) -> Iterator[dict[str, Any]]:
    order, cell = list(of.analysis.results.survey.dimensions), of.cell
    values = [each.by_dimension.tolist() for each in (cell.sound, cell.sound_floor, cell.paper, cell.paper_floor)]
    for code in of.analysis.dimensions:
        at = order.index(code)
        sound, floor, paper, paper_floor = (each[at] for each in values)
        interval = cell.intervals.by_dimension[at]
        yield from _both_ways(
            key | {"dimension": code}, Figure(sound, floor, interval.low, interval.high), Figure(paper, paper_floor)
        )


def _of_questions(of: Measured, key: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Divergences of each question, then the p of its G-test, as it is and adjusted."""
    cell, keys = of.cell, [key | {"question": question.id} for question in of.analysis.items.questions]
    test = of.found_in(of.analysis.figure(distinguish))
    values = (each.by_question.tolist() for each in (cell.sound, cell.sound_floor, cell.paper, cell.paper_floor))
    for own, n, sound, floor, paper, paper_floor in zip(keys, cell.n_valid.tolist(), *values, strict=True):
        yield from _both_ways(own, Figure(sound, floor, n=float(n)), Figure(paper, paper_floor, n=float(n)))
    for own, p, adjusted in zip(keys, test.p.tolist(), test.adjusted.tolist(), strict=True):
        yield own | {"metric": "g_test_p", "value": p}
        yield own | {"metric": "g_test_p_adjusted", "value": adjusted}


def _of_items(of: Measured, key: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Distances of each item; ``option`` is set for an item of a list."""
    items, found, floor = of.analysis.items, of.cell.divergences, of.cell.floor
    answers = of.cell.n_valid[items.question].tolist()
    nominal = [of.culture.floor.js_distance(item, n) for item, n in enumerate(answers)]
    columns = [
        ("js_distance", found.js_distance.tolist(), nominal),
        ("total_variation", found.total_variation.tolist(), floor.total_variation.tolist()),
        ("wasserstein", found.wasserstein.tolist(), floor.wasserstein.tolist()),
    ]
    for item, (question, option) in enumerate(_items(of.analysis)):
        base = key | {"question": question.id, "option": option}
        for name, values, floors in columns:
            if name != "wasserstein" or question.type.ordered:
                yield base | {"metric": name, "value": values[item], "floor": floors[item]}


def _items(analysis: Analysis) -> Iterator[tuple[Question, int | None]]:
    """The question of each item, and the code of its option where it is one of a list."""
    items = analysis.items
    for place, option in zip(items.question.tolist(), items.option.tolist(), strict=True):
        question = items.questions[place]
        yield question, question.options[option].code if option >= 0 else None


def _shares(analysis: Analysis, key: dict[str, Any], weights: Floats, n: Floats) -> Iterator[dict[str, Any]]:
    """Share of each option: of an ordinary question, or of every option of a list."""
    for (question, option), values, count in zip(
        _items(analysis), shares_of(weights).tolist(), n.tolist(), strict=True
    ):
        base = key | {"level": "option", "question": question.id, "metric": "share", "n": count}
        shown = zip(question.codes, values, strict=False) if option is None else [(option, values[1])]
        for code, value in shown:
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
    """One row per stored answer, in the order of the arrays; choices are option codes, separated by spaces."""
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

    columns = ("cell", "participant", "question", "slot", "state", "choices", "shown")
    rows = zip(*(getattr(answers, name).tolist() for name in columns), strict=True)
    for cell, person, place, slot, state, chosen, first in rows:
        row = (*cells[cell], person, questions[place].id, slot, STATES[state].value, codes(place, chosen), first)
        yield dict(zip(ANSWERS, row, strict=True))
