"""The cheap baseline: what the next token's probabilities alone say of the options.

Nothing is drawn, so that there is no noise and no floor. An interview's figure is of a few answers, smoothed: what as
many answers drawn from the probabilities would score compares with it, less the same floor. A list has no such
distribution and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, NotRun
from defsurvey.reports.cells import Bools, Floats, ItemTable, ReferenceTable
from defsurvey.reports.figures.words import culture_table, section
from defsurvey.reports.metrics.aggregate import means
from defsurvey.reports.metrics.divergence import plug_in_kl, smoothed_reference
from defsurvey.reports.metrics.floor import Floor
from defsurvey.reports.number_format import fixed, signed
from defsurvey.reports.page import Entry, Field, Section
from defsurvey.storage.runs.steps import ProbabilityRow


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTokenRow:
    """One model in one culture and language."""

    model: str
    culture: str
    language: str
    value: float  #: KL of the mean probabilities from people smoothed by their own number, nats, headline mean
    questions: int  #: behind that mean: of them those that the interview answered too, where there is one
    orders: int  #: of the options, at most, that the probabilities of each of these questions are the mean over
    interview: float  #: smoothed KL of the same questions by the main condition; nan where it answered none of them
    floor: float  #: of that, what as many people would score
    drawn: float  #: and as many answers drawn from the probabilities, question by question; nan without an interview


def first_token(analysis: Analysis) -> tuple[FirstTokenRow, ...]:
    """Every model whose option probabilities were read, beside the main condition in the same culture and language."""
    condition = analysis.results.run.main_condition
    interviews = {
        (cell.cell.model, cell.culture, cell.cell.language): cell
        for cell in analysis.cells
        if cell.cell.condition.name == condition
    }
    by_cell: dict[int, list[ProbabilityRow]] = {}
    for row in analysis.results.probabilities:
        by_cell.setdefault(row.cell, []).append(row)
    if not by_cell:
        raise NotRun("no condition read the probabilities of the options")
    return tuple(_row(analysis, place, found, interviews) for place, found in sorted(by_cell.items()))


def mean_probabilities(items: ItemTable, rows: Iterable[ProbabilityRow]) -> Floats:
    """The mean over orders of each option's probability, shape (I, K); a row of 0 where none was read."""
    total, orders = np.zeros(items.offered.shape), np.zeros(len(items.question))
    place = {question.id: number for number, question in enumerate(items.questions)}
    seen: set[tuple[str, int]] = set()
    for row in rows:
        (item, *more) = items.of_question(place[row.question]).tolist()
        if more or not items.whole[item]:
            continue
        total[item, items.questions[place[row.question]].codes.index(row.option)] += row.probability
        if (row.question, row.order) not in seen:
            seen.add((row.question, row.order))
            orders[item] += 1
    return np.asarray(total / np.maximum(orders, 1)[:, None], dtype=np.float64)


def _row(
    analysis: Analysis, place: int, rows: list[ProbabilityRow], interviews: Mapping[tuple[str, str, str], CellAnalysis]
) -> FirstTokenRow:
    items, cell = analysis.items, analysis.results.run.cells[place]
    reference = next(each.reference for each in analysis.cultures if each.culture.code == cell.culture)
    probabilities = mean_probabilities(items, rows)
    value = plug_in_kl(probabilities, smoothed_reference(reference.shares, reference.n, items.offered))
    known = ~np.isnan(value) & items.grouping.headline
    own, floor, drawn = (np.full_like(value, np.nan) for _ in range(3))
    interview = interviews.get((cell.model, cell.culture, cell.language))
    if interview and (shared := known & ~np.isnan(interview.divergences.smoothed_kl)).any():
        known, own, floor = shared, interview.divergences.smoothed_kl, interview.floor.smoothed_kl
        drawn = _as_answers(items, reference, probabilities, interview)
    behind = {items.questions[place].id for place in items.question[known].tolist()}
    return FirstTokenRow(
        model=cell.model,
        culture=cell.culture,
        language=cell.language,
        value=_over(items, known, value),
        questions=int(known.sum()),
        orders=len({row.order for row in rows if row.question in behind}),
        interview=_over(items, known, own),
        floor=_over(items, known, floor),
        drawn=_over(items, known, drawn),
    )


def _as_answers(items: ItemTable, reference: ReferenceTable, probabilities: Floats, interview: CellAnalysis) -> Floats:
    """Smoothed KL expected of answers drawn from the probabilities, as many as the interview has, shape (I,)."""
    total = probabilities.sum(axis=-1, keepdims=True)
    source = np.divide(probabilities, total, out=np.full_like(probabilities, np.nan), where=total > 0)
    answering = Floor(shares=reference.shares, n_human=reference.n, offered=items.offered, source=source)
    return answering.at(interview.n_valid[items.question]).smoothed_kl


def _over(items: ItemTable, known: Bools, values: Floats) -> float:
    """The headline mean over the same questions."""
    return means(np.where(known, values, np.nan), items.grouping).headline


@section("first-token", "First token", "What the next token alone says of the options")
def first_token_section(analysis: Analysis, section: Section) -> Section:
    """First-token probabilities beside the main condition."""
    rows, condition = analysis.figure(first_token), analysis.results.run.main_condition

    def interview(row: FirstTokenRow) -> Entry:
        return Entry(fixed(row.interview), fixed(row.floor))

    undrawn = "KL of the mean probabilities from people, smoothed by their n; no answers"
    as_answers = "smoothed KL of as many answers drawn from the probabilities"
    fields: list[Field[FirstTokenRow]] = [
        Field("Model", lambda row: row.model, words=True),
        Field("Language", lambda row: Entry(row.language, words=True), words=True),
        Field("First token", lambda row: fixed(row.value), undrawn),
        Field("As answers", lambda row: fixed(row.drawn), as_answers),
        Field("Excess", lambda row: signed(row.drawn - row.floor), "of these over the noise floor"),
        Field(condition, interview, "smoothed KL of its answers; beneath, the noise floor"),
        Field(f"Excess, {condition}", lambda row: signed(row.interview - row.floor), "over the same noise floor"),
        Field("Questions", lambda row: str(row.questions), "behind both means"),
        Field("Orders", lambda row: str(row.orders), "in which the options were shown, at most"),
    ]
    how = (
        "Nothing is said and nothing drawn: the probabilities of the options as the next token of a reply, mean over "
        f"the orders shown. The figure of {condition} is of few answers, which smoothing pulls to the middle, so that "
        "the two do not compare. What compares stands between: what as many answers drawn from the probabilities would "
        "score on average, question by question. Both are given less what as many people would score. Lists have no "
        f"such distribution and are left out, and so is a question to which {condition} has no valid answer."
    )
    caption = "Divergence from people, nats, over the same questions"
    shown = culture_table(analysis, rows, fields, "first-token-table", caption)
    return replace(section, paragraphs=(how,), tables=(shown,))
