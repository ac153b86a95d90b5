"""The command line itself: it is light, its errors are lines, and a defect of ours is not hidden."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from celery import Celery
from click.testing import CliRunner, Result
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from defsurvey.jobs.broker import EmbeddedBroker
from defsurvey.jobs.cli.exits import told as expected_of
from defsurvey.jobs.cli.main import main
from defsurvey.jobs.local import RunFailed
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.producer import enqueue
from defsurvey.jobs.study.study import StudyError
from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox
from defsurvey.storage.runs.store import OtherEngine, UnknownRun
from defsurvey.workers.runner.dead_letters import put_aside
from tests.jobs.ledger_rows import change, finish, rows
from tests.jobs.small_study import study

EXAMPLES = Path(__file__).parents[2] / "examples"
HEAVY = ("torch", "transformers", "celery", "kombu", "redis", "sqlalchemy", "numpy", "altair", "rich", "yaml", "scipy")


def typed(*words: str, **environment: str) -> Result:
    """The outcome of a command in this process."""
    return CliRunner().invoke(main, words, env=environment)


def test_help_loads_nothing_heavy() -> None:
    """``--help`` answers at once because everything is imported by the verb that needs it."""
    code = f"import sys, defsurvey.jobs.cli.main; print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"


def test_a_usage_error_loads_nothing_heavy() -> None:
    """Nor does the help of a verb: which errors are expected is looked up only where there is one."""
    for words in ("['run', '--help']", "['run']"):
        code = f"import sys; from defsurvey.jobs.cli.main import main; main({words}, standalone_mode=False)"
        told = f"try:\n    {code}\nexcept BaseException: pass\nprint([n for n in {HEAVY!r} if n in sys.modules])"
        loaded = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
        assert loaded.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_knows_few_characters_is_written_to(encoding: str, tmp_path: Path) -> None:
    """What it cannot show is written as JSON would; nothing ends in a traceback, and JSON stays JSON."""
    shown = {}
    for kind in ("--topics", "--json"):
        words = ("survey", "show", "wvs7", kind)
        environment = os.environ | {"PYTHONIOENCODING": encoding, "DEFSURVEY_HOME": str(tmp_path / "home")}
        done = subprocess.run([sys.executable, "-m", "defsurvey", *words], capture_output=True, env=environment)
        assert (done.returncode, done.stderr) == (0, b"")
        shown[kind] = done.stdout.decode(encoding.replace("ascii", "utf-8"))  # as which click takes it
    assert ("\\u2588" in shown["--topics"]) == (encoding != "utf-8")
    assert ("\\u5bb6" in shown["--json"]) == (encoding != "utf-8")
    assert json.loads(shown["--json"]) == json.loads(typed("survey", "show", "wvs7", "--json").stdout)


def test_help_names_every_verb_of_the_contract() -> None:
    """Each has a line of its own."""
    shown = typed("--help").output
    verbs = "run plan preview enqueue extend status resume worker reporter reconciler report export survey models"
    for verb in verbs.split():
        assert f"\n  {verb} " in shown
        assert typed(verb, "--help").exit_code == 0


def test_a_plan_enqueues_nothing(tmp_path: Path) -> None:
    """It is told for a person and for a program, and leaves no trace."""
    home = {"DEFSURVEY_HOME": str(tmp_path / "home")}
    study = str(EXAMPLES / "human-control.yaml")
    planned = json.loads(typed("plan", study, "--json", **home).stdout)
    assert [cell["answers"] for cell in planned["cells"]] == [11_000, 11_000]
    assert "human" in typed("plan", study, **home).stdout
    assert not (tmp_path / "home").exists()


def test_a_preview_shows_the_prompt(tmp_path: Path) -> None:
    """The very words, for a person and for a program, of the question that is asked for."""
    study = str(EXAMPLES / "demo.yaml")
    shown = json.loads(typed("preview", study, "--question", "Q57", "--json").stdout)
    assert {prompt["question"] for prompt in shown["prompts"]} == {"Q57"}
    assert "participant 1, question Q57" in typed("preview", study, "--participant", "1", "--question", "Q57").stdout
    refused = typed("preview", study, "--participant", "99")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StudyError("x"), 2),
        (UnknownRun("x"), 2),
        (OtherEngine("x"), 2),
        (RunFailed("x"), 1),
        (FileNotFoundError(errno.ENOENT, "no such file", "x"), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 1),
        (OSError(errno.EIO, "Input/output error"), 1),
        (OperationalError("INSERT", {}, Exception("disk I/O error")), 1),
        (DatabaseError("SELECT", {}, Exception("database disk image is malformed")), 1),
        (PoolTimeout("no connection came free"), 1),
        (IntegrityError("INSERT", {}, Exception("UNIQUE constraint failed")), None),
        (redis.ResponseError("MISCONF Errors writing to the AOF file"), 1),
        (BrokenPipeError(errno.EPIPE, "closed"), None),  # click's own business
        (KeyError("x"), None),
        (ValueError("x"), None),
    ],
)
def test_expected_errors_have_a_code_and_defects_have_none(error: Exception, code: int | None) -> None:
    """What the user can mend is a line; what we have to mend is a traceback."""
    expected = expected_of(error, Settings.from_environment({}))
    assert (expected and expected[0]) == code


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OperationalError("INSERT INTO answer", {"a": 1}, Exception("database or disk is full")),
            "database sqlite:///{home}/defsurvey.db: database or disk is full",
        ),
        (PoolTimeout("no connection\ncame free"), "database sqlite:///{home}/defsurvey.db: no connection came free"),
        (OSError(errno.ENOSPC, "No space left on device"), "[Errno 28] No space left on device"),
        (redis.ResponseError("MISCONF Errors writing"), "broker: MISCONF Errors writing"),
    ],
)
def test_a_full_disk_is_one_line(error: Exception, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is a defect of ours: what is full, or away, is named, without a statement and its values."""

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("defsurvey.jobs.study.catalogue.surveys", full)
    told = typed("survey", "list", DEFSURVEY_HOME=str(tmp_path))
    assert (told.exit_code, told.stderr) == (1, f"defsurvey: {line.format(home=tmp_path)}\n")


