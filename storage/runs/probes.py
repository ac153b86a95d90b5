"""What a model made of a question when it was asked, apart from its interviews, what it knows of the survey itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
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


def add_probes(database: Database, run: str, probes: Sequence[Probe]) -> None:
    """Write probes of a run in one transaction; those that are there already stay as they are."""

    def work(connection: Connection) -> None:
        for probe in probes:
            percent = None if probe.percent is None else [[code, p] for code, p in probe.percent.items()]
            texts = {name: storable(text) for name, text in asdict(probe).items() if name != "percent"}
            insert_new(connection, tables.probe, {"run": run, **texts, "percent": percent, "asked_at": Now()})

    database.write(work)


def read_probes(database: Database, run: str) -> tuple[Probe, ...]:
    """All probes of a run, ordered by model, kind, culture, language and question."""
    p, found = tables.probe.c, []
    for row in database.rows(select(*(p[field.name] for field in fields(Probe))).where(p.run == run)):
        percent = None if row.percent is None else {int(code): float(each) for code, each in row.percent}
        found.append(Probe(**{**row._mapping, "kind": ProbeKind(row.kind), "percent": percent}))
    return tuple(sorted(found, key=lambda probe: probe.key))  # sorted here: databases differ in how they order text
