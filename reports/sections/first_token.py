"""The probabilities of the options as a baseline: what an interview costs more, and whether it is closer."""

from __future__ import annotations

from dataclasses import replace

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.figures.first_token import first_token
from defsurvey.reports.figures.parts import NotRun
from defsurvey.reports.number_format import fixed, signed
from defsurvey.reports.page import Column, Entry, Section, Table, TableRow
from defsurvey.reports.sections.words import MODEL, culture_names, missing


def first_token_section(analysis: Analysis) -> Section:
    """First-token probabilities beside the main condition."""
    part = analysis.figure(first_token)
    section = Section(
        anchor="first-token", contents="First token", title="What the next token alone says of the options"
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    names = culture_names(analysis)
    return replace(
        section,
        paragraphs=(
            (
                "Nothing is said and nothing drawn: the probabilities of the options as the next token of a reply, "
                f"mean over the orders shown. The figure of {part.condition} is of few answers, which smoothing pulls "
                "to the middle, so that the two do not compare. What compares stands between: what as many answers "
                "drawn from the probabilities would score on average, question by question. Both are given less what "
                "as many people would score. Lists have no such distribution and are left out, and so is a question to "
                "which "
                f"{part.condition} has no valid answer."
            ),
        ),
        tables=(
            Table(
                anchor="first-token-table",
                caption="Divergence from people, nats, over the same questions",
                grouped_by="Culture",
                columns=(
                    MODEL,
                    Column(text="Language", words=True),
                    Column(
                        text="First token",
                        meaning="KL of the mean probabilities from people, smoothed by their n; no answers",
                    ),
                    Column(text="As answers", meaning="smoothed KL of as many answers drawn from the probabilities"),
                    Column(text="Excess", meaning="of these over the noise floor"),
                    Column(text=part.condition, meaning="smoothed KL of its answers; beneath, the noise floor"),
                    Column(text=f"Excess, {part.condition}", meaning="over the same noise floor"),
                    Column(text="Questions", meaning="behind both means"),
                    Column(text="Orders", meaning="in which the options were shown, at most"),
                ),
                rows=tuple(
                    TableRow(
                        head=Entry(text=row.model),
                        group=name,
                        entries=(
                            Entry(text=row.language, words=True),
                            Entry(text=fixed(row.value)),
                            Entry(text=fixed(row.drawn)),
                            Entry(text=signed(row.drawn - row.floor)),
                            Entry(text=fixed(row.interview), beneath=fixed(row.floor)),
                            Entry(text=signed(row.interview - row.floor)),
                            Entry(text=str(row.questions)),
                            Entry(text=str(row.orders)),
                        ),
                    )
                    for code, name in names.items()
                    for row in part.rows
                    if row.culture == code
                ),
            ),
        ),
    )
