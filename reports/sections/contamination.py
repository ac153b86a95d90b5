"""Do models know the survey? Tables for the section on the quality of answers."""

from __future__ import annotations

from dataclasses import replace

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.figures.contamination import Contamination, GuessedRow, RecalledRow, contamination
from defsurvey.reports.figures.words import MODEL, NotRun, chance, culture_names
from defsurvey.reports.metrics.contamination import CLOSE, VERBATIM
from defsurvey.reports.number_format import fixed
from defsurvey.reports.page import Column, Entry, Fold, Section, Table, TableRow

_HOW = (
    "Whether a model has seen the survey: it was given each question's wording alone and asked for the options, and "
    "for the percentages of each country. The controls are the options of the other questions, and the published "
    "percentages dealt out anew to the options. A small p alone is no proof: many options and opinions can be guessed. "
    "Options word for word, or percentages to the point, cannot."
)


def with_contamination(section: Section, analysis: Analysis) -> Section:
    """The section with what the check found, or with the reason for which it was not run."""
    part = analysis.figure(contamination)
    if isinstance(part, NotRun):
        told = f"Whether the models have seen the survey was not checked: {part.reason}."
        return replace(section, paragraphs=(*section.paragraphs, told))
    return replace(
        section,
        paragraphs=(*section.paragraphs, _HOW),
        tables=(*section.tables, *_tables(part, analysis)),
        folds=(*section.folds, *_folds(part, analysis)),
    )


def _tables(part: Contamination, analysis: Analysis) -> list[Table]:
    options = Table(
        anchor="table-options-recalled",
        caption="Options recalled from the wording alone",
        columns=(
            MODEL,
            Column(text="Language", words=True),
            Column(text="Own", meaning="similarity to the question's own options, 0 to 1, mean over questions"),
            Column(text="Others", meaning="the same with questions and options paired at random"),
            Column(text="p", meaning="share of random pairings that come as near"),
            Column(text="Nearest", meaning="questions whose own options come nearer than all others"),
            Column(text="Verbatim", meaning=f"questions with a similarity of at least {VERBATIM:g}"),
        ),
        rows=tuple(_recalled(row) for row in part.recalled),
        notes=("Nearest and verbatim: of the questions asked. One whose options are all numbers is left out.",),
    )
    percentages = Table(
        anchor="table-percentages-recalled",
        caption="Published percentages given from the wording alone",
        grouped_by="Culture",
        columns=(
            MODEL,
            Column(text="Language", words=True),
            Column(text="Error", meaning="mean absolute error in percentage points, mean over questions"),
            Column(text="Shuffled", meaning="the same against the published percentages dealt out anew"),
            Column(text="p", meaning="share of shuffles whose error is as small"),
            Column(text="Exact", meaning=f"questions with an error of at most {CLOSE:g} point, of those read"),
            Column(text="Read", meaning="questions whose reply gives a percentage for every option, of those asked"),
        ),
        rows=tuple(
            _guessed(row, name)
            for code, name in culture_names(analysis).items()
            for row in part.guessed
            if row.culture == code
        ),
    )
    return [table for table in (options, percentages) if table.rows]


def _recalled(row: RecalledRow) -> TableRow:
    test = row.test
    return TableRow(
        head=Entry(text=row.model),
        entries=(
            Entry(text=row.language),
            Entry(text=fixed(test.mean_own, 2)),
            Entry(text=fixed(test.mean_others, 2), why=test.reason),
            Entry(text=chance(test.p_all), why=test.reason),
            Entry(text=f"{test.nearest.sum()} of {len(row.questions)}"),
            Entry(text=f"{test.verbatim.sum()} of {len(row.questions)}"),
        ),
    )


def _guessed(row: GuessedRow, culture: str) -> TableRow:
    test = row.test
    return TableRow(
        head=Entry(text=row.model),
        group=culture,
        entries=(
            Entry(text=row.language),
            Entry(text=fixed(test.mean_error, 1), why=test.reason),
            Entry(text=fixed(test.mean_shuffled, 1), why=test.reason),
            Entry(text=chance(test.p_all), why=test.reason),
            Entry(text=f"{test.close.sum()} of {len(row.questions)}"),
            Entry(text=f"{len(row.questions)} of {row.asked}"),
        ),
    )


def _folds(part: Contamination, analysis: Analysis) -> list[Fold]:
    names = culture_names(analysis)
    options = Table(
        anchor="table-options-by-question",
        caption="Similarity to the question's own options, and to other questions'",
        grouped_by="Model",
        columns=(
            Column(text="Question", words=True),
            Column(text="Own"),
            Column(text="Others"),
            Column(text="p", meaning="not adjusted"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=question),
                group=f"{row.model}, {row.language}",
                entries=(
                    Entry(text=fixed(float(row.test.own[place]), 2)),
                    Entry(text=fixed(float(row.test.others[place]), 2)),
                    Entry(text=chance(float(row.test.p[place]))),
                ),
            )
            for row in part.recalled
            for place, question in enumerate(row.questions)
        ),
    )
    percentages = Table(
        anchor="table-percentages-by-question",
        caption="Error of the percentages given, in points, and against those dealt out anew",
        grouped_by="Model",
        columns=(
            Column(text="Question", words=True),
            Column(text="Error"),
            Column(text="Shuffled"),
            Column(text="p", meaning="not adjusted"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=question),
                group=f"{row.model}, {names.get(row.culture, row.culture)}, {row.language}",
                entries=(
                    Entry(text=fixed(float(row.test.error[place]), 1)),
                    Entry(text=fixed(float(row.test.shuffled[place]), 1)),
                    Entry(text=chance(float(row.test.p[place]))),
                ),
            )
            for row in part.guessed
            for place, question in enumerate(row.questions)
        ),
    )
    tables = tuple(table for table in (options, percentages) if table.rows)
    return [Fold(anchor="contamination-by-question", title="What models know, question by question", tables=tables)]
