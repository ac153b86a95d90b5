"""Exports and reports: every answer, in three formats, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import threading
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from defsurvey.jobs import results
from defsurvey.jobs.cli.main import main
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.producer import enqueue
from defsurvey.jobs.study.study_file import parse_study
from defsurvey.storage.database import Database
from defsurvey.storage.files import write_whole
from defsurvey.storage.runs import outbox, store
from defsurvey.storage.runs.archive import export_bundle
from defsurvey.storage.runs.export import COLUMNS, TELEMETRY
from defsurvey.storage.runs.run import AnswerState
from tests.jobs.ledger_rows import change, finish
from tests.jobs.small_study import CARDS, study

NASTY = '=HYPERLINK("x"),\n"quoted" 选项'


@pytest.fixture
def finished(database: Database) -> Database:
    """A finished run of two participants with three answers each, all of which a spreadsheet would run."""
    enqueue(database, None, study(models="[human]", participants="1"))
    finish(database, completion=NASTY)
    return database


def export_to(path: Path, database: Database, kind: str, *, run: str = "first") -> None:
    """What ``export --output`` does with a run's answers."""
    write_whole(path, lambda target: results.export(database, run, kind, target, telemetry=False))


def exported(database: Database, kind: str, *, telemetry: bool = False) -> bytes:
    """What an export writes."""
    target = io.BytesIO()
    results.export(database, "first", kind, target, telemetry=telemetry)
    return target.getvalue()


