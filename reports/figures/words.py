"""What figures have in common when they are shown: sections, columns, tables by culture, and the paper's own tables."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, wraps
from math import isfinite, isnan
from pathlib import Path
from typing import Any

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, NotRun
from defsurvey.reports.cells import Floats
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.rows import Mark, Scale, rows_chart
from defsurvey.reports.metrics.aggregate import Means
from defsurvey.reports.metrics.intervals import Interval
from defsurvey.reports.number_format import NONE, fixed, nats, percent
from defsurvey.reports.page import Column, Entry, Field, Fold, Item, Section, Table, TableRow, fields_of, table

MODEL: Field[Any] = Field("Model", lambda row: row.name, words=True)
#: How the paper counts what is infinite.
RULE = (
    "An infinite value counts as the largest finite one of its model and culture, plus 1: where many are infinite, "
    "that rule makes the mean."
)
#: What stands beneath figures of a shaded table.
FLOOR = "The small figure beneath is the noise floor: what equally many real people would score."


def section(
    anchor: str, contents: str, title: str, number: str = "", *, printed: str = ""
) -> Callable[[Callable[[Analysis, Section], Section]], Callable[[Analysis], Section]]:
    """Begin a section, its title claiming nothing; where its figure is not run it says why.

    ``printed`` names the paper's table to show: beside ours for its own survey, folded for another.
    """
    neutral = Section(anchor=anchor, contents=contents, title=title, number=number)

    def decorate(fill: Callable[[Analysis, Section], Section]) -> Callable[[Analysis], Section]:
        @wraps(fill)
        def made(analysis: Analysis) -> Section:
            begun, tables = neutral, tuple[Table, ...]()
            if printed and replicates(analysis.results.survey.citation):
                tables = (published_table(printed),)
            elif printed:
                begun = replace(neutral, folds=(published_fold(printed),))
            try:
                filled = fill(analysis, begun)
            except NotRun as missing:
                return replace(begun, not_run=missing.reason)
            return replace(filled, tables=(*filled.tables, *tables))

        return made

    return decorate


def culture_names(analysis: Analysis) -> dict[str, str]:
    """Code -> name of every culture of the run."""
    return {culture.culture.code: culture.name for culture in analysis.cultures}


def named_cultures(analysis: Analysis) -> dict[str, str]:
    """Code -> name of every culture as it stands in a sentence: "the United States"."""
    return {culture.culture.code: culture.named for culture in analysis.cultures}


def culture_table(
    analysis: Analysis, rows: Iterable[Item], fields: Sequence[Field[Item]], anchor: str, caption: str, **more: Any
) -> Table:
    """A table of rows in the order of the run's cultures, each culture's under its name; ``more`` is as of a table.

    A row knows its culture, or is a tuple that begins with a culture's code or with what knows its culture.
    """

    def code(row: Any) -> str:
        first = row[0] if isinstance(row, tuple) else row
        return str(first if isinstance(first, str) else first.culture)

    names, known = culture_names(analysis), list(rows)
    ordered = [row for culture in names for row in known if code(row) == culture]
    return table(ordered, fields, anchor, caption, group=lambda row: names[code(row)], grouped_by="Culture", **more)


def culture_charts(
    analysis: Analysis,
    marks: Iterable[tuple[str, Mark]],
    name: str,
    title: Callable[[str], str],
    description: str,
    scale: Scale,
    **more: Any,
) -> tuple[Chart, ...]:
    """A chart of every culture that has marks, which stand with its code; ``title`` is told its name.

    Each is in its culture's colour, unless ``more`` says otherwise, which is as of any chart of rows.
    """
    drawn, charts = list(marks), []
    for place, culture in enumerate(analysis.cultures):
        mine, look = [mark for code, mark in drawn if code == culture.culture.code], {"first": place} | more
        if mine:
            charts.append(rows_chart(mine, f"{name}-{place}", title(culture.name), description, scale, **look))
    return tuple(charts)


def cell_figures(cell: CellAnalysis) -> tuple[float, ...]:
    """What :func:`cell_mark` draws, for the axis to reach."""
    return (cell.sound.headline, cell.interval.high, cell.sound_floor.headline, cell.sound_random.headline)


def cell_mark(row: str, cell: CellAnalysis) -> Mark:
    """A cell's headline divergence with its interval, and what as many people and uniform answers would score."""
    value, floor, random = cell.sound.headline, cell.sound_floor.headline, cell.sound_random.headline
    return divergence_mark(row, row, value, cell.interval, floor, f", uniform answers: {nats(random)}", expected=random)


