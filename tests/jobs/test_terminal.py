"""Streams that were closed before the program began."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from defsurvey.jobs.study.producer import enqueue
from defsurvey.storage.database import Database
from tests.jobs.ledger_rows import finish
from tests.jobs.small_study import study


def shell(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """A command as a shell starts it, with its redirections."""
    program = f"{shlex.quote(sys.executable)} -m defsurvey.jobs.cli.main"
    line = f"DEFSURVEY_HOME={shlex.quote(str(home))} {program} {command}"
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)


@pytest.fixture
def home(database: Database) -> Path:
    """The home of a run that was cancelled."""
    enqueue(database, None, study(models="[human]", participants="1"))
    return Path(str(database.url.database)).parent


@pytest.mark.parametrize("command", ["status first", "export first"])
def test_nobody_who_reads_is_no_error(command: str, home: Path) -> None:
    """What is written to a closed stdout is lost, as it was wanted."""
    done = shell(f"{command} >&-", home)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_stderr_loses_no_results(home: Path) -> None:
    """Progress goes there, and nothing else."""
    shell("cancel first", home)
    done = shell("status first --watch --json 2>&-", home)
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "cancelled")


def test_an_error_that_nobody_reads_keeps_its_code(home: Path) -> None:
    """Of an option that is none, too."""
    assert [shell(f"{words} 2>&-", home).returncode for words in ("status other", "--nothing")] == [2, 2]


def test_a_review_needs_a_stdin(home: Path) -> None:
    """A closed one is no terminal."""
    done = shell("review first <&-", home)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: review is for a person at a terminal: stdin is none" in done.stderr


def test_a_file_that_is_opened_is_not_taken_for_a_stream(home: Path) -> None:
    """The number of a closed stream is free for the next file: nothing is printed into it, by no process of ours."""
    code = (
        "import os, subprocess, sys\nfrom defsurvey.jobs.cli.main import open_closed\nopen_closed()\n"
        "opened = open('opened', 'w')\nprint('lost', flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'print(1)'], check=True)\nassert opened.fileno() > 2"
    )
    line = f"cd {shlex.quote(str(home))}; PYTHONPATH={shlex.quote(str(Path.cwd()))} "
    done = subprocess.run(
        ["bash", "-c", f"{line} {shlex.quote(sys.executable)} -c {shlex.quote(code)} >&-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (home / "opened").read_text() == ""


def test_an_export_on_a_terminal_writes_out_what_would_steer_it(database: Database, home: Path) -> None:
    """A reply may hold escape sequences; in a pipe or a file the bytes are those of the reply."""
    finish(database, completion="1: \x1b[2J\u202echoice")
    command = [sys.executable, "-m", "defsurvey", "export", "first"]
    environment = {**os.environ, "DEFSURVEY_HOME": str(home)}
    piped = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    assert b"1: \x1b[2J" in piped
    master, terminal = os.openpty()
    shown = subprocess.Popen(command, env=environment, stdout=terminal)
    os.close(terminal)
    text = b""
    with contextlib.suppress(OSError):  # which a terminal says at its end
        while piece := os.read(master, 1 << 16):
            text += piece
    os.close(master)
    assert shown.wait() == 0
    assert "1: ⟨U+001B⟩[2J⟨U+202E⟩choice" in text.decode()
    assert text.decode().count("\n") == piped.decode().count("\n")
    assert not {"\x1b", "\u202e"} & set(text.decode())
