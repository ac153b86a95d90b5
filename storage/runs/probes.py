"""Probes in and out of SQL: what models of a run know of the survey.

Each is written once: what is there already is not written over, so that work can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, select

from defsurvey.storage.columns import Now
from defsurvey.storage.database import Database, insert_new
from defsurvey.storage.runs import verdict_tables
from defsurvey.storage.runs.probe import Probe, ProbeKind
from defsurvey.storage.runs.storable import storable


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
            insert_new(connection, verdict_tables.probe, row)

    database.write(work)


def read_probes(database: Database, run: str) -> tuple[Probe, ...]:
    """All probes of a run, ordered by model, kind, culture, language and question."""
    with database.read() as connection:
        return probes_in(connection, run)


def probes_in(connection: Connection, run: str) -> tuple[Probe, ...]:
    """See ``read_probes``."""
    rows = connection.execute(select(verdict_tables.probe).where(verdict_tables.probe.c.run == run)).all()
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
