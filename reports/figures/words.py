"""What the parts of a report have in common: some are not run, and most speak of one condition and language."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isfinite, isnan
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, CultureAnalysis
from defsurvey.reports.cells import Floats
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.rows import Frame, Mark, rows_chart
from defsurvey.reports.number_format import NONE, chance, fixed, percent
from defsurvey.reports.page import Column, Entry, Field, Fold, Item, Section, Table, TableRow, table
from defsurvey.storage.runs.run import Cell

#: The condition that figures of models are about, where a run has it.
DEF = "def"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRun:
    """A figure of the paper that this run does not cover."""

    reason: str  #: begins in lower case and ends without a full stop: "one language: nothing to compare"


def main_condition(cells: Iterable[Cell]) -> str:
    """The condition that figures of models are about: ``def``, or else the run's first that gives answers."""
    known = list(cells)
    names = [cell.condition.name for cell in known if cell.condition.slots] or [known[0].condition.name]
    return DEF if DEF in names else names[0]


def conditions(analysis: Analysis) -> list[str]:
    """The conditions whose answers were measured, in the run's order."""
    return list(dict.fromkeys(cell.cell.condition.name for cell in sorted(analysis.cells, key=lambda c: c.place)))


def language_of(analysis: Analysis, culture: str) -> str:
    """The language that figures of models are about: the culture's own where the run has it, or else its first."""
    spoken = list(dict.fromkeys(cell.language for cell in analysis.results.run.cells if cell.culture == culture))
    native = analysis.results.survey.culture(culture).language
    return native if native in spoken else spoken[0]


def spoken(analysis: Analysis) -> tuple[CellAnalysis, ...]:
    """The cells of one language per culture."""
    return tuple(cell for cell in analysis.cells if cell.cell.language == language_of(analysis, cell.cell.culture))


def main_cells(analysis: Analysis) -> tuple[CellAnalysis, ...]:
    """One cell per model and culture: the main condition, one language per culture."""
    condition = main_condition(analysis.results.run.cells)
    return tuple(cell for cell in spoken(analysis) if cell.cell.condition.name == condition)


def models(cells: Iterable[CellAnalysis]) -> tuple[str, ...]:
    """The models of some cells, each once, in the run's order."""
    return tuple(dict.fromkeys(cell.cell.model for cell in sorted(cells, key=lambda cell: cell.place)))


class OfCulture(Protocol):
    """Whatever is of one culture."""

    @property
    def culture(self) -> str:
        """Its code."""


Row = TypeVar("Row", bound=OfCulture)


def culture_table(
    analysis: Analysis,
    rows: Iterable[Row],
    fields: Sequence[Field[Row]],
    *,
    anchor: str,
    caption: str,
    notes: tuple[str, ...] = (),
) -> Table:
    """A table of rows in the order of the run's cultures, each culture's under its name."""
    names, known = culture_names(analysis), list(rows)
    return table(
        [row for code in names for row in known if row.culture == code],
        fields,
        anchor=anchor,
        caption=caption,
        group=lambda row: names[row.culture],
        grouped_by="Culture",
        notes=notes,
    )


def culture_charts(
    analysis: Analysis, marks: Callable[[str], Sequence[Mark]], frame: Callable[[int, CultureAnalysis], Frame]
) -> tuple[Chart, ...]:
    """A chart of every culture that has marks, framed by the culture's place."""
    drawn = [(marks(culture.culture.code), frame(place, culture)) for place, culture in enumerate(analysis.cultures)]
    return tuple(rows_chart(found, framed) for found, framed in drawn if found)


MODEL = Column(text="Model", words=True)
#: How the paper counts what is infinite.
RULE = (
    "An infinite value counts as the largest finite one of its model and culture, plus 1: where many are infinite, "
    "that rule makes the mean."
)
#: What stands beneath figures of a shaded table.
FLOOR = "The small figure beneath is the noise floor: what equally many real people would score."
#: How many items the paper's rule for infinite values replaced, beside a mean of its way.
INFINITE = Column(
    text="Infinite", meaning="share of the items behind the mean whose plug-in KL is infinite before the paper's rule"
)
#: Fewest items of which a headline speaks.
ENOUGH = 10
#: A difference with a p below this is called one.
LEVEL = 0.05


