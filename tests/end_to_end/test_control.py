"""Runs that are cancelled, asked again and moved; homes: where a verb looks, and one that was copied or lost a file."""

import csv
import io
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.end_to_end.machine import PLANNED, STUDY, Machine, ended, machine_in, wait_until

SLOW = 0.15


def telemetry(machine: Machine) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(machine.done("export", "small", "--telemetry"), newline="")))


def run_unreadable(machine: Machine) -> None:
    machine.write_study(STUDY.replace("[citizen]", "[garbler]"))
    machine.done("run", "study.yaml")


def test_a_cancelled_run_stops_and_is_taken_up_again(machine: Machine, expected: list[str]) -> None:
    machine.set_latency(SLOW)
    run = machine.start("run", "study.yaml", "--concurrency", "2")
    wait_until(lambda: machine.answers() >= 8 or run.poll() is not None, "the first answers")
    assert run.poll() is None
    machine.done("cancel", "small")
    assert ended(run).returncode == 3
    assert " cancelled" in machine.done("status", "small").splitlines()[0]
    assert machine.done("status", "small", "--watch").endswith(", cancelled\n")
    status = machine.json("status", "small")
    assert status["state"] == "cancelled"
    assert 8 <= PLANNED - status["remaining"] < PLANNED
    machine.set_latency(0.0)
    machine.done("resume", "small", "--wait")
    assert machine.export() == expected


def test_answers_are_asked_again_from_what_they_were_shown(machine: Machine) -> None:
    run_unreadable(machine)
    before = {(row["culture"], row["participant"], row["item"]): row for row in telemetry(machine)}
    assert {row["state"] for row in before.values()} == {"unparsable"}
    asked = machine.done("retry", "small", "--state", "unparsable,failed")
    assert asked.startswith(f"small: {PLANNED} to be asked again")
    assert machine.json("status", "small")["state"] == "waiting"
    machine.done("resume", "small", "--wait")
    after = telemetry(machine)
    assert len(after) == PLANNED
    assert {(row["attempt"], row["out_of_sequence"]) for row in after} == {("1", "true")}
    for row in after:
        earlier = before[row["culture"], row["participant"], row["item"]]
        assert row["memory"] == earlier["memory"]
        assert row["seed"] != earlier["seed"]
    assert machine.json("status", "small")["unparsable"] == PLANNED
    assert machine.rows("SELECT revision FROM report ORDER BY revision") == [(PLANNED,), (2 * PLANNED,)]
    assert "nothing to do" in machine.type("resume", "small").stderr


def test_a_rewound_run_is_asked_anew_in_sequence(machine: Machine) -> None:
    """Everything from the first such answer on is taken back, and what comes instead is no exception to the order."""
    run_unreadable(machine)
    assert machine.done("retry", "small", "--state", "unparsable", "--rewind").startswith(f"small: {PLANNED} ")
    status = machine.json("status", "small")
    assert (status["remaining"], status["unparsable"]) == (PLANNED, 0)
    machine.done("resume", "small", "--wait")
    found = telemetry(machine)
    assert len(found) == PLANNED
    assert {row["out_of_sequence"] for row in found} == {"false"}
    assert {(row["item"], row["attempt"]) for row in found} == {("0", "1"), *((str(n), "0") for n in range(1, 8))}


def test_a_half_done_run_is_finished_on_another_machine(machine: Machine, expected: list[str], tmp_path: Path) -> None:
    machine.set_latency(SLOW)
    run = machine.start("run", "study.yaml", "--concurrency", "2")
    wait_until(lambda: machine.answers() >= 8 or run.poll() is not None, "the first answers")
    run.terminate()
    ended(run)
    file = tmp_path / "small.bundle"
    machine.done("bundle", "export", "small", str(file))
    with machine_in(tmp_path / "other") as other:
        shutil.rmtree(other.folder / "survey")  # the bundle brings the survey along
        assert other.done("bundle", "import", str(file)) == "small\n"
        done_before = other.answers()
        assert 8 <= done_before < PLANNED
        other.done("resume", "small", "--wait")
        assert other.export() == expected
        again = other.type("bundle", "import", str(file))
        assert (again.returncode, "is here already" in again.stderr) == (2, True)
        missing = other.type("bundle", "import", "nowhere.bundle")
        assert (missing.returncode, "there is no such file" in missing.stderr) == (2, True)


