"""Bundles whose rows say something else than they did, under hashes that are right, for the tests of this room."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from defsurvey.jobs.cli.exits import exit_code
from defsurvey.storage.database import Database
from defsurvey.storage.runs import store, tables
from defsurvey.storage.runs.archive import BadBundle, export_bundle, import_bundle
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.schema import migrate
from tests.storage.small_run import answer, claimed, finish, new_cell, started

Rows = dict[str, list[Any]]
Change = Callable[[Rows], object]


@contextmanager
def to_be_moved(url: str) -> Iterator[Database]:
    """The run to be moved: a finished participant and one who has answered once."""
    with Database(url) as opened:
        ledger = Ledger(opened, owner="host:1:here")
        first, second = started(opened, new_cell(participants=2))
        finish(ledger, first)
        ledger.checkpoint(held := claimed(ledger, second), answer(held, 0), (0,))
        yield opened


@contextmanager
def another(folder: Path) -> Iterator[Database]:
    """Another database with a run of its own."""
    with Database(f"sqlite:///{folder / 'elsewhere.db'}") as opened:
        migrate(opened)
        started(opened, id="other")
        yield opened


def remade(database: Database, folder: Path, change: Change, *, run: Any = "first") -> Path:
    """A bundle of the run whose rows were changed, with the hashes that they have now."""
    file, made = folder / "run.bundle", folder / "remade.bundle"
    export_bundle(database, "first", file)
    with zipfile.ZipFile(file) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        rows: Rows = {
            name: [json.loads(line) for line in archive.read(f"{name}.jsonl").splitlines()]
            for name in manifest["members"]
        }
    change(rows)
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, written in rows.items():
            body = b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in written)
            manifest["members"][name] = {"rows": len(written), "sha256": hashlib.sha256(body).hexdigest()}
            archive.writestr(f"{name}.jsonl", body)
        archive.writestr("manifest.json", json.dumps(manifest | {"run": run}))
    return made


def first(table: str, **columns: Any) -> Change:
    """The first row of a table gets other values."""
    return lambda rows: rows[table][0].update(columns)


def refused(elsewhere: Database, file: Path) -> str:
    """The message with which a bundle is refused: wrong input, one line that can be seen, and nothing was written."""
    with pytest.raises(BadBundle) as error:
        import_bundle(elsewhere, file)
    assert exit_code(error.value) == 2
    assert store.run_ids(elsewhere) == ["other"]
    with elsewhere.read() as connection:
        assert connection.execute(select(tables.judge)).all() == []
    message = str(error.value)
    assert message.isprintable()
    assert len(message) < len(str(file)) + 500
    return message
