"""The command line itself: it is light, its errors are lines, what says nothing is refused, no defect is hidden."""

import contextlib
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import redis
from celery import Celery
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from defsurvey.jobs.broker import EmbeddedBroker
from defsurvey.jobs.cli.main import main
from defsurvey.jobs.cli.main import told as expected_of
from defsurvey.jobs.local import RunFailed
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.producer import enqueue
from defsurvey.jobs.study.study import StudyError
from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox
from defsurvey.storage.runs.budget import budget_of
from defsurvey.storage.runs.store import OtherEngine
from defsurvey.workers.runner.dead_letters import put_aside
from tests.jobs.small_study import change, finish, rows, study, typed

EXAMPLES = Path(__file__).parents[2] / "examples"
HEAVY = ("torch", "transformers", "celery", "kombu", "redis", "sqlalchemy", "numpy", "altair", "rich", "yaml", "scipy")
#: What may be named by nothing: it is looked up, and the error names what there is.
LOOKED_UP = ("RUN", "[RUN]", "[RUN]...", "RUN...", "SURVEY", "MODEL", "TEMPLATE|MODEL")


@pytest.fixture
def home(database: Database) -> str:
    """The home of a run of two participants that nobody has worked on."""
    enqueue(database, None, study(models="[human]", participants="1"))
    return str(Path(str(database.url.database)).parent)


@pytest.mark.parametrize("words", ["['--help']", "['run', '--help']", "['run']"])
def test_neither_help_nor_a_usage_error_loads_anything_heavy(words: str) -> None:
    code = f"import sys; from defsurvey.jobs.cli.main import main; main({words}, standalone_mode=False)"
    told = f"try:\n    {code}\nexcept BaseException: pass\nprint([n for n in {HEAVY!r} if n in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert loaded.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_terminal_that_knows_few_characters_is_written_to(encoding: str, tmp_path: Path) -> None:
    """What it cannot show is written as JSON would; JSON stays JSON."""
    shown = {}
    for kind in ("--topics", "--json"):
        words = ("survey", "show", "wvs7", kind)
        environment = os.environ | {"PYTHONIOENCODING": encoding, "DEFSURVEY_HOME": str(tmp_path / "home")}
        done = subprocess.run([sys.executable, "-m", "defsurvey", *words], capture_output=True, env=environment)
        assert (done.returncode, done.stderr) == (0, b"")
        shown[kind] = done.stdout.decode("utf-8")
    assert ("\\u2588" in shown["--topics"]) == (encoding != "utf-8")
    assert ("\\u5bb6" in shown["--json"]) == (encoding != "utf-8")
    assert json.loads(shown["--json"]) == json.loads(typed("survey", "show", "wvs7", "--json").stdout)


FULL = OperationalError("INSERT INTO answer", {"a": 1}, Exception("database or disk is full"))
DATABASE = f"database sqlite:///{Settings.from_environment({}).home}/defsurvey.db: "


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StudyError("x"), (2, "x")),
        (OtherEngine("x"), (2, "x")),
        (RunFailed("a\x1b[2J"), (1, "a⟨U+001B⟩[2J")),  # nothing that is told writes on the terminal
        (FileNotFoundError(errno.ENOENT, "no such file", "x"), (1, "[Errno 2] no such file: 'x'")),
        (OSError(errno.ENOSPC, "No space left on device"), (1, "[Errno 28] No space left on device")),
        (FULL, (1, DATABASE + "database or disk is full")),
        (DatabaseError("SELECT", {}, Exception("is broken")), (1, DATABASE + "is broken")),
        (PoolTimeout("no connection\ncame free"), (1, DATABASE + "no connection came free")),
        (redis.ResponseError("MISCONF Errors writing"), (1, "broker: MISCONF Errors writing")),
        (IntegrityError("INSERT", {}, Exception("UNIQUE constraint failed")), None),
        (BrokenPipeError(errno.EPIPE, "closed"), None),  # click's own business
        (KeyError("x"), None),
    ],
)
def test_what_the_user_can_mend_is_a_line_and_a_code_and_a_defect_is_neither(
    error: Exception, told: tuple[int, str] | None
) -> None:
    """What is full, or away, is named, without a statement and its values."""
    assert expected_of(error, Settings.from_environment({})) == told


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("defsurvey.jobs.study.catalogue.surveys", broken)


def test_a_defect_is_not_hidden_and_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(ValueError("a defect"), monkeypatch)
    assert isinstance(typed("survey", "list").exception, ValueError)
    raising(RunFailed("a worker died"), monkeypatch)
    assert (typed("survey", "list").exit_code, typed("survey", "list").stderr) == (1, "defsurvey: a worker died\n")
    raising(KeyboardInterrupt(), monkeypatch)
    ended = typed("survey", "list")
    assert ended.exit_code == 130
    assert ended.stderr == "interrupted; what was committed is kept: defsurvey resume goes on\n"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("run", "Missing argument 'STUDY'"),
        ("run x --pilot 0", "'--pilot': 0 is not in the range x>=1"),
        ("nonsense", "No such command 'nonsense'"),
        ("resume first --workers 2", "--workers is for workers of this command: it needs --wait"),
        ("resume first --device cpu", "--device is for workers of this command: it needs --wait"),
        ("run human-control.yaml --device foo", "'--device': expected auto, cpu, cuda or cuda:N, got 'foo'"),
        ("resume first --wait --device cuda:x", "'--device': expected auto, cpu, cuda or cuda:N, got 'cuda:x'"),
        ("models check human --device CPU", "'--device': expected auto, cpu, cuda or cuda:N, got 'CPU'"),
        ("worker --models ,", "got ','"),
        ("extend first --models , --participants 3", "got ','"),
        ("survey exclude DIR --reason because", "expected questions, got --reason alone"),
        ("survey exclude DIR --restore T2 --reason because", "expected questions, got --reason alone"),
        ("status \udcff", "expected text in UTF-8, got b'\\xff'"),
        *((f"resume first --budget {sum_}", "above 0") for sum_ in ("nan", "inf", "0", "-1", "1e999", "much")),
    ],
)
def test_a_wrong_option_is_a_usage_error_before_anything_is_opened(line: str, told: str, tmp_path: Path) -> None:
    refused = typed(*line.split(), DEFSURVEY_HOME=str(tmp_path / "home"))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "Error: " in refused.stderr
    assert told in refused.stderr
    assert not (tmp_path / "home").exists()