def test_a_defect_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error comes through as it is."""

    def broken(*_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr("defsurvey.jobs.study.catalogue.surveys", broken)
    assert isinstance(typed("survey", "list").exception, ValueError)


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is no error of the program, but the command has not done its work either."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("defsurvey.jobs.study.catalogue.surveys", interrupted)
    ended = typed("survey", "list")
    assert ended.exit_code == 130
    assert ended.stderr == "interrupted; what was committed is kept: defsurvey resume goes on\n"


@pytest.mark.parametrize(
    "words", [("run",), ("run", "x", "--pilot", "0"), ("run", "x", "--workers", "0"), ("nonsense",)]
)
def test_wrong_options_are_usage_errors(words: tuple[str, ...]) -> None:
    """Click's own messages, with the exit code of the contract."""
    refused = typed(*words)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "Error: " in refused.stderr


@pytest.mark.parametrize("words", [("--workers", "2"), ("--concurrency", "4"), ("--device", "cpu")])
def test_options_for_workers_that_are_not_started_are_refused(words: tuple[str, str], tmp_path: Path) -> None:
    """Nothing is accepted and then ignored."""
    refused = typed("resume", "first", *words, DEFSURVEY_HOME=str(tmp_path / "home"))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"{words[0]} is for workers of this command: it needs --wait" in refused.stderr
    assert not (tmp_path / "home").exists()


DEVICES = (
    ("run", "STUDY"),
    ("resume", "first", "--wait"),
    ("worker",),
    ("reporter",),
    ("judge", "first"),
    ("contamination", "first"),
    ("models", "check", "human"),
    ("survey", "rephrase", "DIR", "--model", "human"),
)