def divergence_mark(
    row: str, name: str, value: float, interval: Interval, floor: float, more: str = "", **others: Any
) -> Mark:
    """A divergence with its interval and floor, said in words after its name; ``others`` are further fields."""
    low, high = max(interval.low, 0.0) if isfinite(interval.low) else interval.low, interval.high
    between = "" if isnan(low) else f" ({nats(low)} to {nats(high)})"
    says = f"{name}: {nats(value)}{between}; as many people: {nats(floor)}{more}"
    return Mark(row=row, value=value, says=says, low=low, high=high, floor=floor, **others)


def largest(rows: Iterable[Floats]) -> float:
    """The largest finite figure of several arrays, 1 where there is none: what a full shade stands for."""
    return max((float(value) for row in rows for value in np.ravel(row) if isfinite(value)), default=1.0) or 1.0


def dimension_fields(
    analysis: Analysis,
    items: Sequence[Item],
    values: Callable[[Item], Floats],
    floors: Callable[[Item], Floats] | None = None,
    why: Callable[[Item], str] = lambda _: "",
) -> list[Field[Item]]:
    """A column per value dimension, shaded by its share of the largest figure of all rows, ``items``.

    ``values`` and ``floors``, which stand beneath, are of shape (D,); ``why`` says what is missing but valid answers.
    """
    most = largest(values(item) for item in items)

    def entry(item: Item, place: int) -> Entry:
        value, beneath = float(values(item)[place]), "" if floors is None else fixed(float(floors(item)[place]))
        if isnan(value):
            return Entry(NONE, beneath, why=why(item) or "no valid answer to an item of this dimension")
        return Entry(fixed(value), beneath, value / most)

    return per_dimension(analysis, entry)


def per_dimension(analysis: Analysis, entry: Callable[[Item, int], Entry]) -> list[Field[Item]]:
    """A column per value dimension that the run's items speak to; its entries are told the dimension's position."""
    names = analysis.results.survey.dimensions
    english = {code: names[code].get("en", "") for code in names}
    of = fields_of([(code, "" if english[code] == code else english[code]) for code in names], entry)
    return [field for field in of if field.text in analysis.dimensions]


def mean_fields(
    analysis: Analysis,
    rows: Sequence[Item],
    of: Callable[[Item], CellAnalysis],
    meaning: str = "",
    *,
    paper: bool,
    why: Callable[[CellAnalysis], str],
) -> list[Field[Item]]:
    """A column per dimension and one of the mean, of each row's cell: in either way of measuring, the floor beneath."""

    def way(row: Item) -> tuple[Means, Means]:
        return (of(row).paper, of(row).paper_floor) if paper else (of(row).sound, of(row).sound_floor)

    def mean(row: Item) -> Entry:
        means, floor = way(row)
        return Entry(fixed(means.headline), fixed(floor.headline), why=why(of(row)))

    values, floors = (lambda row: way(row)[0].by_dimension), (lambda row: way(row)[1].by_dimension)
    reason = (lambda row: of(row).paper_values.reason) if paper else (lambda _: "")
    return [*dimension_fields(analysis, rows, values, floors, reason), Field("Mean", mean, meaning)]


def count_entry(count: float, most: float, text: str) -> Entry:
    """A count shaded by its share of the largest; nothing where it is 0."""
    return Entry(text, shade=count / most) if count else Entry("")


