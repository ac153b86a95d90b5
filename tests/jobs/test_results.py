"""Exports and reports: every answer, in three formats, whole or not at all."""

from __future__ import annotations

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
from click.testing import CliRunner, Result

from defsurvey.jobs import results
from defsurvey.jobs.cli.main import main
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.producer import enqueue
from defsurvey.jobs.study.study_file import parse_study
from defsurvey.reports.measures import MEASURES
from defsurvey.storage.database import Database
from defsurvey.storage.files import write_whole
from defsurvey.storage.runs import outbox, store
from defsurvey.storage.runs.archive import export_bundle
from defsurvey.storage.runs.export import COLUMNS, PROBABILITIES, TELEMETRY
from tests.jobs.ledger_rows import change, finish
from tests.jobs.small_study import CARDS, study

NASTY = '=HYPERLINK("x"),\n"quoted" 选项'


@pytest.fixture
def finished(database: Database) -> Database:
    enqueue(database, None, study(models="[human]", participants="1"))
    finish(database, completion=NASTY)
    return database


def export_to(path: Path, database: Database, kind: str, *, run: str = "first") -> None:
    write_whole(path, lambda target: results.export(database, run, kind, target, telemetry=False))


def exported(database: Database, kind: str, *, telemetry: bool = False) -> bytes:
    target = io.BytesIO()
    results.export(database, "first", kind, target, telemetry=telemetry)
    return target.getvalue()


def parsed(database: Database, *, telemetry: bool = False) -> list[dict[str, str]]:
    text = exported(database, "csv", telemetry=telemetry).decode("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_rows_are_ordered_by_cell_participant_and_item(finished: Database) -> None:
    keys = [(row["culture"], row["participant"], row["item"], row["question"]) for row in parsed(finished)]
    assert keys == [(c, "0", str(i), q) for c in ("cn", "us") for i, q in enumerate(("Q1", "Q2", "Q4"))]


def test_csv_cannot_be_taken_for_a_formula(finished: Database) -> None:
    assert {row["completion"] for row in parsed(finished)} == {"'" + NASTY}
    assert {row["do_sample"] for row in parsed(finished)} <= {"true", "false"}
    assert {row["used_num_beams"] for row in parsed(finished)} == {""}


def test_json_lines_hold_the_values_themselves(finished: Database) -> None:
    raw = exported(finished, "jsonl")
    found: list[dict[str, Any]] = [json.loads(line) for line in raw.decode().split("\n") if line]
    assert len(found) == 6
    assert list(found[0]) == list(COLUMNS)
    assert {row["completion"] for row in found} == {NASTY}
    assert {(row["used_num_beams"], row["choices"], row["shown"]) for row in found} == {(None, "1", "1 2 3 4")}
    assert "选项".encode() in raw


def test_parquet_holds_the_same_rows_typed(finished: Database, tmp_path: Path) -> None:
    path = tmp_path / "out" / "answers.parquet"
    export_to(path, finished, "parquet")
    table = pq.read_table(path)
    assert table.to_pylist() == [json.loads(line) for line in exported(finished, "jsonl").decode().split("\n") if line]
    assert [str(kind) for kind in table.schema.types[:6]] == ["string"] * 5 + ["int64"]


def test_telemetry_is_there_only_when_it_is_asked_for(finished: Database) -> None:
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
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()), daemon=True)
    reader.start()
    return reader, found


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_pipe_is_written_into(finished: Database, tmp_path: Path, kind: str) -> None:
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


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_what_is_open_already_keeps_what_is_in_it(tmp_path: Path, mode: str) -> None:
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
    url = finished.url.render_as_string(hide_password=False)
    home = {"DEFSURVEY_HOME": str(tmp_path / "home"), "DEFSURVEY_DATABASE_URL": url}
    with (tmp_path / "out.csv").open("wb") as file:
        place = f"/dev/fd/{file.fileno()}"
        done = CliRunner().invoke(main, ("export", "first", "--output", place), env=home)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"{place}\n")
    assert (tmp_path / "out.csv").read_bytes() == exported(finished, "csv")


def test_an_unknown_run_writes_nothing(finished: Database, tmp_path: Path) -> None:
    target = io.BytesIO()
    with pytest.raises(store.UnknownRun):
        results.export(finished, "nowhere", "csv", target, telemetry=False)
    assert target.getvalue() == b""
    with pytest.raises(store.UnknownRun):
        export_to(tmp_path / "out" / "x.csv", finished, "csv", run="nowhere")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_report_is_built_when_the_ledger_has_moved_on(finished: Database, tmp_path: Path) -> None:
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


