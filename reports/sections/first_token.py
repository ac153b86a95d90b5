"""The probabilities of the options as a baseline: what an interview costs more, and whether it is closer.

Knows the cheap baseline and the main condition beside it. Deliberately names no winner: one has sampling noise and
the other has none.
"""

from __future__ import annotations

from dataclasses import replace

from reports.analysis import Analysis
from reports.figures import fixed, signed
from reports.page import Column, Entry, Section, Table, TableRow
from reports.parts import NotRun
from reports.sections.words import MODEL, culture_names, missing


def first_token_section(analysis: Analysis) -> Section:
    """First-token probabilities beside the main condition."""
    part = analysis.parts.first_token
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
                "mean over the orders shown. That has no sampling noise, so that it compares with the excess of "
                f"{part.condition} over the noise floor, not with its divergence. Lists have no such distribution and "
                f"are left out of both, and so is a question to which {part.condition} has no valid answer."
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
                    Column(text="First token", meaning="KL of the mean probabilities from people, smoothed by their n"),
                    Column(text=part.condition, meaning="smoothed KL; beneath, the noise floor"),
                    Column(text="Excess", meaning=f"of {part.condition} over the noise floor"),
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