def infinite_field(share: Callable[[Item], float]) -> Field[Item]:
    """How many items the paper's rule for infinite values replaced, beside a mean of its way."""

    def entry(item: Item) -> Entry:
        found = share(item)
        return Entry(percent(found), why="no item behind the mean has a value" if isnan(found) else "")

    meaning = "share of the items behind the mean whose plug-in KL is infinite before the paper's rule"
    return Field("Infinite", entry, meaning)


def interval_entry(low: float, high: float, *, least: float = -np.inf, reason: str = "") -> Entry:
    """An interval; its lower end is not shown below ``least``."""
    return Entry(NONE, why=reason) if isnan(low) else Entry(f"{fixed(max(low, least))} to {fixed(high)}")


FOLDER = Path(__file__).with_name("published")
TABLES = ("table1", "table2", "table3", "table4")
DOI = "10.1016/j.ipm.2025.104099"
CITATION = f"Liu et al. (2025), doi:{DOI}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """A table as printed."""

    title: str
    meaning: str  #: of the columns
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]  #: column -> value as printed
    notes: tuple[str, ...]


@lru_cache(maxsize=len(TABLES))
def published(name: str) -> PublishedTable:
    """One of the paper's tables; raises KeyError for a name that is not in ``TABLES``.

    >>> [row["average"] for row in published("table2").rows if row["model"] == "Mistral-7B-Instruct"]
    ['0.81']
    """
    footnotes = tomllib.loads((FOLDER / "footnotes.toml").read_text(encoding="utf-8"))[name]
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows, columns = tuple(dict(row) for row in reader), tuple(reader.fieldnames or ())
    title, meaning, notes = footnotes["title"], footnotes["columns"], tuple(footnotes["notes"])
    return PublishedTable(title=title, meaning=meaning, columns=columns, rows=rows, notes=notes)


@lru_cache(maxsize=1)
def meanings() -> Mapping[str, Mapping[str, str]]:
    """Value dimension -> what a ``high`` and a ``low`` score of it mean.

    >>> meanings()["PDI"]["low"]
    'Power has to justify itself; authority is shared and held to account.'
    """
    return tomllib.loads((FOLDER / "dimensions.toml").read_text(encoding="utf-8"))


def replicates(citation: str) -> bool:
    """Whether a survey, by its citation, is the paper's own: any other is "a different survey, not a replication".

    >>> replicates("Liu, H., et al. (2025). doi:10.1016/j.ipm.2025.104099."), replicates("Haerpfer, C., et al. (2022).")
    (True, False)
    """
    return DOI in citation


def published_fold(name: str) -> Fold:
    """The paper's table, for a run of another survey."""
    return Fold(
        anchor=f"published-{name}",
        title=f"What the paper printed (a different survey, not a replication): {_numbered(name)}",
        paragraphs=(f"{CITATION}, as printed. Other questions were asked there: figures do not compare.",),
        tables=(published_table(name),),
    )


def published_table(name: str) -> Table:
    """One of the paper's tables, as printed; columns of words come first."""
    printed, words = published(name), ("model", "framework", "culture", "series", "condition")
    columns = sorted(printed.columns, key=lambda column: column not in words)
    rows = ([Entry(row[column]) for column in columns] for row in printed.rows)
    return Table(
        anchor=f"printed-{name}",
        caption=f"{_numbered(name)} of {CITATION}, as printed: {printed.title}",
        columns=tuple(Column(_spelled(column), words=column in words) for column in columns),
        rows=tuple(TableRow(head=head, entries=tuple(entries)) for head, *entries in rows),
        notes=(printed.meaning, *printed.notes),
    )


def _numbered(name: str) -> str:
    return f"Table {name.removeprefix('table')}"


def _spelled(column: str) -> str:
    known = {"diversity_pct": "Diversity, %", "kl": "KL", "sd": "SD", "sem": "SEM", "sed": "SED"}
    known |= {each: each for each in ("p", "t", "df")}
    return known.get(column, column if column.isupper() else column.capitalize())
