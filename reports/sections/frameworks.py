"""Tables 1 and 2: conditions and models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.replies import why_not
from defsurvey.reports.extremes import closest_dimension
from defsurvey.reports.figures.by_dimension import by_dimension
from defsurvey.reports.figures.frameworks import Frameworks, MeanRow, frameworks, lacks, model_table
from defsurvey.reports.figures.parts import NotRun
from defsurvey.reports.figures.words import (
    FLOOR,
    INFINITE,
    MODEL,
    RULE,
    culture_names,
    dimension_columns,
    infinite_entry,
    largest,
    missing,
    places,
    published_fold,
    published_tables,
    shaded,
)
from defsurvey.reports.number_format import NONE, fixed, percent, signed
from defsurvey.reports.page import Column, Entry, Section, Table, TableRow

_FEWER = (
    "Where a culture was not asked or a dimension has no figure, for want of valid answers, the mean is of the others "
    "and is compared with none."
)
_ALL_INFINITE = (
    "A culture all of whose values are infinite has no figure in the paper's way: its rule has no finite one to add "
    "to. The share of infinite ones counts it as 100%."
)
_NAMED = (
    "A framework is called closest where, in every culture in which the model has figures, it is told from each of the "
    "model's others that can be compared, on the same questions, all brought down to 10 answers each: the means below "
    "may rest on more answers of one than of another. Models are counted where at least two of their frameworks could "
    "be compared like that in each of these cultures."
)


def framework_section(analysis: Analysis) -> Section:
    """Table 1."""
    part = analysis.figure(frameworks)
    section = Section(
        anchor="table-1",
        contents="Table 1 · Frameworks",
        title="Probing frameworks",
        number="Table 1",
        folds=published_fold(analysis, "table1"),
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    return replace(
        section,
        title=_best_framework(part),
        paragraphs=("Means over cultures, each asked in its main language.", _NAMED),
        tables=(
            _sound(analysis, part.rows, "table-1-smoothed", "Smoothed KL by framework (nats; lower is closer)"),
            _paper(analysis, part.rows, "table-1-plug-in", "The paper's way: plug-in KL by framework (nats)"),
            *published_tables(analysis, "table1"),
        ),
    )


def _best_framework(part: Frameworks) -> str:
    """Which condition most models answer closest in, told from their others; of models that could be tested."""
    best = [condition for _, condition in part.closest]
    if not best:
        return "Probing frameworks"
    most = max(dict.fromkeys(best), key=best.count)
    if len({row.model for row in part.rows}) == 1:
        return f"Framework {most} comes closest for the model"
    if len(part.tested) == 1:
        return f"Framework {most} comes closest for {part.tested[0]}"
    return f"Framework {most} comes closest for {best.count(most)} of {len(part.tested)} models"


def model_section(analysis: Analysis) -> Section:
    """Table 2."""
    rows = analysis.figure(model_table).rows
    several = len(analysis.cultures) > 1
    return Section(
        anchor="table-2",
        contents="Table 2 · Models",
        title=closest_dimension(analysis),
        number="Table 2",
        paragraphs=(
            f"Condition {analysis.figure(model_table).condition}"
            + (", mean of the cultures; each culture by itself stands with Fig. 5." if several else "."),
        ),
        tables=(
            _sound(analysis, rows, "table-2-smoothed", "Smoothed KL by model and dimension (nats; lower is closer)"),
            _paper(analysis, rows, "table-2-plug-in", "The paper's way: plug-in KL by model and dimension (nats)"),
            *_behind(analysis),
            *published_tables(analysis, "table2"),
        ),
        folds=published_fold(analysis, "table2"),
    )


def _behind(analysis: Analysis) -> tuple[Table, ...]:
    """How many items and answers stand behind each mean, by culture; none where no item speaks to a dimension."""
    part, names = analysis.figure(by_dimension), culture_names(analysis)
    if isinstance(part, NotRun):
        return ()
    return (
        Table(
            anchor="table-2-behind",
            caption="Items behind the mean of each dimension; beneath, valid answers to their questions",
            grouped_by="Culture",
            columns=(MODEL, *dimension_columns(analysis)),
            rows=tuple(
                TableRow(
                    head=Entry(text=row.name),
                    group=name,
                    entries=tuple(
                        Entry(text=f"{row.items[place]:.0f}", beneath=f"{row.answers[place]:,.0f}")
                        for place in places(analysis)
                    ),
                )
                for code, name in names.items()
                for row in part.rows
                if row.culture == code
            ),
            notes=("A mean of one or two items says little of its dimension, and nothing of how its items vary.",),
        ),
    )


def _named(rows: Sequence[MeanRow]) -> list[tuple[Entry, str]]:
    """Head and group of each row: models in groups where they have several conditions."""
    several = len({row.condition for row in rows}) > 1
    return [(Entry(text=row.condition if several else row.model), row.model if several else "") for row in rows]


def _sound(analysis: Analysis, rows: Sequence[MeanRow], anchor: str, caption: str) -> Table:
    most, lacking = largest(row.sound_by_dimension for row in rows), why_not(analysis.results.run.protocol.reply)
    return Table(
        anchor=anchor,
        caption=caption,
        grouped_by="Model" if any(group for _, group in _named(rows)) else "",
        columns=(
            _head(rows),
            *where_asked(analysis, rows),
            *dimension_columns(analysis),
            Column(text="Mean", meaning="over dimensions: every dimension weighs the same"),
            Column(text="Excess", meaning="mean less what equally many people would score"),
            Column(
                text="D / max",
                meaning="distinct full replies to all questions in all cultures (Eq. 6), over the most there can be",
            ),
        ),
        rows=tuple(
            TableRow(
                head=head,
                group=group,
                entries=(
                    *asked_in(analysis, row, rows),
                    *shaded(analysis, row.sound_by_dimension, most, row.floor_by_dimension),
                    Entry(
                        text=fixed(row.sound_mean),
                        beneath=fixed(row.floor_mean),
                        why=apart(row, rows),
                    ),
                    Entry(text=signed(row.sound_mean - row.floor_mean)),
                    Entry(text=fixed(row.relative_diversity), why=lacking),
                ),
            )
            for row, (head, group) in zip(rows, _named(rows), strict=True)
        ),
        notes=(FLOOR, *fewer(rows)),
    )


def where_asked(analysis: Analysis, rows: Sequence[MeanRow], *, paper: bool = False) -> tuple[Column, ...]:
    """A column for the cultures of each row, where one has figures of only some that were asked."""
    cultures = {_cultures(row, paper=paper) for row in rows}
    some = any(cultures) and any(len(known) < len(analysis.cultures) for known in cultures)
    return (Column(text="Cultures", meaning="of which the divergences are the mean", words=True),) if some else ()


def asked_in(analysis: Analysis, row: MeanRow, rows: Sequence[MeanRow], *, paper: bool = False) -> tuple[Entry, ...]:
    """What stands in that column; nothing where there is none."""
    return (named_in(analysis, row, paper=paper),) if where_asked(analysis, rows, paper=paper) else ()


def named_in(analysis: Analysis, row: MeanRow, *, paper: bool) -> Entry:
    """The cultures in which a row has figures."""
    named = [culture_names(analysis)[code] for code in _cultures(row, paper=paper)]
    return Entry(text=", ".join(named) or NONE, words=True)


def _cultures(row: MeanRow, *, paper: bool) -> tuple[str, ...]:
    return row.paper_cultures if paper else row.cultures


def _none_finite(row: MeanRow) -> str:
    """Why a row that has figures has none in the paper's way."""
    return "no finite value for the paper's rule to add to" if row.cultures and not row.paper_cultures else ""


