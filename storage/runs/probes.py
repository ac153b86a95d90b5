"""What a model made of a question when it was asked what it knows of the survey itself.

A noun: whether a model has seen a survey is asked apart from its interviews.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, select

from defsurvey.storage.database import Database, Now, insert_new
from defsurvey.storage.runs import tables
from defsurvey.storage.text import storable


class ProbeKind(StrEnum):
    """What a model was asked to complete from a question's wording."""

    OPTIONS = "options"  #: the options that the question offers
    PERCENTAGES = "percentages"  #: what percentage of people chose each option


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question as a model completed it."""

    model: str
    kind: ProbeKind
    culture: str  #: whose percentages; empty for options
    language: str
    question: str
    prompt: str
    completion: str
    percent: Mapping[int, float] | None = None  #: option code -> percentage said; None: not asked, or not to be read

    @property
    def key(self) -> tuple[str, ProbeKind, str, str, str]:
        """What makes it the same probe of a run."""
        return (self.model, self.kind, self.culture, self.language, self.question)


def add_probes(database: Database, run: str, probes: Iterable[Probe]) -> None:
    """Write probes of a run in one transaction; those that are there already stay as they are."""
    rows = [
        {
            "run": run,
            "model": probe.model,
            "kind": probe.kind.value,
            "culture": probe.culture,
            "language": probe.language,
            "question": probe.question,
            "prompt": storable(probe.prompt),
            "completion": storable(probe.completion),
            "percent": None if probe.percent is None else [[code, p] for code, p in probe.percent.items()],
            "asked_at": Now(),
        }
        for probe in probes
    ]

    def work(connection: Connection) -> None:
        for row in rows:
            insert_new(connection, tables.probe, row)

    database.write(work)


def read_probes(database: Database, run: str) -> tuple[Probe, ...]:
    """All probes of a run, ordered by model, kind, culture, language and question."""
    with database.read() as connection:
        return probes_in(connection, run)


def probes_in(connection: Connection, run: str) -> tuple[Probe, ...]:
    """See ``read_probes``."""
    rows = connection.execute(select(tables.probe).where(tables.probe.c.run == run)).all()
    found = (
        Probe(
            model=row.model,
            kind=ProbeKind(row.kind),
            culture=row.culture,
            language=row.language,
            question=row.question,
            prompt=row.prompt,
            completion=row.completion,
            percent=None if row.percent is None else {int(code): float(p) for code, p in row.percent},
        )
        for row in rows
    )
    return tuple(sorted(found, key=lambda probe: probe.key))  # sorted here: databases differ in how they order text
