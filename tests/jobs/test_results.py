"""Exports and reports: every answer, in three formats, whole or not at all."""

import csv
import io
import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from defsurvey.jobs import results
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.producer import enqueue
from defsurvey.jobs.study.study_file import parse_study
from defsurvey.reports.measures import MEASURES
from defsurvey.storage.database import Database
from defsurvey.storage.files import write_whole
from defsurvey.storage.runs import outbox, store
from defsurvey.storage.runs.archive import export_bundle
from defsurvey.storage.runs.export import COLUMNS, PROBABILITIES, TELEMETRY
from tests.jobs.small_study import CARDS, change, finish, study, typed

NASTY = '=HYPERLINK("x"),\n"quoted" 选项'


@pytest.fixture
def finished(database: Database) -> Database:
    """A finished run of two participants with three answers each, all of which a spreadsheet would run."""
    enqueue(database, None, study(models="[human]", participants="1"))
    finish(database, completion=NASTY)
    return database


@pytest.fixture
def home(database: Database, tmp_path: Path) -> dict[str, str]:
    return {"DEFSURVEY_HOME": str(tmp_path / "home"), "DEFSURVEY_DATABASE_URL": str(database.url)}


def export_to(path: Path, database: Database, kind: str, *, run: str = "first") -> None:
    write_whole(path, lambda target: results.export(database, run, kind, target))


def exported(database: Database, kind: str, *, telemetry: bool = False) -> bytes:
    target = io.BytesIO()
    results.export(database, "first", kind, target, telemetry=telemetry)
    return target.getvalue()


