"""One machine around one run: what its processes are told, when they are started again, what its end is decided by."""

import errno
import io
import logging
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
from defsurvey.jobs.local import DEATHS_WITHOUT_PROGRESS, Crew, Follower, RunFailed
from defsurvey.jobs.progress import Snapshot, snapshot
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.producer import enqueue
from defsurvey.jobs.system import BadOutput, keep_short, last_error, last_line, why_unwritable, written_to
from defsurvey.storage.database import Database
from defsurvey.storage.runs import judgements, outbox
from defsurvey.storage.runs.judgement import Judge
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.recovery import QUARANTINE_AFTER
from defsurvey.workers.engines import machine
from tests.jobs.small_study import answer_to, finish, study
from tests.jobs.test_progress import Clock

REPORT = outbox.BuiltReport(run="first", revision=6, html="r.html", markdown="r.md")
AWAY = OperationalError("", {}, Exception("the server\nis gone"))


class Acting(Crew):
    """A crew whose processes are a line of Python each, and have logged something; without a line none is started."""

    line = "raise SystemExit(1)"
    logged = ""

    def _launch(self, process: Any) -> None:
        process.log.write_text(self.logged)
        if self.line:
            process.popen = subprocess.Popen([sys.executable, "-S", "-c", self.line])
            if "sleep" not in self.line:
                process.popen.wait()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)})


def started(settings: Settings, line: str, logged: str = "", **options: Any) -> Acting:
    crew = Acting(settings, **{"workers": 1, **options})
    crew.line, crew.logged = line, logged
    crew.start()
    return crew


@pytest.mark.parametrize(
    ("workers", "options", "given"),
    [
        (1, {}, ["--device auto --threads 6"]),
        (2, {}, ["--device auto:0 --threads 3", "--device auto:1 --threads 3"]),
        (2, {"device": "cuda:1"}, ["--device cuda:1 --threads 3"] * 2),
        (
            1,
            {"device": "cpu", "concurrency": 4, "models": ["human"], "only": "first"},
            ["--device cpu --threads 6 --concurrency 4 --models human --only first"],
        ),
    ],
)
def test_what_processes_are_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, workers: int, options: dict[str, Any], given: list[str]
) -> None:
    """Workers share GPUs and cores; a judge runs in the reporter, on the device of the models of its run."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "cores", lambda: 6)  # of a container's quota or a job's cores
    crew = started(settings, "", workers=workers, **options)
    reporter, *others = [" ".join(process.arguments) for process in crew._processes]
    only = " --only first" if "only" in options else ""
    assert reporter == f"reporter --device {options.get('device', 'auto')}{only}"
    assert others == [f"worker {told}" for told in given]


def test_who_has_set_the_threads_of_openmp_is_not_contradicted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "--threads" not in started(settings, "")._processes[1].arguments


ERROR = "2026-11-27 01:00:01 ERROR jobs.daemons.tasks: model m: no weights at /x\n"
OLD = "2026-11-27 01:00:00 ERROR jobs.daemons.tasks: of yesterday\n"


@pytest.mark.parametrize(
    ("status", "logged", "told"),
    [
        (2, OLD + "defsurvey: there is no model 'gone'\n\n", "reporter: there is no model 'gone'"),
        # read before the log is begun anew, which had grown too long just then
        (69, OLD * (system.MOST_LOG_BYTES // len(OLD) + 1) + ERROR, "model m: no weights at /x"),
    ],
    ids=["bad input", "no weights"],
)
def test_what_starting_again_does_not_mend_ends_a_run_at_once(
    settings: Settings, status: int, logged: str, told: str
) -> None:
    with pytest.raises(RunFailed, match=f"^{told}$"):
        started(settings, f"raise SystemExit({status})", logged).look(0)


@pytest.mark.parametrize(
    ("line", "full", "told"),
    [
        ("raise SystemExit(1)", False, f"reporter died {DEATHS_WITHOUT_PROGRESS} times without progress; see "),
        ("import os; os.kill(os.getpid(), 9)", False, r".* \(killed, as where memory runs out\); see "),
        ("raise SystemExit(1)", True, ".*: No space left on device; what was committed is kept"),
    ],
)
def test_deaths_without_progress_end_a_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, line: str, full: bool, told: str
) -> None:
    assert DEATHS_WITHOUT_PROGRESS > QUARANTINE_AFTER + 1
    crew = started(settings, line)

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if full:
        monkeypatch.setattr("defsurvey.jobs.system.TemporaryFile", no_room)
    for _ in range(DEATHS_WITHOUT_PROGRESS - 1):
        crew.look(7)
    with pytest.raises(RunFailed, match=f"^{told}"):
        crew.look(7)


def test_deaths_with_progress_between_them_are_survived(settings: Settings) -> None:
    crew = started(settings, "raise SystemExit(1)", workers=2)
    for done in range(2 * DEATHS_WITHOUT_PROGRESS):
        crew.look(done)
        if done % 2:
            crew.look(done)  # the other one died before any progress: not this one's doing


def test_logs_are_kept_short_while_a_run_is_watched(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of its processes, of itself and of its broker; not at every look, of which there are several a second."""
    kept: list[Path] = []
    monkeypatch.setattr(system, "keep_short", kept.append)
    (settings.home / "broker").mkdir()
    (settings.home / "broker" / "broker.log").touch()
    crew = started(settings, "import time; time.sleep(60)", "a line of yesterday\n")
    (settings.logs / "run.log").touch()
    try:
        for _ in range(3):
            crew.look(0)
    finally:
        crew.stop()
    assert sorted(path.name for path in kept) == ["broker.log", "reporter.log", "run.log", "worker-1.log"]