def parsed(database: Database, *, telemetry: bool = False) -> list[dict[str, str]]:
    """The rows of the CSV export."""
    text = exported(database, "csv", telemetry=telemetry).decode("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_rows_are_ordered_by_cell_participant_and_item(finished: Database) -> None:
    """The order does not depend on the database, nor on who answered first."""
    keys = [(row["culture"], row["participant"], row["item"], row["question"]) for row in parsed(finished)]
    assert keys == [(c, "0", str(i), q) for c in ("cn", "us") for i, q in enumerate(("Q1", "Q2", "Q4"))]


def test_csv_cannot_be_taken_for_a_formula(finished: Database) -> None:
    """A cell that begins like a formula gets an apostrophe; what follows is unchanged."""
    assert {row["completion"] for row in parsed(finished)} == {"'" + NASTY}
    assert {row["do_sample"] for row in parsed(finished)} <= {"true", "false"}
    assert {row["used_num_beams"] for row in parsed(finished)} == {""}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_every_beginning_of_a_formula_is_defused(database: Database, start: str) -> None:
    """The list of dangerous beginnings is the one that OWASP gives."""
    enqueue(database, None, study(models="[human]", participants="1"))
    finish(database, completion=start + "1", reason=start, state=AnswerState.UNPARSABLE, choices=())
    assert {(row["completion"], row["reason"]) for row in parsed(database)} == {("'" + start + "1", "'" + start)}


def test_json_lines_hold_the_values_themselves(finished: Database) -> None:
    """Nothing is defused, null is null, and characters are not escaped."""
    raw = exported(finished, "jsonl")
    found: list[dict[str, Any]] = [json.loads(line) for line in raw.decode().split("\n") if line]
    assert len(found) == 6
    assert list(found[0]) == list(COLUMNS)
    assert {row["completion"] for row in found} == {NASTY}
    assert {(row["used_num_beams"], row["choices"], row["shown"]) for row in found} == {(None, "1", "1 2 3 4")}
    assert "选项".encode() in raw


def test_parquet_holds_the_same_rows_typed(finished: Database, tmp_path: Path) -> None:
    """What is read back by pyarrow equals the JSON lines, column by column."""
    path = tmp_path / "out" / "answers.parquet"
    export_to(path, finished, "parquet")
    table = pq.read_table(path)
    assert table.to_pylist() == [json.loads(line) for line in exported(finished, "jsonl").decode().split("\n") if line]
    assert [str(kind) for kind in table.schema.types[:6]] == ["string"] * 5 + ["int64"]


def test_telemetry_is_there_only_when_it_is_asked_for(finished: Database) -> None:
    """Without it, nothing depends on who answered when: equal runs export equal bytes."""
    before = exported(finished, "csv")
    change(finished, "UPDATE answer SET worker = 'other:1:x', committed_at = committed_at + 5, seconds = 9")
    assert exported(finished, "csv") == before
    (header, *_) = before.decode().splitlines()
    assert header.split(",") == list(COLUMNS)
    told = parsed(finished, telemetry=True)
    assert list(told[0]) == [*COLUMNS, *TELEMETRY]
    assert {(row["worker"], row["seconds"], row["attempt"]) for row in told} == {("other:1:x", "9.0", "0")}


def test_an_exported_file_can_be_read_by_others(finished: Database, tmp_path: Path) -> None:
    """A temporary file is closed to others, a result is not."""
    path = tmp_path / "answers.csv"
    export_to(path, finished, "csv")
    assert path.read_bytes() == exported(finished, "csv")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_file_appears_whole_or_not_at_all(
    finished: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there stays when an export fails half way, and nothing half-written is left."""
    path = tmp_path / "out" / "answers.csv"
    path.parent.mkdir()
    path.write_text("the old one")

    def broken(*_: Any, **__: Any) -> Any:
        yield dict.fromkeys(COLUMNS, "")
        raise OSError("disk full")

    monkeypatch.setattr("defsurvey.storage.runs.export.answer_rows", broken)
    with pytest.raises(OSError, match="disk full"):
        export_to(path, finished, "csv")
    assert [entry.name for entry in path.parent.iterdir()] == ["answers.csv"]
    assert path.read_text() == "the old one"


@pytest.mark.parametrize("target", ["there/answers.csv", "to-be/answers.csv", "second.csv"])
def test_a_link_stays_and_what_it_leads_to_is_written(finished: Database, tmp_path: Path, target: str) -> None:
    """Also where nothing is there yet, and through several links."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "answers.csv").write_text("the old one")
    (tmp_path / "second.csv").symlink_to("there/answers.csv")
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    export_to(link, finished, "csv")
    assert link.readlink() == Path(target)
    assert (tmp_path / target).read_bytes() == exported(finished, "csv")
    assert (tmp_path / "second.csv").is_symlink()


def reading(pipe: Path) -> tuple[threading.Thread, list[bytes]]:
    """A reader of a pipe, and what it has read once it is joined."""
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()), daemon=True)
    reader.start()
    return reader, found


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_pipe_is_written_into(finished: Database, tmp_path: Path, kind: str) -> None:
    """Under its own name or behind a link, in any format; nothing takes its place."""
    pipe, link = tmp_path / "out" / "pipe", tmp_path / "out" / "link"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        reader, found = reading(pipe)
        export_to(path, finished, kind)
        reader.join(timeout=10)
        if kind == "parquet":
            assert pq.read_table(io.BytesIO(found[0])).num_rows == 6
        else:
            assert found == [exported(finished, kind)]
    assert (pipe.is_fifo(), link.is_symlink()) == (True, True)
    assert {entry.name for entry in pipe.parent.iterdir()} == {"pipe", "link"}


def test_an_open_file_that_has_no_name_is_written_into(finished: Database) -> None:
    """As ``/dev/stdout`` is one: the name that such a link has leads nowhere."""
    inside, outside = os.pipe()
    with os.fdopen(inside, "rb") as source:
        with os.fdopen(outside, "wb"):
            write_whole(Path(f"/dev/fd/{outside}"), lambda target: target.write(b"all of it") and None)
        assert source.read() == b"all of it"


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_what_is_open_already_keeps_what_is_in_it(tmp_path: Path, mode: str) -> None:
    """As standard output that a shell sends to a file, however it was opened, and several exports one after another."""
    place = tmp_path / "all.csv"
    place.write_bytes(b"" if mode == "wb" else b"kept ")
    with place.open(mode) as file:
        link = tmp_path / "link"
        link.symlink_to(f"/dev/fd/{file.fileno()}")
        for path, text in ((Path(f"/proc/self/fd/{file.fileno()}"), b"one "), (link, b"two")):
            write_whole(path, lambda target, text=text: target.write(text) and None)
    assert place.read_bytes() == (b"one two" if mode == "wb" else b"kept one two")
    assert {entry.name for entry in tmp_path.iterdir()} == {"all.csv", "link"}
    with pytest.raises(OSError, match=rf"Bad file descriptor: '{link}'"):
        write_whole(link, lambda target: target.write(b"more") and None)