def parsed(database: Database, *, telemetry: bool = False) -> list[dict[str, str]]:
    text = exported(database, "csv", telemetry=telemetry).decode("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_is_ordered_by_key_and_cannot_be_taken_for_a_formula(finished: Database) -> None:
    """The order does not depend on who answered first; a cell that begins like a formula gets an apostrophe."""
    found = parsed(finished)
    keys = [(row["culture"], row["participant"], row["item"], row["question"]) for row in found]
    assert keys == [(c, "0", str(i), q) for c in ("cn", "us") for i, q in enumerate(("Q1", "Q2", "Q4"))]
    assert {row["completion"] for row in found} == {"'" + NASTY}
    assert {row["do_sample"] for row in found} <= {"true", "false"}
    assert {row["used_num_beams"] for row in found} == {""}


def test_json_lines_and_parquet_hold_the_values_themselves(finished: Database, tmp_path: Path) -> None:
    """Nothing is defused, null is null, characters are not escaped, and numbers are typed."""
    raw = exported(finished, "jsonl")
    found: list[dict[str, Any]] = [json.loads(line) for line in raw.decode().split("\n") if line]
    assert len(found) == 6
    assert list(found[0]) == list(COLUMNS)
    assert {row["completion"] for row in found} == {NASTY}
    assert {(row["used_num_beams"], row["choices"], row["shown"]) for row in found} == {(None, "1", "1 2 3 4")}
    assert "选项".encode() in raw
    path = tmp_path / "out" / "answers.parquet"
    export_to(path, finished, "parquet")
    table = pq.read_table(path)
    assert table.to_pylist() == found
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


def test_a_file_appears_whole_or_not_at_all(
    finished: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there stays when an export fails half way, or its run is unknown; nothing half-written is left."""
    path = tmp_path / "out" / "answers.csv"
    path.parent.mkdir()
    path.write_text("the old one")

    def broken(*_: Any, **__: Any) -> Any:
        yield dict.fromkeys(COLUMNS, "")
        raise OSError("disk full")

    with pytest.raises(store.UnknownRun):
        export_to(path, finished, "csv", run="nowhere")
    monkeypatch.setattr("defsurvey.storage.runs.export.answer_rows", broken)
    for place in (path, path.with_name("new.csv")):
        with pytest.raises(OSError, match="disk full"):
            export_to(place, finished, "csv")
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


def test_a_pipe_is_written_into(finished: Database, tmp_path: Path) -> None:
    """Under its own name or behind a link; nothing takes its place."""
    pipe, link = tmp_path / "out" / "pipe", tmp_path / "out" / "link"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        found: list[bytes] = []
        reader = threading.Thread(target=lambda found=found: found.append(pipe.read_bytes()), daemon=True)
        reader.start()
        export_to(path, finished, "csv")
        reader.join(timeout=10)
        assert found == [exported(finished, "csv")]
    assert (pipe.is_fifo(), link.is_symlink()) == (True, True)
    assert {entry.name for entry in pipe.parent.iterdir()} == {"pipe", "link"}


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
    with pytest.raises(OSError, match="Bad file descriptor"):
        write_whole(link, lambda target: target.write(b"more") and None)


def test_nothing_is_said_behind_what_was_written(finished: Database, tmp_path: Path, home: dict[str, str]) -> None:
    """The name of the file goes to standard error where the file may be standard output."""
    with (tmp_path / "out.csv").open("wb") as file:
        place = f"/dev/fd/{file.fileno()}"
        done = typed("export", "first", "--output", place, **home)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"{place}\n")
    assert (tmp_path / "out.csv").read_bytes() == exported(finished, "csv")


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


def test_a_bundle_of_an_unknown_method_is_refused_by_its_name(tmp_path: Path, database: Database) -> None:
    """As a later version may write it; the known ones are named, and nothing is written."""
    asked = "questions: [Q57]\ncultures: [us]\nmodels: [human]\nconditions: [def]\nparticipants: 1\n"
    enqueue(database, None, parse_study(f"name: first\nsurvey: wvs7\n{asked}", path=tmp_path / "s.yaml", cards=CARDS))
    change(database, "UPDATE cell SET condition = json_set(condition, '$.method', 'deff')")
    file = tmp_path / "run.zip"
    export_bundle(database, "first", file)
    elsewhere = {"DEFSURVEY_HOME": str(tmp_path / "elsewhere")}
    refused = typed("bundle", "import", str(file), **elsewhere)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "condition def: expected a method of " in refused.stderr
    assert refused.stderr.endswith("(did you mean 'def'?), got deff\n")
    assert "there is no run" in typed("status", "first", **elsewhere).stderr


@pytest.fixture
def runs(database: Database) -> Database:
    """Two finished runs of one survey, of two models."""
    for name, model in (("first", "human"), ("second", "tiny-model")):
        enqueue(database, None, study(name=name, models=f"[{model}]", participants="2"))
        finish(database, name)
    return database


def test_one_report_of_several_runs(runs: Database, tmp_path: Path, home: dict[str, str]) -> None:
    """Their models stand in one report, whose paths are printed; runs that differ are refused, and nothing written."""
    shown = typed("report", "first", "second", **home)
    assert shown.exit_code == 0, shown.output
    html, markdown = map(Path, shown.stdout.split())
    assert html.parent == tmp_path / "home" / "reports" / "first+second"
    for said in ("human", "tiny-model", "run first + second"):
        assert said in markdown.read_text(encoding="utf-8")
    enqueue(runs, None, study(name="third", models="[human]", preset="code"))
    refused = typed("report", "first", "third", "--output", str(tmp_path / "out"), **home)
    assert refused.exit_code == 2
    assert "runs first and third differ in preset: paper and code" in refused.stderr
    assert not (tmp_path / "out").exists()
    assert typed("report", "first", "nowhere", **home).exit_code == 2


def test_a_joint_folder_is_named_after_its_runs() -> None:
    """By all of them, as long as these are short enough for a file system; else by all that matters of them."""
    settings = Settings.from_environment({"DEFSURVEY_HOME": "/h"})
    runs = ["r" * 50, "s" * 50, "t" * 50, "u" * 47]  # and three signs between them: 200 bytes
    assert results.joint_folder(settings, runs).name == "+".join(runs)
    longer = [*runs[:3], "u" * 48]
    others = ([*runs[:3], "v" * 48], [longer[0], *longer[:0:-1]], [*longer, "v"])
    folders = [results.joint_folder(settings, each).name for each in (longer, *others)]
    assert len(set(folders)) == 4
    assert all(re.fullmatch(r"r{50}\+[34]-[0-9a-f]{12}", name) for name in folders)


def test_metrics_are_exported_in_any_format(runs: Database, tmp_path: Path, home: dict[str, str]) -> None:
    rows = list(csv.DictReader(io.StringIO(typed("export", "first", "--metrics", **home).stdout)))
    assert (list(rows[0]), {row["run"] for row in rows}) == (list(MEASURES), {"first"})
    path = tmp_path / "metrics.jsonl"
    words = ("export", "first", "--metrics", "--format", "jsonl", "--output", str(path))
    assert typed(*words, **home).exit_code == 0
    assert [json.loads(line)["metric"] for line in path.read_text().splitlines()] == [row["metric"] for row in rows]


def test_a_file_holds_one_kind_of_row(runs: Database, home: dict[str, str]) -> None:
    """Options that ask for different rows exclude each other; a run without probabilities has a header of them."""
    for options, told in (
        (("--metrics", "--telemetry"), "--telemetry is of answers"),
        (("--metrics", "--probabilities"), "--metrics and --probabilities: expected one of them"),
        (("--format", "parquet"), "--format parquet is binary"),
    ):
        refused = typed("export", "first", *options, **home)
        assert refused.exit_code == 2
        assert told in refused.stderr
    shown = typed("export", "first", "--probabilities", **home)
    assert (shown.exit_code, shown.stdout.splitlines()) == (0, [",".join(PROBABILITIES)])
