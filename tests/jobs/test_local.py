"""One machine around one run: what its end is decided by."""

from __future__ import annotations

import errno
import io
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from rich.console import Console
from sqlalchemy.exc import OperationalError

from defsurvey.jobs import local, progress, system
from defsurvey.jobs.daemons.reports import write_report
from defsurvey.jobs.progress import Snapshot, snapshot
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.producer import enqueue
from defsurvey.jobs.system import BadOutput, keep_short, last_error, last_line, why_unwritable, written_to
from defsurvey.storage.database import Database
from defsurvey.storage.runs import judgements, outbox
from defsurvey.storage.runs.judgement import Judge
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.workers.engines import machine
from tests.jobs.ledger_rows import answer_to, finish
from tests.jobs.small_study import study
from tests.jobs.test_progress import Clock


def test_a_report_that_comes_right_after_a_look_is_named(
    database: Database, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look that ends the watch is one that has seen the report, not the one before it."""
    enqueue(database, None, study(models="[human]", participants="1"))
    finish(database)
    report = outbox.BuiltReport(run="first", revision=6, html="r.html", markdown="r.md")
    looks = 0

    def look(of: Database, run: str) -> Snapshot:
        nonlocal looks
        seen = snapshot(of, run)
        looks += 1
        if looks == 2:
            outbox.record_report(of, report)
        return seen

    monkeypatch.setattr(progress, "snapshot", look)
    crew = local.Crew(Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), workers=0)
    ended = local.Follower(database, "first", crew, Console(file=io.StringIO()), client).follow()
    assert (ended.state, ended.report, looks) == ("finished", "r.html", 3)


def test_a_run_without_money_for_its_judge_ends_with_its_report(
    database: Database, client: redis.Redis, tmp_path: Path
) -> None:
    """Its answers are all there, and the report says why they are not judged; only the one is waited for."""
    enqueue(database, None, study(models="[human]", participants="1", judge="{model: tiny-model}", budget="0.01"))
    finish(database)
    paid: dict[str, Any] = {"judge": None, "told": "the budget is spent", "ledger": 6}
    judgements.end(
        database, "first", Judge(model="tiny-model", sample=0.01), ended=judgements.Ended.OVER_BUDGET, **paid
    )
    report = outbox.BuiltReport(run="first", revision=6, judgements=1, html="r.html", markdown="r.md")
    looked: list[int] = []

    def wait() -> bool:
        looked.append(1)
        if len(looked) == 2:
            outbox.record_report(database, report)
        return False

    crew = local.Crew(Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), workers=0)
    ended = local.Follower(database, "first", crew, Console(file=io.StringIO()), client, wait).follow()
    assert (ended.state, ended.report, ended.complete, len(looked)) == ("budget reached", "r.html", False, 2)


def test_a_signal_that_was_lost_on_its_way_ends_a_run_all_the_same(
    database: Database, client: redis.Redis, tmp_path: Path
) -> None:
    """What a handler raises does not get out of a destructor, so that it is asked whether it was called."""
    enqueue(database, None, study(models="[human]", participants="1"))
    crew = local.Crew(Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), workers=0)
    told = iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        local.Follower(database, "first", crew, Console(file=io.StringIO()), client, lambda: next(told)).follow()


class Ending(local.Crew):
    """A crew whose processes end at once with the status of bad input, which the last line of their log names."""

    def _launch(self, process: Any) -> None:
        process.log.write_text("... ERROR jobs.daemons.tasks: of yesterday\ndefsurvey: there is no model 'gone'\n\n")
        process.popen = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(2)"])
        process.popen.wait()


def test_a_worker_that_was_given_bad_input_ends_a_run_at_once(tmp_path: Path) -> None:
    """It would be given the same again; what it said is told, not how often it died."""
    crew = Ending(Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), workers=1)
    crew.start()
    with pytest.raises(local.RunFailed, match=r"^reporter: there is no model 'gone'$"):
        crew.look(0)


class Idle(local.Crew):
    """A crew whose processes do nothing for a while."""

    def _launch(self, process: Any) -> None:
        process.log.write_text("a line of yesterday\n")
        process.popen = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])


def test_logs_are_kept_short_while_a_run_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of its processes, of itself and of its broker; not at every look, of which there are several a second."""
    kept: list[Path] = []
    monkeypatch.setattr(local, "keep_short", kept.append)
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)})
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "broker.log").touch()
    crew = Idle(settings, workers=1)
    crew.start()
    (settings.logs / "run.log").touch()
    try:
        for _ in range(3):
            crew.look(0)
    finally:
        crew.stop()
    assert sorted(path.name for path in kept) == ["broker.log", "reporter.log", "run.log", "worker-1.log"]


