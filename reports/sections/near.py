"""Figure 4 and Appendices C and E: one question from near, what scores mean, answers as they were given."""

from __future__ import annotations

from dataclasses import replace
from math import isnan

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cards import SAMPLES, option_label, sample_cards, worded
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.rows import Frame, Mark, Scale, rows_chart
from defsurvey.reports.figures.landscape import NearQuestion, cases, near_question, score_rows
from defsurvey.reports.figures.words import NotRun, culture_names, missing, named_cultures
from defsurvey.reports.number_format import counted, fixed, percent
from defsurvey.reports.page import Column, Entry, Fold, Section, Table, TableRow
from defsurvey.reports.untrusted import visible


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
    total = float(part.counts.sum())
    return Table(
        anchor="figure-4-options",
        caption=f"{question.id}: {part.name} beside people of {_culture(analysis, part)}",
        columns=(
            Column(text="Option", words=True),
            Column(text="People"),
            Column(text="Model"),
            Column(text="Answers", meaning="of the model"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=option_label(question, number)),
                entries=(
                    Entry(text=percent(share), why="no reference" if isnan(share) else ""),
                    Entry(text=percent(count / total)),
                    Entry(text=f"{count:.0f}"),
                ),
            )
            for number, (count, share) in enumerate(zip(part.counts.tolist(), part.people.tolist(), strict=True))
        ),
    )


def score_section(analysis: Analysis) -> Section:
    """Appendix C."""
    rows, names = analysis.figure(score_rows), analysis.results.survey.dimensions
    section = Section(
        anchor="appendix-c",
        contents="App. C · Meaning",
        title="What a high and a low score mean",
        number="Appendix C",
    )
    if not rows:
        return missing(section, NotRun(reason="no question of this run speaks to a value dimension"))
    people = [(subject, code) for subject, code, _ in rows[0].scores if subject == "people"]
    spelled = culture_names(analysis)
    return replace(
        section,
        tables=(
            Table(
                anchor="appendix-c-meanings",
                caption="Value dimensions; mean scores of people, 0 to 1",
                columns=(
                    Column(text="Dimension", words=True),
                    Column(text="A high score", words=True),
                    Column(text="A low score", words=True),
                    *(Column(text=spelled[code], meaning="mean score of its people, 0 to 1") for _, code in people),
                ),
                rows=tuple(
                    TableRow(
                        head=Entry(text=names[row.code].get("en", row.code), beneath=row.code),
                        entries=(
                            Entry(text=row.meaning.high if row.meaning else "the survey does not say", words=True),
                            Entry(text=row.meaning.low if row.meaning else "the survey does not say", words=True),
                            *(
                                Entry(text=fixed(score, 2))
                                for subject, code, score in row.scores
                                if (subject, code) in people
                            ),
                        ),
                    )
                    for row in rows
                ),
            ),
        ),
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