def parameters(command: click.Command, verb: str) -> Iterator[tuple[str, click.Command, click.Parameter]]:
    """Every option and argument that takes words, with its verb; a choice of a few words knows no others."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from parameters(inner, f"{verb} {name}".strip())
        return
    for one in command.params:
        if not isinstance(one.type, (click.Choice, click.IntRange, click.types.BoolParamType)):
            yield verb, command, one


@pytest.mark.parametrize(
    ("command", "parameter"),
    [pytest.param(command, one, id=f"{verb} {one.opts[-1]}") for verb, command, one in parameters(main, "")],
)
def test_what_is_typed_says_something_in_text(command: click.Command, parameter: click.Parameter) -> None:
    """``--models "$UNSET"`` is not every model, a path of nothing is not the working folder; bytes are for files."""
    refused = ["", ","] if parameter.type.name == "names" else [""]
    if parameter.make_metavar(click.Context(command)) in LOOKED_UP:
        refused = []
    if not isinstance(parameter.type, click.Path) and parameter.metavar != "SURVEY":
        refused.append("\udcff")
    for word in refused:
        with pytest.raises(click.BadParameter, match=r"expected|is not a valid"):
            parameter.process_value(click.Context(command), (word,) if parameter.nargs == -1 else word)


def test_json_has_no_word_for_what_is_not_finite(home: str, database: Database) -> None:
    """A budget without bounds may lie in a database of before; programs read ``null``."""
    change(database, "UPDATE run SET budget = 9e999")
    shown = typed("status", "first", "--json", DEFSURVEY_HOME=home)
    assert json.loads(shown.stdout, parse_constant=pytest.fail)["budget"] is None
    assert typed("resume", "first", "--budget", "2.5", DEFSURVEY_HOME=home).exit_code == 0
    assert budget_of(database, "first") == 2.5


def test_a_study_that_is_wrong_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("name: broken\n", encoding="utf-8")
    refused = typed("enqueue", str(tmp_path / "broken.yaml"), DEFSURVEY_HOME=str(tmp_path / "home"))
    assert refused.exit_code == 2
    assert not (tmp_path / "home").exists()


def test_a_finished_run_says_who_was_set_aside_and_how_to_ask_again(home: str, database: Database) -> None:
    change(database, "UPDATE participant SET status = 'quarantined' WHERE id = 1")
    finish(database)
    revision = len(rows(database, "SELECT 1 FROM answer"))
    outbox.record_report(database, outbox.BuiltReport(run="first", revision=revision, html="r.html", markdown="r.md"))
    told = typed("resume", "first", DEFSURVEY_HOME=home)
    assert told.exit_code == 3
    assert told.stderr == "first is finished; 1 set aside: defsurvey retry first --state missing\n"
    shown = typed("status", "first", DEFSURVEY_HOME=home).stdout
    assert "  finished" in shown.splitlines()[0]
    assert "1 set aside: defsurvey retry first --state missing" in shown
    watched = typed("status", "first", "--watch", "--json", DEFSURVEY_HOME=home)
    assert (watched.exit_code, json.loads(watched.stdout)["state"]) == (0, "finished")
    assert watched.stderr.startswith("first: 3/6 (3 answered, ")
    again = typed("retry", "first", "--state", "missing", DEFSURVEY_HOME=home)
    assert again.stdout.startswith("first: 1 to be asked again")
    assert " waiting" in typed("status", "first", DEFSURVEY_HOME=home).stdout.splitlines()[0]


def test_status_says_what_a_run_waits_for_and_what_the_broker_holds_that_is_not_ours(
    database: Database, app: Celery, client: redis.Redis, running_broker: EmbeddedBroker
) -> None:
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


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-"])
def test_a_stream_that_is_closed_is_no_error(closed: str, home: str) -> None:
    """What is written to a closed stdout is lost, as it was wanted; a closed stderr loses no results."""
    assert typed("cancel", "first", DEFSURVEY_HOME=home).exit_code == 0
    command = f"DEFSURVEY_HOME='{home}' '{sys.executable}' -m defsurvey status first --watch --json {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout == "" if closed == ">&-" else json.loads(done.stdout)["state"] == "cancelled"


def test_an_export_on_a_terminal_writes_out_what_would_steer_it(database: Database, home: str) -> None:
    """A reply may hold escape sequences; in a pipe or a file the bytes are those of the reply."""
    finish(database, completion="1: \x1b[2J\u202echoice")
    command = [sys.executable, "-m", "defsurvey", "export", "first"]
    environment = {**os.environ, "DEFSURVEY_HOME": home}
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
