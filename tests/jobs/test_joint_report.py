"""Several runs in one report and metrics as data, as the command line gives them."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from defsurvey.jobs import results
from defsurvey.jobs.cli.main import main
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.producer import enqueue
from defsurvey.reports.measures import MEASURES
from defsurvey.storage.database import Database
from defsurvey.storage.files import write_whole
from defsurvey.storage.runs.export import PROBABILITIES
from tests.jobs.ledger_rows import finish
from tests.jobs.small_study import study


@pytest.fixture
def runs(database: Database) -> Database:
    """Two finished runs of one survey, of two models."""
    for name, model in (("first", "human"), ("second", "tiny-model")):
        enqueue(database, None, study(name=name, models=f"[{model}]", participants="2"))
        finish(database, name)
    return database


def typed(folder: Path, *words: str) -> Result:
    """The outcome of a command in this process, on the database of the fixture."""
    return CliRunner().invoke(
        main,
        words,
        env={
            "DEFSURVEY_HOME": str(folder / "home"),
            "DEFSURVEY_DATABASE_URL": f"sqlite:///{folder / 'defsurvey.db'}",
        },
    )


def test_one_report_of_several_runs(runs: Database, tmp_path: Path) -> None:
    """Both models stand in one report, whose paths are printed and which no run owns."""
    shown = typed(tmp_path, "report", "first", "second")
    assert shown.exit_code == 0, shown.output
    html, markdown = map(Path, shown.stdout.split())
    assert html.parent == tmp_path / "home" / "reports" / "first+second"
    text = markdown.read_text(encoding="utf-8")
    assert "human" in text
    assert "tiny-model" in text
    assert "run first + second" in text


def test_a_report_of_many_runs_has_a_folder_that_can_be_made(database: Database, tmp_path: Path) -> None:
    """Their names together are longer than a file's may be."""
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
    """By all of them, as long as these are short enough; else by all that matters of them, their order too."""
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
    """The line names what differs, and nothing is written."""
    enqueue(runs, None, study(name="third", models="[human]", preset="code"))
    shown = typed(tmp_path, "report", "first", "third", "--output", str(tmp_path / "out"))
    assert shown.exit_code == 2
    assert "runs first and third differ in preset: paper and code" in shown.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_run_is_refused(runs: Database, tmp_path: Path) -> None:
    """As for a single run."""
    assert typed(tmp_path, "report", "first", "nowhere").exit_code == 2


def test_metrics_are_exported(runs: Database, tmp_path: Path) -> None:
    """Every figure, to stdout or to a file, in any format."""
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
    """Options that ask for different rows exclude each other."""
    shown = typed(tmp_path, "export", "first", *options)
    assert shown.exit_code == 2
    assert told in shown.stderr


def test_probabilities_of_a_run_without_any_are_a_header(runs: Database, tmp_path: Path) -> None:
    """No row, and no error: its conditions read none."""
    shown = typed(tmp_path, "export", "first", "--probabilities")
    assert (shown.exit_code, shown.stdout.splitlines()) == (0, [",".join(PROBABILITIES)])
    assert typed(tmp_path, "export", "nowhere", "--probabilities").exit_code == 2


def test_a_broken_write_leaves_nothing(tmp_path: Path) -> None:
    """A file appears whole or not at all."""

    def broken(target: object) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "out" / "x.csv", broken)
    assert list((tmp_path / "out").iterdir()) == []