def test_nothing_is_said_behind_what_was_written(finished: Database, tmp_path: Path) -> None:
    """The name of the file goes to standard error where the file may be standard output."""
    url = finished.url.render_as_string(hide_password=False)
    home = {"DEFSURVEY_HOME": str(tmp_path / "home"), "DEFSURVEY_DATABASE_URL": url}
    with (tmp_path / "out.csv").open("wb") as file:
        place = f"/dev/fd/{file.fileno()}"
        done = CliRunner().invoke(main, ("export", "first", "--output", place), env=home)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"{place}\n")
    assert (tmp_path / "out.csv").read_bytes() == exported(finished, "csv")


def test_a_pipe_gets_nothing_of_what_fails_half_way(tmp_path: Path) -> None:
    """It cannot be taken back."""
    inside, outside = os.pipe()

    def broken(target: IO[bytes]) -> None:
        target.write(b"half")
        raise OSError("disk full")

    with os.fdopen(inside, "rb") as source:
        with os.fdopen(outside, "wb"), pytest.raises(OSError, match="disk full"):
            write_whole(Path(f"/dev/fd/{outside}"), broken)
        assert source.read() == b""


def test_an_unknown_run_writes_nothing(finished: Database, tmp_path: Path) -> None:
    """Not even a header, and no file."""
    target = io.BytesIO()
    with pytest.raises(store.UnknownRun):
        results.export(finished, "nowhere", "csv", target, telemetry=False)
    assert target.getvalue() == b""
    with pytest.raises(store.UnknownRun):
        export_to(tmp_path / "out" / "x.csv", finished, "csv", run="nowhere")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_report_is_built_when_the_ledger_has_moved_on(finished: Database, tmp_path: Path) -> None:
    """The same revision is not built twice, unless its file is gone; a folder of the user's is not noted."""
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)})
    built = results.current_report(settings, finished, "first", None)
    assert (built.revision, built.html) == (6, str(settings.reports / "first" / "report.html"))
    Path(built.html).write_text("marked")
    assert results.current_report(settings, finished, "first", None) == built
    assert Path(built.html).read_text() == "marked"
    copy = results.current_report(settings, finished, "first", tmp_path / "copy")
    assert Path(copy.html).parent == tmp_path / "copy"
    assert outbox.latest_report(finished, "first") == built
    Path(built.html).unlink()
    results.current_report(settings, finished, "first", None)
    assert Path(built.html).is_file()
    with pytest.raises(store.UnknownRun):
        results.current_report(settings, finished, "nowhere", None)


def test_a_bundle_of_an_unknown_method_is_refused_by_its_name(tmp_path: Path, database: Database) -> None:
    """As a later version may write it; the known ones are named, and nothing is written."""
    asked = "questions: [Q57]\ncultures: [us]\nmodels: [human]\nconditions: [def]\nparticipants: 1\n"
    enqueue(database, None, parse_study(f"name: first\nsurvey: wvs7\n{asked}", path=tmp_path / "s.yaml", cards=CARDS))
    change(database, "UPDATE cell SET condition = json_set(condition, '$.method', 'deff')")
    file = tmp_path / "run.zip"
    export_bundle(database, "first", file)
    elsewhere = {"DEFSURVEY_HOME": str(tmp_path / "elsewhere")}
    refused = CliRunner().invoke(main, ["bundle", "import", str(file)], env=elsewhere)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "condition def: expected a method of " in refused.stderr
    assert "did you mean 'def'?" in refused.stderr
    assert refused.stderr.endswith("got deff\n")
    assert "there is no run" in CliRunner().invoke(main, ["status", "first"], env=elsewhere).stderr
