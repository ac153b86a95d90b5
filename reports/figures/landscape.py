"""What was asked, one question from near, and answers as they were given: Figures 3 and 4, Appendix E."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isnan

import numpy as np

from defsurvey.reports.analysis import FAILED, Analysis, CellAnalysis
from defsurvey.reports.cards import SAMPLES, option_label, sample_cards, worded
from defsurvey.reports.cells import Floats, Ints
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.rows import Frame, Mark, Scale, rows_chart
from defsurvey.reports.circumstances import language_name, languages_asked
from defsurvey.reports.figures.words import (
    NotRun,
    culture_names,
    largest,
    main_cells,
    missing,
    named_cultures,
    per_dimension,
)
from defsurvey.reports.metrics.quality import effective_options
from defsurvey.reports.number_format import counted, fixed, percent
from defsurvey.reports.page import Entry, Field, Fold, Section, Table, table
from defsurvey.reports.untrusted import visible
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


def cases(analysis: Analysis) -> Cases | NotRun:
    """Appendix E: the stored samples, by state."""
    found: dict[AnswerState, list[int]] = {}
    for place, sample in enumerate(analysis.results.samples):
        found.setdefault(sample.answer.state, []).append(place)
    if not found:
        return NotRun(reason="no answer was sampled")
    return Cases(by_state=tuple((state, tuple(found[state])) for state in AnswerState if state in found))


def landscape_section(analysis: Analysis) -> Section:
    """Figure 3."""
    part = analysis.figure(landscape)
    questions = sum(topic.questions for topic in part.topics)
    topics, dimensions = len(part.topics), len(analysis.dimensions)
    title = f"{counted(questions, 'question')} on {counted(topics, 'topic')}"
    title += f", {counted(dimensions, 'value dimension')}" if dimensions else ", none on a value dimension"
    return Section(
        anchor="figure-3",
        contents="Fig. 3 · What was asked",
        title=title,
        number="Fig. 3",
        paragraphs=tuple(stand_ins(analysis)),
        tables=(_topics(analysis, part), _kinds(analysis, part), *_excluded(analysis)),
    )


def stand_ins(analysis: Analysis) -> list[str]:
    """A sentence for every culture that was not asked in its own language, since the survey has no wording in it."""
    return [
        f"The survey has no wording in {language_name(culture.culture.spoken)}, the language of {culture.named}: its "
        f"participants were asked in {languages_asked(culture)[0]}."
        for culture in analysis.cultures
        if culture.culture.spoken
    ]


def _excluded(analysis: Analysis) -> tuple[Table, ...]:
    """Questions that experts left out of the survey, with their reasons; no table where there are none."""
    excluded = analysis.results.survey.excluded
    fields: list[Field[tuple[str, str]]] = [
        Field("Question", lambda each: each[0], words=True),
        Field("Reason", lambda each: Entry(text=each[1], words=True), words=True),
    ]
    caption = "Questions left out of the survey by experts"
    return (table(excluded.items(), fields, anchor="figure-3-excluded", caption=caption),) if excluded else ()


def _topics(analysis: Analysis, part: Landscape) -> Table:
    most = largest(topic.by_dimension.astype(np.float64) for topic in part.topics)

    def at(place: int) -> Callable[[TopicRow], Entry]:
        def entry(topic: TopicRow) -> Entry:
            count = int(topic.by_dimension[place])
            return Entry(text=str(count), shade=count / most) if count else Entry(text="")

        return entry

    return table(
        part.topics,
        [
            Field("Topic", lambda topic: topic.topic or "no topic", words=True),
            Field("Questions", lambda topic: str(topic.questions)),
            *per_dimension(analysis, at),
        ],
        anchor="figure-3-topics",
        caption="Items by topic and value dimension",
        notes=("An item is a question, or one option of a list; a question may speak to no dimension.",),
    )


def _kinds(analysis: Analysis, part: Landscape) -> Table:
    rows = [
        *((f"questions of type {kind}", count) for kind, count in part.types),
        *((f"with a reference for {named_cultures(analysis)[code]}", count) for code, count in part.known),
    ]
    return table(
        rows,
        [Field("Kind", lambda row: row[0], words=True), Field("Questions", lambda row: str(row[1]))],
        anchor="figure-3-kinds",
        caption="Questions by type and by reference",
    )


def near_section(analysis: Analysis) -> Section:
    """Figure 4."""
    part = analysis.figure(near_question)
    section = Section(
        anchor="figure-4",
        contents="Fig. 4 · One question",
        title="One question, one model, many answers",
        number="Fig. 4",
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    question = analysis.results.survey.question(part.question)
    used = f"{np.count_nonzero(part.counts)} of {len(part.counts)} options"
    return replace(
        section,
        title=f"Asked {question.id} in {_culture(analysis, part)}, {part.name} chose {used}; "
        f"its {counted(part.replies, 'reply', 'replies')} have {counted(part.distinct, 'distinct text')}",
        paragraphs=(
            worded(question.text, "en")[0],
            (
                f"The question and model with the most varied answers for its number of options, in "
                f"{_culture(analysis, part)}: {fixed(part.effective, 1)} options effectively used in "
                f"{counted(int(part.counts.sum()), 'valid answer')}."
            ),
        ),
        legend=("People", part.name),
        charts=(_options(analysis, part),),
        tables=(_counts(analysis, part),),
        samples=sample_cards(analysis, part.samples[:SAMPLES]),
    )


def _culture(analysis: Analysis, part: NearQuestion) -> str:
    return named_cultures(analysis)[part.culture]


def _options(analysis: Analysis, part: NearQuestion) -> Chart:
    question = analysis.results.survey.question(part.question)
    total, marks = float(part.counts.sum()), []
    for number, (count, share) in enumerate(zip(part.counts.tolist(), part.people.tolist(), strict=True)):
        label = visible(option_label(question, number))
        for series, (name, value) in enumerate((("People", share), (visible(part.name), count / total))):
            if not isnan(value):
                marks.append(Mark(row=label, value=value, series=series, says=f"{name}, {label}: {percent(value)}"))
    return rows_chart(
        marks,
        Frame(
            name="near-0",
            title=visible(f"{question.id}, {culture_names(analysis)[part.culture]}"),
            description="Share of each option among people and among the model's answers.",
            scale=Scale(title="share of answers", percent=True),
            series=2,
        ),
    )


def _counts(analysis: Analysis, part: NearQuestion) -> Table:
    question = analysis.results.survey.question(part.question)
    counts, people, total = part.counts.tolist(), part.people.tolist(), float(part.counts.sum())
    return table(
        range(len(counts)),
        [
            Field("Option", lambda number: option_label(question, number), words=True),
            Field(
                "People",
                lambda number: Entry(text=percent(people[number]), why="no reference" if isnan(people[number]) else ""),
            ),
            Field("Model", lambda number: percent(counts[number] / total)),
            Field("Answers", lambda number: f"{counts[number]:.0f}", "of the model"),
        ],
        anchor="figure-4-options",
        caption=f"{question.id}: {part.name} beside people of {_culture(analysis, part)}",
    )


_STATES = {"answered": "Answered", "refused": "Refused", "unparsable": "Unparsable", "failed": "Failed"}


def case_section(analysis: Analysis) -> Section:
    """Appendix E: the stored samples, the first in the open and every other by state."""
    part = analysis.figure(cases)
    section = Section(
        anchor="appendix-e", contents="App. E · Cases", title="Answers as they were given", number="Appendix E"
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    first = _spread([list(places) for _, places in part.by_state])
    shown = set(first)
    rest = [(state, [place for place in places if place not in shown]) for state, places in part.by_state]
    return replace(
        section,
        paragraphs=(
            "Drawn by seed, not picked. Options stand in the order shown; a filled mark is the choice that was read.",
        ),
        samples=sample_cards(analysis, first),
        folds=tuple(
            Fold(
                anchor=f"appendix-e-{state.value}",
                title=f"{_STATES[state.value]}: {len(places)} more",
                samples=sample_cards(analysis, places),
            )
            for state, places in rest
            if places and len(analysis.results.samples) <= _ALL
        ),
    )


#: Most samples that stand here too; of more, each stands with its question.
_ALL = 40


def _spread(groups: list[list[int]]) -> list[int]:
    """The first of every state in turn, until there are enough."""
    found: list[int] = []
    while any(groups) and len(found) < SAMPLES:
        for group in groups:
            if group and len(found) < SAMPLES:
                found.append(group.pop(0))
    return sorted(found)
