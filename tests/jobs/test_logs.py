"""Logs that others write are kept short, and read from their end."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from defsurvey.jobs import system
from defsurvey.jobs.system import keep_short, last_error, last_line

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


@pytest.mark.parametrize("why", [errno.ENOSPC, errno.ENOENT])
def test_a_log_that_cannot_be_copied_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: int
) -> None:
    """A full disk, or a log that is gone, is no reason to end a run."""
    monkeypatch.setattr(system, "MOST_LOG_BYTES", 1)
    path = tmp_path / "worker.log"
    path.write_text("all of it")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(why, "refused")

    monkeypatch.setattr(shutil, "copyfile", refuse)
    keep_short(path)
    keep_short(tmp_path / "another.log")
    assert path.read_text() == "all of it"


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