def test_what_a_worker_said_last_is_read_before_its_log_is_begun_anew(tmp_path: Path) -> None:
    """It had grown too long just when the worker ended."""
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)})
    crew = Unable(settings, workers=1)
    crew.start()
    try:
        with pytest.raises(local.RunFailed, match=r"^model m: no weights at /x$"):
            crew.look(0)
    finally:
        crew.stop()


class Unable(local.Crew):
    """A crew whose processes say at the end of a long log why they cannot serve."""

    def _launch(self, process: Any) -> None:
        line = "2026-11-27 01:00:00 WARNING jobs.daemons.tasks: database: away\n"
        said = "2026-11-27 01:00:01 ERROR jobs.daemons.tasks: model m: no weights at /x\n"
        process.log.write_text(line * (system.MOST_LOG_BYTES // len(line) + 1) + said)
        process.popen = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(69)"])
        process.popen.wait()


class Noting(local.Crew):
    """A crew that starts nothing."""

    def _launch(self, process: Any) -> None:
        """It is noted all the same."""


@pytest.mark.parametrize(
    ("workers", "device", "given"),
    [(1, "auto", ["auto"]), (3, "auto", ["auto:0", "auto:1", "auto:2"]), (2, "cuda:1", ["cuda:1", "cuda:1"])],
)
def test_several_workers_share_the_gpus(tmp_path: Path, workers: int, device: str, given: list[str]) -> None:
    """Unless a device is named, each worker has its own choice."""
    crew = Noting(Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), workers, device)
    crew.start()
    started = [process.arguments for process in crew._processes if process.name != "reporter"]
    assert [arguments[arguments.index("--device") + 1] for arguments in started] == given


class Dying(local.Crew):
    """A crew whose processes end at once with nothing in their logs."""

    def _launch(self, process: Any) -> None:
        process.popen = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(1)"])
        process.popen.wait()


@pytest.mark.parametrize("full", [False, True])
def test_workers_that_die_of_a_full_disk_are_not_what_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """Their logs, which would say so, could not be written either."""
    crew = Dying(Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), workers=1)
    crew.start()

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if full:
        monkeypatch.setattr("defsurvey.jobs.system.TemporaryFile", no_room)
    told = rf"{tmp_path}: No space left on device; what was committed is kept" if full else "reporter died 5 times"
    with pytest.raises(local.RunFailed, match=f"^{told}"):  # noqa: PT012  # the fifth death is too many
        for _ in range(local.DEATHS_WITHOUT_PROGRESS):
            crew.look(0)


class Killed(local.Crew):
    """A crew whose processes are killed by the system, of which no log says anything."""

    def _launch(self, process: Any) -> None:
        process.popen = subprocess.Popen([sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)"])
        process.popen.wait()


def test_of_killed_workers_memory_is_named(tmp_path: Path) -> None:
    """It is what the system kills for, without a word in the worker's own log."""
    crew = Killed(Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), workers=1)
    crew.start()
    told = r"^reporter died 5 times without progress \(killed, as where memory runs out\); see "
    with pytest.raises(local.RunFailed, match=told):  # noqa: PT012  # the fifth death is too many
        for _ in range(local.DEATHS_WITHOUT_PROGRESS):
            crew.look(0)


@pytest.mark.parametrize("told", [None, "3"])
def test_workers_share_the_cores_that_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str | None
) -> None:
    """Of a container's quota or a job's cores, that is; who has set OpenMP's threads is not contradicted."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if told is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    monkeypatch.setattr(machine, "cores", lambda: 6)
    launched: list[list[str]] = []

    class Noted(local.Crew):
        def _launch(self, process: Any) -> None:
            launched.append(process.arguments)

    Noted(Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), workers=2).start()
    threads = ["--threads", "3"] if told is None else []
    assert launched[1:] == [["worker", "--device", f"auto:{number}", *threads] for number in (0, 1)]


def test_whoever_waits_for_room_is_told_once(
    database: Database, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is waited out like any outage, but no log can say what is waited for; the next one is told again."""
    enqueue(database, None, study(models="[human]", participants="1"))
    written = io.StringIO()
    reasons = ["", "No space left on device", "No space left on device", "", "Disk quota exceeded"]
    monkeypatch.setattr(local, "why_unwritable", lambda _folder: reasons.pop(0))
    monkeypatch.setattr(local, "DISK_SECONDS", 0.0)
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.0)
    crew = local.Crew(Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), workers=0)
    follower = local.Follower(database, "first", crew, Console(file=written, width=40), client, lambda: not reasons)
    with pytest.raises(KeyboardInterrupt):
        follower.follow()
    assert [line for line in written.getvalue().splitlines() if "waiting for room" in line] == [
        f"{tmp_path}: No space left on device; waiting for room, what was committed is kept",
        f"{tmp_path}: Disk quota exceeded; waiting for room, what was committed is kept",
    ]


