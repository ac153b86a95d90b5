"""What was asked, one question from near, and answers as they were given: Figures 3 and 4, Appendix E."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan

import numpy as np

from defsurvey.reports.analysis import FAILED, Analysis, CellAnalysis, NotRun
from defsurvey.reports.cards import SAMPLES, option_label, sample_cards, worded
from defsurvey.reports.cells import Floats, Ints
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.rows import Mark, Scale, rows_chart
from defsurvey.reports.circumstances import language_name, languages_asked
from defsurvey.reports.figures.shared import OfCell, main_cells
from defsurvey.reports.figures.words import count_entry, culture_names, named_cultures, per_dimension, section
from defsurvey.reports.metrics.quality import effective_options
from defsurvey.reports.number_format import counted, fixed, percent
from defsurvey.reports.page import Entry, Field, Fold, Section, Table, table
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.surveys.survey import Question

#: Fewest valid answers to a question that is shown from near.
SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRow:
    """One topic of the questionnaire."""

    topic: str
    questions: int
    by_dimension: Ints  #: items (questions, or options of a list) per value dimension, shape (D,)


@dataclass(frozen=True, slots=True, kw_only=True)
class NearQuestion(OfCell):
    """Figure 4: one question to which one model gave different answers."""

    question: str
    counts: Floats  #: answers per option, shape (k,)
    people: Floats  #: shares, shape (k,); nan without a reference
    effective: float  #: options used, exp(entropy)
    replies: int  #: replies to it; failed answers have none
    distinct: int  #: of them, worded differently
    samples: tuple[int, ...]  #: positions in ``Results.samples`` of its replies


def landscape(analysis: Analysis) -> tuple[TopicRow, ...]:
    """Figure 3: topics and value dimensions of the questions asked, in the questionnaire's order."""
    items, size = analysis.items, len(analysis.results.survey.dimensions)
    rows: dict[str, tuple[int, Ints]] = {}
    for place, question in enumerate(items.questions):
        count, spoken = rows.get(question.topic, (0, np.zeros(size, dtype=np.int64)))
        dimension = items.grouping.dimension[items.of_question(place)]
        spoken = spoken + np.bincount(dimension[dimension >= 0], minlength=size)
        rows[question.topic] = (count + 1, spoken)
    return tuple(TopicRow(topic=t, questions=count, by_dimension=spoken) for t, (count, spoken) in rows.items())


def near_question(analysis: Analysis) -> NearQuestion:
    """Figure 4: the question and model of the main condition with the most varied answers for its number of options."""
    best: tuple[float, CellAnalysis, int] | None = None
    items = analysis.items
    for cell in main_cells(analysis):
        enough = items.whole & (cell.counts.sum(axis=-1) >= SHOWN)
        spread = np.where(enough, effective_options(cell.counts) / items.offered.sum(axis=-1), -1.0)
        item = int(spread.argmax())
        if spread[item] > 0 and (best is None or spread[item] > best[0]):
            best = (float(spread[item]), cell, item)
    if best is None:
        raise NotRun(f"no question of one answer has {SHOWN} valid answers")
    _, cell, item = best
    answers, place = analysis.results.answers, int(items.question[item])
    here = (answers.cell == cell.place) & (answers.question == place) & (answers.state != FAILED)
    culture = next(each for each in analysis.cultures if each.culture.code == cell.culture)
    offered, question = items.offered[item], items.questions[place].id
    samples = enumerate(analysis.results.samples)
    return NearQuestion(
        cell=cell,
        question=question,
        counts=cell.counts[item][offered],
        people=culture.reference.shares[item][offered],
        effective=float(effective_options(cell.counts[item])),
        replies=int(here.sum()),
        distinct=len(np.unique(answers.digest[here])),
        samples=tuple(at for at, each in samples if (each.cell, each.answer.question) == (cell.place, question)),
    )


def cases(analysis: Analysis) -> dict[AnswerState, list[int]]:
    """Appendix E: positions in ``Results.samples``, by how they ended."""
    found: dict[AnswerState, list[int]] = {}
    for place, sample in enumerate(analysis.results.samples):
        found.setdefault(sample.answer.state, []).append(place)
    if not found:
        raise NotRun("no answer was sampled")
    return {state: found[state] for state in AnswerState if state in found}


def landscape_section(analysis: Analysis) -> Section:
    """Figure 3, with the questions that experts left out of the survey and their reasons."""
    topics, dimensions, survey = analysis.figure(landscape), len(analysis.dimensions), analysis.results.survey
    title = f"{counted(len(analysis.items.questions), 'question')} on {counted(len(topics), 'topic')}"
    title += f", {counted(dimensions, 'value dimension')}" if dimensions else ", none on a value dimension"
    question: Field[tuple[str, str]] = Field("Question", lambda each: each[0], words=True)
    fields = [question, Field("Reason", lambda each: Entry(each[1], words=True), words=True)]
    caption = "Questions left out of the survey by experts"
    excluded = table(survey.excluded.items(), fields, "figure-3-excluded", caption)
    tables = (_topics(analysis, topics), _kinds(analysis), excluded)
    return Section(
        anchor="figure-3",
        contents="Fig. 3 · What was asked",
        title=title,
        number="Fig. 3",
        paragraphs=tuple(stand_ins(analysis)),
        tables=tables if survey.excluded else tables[:2],
    )