@pytest.mark.parametrize("words", DEVICES, ids=" ".join)
@pytest.mark.parametrize("device", ["foo", "cuda:x", "cuda:", "auto:", "gpu", "", "CPU"])
def test_a_device_that_is_none_is_a_usage_error_of_every_verb(
    words: tuple[str, ...], device: str, tmp_path: Path
) -> None:
    """Before anything is enqueued, started or opened, and whether or not a model would have used it."""
    named = [str(EXAMPLES / "human-control.yaml") if word == "STUDY" else word for word in words]
    refused = typed(*named, "--device", device, DEFSURVEY_HOME=str(tmp_path / "home"))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"Invalid value for '--device': expected auto, cpu, cuda or cuda:N, got {device!r}" in refused.stderr
    assert not (tmp_path / "home").exists()


@pytest.fixture
def without_somebody(database: Database) -> str:
    """The home of a run that was finished, and reported, without one of its two participants."""
    enqueue(database, None, study(models="[human]", participants="1"))
    change(database, "UPDATE participant SET status = 'quarantined' WHERE id = 1")
    finish(database)
    revision = len(rows(database, "SELECT 1 FROM answer"))
    outbox.record_report(database, outbox.BuiltReport(run="first", revision=revision, html="r.html", markdown="r.md"))
    return str(Path(str(database.url.database)).parent)


def test_resume_says_who_was_set_aside(without_somebody: str) -> None:
    """The run is finished, and yet there is something to do: the command that asks them again is named."""
    told = typed("resume", "first", DEFSURVEY_HOME=without_somebody)
    assert told.exit_code == 3
    assert told.stderr == "first is finished; 1 set aside: defsurvey retry first --state missing\n"
    shown = typed("status", "first", DEFSURVEY_HOME=without_somebody).stdout
    assert "  finished" in shown.splitlines()[0]
    assert "1 set aside: defsurvey retry first --state missing" in shown
    again = typed("retry", "first", "--state", "missing", DEFSURVEY_HOME=without_somebody)
    assert again.stdout.startswith("first: 1 to be asked again")
    assert " waiting" in typed("status", "first", DEFSURVEY_HOME=without_somebody).stdout.splitlines()[0]


def test_status_says_what_a_run_waits_for_and_what_the_broker_holds_that_is_not_ours(
    database: Database, app: Celery, client: redis.Redis, running_broker: EmbeddedBroker
) -> None:
    """On a broker that runs share; a run that comes first waits for none."""
    home = str(Path(str(database.url.database)).parent)
    where = {"DEFSURVEY_HOME": home, "DEFSURVEY_BROKER_URL": running_broker.url}
    for name in ("first", "second"):
        enqueue(database, app, study(name=name, models="[human]", participants="3"))
    put_aside(client, "reports", b"x", "no reason")
    shown = typed("status", "second", **where).stdout
    assert "second waits behind run first: 6 participants before it\n" in shown
    assert "dead letters: 1 items in the broker were not messages of defsurvey (reports: 1)\n" in shown
    told = json.loads(typed("status", "second", "--json", **where).stdout)
    assert (told["behind"], told["dead_letters"]) == ({"first": 6}, {"reports": 1})
    assert "behind" not in typed("status", "first", **where).stdout
    alone = json.loads(typed("status", "second", "--json", DEFSURVEY_HOME=home).stdout)
    assert (alone["behind"], alone["dead_letters"]) == ({}, None)


def test_what_an_error_says_cannot_write_on_the_terminal() -> None:
    """A name that was typed, a file's, a server's word: whatever it is about."""
    told = typed("models", "show", "a\x1b[2J\u202e")
    assert told.exit_code == 2
    assert expected_of(RunFailed("a\x1b[2J"), None) == (1, "a⟨U+001B⟩[2J")
    assert not {"\x1b", "\u202e"} & set(told.stderr)


def test_a_program_can_wait_for_the_end_of_a_run(without_somebody: str) -> None:
    """Progress goes to stderr, and the last look at the run to stdout, as JSON and nothing else."""
    watched = typed("status", "first", "--watch", "--json", DEFSURVEY_HOME=without_somebody)
    assert watched.exit_code == 0
    assert json.loads(watched.stdout)["state"] == "finished"
    assert watched.stderr.startswith("first: 3/6 (3 answered, ")


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


def test_a_review_needs_a_stdin(home: Path) -> None:
    """A closed one is no terminal."""
    done = shell("review first <&-", home)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: review is for a person at a terminal: stdin is none" in done.stderr


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