def test_who_watches_a_run_outlives_an_outage(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """``status --watch``: what was seen last is shown, the outage is told once, and the next is told again."""
    enqueue(database, None, study(models="[human]", participants="1"))
    now = snapshot(database, "first")
    away = OperationalError("", {}, Exception("the server\nis gone"))
    looks: list[Snapshot | Exception] = [now, away, away, away, now, away, replace(now, state="finished")]

    def look(_database: Database, _run: str) -> Snapshot:
        seen = looks.pop(0)
        if isinstance(seen, Exception):
            raise seen
        return seen

    monkeypatch.setattr(progress, "snapshot", look)
    monkeypatch.setattr("defsurvey.jobs.progress.LOOK_SECONDS", 0.0)
    with caplog.at_level(logging.WARNING):
        assert progress.watch_run(database, "first", Console(file=io.StringIO())).state == "finished"
    assert looks == []
    told = "progress: the server is gone; looking again until the database is back"
    assert [record.getMessage() for record in caplog.records] == [told] * 2


Follow = Callable[..., tuple[Snapshot, str]]


@pytest.fixture
def follow(database: Database, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Follow:
    """Follows a finished run, a look a minute, whose report is there after as many."""
    enqueue(database, None, study(models="[human]", participants="1"))
    finish(database)
    clock = Clock()
    monkeypatch.setattr(local, "time", clock)
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress, "LAST_LOOKS_SECONDS", 60.0)
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)})

    def run(*, looks: int) -> tuple[Snapshot, str]:
        looked = 0

        def look(of: Database, run: str) -> Snapshot:
            nonlocal looked
            looked += 1
            if looked == looks:
                outbox.record_report(of, outbox.BuiltReport(run=run, revision=6, html="r.html", markdown="r.md"))
            return snapshot(of, run)

        monkeypatch.setattr(progress, "snapshot", look)
        written = io.StringIO()
        crew = local.Crew(settings, workers=0)
        return local.Follower(
            database, "first", crew, Console(file=written, width=40), client
        ).follow(), written.getvalue()

    return run


def test_a_report_that_takes_long_is_waited_for(follow: Follow) -> None:
    """Eleven minutes, of which the user hears twice; nobody ends the reporter that builds it."""
    ended, written = follow(looks=13)
    assert (ended.state, ended.report) == ("finished", "r.html")
    told = [line for line in written.splitlines() if "the report has taken" in line]
    assert [line.partition(" so far, see ")[0] for line in told] == [
        "every answer is there; the report has taken 5 min 00 s",
        "every answer is there; the report has taken 10 min 00 s",
    ]
    assert all(line.endswith("reporter.log") for line in told)


def test_a_run_that_goes_on_shows_a_report_of_what_is_there(
    database: Database, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute, and again after three; each is said once, and says that the run is unfinished."""
    enqueue(database, None, study(models="[human]", participants="2"))
    ledger = Ledger(database, owner="host:1:token")
    held = ledger.claim(1)
    assert held is not None
    ledger.checkpoint(held, answer_to(held, "Q1"), ())
    clock = Clock()
    monkeypatch.setattr(local, "time", clock)
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress, "LOOK_SECONDS", 20.0)
    shown: list[tuple[float, str]] = []

    def ask(run: str) -> None:
        built = write_report(database, run, tmp_path / "reports")
        shown.append((clock.monotonic(), Path(built.html).read_text()))

    def stopped() -> bool:
        return clock.monotonic() > 300

    written = io.StringIO()
    crew = local.Crew(Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}), workers=0)
    with pytest.raises(KeyboardInterrupt):
        local.Follower(database, "first", crew, Console(file=written, width=400), client, stopped, ask).follow()
    assert [60 <= when < 90 or 180 <= when < 210 for when, _ in shown] == [True, True]
    assert all("The run is unfinished: 1 of 12 planned answers" in html for _, html in shown)
    assert written.getvalue().count("report so far (1 of 12 answers): ") == 1  # the second is the same report


def test_a_judge_runs_where_the_models_of_its_run_do(tmp_path: Path) -> None:
    """The reporter is given the device, and none of the other options of workers."""
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)})
    crew = Noting(settings, 1, device="cuda:1", concurrency=4, models=["human"], only="first")
    crew.start()
    reporter, worker = [process.arguments for process in crew._processes]
    assert reporter == ["reporter", "--device", "cuda:1", "--only", "first"]
    assert worker[-6:] == ["--concurrency", "4", "--models", "human", "--only", "first"]


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


def test_a_link_to_a_place_at_fault_is_named_as_it_was_typed(tmp_path: Path) -> None:
    """What the system names lies where the link leads."""
    link = tmp_path / "here" / "link"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "there" / "report")
    with pytest.raises(BadOutput, match=r"got .*/here/link: Permission denied$"), written_to("-o", link):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "there" / ".report.x"))