def test_a_finished_run_is_not_cancelled(machine: Machine) -> None:
    machine.done("run", "study.yaml", "--pilot", "1")
    assert machine.done("cancel", "small") == "small is finished: nothing was cancelled\n"
    assert machine.done("retry", "small") == "small: nothing to ask again, no answer of it is failed\n"
    nothing = "small: nothing added, it has these participants and models already\n"
    assert machine.done("extend", "small", "--participants", "1") == nothing
    assert "2 participants added" in machine.done("extend", "small", "--participants", "2")
    assert machine.rows("SELECT cancelled FROM run") == [(0,)]


def test_resume_says_that_nothing_is_working(machine: Machine) -> None:
    machine.done("enqueue", "study.yaml")
    resumed = machine.type("resume", "small")
    assert resumed.returncode == 0
    assert resumed.stderr == "nothing is working on it; work on it here: defsurvey resume small --wait\n"


def answers_of(machine: Machine, run: str) -> int:
    of_run = "SELECT count(*) FROM answer JOIN participant ON participant.id = answer.participant"
    return int(machine.rows(f"{of_run} WHERE run = '{run}'")[0][0])


def test_an_interrupted_run_is_not_gone_on_with_by_another(machine: Machine, expected: list[str]) -> None:
    """Its messages lie in the queue of the model that both have; it goes on when it is named, and loses nothing."""
    machine.set_latency(0.3)
    first = machine.start("run", "study.yaml", "--name", "mistaken", "--concurrency", "2")
    wait_until(lambda: machine.answers() >= 4 or first.poll() is not None, "the first answers")
    first.terminate()
    assert ended(first).returncode == 130
    before = answers_of(machine, "mistaken")
    assert 4 <= before < PLANNED
    machine.set_latency(0.0)
    machine.done("run", "study.yaml")
    assert (answers_of(machine, "mistaken"), answers_of(machine, "small")) == (before, PLANNED)
    machine.done("resume", "mistaken", "--wait")
    assert machine.export("mistaken") == machine.export("small") == expected


def test_a_card_that_is_gone_is_told_before_anything_starts(machine: Machine) -> None:
    machine.done("run", "study.yaml")
    cards = machine.folder / "cards.toml"
    with_all = cards.read_text()
    machine.done("extend", "small", "--models", "neighbour")
    cards.write_text(with_all.replace("[neighbour]", "[moved]"))
    refused = machine.type("resume", "small", "--wait")
    assert refused.returncode == 2
    assert refused.stderr.startswith("defsurvey: there is no model 'neighbour'")
    cards.write_text(with_all.replace("[citizen]", "[moved]"))
    machine.done("resume", "small", "--wait")
    assert machine.json("status", "small")["remaining"] == 0


def typed(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DEFSURVEY_")}
    command = [sys.executable, "-m", "defsurvey", *words]
    own = {"DEFSURVEY_HOME": ".defsurvey"}  # not one in a folder above, which is somebody else's
    return subprocess.run(command, cwd=folder, env=inherited | own | environment, capture_output=True, text=True)


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
    refused = typed(tmp_path, *words)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"defsurvey: there is no run in {tmp_path / '.defsurvey'} (database ")
    assert list(tmp_path.iterdir()) == []


def test_a_home_is_looked_for_in_the_folders_above(undisturbed: Machine, tmp_path: Path) -> None:
    shutil.copytree(undisturbed.home, tmp_path / ".defsurvey", ignore=lambda *_: ["broker", "run.lock"])
    below = tmp_path / "data" / "2026"
    below.mkdir(parents=True)
    assert typed(below, "export", "small", DEFSURVEY_HOME="").stdout == undisturbed.done("export", "small")
    assert list(below.iterdir()) == []
    unknown = typed(below, "status", "large", DEFSURVEY_HOME="")
    assert unknown.returncode == 2
    assert "known: small" in unknown.stderr
    assert str(tmp_path / ".defsurvey") in unknown.stderr
    (below / ".defsurvey").mkdir()
    assert str(below / ".defsurvey") in typed(below, "status", DEFSURVEY_HOME="").stderr


def test_a_database_without_its_log_is_not_taken_for_a_new_one(machine: Machine, tmp_path: Path) -> None:
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