Follow = Callable[..., Follower]


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(local, "time", clock)
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def follow(database: Database, client: redis.Redis, settings: Settings, written: io.StringIO) -> Follow:
    crew = Crew(settings, workers=0)
    return lambda *more: Follower(database, "first", crew, Console(file=written, width=400), client, *more)


def report_after(monkeypatch: pytest.MonkeyPatch, number: int, report: outbox.BuiltReport = REPORT) -> list[int]:
    looks: list[int] = []

    def look(of: Database, run: str) -> Snapshot:
        seen = snapshot(of, run)
        looks.append(len(looks) + 1)
        if looks[-1] == number:
            outbox.record_report(of, report)
        return seen

    monkeypatch.setattr(progress, "snapshot", look)
    return looks


def test_a_report_that_comes_right_after_a_look_is_named(
    database: Database, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(database, None, study(models="[human]", participants="1"))
    finish(database)
    looks = report_after(monkeypatch, 2)
    ended = follow().follow()
    assert (ended.state, ended.report, len(looks)) == ("finished", "r.html", 3)


def test_a_report_that_takes_long_is_waited_for(
    database: Database, follow: Follow, clock: Clock, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(database, None, study(models="[human]", participants="1"))
    finish(database)
    monkeypatch.setattr(progress, "LAST_LOOKS_SECONDS", 60.0)
    report_after(monkeypatch, 12)
    assert follow().follow().report == "r.html"
    told = [line for line in written.getvalue().splitlines() if "the report has taken" in line]
    assert [line.partition(" so far, see ")[0] for line in told] == [
        "every answer is there; the report has taken 5 min 00 s",
        "every answer is there; the report has taken 10 min 00 s",
    ]
    assert all(line.endswith("reporter.log") for line in told)


def test_a_run_without_money_for_its_judge_ends_with_its_report(
    database: Database, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers are all there, and the report says why they are not judged; only the one is waited for."""
    enqueue(database, None, study(models="[human]", participants="1", judge="{model: tiny-model}", budget="0.01"))
    finish(database)
    over: dict[str, Any] = {"judge": None, "ended": judgements.Ended.OVER_BUDGET, "told": "it is spent", "ledger": 6}
    judgements.end(database, "first", Judge(model="tiny-model", sample=0.01), **over)
    looks = report_after(monkeypatch, 2, replace(REPORT, judgements=1))
    ended = follow().follow()
    assert (ended.state, ended.report, ended.complete, len(looks)) == ("budget reached", "r.html", False, 3)


def test_a_signal_that_was_lost_on_its_way_ends_a_run_all_the_same(database: Database, follow: Follow) -> None:
    """What a handler raises does not get out of a destructor, so that it is asked whether it was called."""
    enqueue(database, None, study(models="[human]", participants="1"))
    told = iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        follow(lambda: next(told)).follow()


def test_whoever_waits_for_room_is_told_once(
    database: Database, follow: Follow, written: io.StringIO, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is waited out like any outage, but no log can say what is waited for; the next one is told again."""
    enqueue(database, None, study(models="[human]", participants="1"))
    reasons = ["", "No space left on device", "No space left on device", "", "Disk quota exceeded"]
    monkeypatch.setattr(system, "why_unwritable", lambda _folder: reasons.pop(0))
    monkeypatch.setattr(local, "DISK_SECONDS", 0.0)
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        follow(lambda: not reasons).follow()
    assert [line for line in written.getvalue().splitlines() if "waiting for room" in line] == [
        f"{settings.home}: {why}; waiting for room, what was committed is kept"
        for why in ("No space left on device", "Disk quota exceeded")
    ]


def test_a_run_that_goes_on_shows_a_report_of_what_is_there(
    database: Database,
    follow: Follow,
    clock: Clock,
    written: io.StringIO,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enqueue(database, None, study(models="[human]", participants="2"))
    ledger = Ledger(database, owner="host:1:token")
    held = ledger.claim(1)
    assert held is not None
    ledger.checkpoint(held, answer_to(held, "Q1"), ())
    monkeypatch.setattr(progress, "LOOK_SECONDS", 20.0)
    shown: list[tuple[float, str]] = []

    def ask(run: str) -> None:
        built = write_report(database, run, tmp_path / "reports")
        shown.append((clock.monotonic(), Path(built.html).read_text()))

    with pytest.raises(KeyboardInterrupt):
        follow(lambda: clock.monotonic() > 300, ask).follow()
    assert [60 <= when < 90 or 180 <= when < 210 for when, _ in shown] == [True, True]
    assert all("The run is unfinished: 1 of 12 planned answers" in html for _, html in shown)
    assert written.getvalue().count("report so far (1 of 12 answers): ") == 1  # the second is the same report


def test_who_watches_a_run_outlives_an_outage(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """``status --watch``: what was seen last is shown, the outage is told once, and the next is told again."""
    enqueue(database, None, study(models="[human]", participants="1"))
    now = snapshot(database, "first")
    looks: list[Snapshot | Exception] = [now, AWAY, AWAY, AWAY, now, AWAY, replace(now, state="finished")]

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


@pytest.mark.parametrize("outage", [AWAY, redis.ConnectionError("refused")])
def test_whoever_asks_for_a_report_outlives_an_outage(outage: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with local.outages_survived("reports"):
        raise outage
    assert "reports: " in caplog.text
    with pytest.raises(LookupError), local.outages_survived("reports"):
        raise LookupError


TALKER = "import sys\nfor line in sys.stdin: print(line.strip() * 100, flush=True)"


def test_a_log_that_grew_long_is_begun_anew_under_whoever_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was in it is kept once; its writer, who appends, goes on at the beginning and leaves no hole."""
    monkeypatch.setattr(system, "MOST_LOG_BYTES", 1000)
    path = tmp_path / "worker.log"
    with path.open("ab") as output:
        talker = subprocess.Popen([sys.executable, "-S", "-c", TALKER], stdin=subprocess.PIPE, stdout=output, text=True)

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


def test_the_last_line_and_the_last_error_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    path.write_text("\n")
    assert (last_error(path), last_line(path)) == (f"a worker cannot serve; see {path}", f"see {path}")
    path.write_bytes(b"\xff ERROR jobs.daemons.tasks: model m: no weights: none at all\ndefsurvey: there\n\n")
    assert (last_error(path), last_line(path)) == ("model m: no weights: none at all", "there")


@pytest.mark.parametrize("file", ["out/report", "out/.report.partial", "out/report/report.html", "out", "linked"])
def test_a_place_at_fault_is_named_as_it_was_typed(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the system names a file beside it, in it, a folder on the way, or what lies where a link leads."""
    monkeypatch.chdir(tmp_path)
    if file == "linked":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "report").symlink_to(tmp_path / "there" / "report")
        file = "there/.report.x"
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
    assert why_unwritable(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert why_unwritable(tmp_path / "file" / "folder") == "Not a directory"