def culture_names(analysis: Analysis) -> dict[str, str]:
    """Code -> name of every culture of the run."""
    return {culture.culture.code: culture.name for culture in analysis.cultures}


def named_cultures(analysis: Analysis) -> dict[str, str]:
    """Code -> name of every culture as it stands in a sentence: "the United States"."""
    return {culture.culture.code: culture.named for culture in analysis.cultures}


def places(analysis: Analysis) -> list[int]:
    """Positions of those dimensions in arrays of shape (D,)."""
    order = list(analysis.results.survey.dimensions)
    return [order.index(code) for code in analysis.dimensions]


def largest(rows: Iterable[Floats]) -> float:
    """The largest finite figure of several arrays, 1 where there is none: what a full shade stands for."""
    return max((float(value) for row in rows for value in np.ravel(row) if isfinite(value)), default=1.0) or 1.0


def shaded(value: float, most: float, floor: float | None = None, why: str = "") -> Entry:
    """A figure of one dimension, shaded by its share of ``most``, the floor beneath it where one is given."""
    if isnan(value):
        return Entry(
            text=NONE,
            beneath="" if floor is None else fixed(floor),
            why=why or "no valid answer to an item of this dimension",
        )
    return Entry(text=fixed(value), beneath="" if floor is None else fixed(floor), shade=float(value / most))


def dimension_fields(
    analysis: Analysis,
    values: Callable[[Item], Floats],
    most: float,
    floors: Callable[[Item], Floats] | None = None,
    why: Callable[[Item], str] = lambda _: "",
) -> list[Field[Item]]:
    """A shaded column per value dimension that the run's items speak to.

    Args:
        analysis: the run.
        values: an item's figures, shape (D,).
        most: what a full shade stands for.
        floors: the noise floors of these figures; none are shown without.
        why: why an item's figures are missing, where that is not for want of valid answers.
    """

    def at(place: int) -> Callable[[Item], Entry]:
        return lambda item: shaded(
            float(values(item)[place]), most, None if floors is None else float(floors(item)[place]), why(item)
        )

    return per_dimension(analysis, at)


def per_dimension(analysis: Analysis, at: Callable[[int], Callable[[Item], Entry]]) -> list[Field[Item]]:
    """A column per value dimension that the run's items speak to: ``at`` makes it of the dimension's position."""
    names, order = analysis.results.survey.dimensions, list(analysis.results.survey.dimensions)
    return [
        Field(code, at(order.index(code)), "" if names[code].get("en", "") == code else names[code].get("en", ""))
        for code in analysis.dimensions
    ]


def infinite_entry(share: float) -> Entry:
    """What stands in the column of infinite values: a dash where no item behind the mean has a value."""
    return Entry(text=percent(share), why="no item behind the mean has a value" if isnan(share) else "")


def infinite_field(share: Callable[[Item], float]) -> Field[Item]:
    """The column of infinite values."""
    return Field(INFINITE.text, lambda item: infinite_entry(share(item)), INFINITE.meaning)


def told(p: float) -> Entry:
    """A p-value as an entry."""
    return Entry(text=chance(p))


def interval_entry(low: float, high: float, *, least: float = -np.inf, reason: str = "") -> Entry:
    """An interval; its lower end is not shown below ``least``."""
    if isnan(low):
        return Entry(text=NONE, why=reason)
    return Entry(text=f"{fixed(max(low, least))} to {fixed(high)}")


def missing(about: Section, part: NotRun) -> Section:
    """A figure of the paper that the run does not cover, with the reason."""
    return replace(about, not_run=part.reason)


