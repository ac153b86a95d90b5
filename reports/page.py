"""What a report shows, before anyone says how: ``html`` and ``markdown`` render the same Page of untrusted texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from defsurvey.reports.charts.drawing import Chart


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell of a table."""

    text: str
    beneath: str = ""  #: a second, quieter figure
    shade: float | None = None  #: in [0, 1]: background of a figure among its like
    bar: float | None = None  #: in [0, 1]: a bar behind a share
    why: str = ""  #: why there is no figure, or what the figure is
    lang: str = ""  #: language of the text where it is not English
    words: bool = False  #: a sentence, not a figure


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column."""

    text: str
    meaning: str = ""  #: what an abbreviation stands for
    words: bool = False  #: words are aligned left, figures right


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """A row: its head names it, its entries say something of it."""

    head: Entry
    entries: tuple[Entry, ...]
    group: str = ""  #: rows of one group stand together under its name
    quiet: bool = False  #: a row to compare with, not one of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with everything that reading it takes."""

    anchor: str
    caption: str
    columns: tuple[Column, ...]  #: the first stands over the heads of the rows
    rows: tuple[TableRow, ...]
    grouped_by: str = ""  #: what the groups of rows are; empty where there are none
    notes: tuple[str, ...] = ()


Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Field(Generic[Item]):
    """A column of a table, and what stands in it for one item."""

    text: str
    entry: Callable[[Item], Entry | str]
    meaning: str = ""  #: what an abbreviation stands for
    words: bool = False  #: words are aligned left, figures right


def fields_of(heads: Iterable[tuple[str, str]], entry: Callable[[Item, int], Entry | str]) -> list[Field[Item]]:
    """A column for each text and meaning; its entries are told its place among them."""

    def at(place: int) -> Callable[[Item], Entry | str]:
        return lambda item: entry(item, place)

    return [Field(text, at(place), meaning) for place, (text, meaning) in enumerate(heads)]


def table(
    items: Iterable[Item],
    fields: Sequence[Field[Item]],
    anchor: str,
    caption: str,
    *,
    group: Callable[[Item], str] = lambda _: "",
    grouped_by: str = "",
    quiet: Callable[[Item], bool] = lambda _: False,
    notes: tuple[str, ...] = (),
) -> Table:
    """A row for each item; the first field names it."""

    def row(item: Item) -> TableRow:
        shown = (field.entry(item) for field in fields)
        head, *entries = (each if isinstance(each, Entry) else Entry(each) for each in shown)
        return TableRow(head=head, entries=tuple(entries), group=group(item), quiet=quiet(item))

    return Table(
        anchor=anchor,
        caption=caption,
        columns=tuple(Column(field.text, field.meaning, field.words) for field in fields),
        rows=tuple(row(item) for item in items),
        grouped_by=grouped_by,
        notes=notes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionLine:
    """An option as it was shown."""

    code: int
    label: str
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCard:
    """One answer with all that it was shown."""

    heading: str
    question: str
    lang: str  #: of question and options
    options: tuple[OptionLine, ...]
    chips: tuple[str, ...]
    warnings: tuple[str, ...] = ()  #: chips that say what is unusual about it
    state: str
    reason: str
    completion: str  #: cut
    left_out: int  #: characters cut off


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionCard:
    """One question: people beside models."""

    anchor: str
    id: str
    text: str
    chips: tuple[str, ...]
    table: Table
    samples: tuple[SampleCard, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Something to look up, closed until it is wanted."""

    anchor: str
    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    samples: tuple[SampleCard, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A name and what stands behind it: a figure at the top, a setting, a file beside the report and what it holds."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A stretch of the report with an anchor of its own; what it holds is shown in the order of its fields."""

    anchor: str
    contents: str  #: how the contents call it
    title: str  #: what was found, or what it is about
    number: str = ""  #: the paper's: "Table 2"; empty where the paper has none
    group: str = ""  #: name of the group of sections that begins here
    not_run: str = ""  #: why the run does not cover it: begins in lower case, without a full stop
    paragraphs: tuple[str, ...] = ()
    legend: tuple[str, ...] = ()  #: names of the series, in the order of their colours
    charts: tuple[Chart, ...] = ()
    chart_note: str = ""
    tables: tuple[Table, ...] = ()
    side_by_side: bool = False  #: whether the tables are narrow
    samples: tuple[SampleCard, ...] = ()
    questions: tuple[QuestionCard, ...] = ()
    terms: tuple[Term, ...] = ()
    study: str = ""  #: the study file's text
    downloads: tuple[Term, ...] = ()
    folds: tuple[Fold, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A whole report."""

    title: str
    kicker: str
    headline: str
    sentences: tuple[str, ...]
    cautions: tuple[str, ...]
    tiles: tuple[Term, ...]
    sections: tuple[Section, ...]
