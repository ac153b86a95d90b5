"""What was asked, one question from near, and what scores mean: Figures 3 and 4, Appendices C and E."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import FAILED, CellAnalysis
from defsurvey.reports.cells.items import Floats, Ints
from defsurvey.reports.figures.cultural_map import cultural_map
from defsurvey.reports.figures.words import Meaning, NotRun, main_cells, meanings
from defsurvey.reports.metrics.diversity import effective_options
from defsurvey.storage.runs.run import AnswerState

#: Fewest valid answers to a question that is shown from near.
SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRow:
    """One topic of the questionnaire."""

    topic: str
    questions: int
    by_dimension: Ints  #: items (questions, or options of a list) per value dimension, shape (D,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """Figure 3: topics and value dimensions of the questions asked."""

    topics: tuple[TopicRow, ...]  #: in the questionnaire's order
    dimensions: tuple[tuple[str, int], ...]  #: code, items
    types: tuple[tuple[str, int], ...]  #: question type, questions
    known: tuple[tuple[str, int], ...]  #: culture, questions with a reference


@dataclass(frozen=True, slots=True, kw_only=True)
class NearQuestion:
    """Figure 4: one question to which one model gave different answers."""

    name: str  #: of the cell
    culture: str
    question: str
    counts: Floats  #: answers per option, shape (k,)
    people: Floats  #: shares, shape (k,); nan without a reference
    effective: float  #: options used, exp(entropy)
    replies: int  #: replies to it; failed answers have none
    distinct: int  #: of them, worded differently
    samples: tuple[int, ...]  #: positions in ``Results.samples`` of its replies


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """Appendix C: one value dimension."""

    code: str
    meaning: Meaning | None  #: None for a dimension of the user's own
    scores: tuple[tuple[str, str, float], ...]  #: subject, culture, mean score in [0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """Appendix E: samples by how they ended."""

    by_state: tuple[tuple[AnswerState, tuple[int, ...]], ...]  #: positions in ``Results.samples``


def landscape(analysis: Analysis) -> Landscape:
    """Figure 3."""
    items, survey = analysis.items, analysis.results.survey
    size = len(survey.dimensions)
    rows: dict[str, tuple[int, Ints]] = {}
    for place, question in enumerate(items.questions):
        count, spoken = rows.get(question.topic, (0, np.zeros(size, dtype=np.int64)))
        dimension = items.grouping.dimension[items.of_question(place)]
        spoken = spoken + np.bincount(dimension[dimension >= 0], minlength=size)
        rows[question.topic] = (count + 1, spoken)
    total = sum((spoken for _, spoken in rows.values()), np.zeros(size, dtype=np.int64))
    return Landscape(
        topics=tuple(TopicRow(topic=t, questions=count, by_dimension=spoken) for t, (count, spoken) in rows.items()),
        dimensions=tuple(zip(survey.dimensions, total.tolist(), strict=True)),
        types=tuple(sorted(Counter(question.type.value for question in items.questions).items())),
        known=tuple(
            (culture.culture.code, len(np.unique(items.question[~np.isnan(culture.reference.n)])))
            for culture in analysis.cultures
        ),
    )


def near_question(analysis: Analysis) -> NearQuestion | NotRun:
    """Figure 4: the question and model of the main condition with the most varied answers for its number of options."""
    best: tuple[float, CellAnalysis, int] | None = None
    items = analysis.items
    for cell in main_cells(analysis):
        enough = items.whole & (cell.counts.sum(axis=-1) >= SHOWN)
        spread = effective_options(cell.counts) / items.offered.sum(axis=-1)
        spread = np.where(enough, spread, -1.0)
        item = int(spread.argmax())
        if spread[item] > 0 and (best is None or spread[item] > best[0]):
            best = (float(spread[item]), cell, item)
    if best is None:
        return NotRun(reason=f"no question of one answer has {SHOWN} valid answers")
    _, cell, item = best
    answers, place = analysis.results.answers, int(items.question[item])
    here = (answers.cell == cell.place) & (answers.question == place) & (answers.state != FAILED)
    culture = next(each for each in analysis.cultures if each.culture.code == cell.cell.culture)
    offered, question = items.offered[item], items.questions[place]
    return NearQuestion(
        name=cell.name,
        culture=cell.cell.culture,
        question=question.id,
        counts=cell.counts[item][offered],
        people=culture.reference.shares[item][offered],
        effective=float(effective_options(cell.counts[item])),
        replies=int(here.sum()),
        distinct=len(np.unique(answers.digest[here])),
        samples=tuple(
            at
            for at, sample in enumerate(analysis.results.samples)
            if sample.cell == cell.place and sample.answer.question == question.id
        ),
    )


def score_rows(analysis: Analysis) -> tuple[ScoreRow, ...]:
    """Appendix C: what scores of each dimension asked about mean, and everyone's, where there is a map."""
    known, asked = meanings(), set(analysis.items.grouping.dimension.tolist())
    drawn_map = analysis.figure(cultural_map)
    rows = []
    for place, code in enumerate(analysis.results.survey.dimensions):
        if place not in asked:
            continue
        scores: tuple[tuple[str, str, float], ...] = ()
        if not isinstance(drawn_map, NotRun) and code in drawn_map.sound.dimensions:
            column = drawn_map.sound.dimensions.index(code)
            scores = tuple((row.subject, row.culture, float(row.scores[column])) for row in drawn_map.sound.rows)
        rows.append(ScoreRow(code=code, meaning=known.get(code), scores=scores))
    return tuple(rows)


def cases(analysis: Analysis) -> Cases | NotRun:
    """Appendix E: the stored samples, by state."""
    found: dict[AnswerState, list[int]] = {}
    for place, sample in enumerate(analysis.results.samples):
        found.setdefault(sample.answer.state, []).append(place)
    if not found:
        return NotRun(reason="no answer was sampled")
    return Cases(by_state=tuple((state, tuple(found[state])) for state in AnswerState if state in found))