def published_fold(analysis: Analysis, name: str) -> tuple[Fold, ...]:
    """The paper's table, for a run of another survey."""
    if replicates(analysis.results.survey.citation):
        return ()
    return (
        Fold(
            anchor=f"published-{name}",
            title=f"What the paper printed (a different survey, not a replication): {_numbered(name)}",
            paragraphs=(f"{CITATION}, as printed. Other questions were asked there: figures do not compare.",),
            tables=(published_table(name),),
        ),
    )


def published_tables(analysis: Analysis, name: str) -> tuple[Table, ...]:
    """The paper's table beside ours, for a run of the paper's own survey."""
    return (published_table(name),) if replicates(analysis.results.survey.citation) else ()


def published_table(name: str) -> Table:
    """One of the paper's tables, as printed."""
    printed = published(name)
    heads = _heads(printed)
    return Table(
        anchor=f"printed-{name}",
        caption=f"{_numbered(name)} of {CITATION}, as printed: {printed.title}",
        columns=(
            *(Column(text=_spelled(column), words=True) for column in heads),
            *(Column(text=_spelled(column)) for column in printed.columns if column not in heads),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=row[heads[0]]),
                entries=tuple(Entry(text=row[column]) for column in (*heads[1:], *_others(printed, heads))),
            )
            for row in printed.rows
        ),
        notes=(printed.meaning, *printed.notes),
    )


def _heads(printed: PublishedTable) -> tuple[str, ...]:
    words = ("model", "framework", "culture", "series", "condition")
    return tuple(column for column in printed.columns if column in words)


def _others(printed: PublishedTable, heads: Sequence[str]) -> tuple[str, ...]:
    return tuple(column for column in printed.columns if column not in heads)


def _numbered(name: str) -> str:
    return f"Table {name.removeprefix('table')}"


def _spelled(column: str) -> str:
    known = {"diversity_pct": "Diversity, %", "kl": "KL", "sd": "SD", "sem": "SEM", "sed": "SED", "p": "p", "t": "t"}
    known |= {"df": "df"}
    return known.get(column, column if column.isupper() else column.capitalize())


FOLDER = Path(__file__).with_name("published")
TABLES = ("table1", "table2", "table3", "table4")
DOI = "10.1016/j.ipm.2025.104099"
CITATION = f"Liu et al. (2025), doi:{DOI}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """A table as printed."""

    name: str  #: ``table1`` to ``table4``
    title: str
    meaning: str  #: of the columns
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]  #: column -> value as printed
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a high and a low score of a value dimension mean."""

    high: str
    low: str


@lru_cache(maxsize=len(TABLES))
def published(name: str) -> PublishedTable:
    """One of the paper's tables; raises KeyError for a name that is not in ``TABLES``.

    >>> [row["average"] for row in published("table2").rows if row["model"] == "Mistral-7B-Instruct"]
    ['0.81']
    """
    footnotes = tomllib.loads((FOLDER / "footnotes.toml").read_text(encoding="utf-8"))[name]
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = tuple(dict(row) for row in reader)
        columns = tuple(reader.fieldnames or ())
    return PublishedTable(
        name=name,
        title=footnotes["title"],
        meaning=footnotes["columns"],
        columns=columns,
        rows=rows,
        notes=tuple(footnotes["notes"]),
    )


@lru_cache(maxsize=1)
def meanings() -> Mapping[str, Meaning]:
    """Value dimension -> what its scores mean.

    >>> meanings()["PDI"].low
    'Power has to justify itself; authority is shared and held to account.'
    """
    known = tomllib.loads((FOLDER / "dimensions.toml").read_text(encoding="utf-8"))
    return {code: Meaning(high=each["high"], low=each["low"]) for code, each in known.items()}


def replicates(citation: str) -> bool:
    """Whether a survey, by its citation, is the paper's own: any other is "a different survey, not a replication".

    >>> replicates("Liu, H., et al. (2025). doi:10.1016/j.ipm.2025.104099."), replicates("Haerpfer, C., et al. (2022).")
    (True, False)
    """
    return DOI in citation