def stand_ins(analysis: Analysis) -> list[str]:
    """A sentence for every culture that was not asked in its own language, since the survey has no wording in it."""
    return [
        f"The survey has no wording in {language_name(culture.culture.spoken)}, the language of {culture.named}: its "
        f"participants were asked in {languages_asked(culture)[0]}."
        for culture in analysis.cultures
        if culture.culture.spoken
    ]


def _topics(analysis: Analysis, topics: Sequence[TopicRow]) -> Table:
    most = float(max(topic.by_dimension.max(initial=0) for topic in topics) or 1)

    def count(topic: TopicRow, place: int) -> Entry:
        return count_entry(int(topic.by_dimension[place]), most, str(topic.by_dimension[place]))

    fields: list[Field[TopicRow]] = [
        Field("Topic", lambda topic: topic.topic or "no topic", words=True),
        Field("Questions", lambda topic: str(topic.questions)),
        *per_dimension(analysis, count),
    ]
    notes = ("An item is a question, or one option of a list; a question may speak to no dimension.",)
    return table(topics, fields, "figure-3-topics", "Items by topic and value dimension", notes=notes)


def _kinds(analysis: Analysis) -> Table:
    question = analysis.items.question
    types = Counter(each.type.value for each in analysis.items.questions)
    rows = [(f"questions of type {kind}", count) for kind, count in sorted(types.items())]
    for culture in analysis.cultures:
        known = np.unique(question[~np.isnan(culture.reference.n)])
        rows.append((f"with a reference for {culture.named}", len(known)))
    kind: Field[tuple[str, int]] = Field("Kind", lambda row: row[0], words=True)
    fields = [kind, Field("Questions", lambda row: str(row[1]))]
    return table(rows, fields, "figure-3-kinds", "Questions by type and by reference")


@section("figure-4", "Fig. 4 · One question", "One question, one model, many answers", "Fig. 4")
def near_section(analysis: Analysis, section: Section) -> Section:
    """Figure 4."""
    part = analysis.figure(near_question)
    question, culture = analysis.results.survey.question(part.question), named_cultures(analysis)[part.culture]
    used = f"{np.count_nonzero(part.counts)} of {len(part.counts)} options"
    varied = (
        f"The question and model with the most varied answers for its number of options, in {culture}: "
        f"{fixed(part.effective, 1)} options effectively used in {counted(int(part.counts.sum()), 'valid answer')}."
    )
    return replace(
        section,
        title=f"Asked {question.id} in {culture}, {part.name} chose {used}; its "
        f"{counted(part.replies, 'reply', 'replies')} have {counted(part.distinct, 'distinct text')}",
        paragraphs=(worded(question.text, "en")[0], varied),
        legend=("People", part.name),
        charts=(_options(analysis, part, question),),
        tables=(_counts(part, question, culture),),
        samples=sample_cards(analysis, part.samples[:SAMPLES]),
    )


def _options(analysis: Analysis, part: NearQuestion, question: Question) -> Chart:
    marks = []
    for number, both in enumerate(zip(part.people.tolist(), (part.counts / part.counts.sum()).tolist(), strict=True)):
        label = option_label(question, number)
        for series, (name, value) in enumerate(zip(("People", part.name), both, strict=True)):
            if not isnan(value):
                marks.append(Mark(row=label, value=value, series=series, says=f"{name}, {label}: {percent(value)}"))
    title = f"{question.id}, {culture_names(analysis)[part.culture]}"
    says = "Share of each option among people and among the model's answers."
    return rows_chart(marks, "near-0", title, says, Scale("share of answers", percent=True), series=2)


def _counts(part: NearQuestion, question: Question, culture: str) -> Table:
    counts, people, total = part.counts.tolist(), part.people.tolist(), float(part.counts.sum())

    def of_people(number: int) -> Entry:
        return Entry(percent(people[number]), why="no reference" if isnan(people[number]) else "")

    fields: list[Field[int]] = [
        Field("Option", lambda number: option_label(question, number), words=True),
        Field("People", of_people),
        Field("Model", lambda number: percent(counts[number] / total)),
        Field("Answers", lambda number: f"{counts[number]:.0f}", "of the model"),
    ]
    caption = f"{question.id}: {part.name} beside people of {culture}"
    return table(range(len(counts)), fields, "figure-4-options", caption)


#: Most samples that stand in Appendix E too; of more, each stands with its question.
_ALL = 40


@section("appendix-e", "App. E · Cases", "Answers as they were given", "Appendix E")
def case_section(analysis: Analysis, section: Section) -> Section:
    """Appendix E: the stored samples, the first in the open and every other by state."""
    by_state, folds = analysis.figure(cases), []
    # the first of every state in turn, until there are enough
    turns = [places[turn] for turn in range(SAMPLES) for places in by_state.values() if turn < len(places)]
    first = sorted(turns[:SAMPLES])
    for state, places in by_state.items() if len(analysis.results.samples) <= _ALL else ():
        rest = [place for place in places if place not in first]
        if rest:
            title = f"{state.value.capitalize()}: {len(rest)} more"
            folds.append(Fold(anchor=f"appendix-e-{state.value}", title=title, samples=sample_cards(analysis, rest)))
    how = "Drawn by seed, not picked. Options stand in the order shown; a filled mark is the choice that was read."
    return replace(section, paragraphs=(how,), samples=sample_cards(analysis, first), folds=tuple(folds))
