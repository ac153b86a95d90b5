"""Probes: each is written once, read back as it was, and moves with its run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from defsurvey.storage.database import Database
from defsurvey.storage.runs.archive import export_bundle, import_bundle
from defsurvey.storage.runs.probes import Probe, ProbeKind, add_probes, read_probes
from defsurvey.storage.runs.results import read_results
from defsurvey.storage.schema import migrate
from tests.storage.small_run import started

RECALLED = Probe(
    model="m", kind=ProbeKind.OPTIONS, culture="", language="en", question="A", prompt="Which?", completion="x\x00y"
)
GUESSED = Probe(
    model="m",
    kind=ProbeKind.PERCENTAGES,
    culture="us",
    language="en",
    question="A",
    prompt="How many?",
    completion="1: 40",
    percent={4: 10.5, 1: 40.0},
)


def test_probes_come_back_as_they_were(database: Database) -> None:
    """In the order of their keys, and with the run's results; what no database can keep is replaced."""
    started(database)
    add_probes(database, "first", [RECALLED])
    add_probes(database, "first", [replace(RECALLED, completion="other"), GUESSED])  # what is there stays as it was
    found = read_probes(database, "first")
    assert found == (replace(RECALLED, completion="x␀y"), GUESSED)
    assert list(found[1].percent or ()) == [4, 1]
    assert read_results(database, "first").probes == found


def test_probes_move_with_their_run(database: Database, tmp_path: Path) -> None:
    """A bundle has them."""
    started(database)
    add_probes(database, "first", [RECALLED, GUESSED])
    export_bundle(database, "first", tmp_path / "run.zip")
    with Database(f"sqlite:///{tmp_path / 'other.db'}") as other:
        migrate(other)
        import_bundle(other, tmp_path / "run.zip")
        assert read_probes(other, "first") == read_probes(database, "first")
