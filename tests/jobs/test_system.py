"""Logs are kept short and read from their end; places that cannot be written to are wrong input, and nothing else."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from defsurvey.jobs import system
from defsurvey.jobs.system import BadOutput, keep_short, last_error, last_line, why_unwritable, written_to

TALKER = "import sys\nfor line in sys.stdin: print(line.strip() * 100, flush=True)"


def test_a_log_that_grew_long_is_begun_anew_under_whoever_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was in it is kept once; its writer, who appends, goes on at the beginning and leaves no hole."""
    monkeypatch.setattr(system, "MOST_LOG_BYTES", 1000)
    path = tmp_path / "worker.log"
    with path.open("ab") as output:
        talker = subprocess.Popen([sys.executable, "-S", "-c", TALKER], stdin=subprocess.PIPE, stdout=output, text=True)
    assert talker.stdin is not None

    def say(word: str) -> None:
        assert talker.stdin is not None
        before = path.stat().st_size
        talker.stdin.write(f"{word}\n")
        talker.stdin.flush()
        while path.stat().st_size < before + 100 * len(word) + 1:
            pass

    with talker:
        say("old")
        keep_short(path)
        assert path.stat().st_size == 301
        say("older" * 2)
        keep_short(path)
        assert path.stat().st_size == 0
        say("new")
    assert path.read_text() == "new" * 100 + "\n"
    assert path.with_name("worker.log.1").read_text() == "old" * 100 + "\n" + "older" * 200 + "\n"


def test_only_the_end_of_a_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much lies before it, even where it begins amid a character."""
    monkeypatch.setattr(system, "_END_BYTES", 100)
    path = tmp_path / "worker.log"
    path.write_text("2026-01-01 00:00:00,000 ERROR jobs.daemons.tasks: of yesterday\n" + "家" * 200 + "\n")
    assert last_error(path) == f"a worker cannot serve; see {path}"
    with path.open("a") as log:
        log.write(
            "2026-01-01 00:00:00,000 ERROR jobs.daemons.tasks: model m: no weights: none at all\ndefsurvey: there\n\n"
        )
    assert last_error(path) == "model m: no weights: none at all"
    assert last_line(path) == "there"
    path.write_text("\n")
    assert last_line(path) == f"see {path}"


@pytest.mark.parametrize("file", ["out/report", "out/.report.partial", "out/report/report.html", "out"])
def test_a_place_at_fault_is_named_as_it_was_typed(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the system names a file beside it, in it, or a folder on the way."""
    monkeypatch.chdir(tmp_path)
    expected = r"^--output: expected a place that can be written to, got out/report: Permission denied$"
    with pytest.raises(BadOutput, match=expected), written_to("--output", Path("out/report")):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / file))


@pytest.mark.parametrize(
    ("place", "error"),
    [
        (Path("out"), OSError(errno.ENOSPC, "No space left on device", "out")),
        (Path("out"), FileNotFoundError(errno.ENOENT, "No such file", "/elsewhere/template.html")),
        (Path("out"), BrokenPipeError(errno.EPIPE, "Broken pipe")),
        (None, PermissionError(errno.EACCES, "Permission denied", "out")),
    ],
)
def test_what_is_no_fault_of_the_place_stays_what_it_is(place: Path | None, error: OSError) -> None:
    """A full disk, a file of our own that is missing, a pipe that was closed, a place that nobody typed."""
    with pytest.raises(OSError) as raised, written_to("--output", place):  # noqa: PT011  # compared below
        raise error
    assert raised.value is error


def test_why_nothing_can_be_written_to_a_folder(tmp_path: Path) -> None:
    """Nothing is left of having tried."""
    assert why_unwritable(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert why_unwritable(tmp_path / "file" / "folder") == "Not a directory"