@pytest.fixture
def runs(database: Database) -> Database:
    for name, model in (("first", "human"), ("second", "tiny-model")):
        enqueue(database, None, study(name=name, models=f"[{model}]", participants="2"))
        finish(database, name)
    return database


def typed(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(
        main,
        words,
        env={
            "DEFSURVEY_HOME": str(folder / "home"),
            "DEFSURVEY_DATABASE_URL": f"sqlite:///{folder / 'defsurvey.db'}",
        },
    )


def test_one_report_of_several_runs(runs: Database, tmp_path: Path) -> None:
    shown = typed(tmp_path, "report", "first", "second")
    assert shown.exit_code == 0, shown.output
    html, markdown = map(Path, shown.stdout.split())
    assert html.parent == tmp_path / "home" / "reports" / "first+second"
    text = markdown.read_text(encoding="utf-8")
    assert "human" in text
    assert "tiny-model" in text
    assert "run first + second" in text


def test_a_report_of_many_runs_has_a_folder_that_can_be_made(database: Database, tmp_path: Path) -> None:
    names = [f"a-model-of-the-eleven-that-the-paper-asked-number-{number}".ljust(64, "x") for number in range(4)]
    for name in names:
        enqueue(database, None, study(name=name, models="[human]", participants="1"))
        finish(database, name)
    shown = typed(tmp_path, "report", *names)
    assert shown.exit_code == 0, shown.output
    folder = Path(shown.stdout.split()[0]).parent
    assert folder.parent == tmp_path / "home" / "reports"
    assert re.fullmatch(rf"{names[0]}\+3-[0-9a-f]{{12}}", folder.name)


def test_a_joint_folder_is_named_after_its_runs() -> None:
    settings = Settings.from_environment({"DEFSURVEY_HOME": "/h"})
    runs = ["r" * 50, "s" * 50, "t" * 50, "u" * 47]  # and three signs between them: 200 bytes
    assert results.joint_folder(settings, runs).name == "+".join(runs)
    longer = [*runs[:3], "u" * 48]
    others = ([*runs[:3], "v" * 48], [longer[0], *longer[:0:-1]], [*longer, "v"])
    folders = [results.joint_folder(settings, each).name for each in (longer, *others)]
    assert len(set(folders)) == 4
    assert folders[0] == results.joint_folder(settings, tuple(longer)).name
    assert [name[:53] for name in folders] == ["r" * 50 + sign for sign in ("+3-", "+3-", "+3-", "+4-")]


def test_runs_that_differ_are_refused(runs: Database, tmp_path: Path) -> None:
    enqueue(runs, None, study(name="third", models="[human]", preset="code"))
    shown = typed(tmp_path, "report", "first", "third", "--output", str(tmp_path / "out"))
    assert shown.exit_code == 2
    assert "runs first and third differ in preset: paper and code" in shown.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_run_is_refused(runs: Database, tmp_path: Path) -> None:
    assert typed(tmp_path, "report", "first", "nowhere").exit_code == 2


def test_metrics_are_exported(runs: Database, tmp_path: Path) -> None:
    shown = typed(tmp_path, "export", "first", "--metrics")
    assert shown.exit_code == 0, shown.output
    rows = list(csv.DictReader(io.StringIO(shown.stdout)))
    assert list(rows[0]) == list(MEASURES)
    assert {row["run"] for row in rows} == {"first"}
    path = tmp_path / "metrics.jsonl"
    assert typed(tmp_path, "export", "first", "--metrics", "--format", "jsonl", "--output", str(path)).exit_code == 0
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(rows)
    assert list(json.loads(lines[0])) == list(MEASURES)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--metrics", "--telemetry"), "--telemetry is of answers"),
        (("--probabilities", "--telemetry"), "--telemetry is of answers"),
        (("--metrics", "--probabilities"), "--metrics and --probabilities: expected one of them"),
    ],
)
def test_a_file_holds_one_kind_of_row(runs: Database, tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    shown = typed(tmp_path, "export", "first", *options)
    assert shown.exit_code == 2
    assert told in shown.stderr


def test_probabilities_of_a_run_without_any_are_a_header(runs: Database, tmp_path: Path) -> None:
    shown = typed(tmp_path, "export", "first", "--probabilities")
    assert (shown.exit_code, shown.stdout.splitlines()) == (0, [",".join(PROBABILITIES)])
    assert typed(tmp_path, "export", "nowhere", "--probabilities").exit_code == 2


def test_a_broken_write_leaves_nothing(tmp_path: Path) -> None:
    def broken(target: object) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "out" / "x.csv", broken)
    assert list((tmp_path / "out").iterdir()) == []
