"""Where a verb looks for runs, what it makes there, and what happens to a home that was copied or lost a file."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.end_to_end.machine import Machine


def typed(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DEFSURVEY_")}
    command = [sys.executable, "-m", "defsurvey", *words]
    return subprocess.run(command, cwd=folder, env=inherited | environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("export", "small"),
        ("extend", "small", "--participants", "3"),
        ("judge", "small"),
        ("backup", "copy.db"),
        ("bundle", "export", "small", "small.bundle"),
    ],
)
def test_a_verb_that_needs_a_run_makes_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    """In a folder without runs it names the home that it looked for, and leaves the folder as it was."""
    refused = typed(tmp_path, *words)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"defsurvey: there is no run in {tmp_path / '.defsurvey'} (database ")
    assert list(tmp_path.iterdir()) == []


def test_a_home_is_looked_for_in_the_folders_above(undisturbed: Machine, tmp_path: Path) -> None:
    """As git looks for a repository; a nearer one is taken first, and one of another account is not."""
    shutil.copytree(undisturbed.home, tmp_path / ".defsurvey", ignore=lambda *_: ["broker", "run.lock"])
    below = tmp_path / "data" / "2026"
    below.mkdir(parents=True)
    assert typed(below, "export", "small").stdout == undisturbed.done("export", "small")
    assert list(below.iterdir()) == []
    unknown = typed(below, "status", "large")
    assert unknown.returncode == 2
    assert "known: small" in unknown.stderr
    assert str(tmp_path / ".defsurvey") in unknown.stderr
    (below / ".defsurvey").mkdir()
    assert str(below / ".defsurvey") in typed(below, "status").stderr


def test_a_database_without_its_log_is_not_taken_for_a_new_one(machine: Machine, tmp_path: Path) -> None:
    """A run is killed and its file copied without the log: every verb says so, until the log is back."""
    copied = tmp_path / "copied"
    copied.mkdir()
    machine.done("enqueue", "study.yaml")
    with closing(sqlite3.connect(machine.home / "defsurvey.db")) as other:  # somebody has it open, as a killed run does
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("UPDATE participant SET planned = planned")
        other.commit()
        shutil.copy(machine.home / "defsurvey.db", copied)
        shutil.copy(machine.home / "defsurvey.db-wal", tmp_path)
    for words in (("status",), ("run", "study.yaml"), ("enqueue", "study.yaml")):
        refused = machine.type(*words, DEFSURVEY_HOME=str(copied))
        assert refused.returncode == 2
        assert f"{copied}/defsurvey.db: its write-ahead log defsurvey.db-wal is missing" in refused.stderr
        assert [path.name for path in copied.iterdir()] == ["defsurvey.db"]
    (tmp_path / "defsurvey.db-wal").rename(copied / "defsurvey.db-wal")
    assert "0/80" in machine.done("status", DEFSURVEY_HOME=str(copied))
    assert [path.name for path in copied.iterdir()] == ["defsurvey.db"]  # closed in order, it needs no log


def test_a_backup_is_a_database(undisturbed: Machine, machine: Machine) -> None:
    copy = machine.folder / "copy.db"
    assert undisturbed.done("backup", str(copy)) == f"{copy}\n"
    machine.home.mkdir()
    copy.rename(machine.home / "defsurvey.db")
    assert machine.export() == undisturbed.export()
