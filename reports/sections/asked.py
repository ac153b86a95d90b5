"""Figure 3: what was asked."""

from __future__ import annotations

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.circumstances import language_name, languages_asked
from defsurvey.reports.figures.landscape import landscape
from defsurvey.reports.figures.words import dimension_columns, largest, named_cultures, places
from defsurvey.reports.number_format import counted
from defsurvey.reports.page import Column, Entry, Section, Table, TableRow


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
        tables=(_topics(analysis), _kinds(analysis), *_excluded(analysis)),
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
    if not excluded:
        return ()
    return (
        Table(
            anchor="figure-3-excluded",
            caption="Questions left out of the survey by experts",
            columns=(Column(text="Question", words=True), Column(text="Reason", words=True)),
            rows=tuple(
                TableRow(head=Entry(text=name), entries=(Entry(text=reason, words=True),))
                for name, reason in excluded.items()
            ),
        ),
    )


def _topics(analysis: Analysis) -> Table:
    part = analysis.figure(landscape)
    most = largest(topic.by_dimension.astype(np.float64) for topic in part.topics)
    return Table(
        anchor="figure-3-topics",
        caption="Items by topic and value dimension",
        columns=(Column(text="Topic", words=True), Column(text="Questions"), *dimension_columns(analysis)),
        rows=tuple(
            TableRow(
                head=Entry(text=topic.topic or "no topic"),
                entries=(
                    Entry(text=str(topic.questions)),
                    *(
                        Entry(text=str(count) if count else "", shade=count / most if count else None)
                        for count in (int(topic.by_dimension[place]) for place in places(analysis))
                    ),
                ),
            )
            for topic in part.topics
        ),
        notes=("An item is a question, or one option of a list; a question may speak to no dimension.",),
    )


def _kinds(analysis: Analysis) -> Table:
    part = analysis.figure(landscape)
    rows = [
        *((f"questions of type {kind}", count) for kind, count in part.types),
        *((f"with a reference for {named_cultures(analysis)[code]}", count) for code, count in part.known),
    ]
    return Table(
        anchor="figure-3-kinds",
        caption="Questions by type and by reference",
        columns=(Column(text="Kind", words=True), Column(text="Questions")),
        rows=tuple(TableRow(head=Entry(text=name), entries=(Entry(text=str(count)),)) for name, count in rows),
    )
