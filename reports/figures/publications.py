"""What the paper printed, with the slips of the source in footnotes."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

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