def apart(row: MeanRow, rows: Sequence[MeanRow], *, paper: bool = False) -> str:
    """Why a mean is compared with none; empty where it may be."""
    lost = lacks(row, rows, paper=paper)
    return "of fewer cultures or dimensions than others have: not to be compared" if lost else ""


def fewer(rows: Sequence[MeanRow], *, paper: bool = False) -> tuple[str, ...]:
    """Notes on means that are compared with none, where there are any."""
    said = (_FEWER,) if any(lacks(row, rows, paper=paper) for row in rows) else ()
    lost = paper and any(row.paper_cultures != row.cultures for row in rows)
    return (*said, _ALL_INFINITE) if lost else said


def _head(rows: Sequence[MeanRow]) -> Column:
    return Column(text="Condition", words=True) if any(group for _, group in _named(rows)) else MODEL


def _paper(analysis: Analysis, rows: Sequence[MeanRow], anchor: str, caption: str) -> Table:
    most, lacking = largest(row.paper_by_dimension for row in rows), why_not(analysis.results.run.protocol.reply)
    return Table(
        anchor=anchor,
        caption=caption,
        grouped_by="Model" if any(group for _, group in _named(rows)) else "",
        columns=(
            _head(rows),
            *where_asked(analysis, rows, paper=True),
            Column(text="Diversity", meaning="D of Eq. 6: distinct full replies to all questions in all cultures"),
            *dimension_columns(analysis),
            Column(text="Mean", meaning="over dimensions"),
            INFINITE,
        ),
        rows=tuple(
            TableRow(
                head=head,
                group=group,
                entries=(
                    *asked_in(analysis, row, rows, paper=True),
                    Entry(text=percent(row.diversity), why=lacking),
                    *shaded(analysis, row.paper_by_dimension, most, why=_none_finite(row)),
                    Entry(text=fixed(row.paper_mean), why=apart(row, rows, paper=True)),
                    infinite_entry(row.infinite_share),
                ),
            )
            for row, (head, group) in zip(rows, _named(rows), strict=True)
        ),
        notes=(RULE, *fewer(rows, paper=True)),
    )
