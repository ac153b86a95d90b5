"""The tasks of daemons: which messages they take, a worker that cannot serve, a report that cannot be built, judges."""

import base64
import errno
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
import redis
from celery import Celery
from celery.exceptions import Reject
from celery.worker import state as worker_state
from sqlalchemy.exc import OperationalError

from defsurvey.jobs.broker import JUDGE, REPORT, SIMULATE, make_app, report_failure_key, simulate_queue
from defsurvey.jobs.daemons import tasks
from defsurvey.jobs.daemons.reports import write_report
from defsurvey.jobs.daemons.tasks import register_reports, register_simulation
from defsurvey.jobs.judging import judge
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.producer import enqueue
from defsurvey.jobs.system import UNAVAILABLE, exclusive
from defsurvey.reports import build
from defsurvey.reports.build import ReportPaths
from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox
from defsurvey.storage.runs.outbox import BuiltReport
from defsurvey.storage.runs.results import Results
from defsurvey.storage.runs.store import record_served
from defsurvey.workers.models import ModelCard
from defsurvey.workers.runner.dead_letters import (
    DEAD_LETTERS,
    KEPT,
    MOST_BYTES,
    Bodies,
    NotOurs,
    bodies,
    counts,
    put_aside,
    read,
)
from tests.jobs.small_study import change, finish, rows, study
from tests.storage.what_is_there import progress_of
from tests.workers.working import add_run, make_stage, respondent

HELD = "SELECT count(*) FROM participant WHERE lease_until IS NOT NULL"
CARDS = {
    "slow": respondent("slow", latency=5.0),
    "broken": ModelCard(name="broken", path=Path("/nowhere/weights")),
    "defective": ModelCard(name="defective", engine="json:loads"),  # a function that is given what it does not know
}
UNOPENED = {"no weights": "broken", "a defect": "defective"}  #: what cannot be opened, so that there is nobody in hand


@pytest.mark.parametrize("why", ["other weights", "no card", *UNOPENED])
def test_a_worker_that_cannot_serve_asks_nothing_more(
    database: Database, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(worker_state, "should_stop", None)
    add_run(database, "good", models=("slow",))
    add_run(database, "bad", models=(UNOPENED.get(why, "slow"),), participants=1)
    if why == "other weights":
        record_served(database, "bad", "slow", {"respondent": "mode"}, {})
    if why == "no card":
        add_run(database, "bad", models=("slow", "unheard-of"), participants=1)
    stage = make_stage(database, CARDS, [])
    app = make_app("redis://nowhere")
    register_simulation(app, stage)
    task = app.tasks[SIMULATE]
    with ThreadPoolExecutor(3) as pool:
        in_hand = [pool.submit(task, who) for who in ((1, 2) if why not in UNOPENED else ())]
        while in_hand and (len(stage.leases.holding()) < 2 or not stage.resident.loads):
            assert not threading.Event().wait(0.01)
            assert not any(each.done() for each in in_hand)
        refused = pool.submit(task, 4 if why == "no card" else 3)
        for each in (refused, *in_hand):
            with pytest.raises(Reject) as told:
                each.result(10)
            assert told.value.requeue
    assert worker_state.should_stop == UNAVAILABLE
    assert rows(database, HELD) == [(0,)]
    assert progress_of(database, "good").answered == 0
    with pytest.raises(Reject, match="this worker stops"):
        task(1)
    stage.close()


def test_messages_of_other_runs_go_back_to_the_outbox(database: Database) -> None:
    for name in ("older", "first"):
        enqueue(database, None, study(name=name, models="[human]", participants="1"))
    outbox.mark_published(database, [1, 2, 3, 4])
    stage = Mock(database=database)
    app = make_app("redis://nowhere")
    register_simulation(app, stage, only="first")
    for participant in (1, 2, 3, 4):
        app.tasks[SIMULATE](participant)
    assert [call.args for call in stage.simulate.call_args_list] == [(3,), (4,)]
    assert rows(database, "SELECT id FROM participant WHERE published_at IS NULL") == [(1,), (2,)]


PASSING = {
    "the database is away": OperationalError("SELECT", {}, Exception("the server is starting up")),
    "the broker is away": redis.ConnectionError("connection refused"),
    "the disk is full": OSError(errno.ENOSPC, "No space left on device"),
}
LASTING = {
    "a defect": ValueError("no such section"),
    "a folder of another account": PermissionError(errno.EACCES, "Permission denied"),
}


@pytest.mark.parametrize("why", [*PASSING, *LASTING])
def test_a_report_is_given_up_only_where_asking_again_mends_nothing(
    database: Database,
    app: Celery,
    client: redis.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    why: str,
) -> None:
    """Whoever follows the run waits through an outage, since the reconciler asks again; a defect is told at once."""
    error = (PASSING | LASTING)[why]

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(tasks, "write_report", fail)
    enqueue(database, None, study())
    register_reports(app, database, tmp_path, client)
    assert app.tasks[REPORT].apply(args=("first", 1)).failed()
    told = client.get(report_failure_key("first"))
    assert told == (None if why in PASSING else str(error).encode())
    assert "report of first: " in caplog.text


@pytest.mark.parametrize("run", ["nobody", "../nobody", "/tmp/nobody", "a\0b"])
def test_a_report_of_a_run_that_is_not_there_leaves_no_trace(
    database: Database, app: Celery, client: redis.Redis, tmp_path: Path, run: str
) -> None:
    """Whatever name a message has: the run is looked up before a folder is made, inside or outside the home."""
    reports = tmp_path / "home" / "reports"
    before = sorted(tmp_path.iterdir())
    register_reports(app, database, reports, client)
    assert app.tasks[REPORT].apply(args=(run, 1, 0)).successful()
    assert sorted(tmp_path.iterdir()) == before
    assert client.keys() == []


PATIENCE = 20.0


@pytest.fixture
def judging(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Celery, list[str], Callable[..., None]]]:
    app, judged = make_app("redis://nowhere"), list[str]()

    def register(do: Callable[[str], object] = lambda _run: None, **options: Any) -> None:
        def judge_run(_settings: Settings, _database: Database, run: str, **_: object) -> str:
            judged.append(run)
            do(run)
            return run

        monkeypatch.setattr(judge, "judge_run", judge_run)
        settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)})
        tasks.register_judging(app, settings, database, **options)

    monkeypatch.setattr(tasks.judgements, "is_due", lambda _database, _run: True)
    monkeypatch.setattr(judge, "in_words", str)
    return app, judged, register


def test_a_second_run_is_let_be_while_one_is_judged(judging: tuple[Celery, list[str], Callable[..., None]]) -> None:
    """Two that waited for each other would leave no thread for reports; asked again later, it is judged."""
    app, judged, register = judging
    begun, go_on = threading.Event(), threading.Event()
    register(lambda _run: (begun.set(), go_on.wait(PATIENCE)))
    with ThreadPoolExecutor(2) as pool:
        try:
            first = pool.submit(app.tasks[JUDGE], "first")
            assert begun.wait(PATIENCE)
            pool.submit(app.tasks[JUDGE], "second").result(PATIENCE)
            assert (judged, first.done()) == (["first"], False)
        finally:
            go_on.set()
    app.tasks[JUDGE]("second")
    assert judged == ["first", "second"]


def test_the_reporter_of_one_run_judges_no_other(judging: tuple[Celery, list[str], Callable[..., None]]) -> None:
    app, judged, register = judging
    register(only="second")
    for run in ("first", "second"):
        app.tasks[JUDGE](run)
    assert judged == ["second"]


Between = Callable[[], object]


@contextmanager
def building(between: Between) -> Iterator[None]:
    def build_report(results: Results, folder: Path, **_: object) -> ReportPaths:
        between()
        folder.mkdir(parents=True, exist_ok=True)
        page = folder / "report.html"
        page.write_text(str(results.revision))
        return ReportPaths(html=page, markdown=page)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(build, "build_report", build_report)
        yield


@pytest.fixture
def half_done(database: Database) -> Database:
    enqueue(database, None, study(models="[human]", cultures="[us]", participants="2"))
    change(database, "UPDATE participant SET lease_until = 1e12 WHERE number = 1")
    finish(database)
    change(database, "UPDATE participant SET lease_until = NULL")
    return database


def recorded(database: Database) -> int:
    report = outbox.latest_report(database, "first")
    assert report is not None
    return report.revision


def test_an_older_report_is_not_written_over_a_newer_one(half_done: Database, tmp_path: Path) -> None:
    """``report`` is typed while the last answers come: whoever builds the report of the end waits for its end."""
    read, go_on, busy = threading.Event(), threading.Event(), threading.Lock()

    def between() -> None:
        assert busy.acquire(blocking=False), "two write the same files"
        first, _ = not read.is_set(), read.set()
        assert not first or go_on.wait(PATIENCE)
        busy.release()

    with building(between), ThreadPoolExecutor(2) as pool:
        older = pool.submit(write_report, half_done, "first", tmp_path)
        assert read.wait(PATIENCE)
        finish(half_done)
        newer = pool.submit(write_report, half_done, "first", tmp_path)
        threading.Event().wait(0.2)
        go_on.set()
        assert older.result(PATIENCE).revision < newer.result(PATIENCE).revision == recorded(half_done)
    assert (tmp_path / "report.html").read_text() == str(recorded(half_done))


def test_a_report_that_another_machine_has_overtaken_is_built_again(half_done: Database, tmp_path: Path) -> None:
    built: list[int] = []

    def between() -> None:
        built.append(outbox.revision(half_done, "first"))
        if len(built) == 1:
            finish(half_done)
            end = outbox.revision(half_done, "first")
            outbox.record_report(half_done, BuiltReport(run="first", revision=end, html="there", markdown="there"))

    with building(between):
        written = write_report(half_done, "first", tmp_path)
    assert (tmp_path / "report.html").read_text() == str(written.revision) == str(recorded(half_done))
    assert len(built) == 2


def test_a_report_that_somebody_else_builds_holds_up_no_other(
    half_done: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that was suspended in the middle of it has the run's lock; whoever comes meanwhile is told."""
    monkeypatch.setattr("defsurvey.jobs.daemons.tasks._REPORT_PATIENCE", 0.0)
    app, broker = Celery("reports", broker="memory://"), MagicMock()
    register_reports(app, half_done, tmp_path, broker)
    with building(lambda: None):
        with exclusive(tmp_path / "first" / ".lock", "report"):
            app.tasks[REPORT]("first", 1)
            assert outbox.latest_report(half_done, "first") is None
        app.tasks[REPORT]("first", 1)
    assert recorded(half_done) > 0
    broker.set.assert_not_called()


QUEUE = simulate_queue("human")


@pytest.fixture
def known() -> Bodies:
    made = make_app("redis://nowhere")
    register_simulation(made, None)  # type: ignore[arg-type]  # nobody is asked here
    return bodies(made)


@pytest.fixture
def ours(app: Celery, client: redis.Redis) -> bytes:
    app.send_task(SIMULATE, args=[42], queue=QUEUE, retry=False)
    found: Any = client.lindex(QUEUE, 0)
    return bytes(found)


def body_of(*parts: object) -> str:
    return base64.b64encode(json.dumps(parts).encode()).decode()


def test_of_a_message_of_ours_task_id_and_arguments_are_passed_on(ours: bytes, known: Bodies) -> None:
    sent = json.loads(ours)
    sent["headers"] |= {"eta": "yesterday", "expires": ["x"], "timelimit": 7, "group": {}}
    sent["properties"] |= {"delivery_tag": ["x"], "delivery_info": None, "priority": "high"}
    sent["body"] = body_of([42], {}, {"chain": [{"task": "celery.map"}]})
    read_as = json.loads(read(json.dumps(sent).encode(), known, QUEUE))
    assert json.loads(base64.b64decode(read_as["body"]))[:2] == [[42], {}]
    assert "celery.map" not in base64.b64decode(read_as["body"]).decode()
    assert read_as["headers"].keys() == {"lang", "task", "id", "root_id", "argsrepr"}
    assert (read_as["headers"]["task"], read_as["headers"]["id"]) == (SIMULATE, sent["headers"]["id"])
    assert read_as["properties"]["delivery_info"] == {"exchange": "", "routing_key": QUEUE}
    assert json.loads(read(read(ours, known, QUEUE), known, QUEUE))["headers"] == read_as["headers"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: m["headers"].update(task=["a"]), "headers: task: Input should be a valid string"),
        (lambda m: m["headers"].update(task=REPORT), f"expected task {SIMULATE}"),
        (lambda m: m["headers"].update(id=7), "headers: id: UUID input should be a string"),
        (lambda m: m.pop("headers"), "headers: Field required"),
        (lambda m: m.update({"content-type": "application/x-python-serialize"}), "content-type: Input should be"),
        (lambda m: m.update(body="?"), "body: Invalid JSON"),
        (lambda m: m.update(body=body_of([1, 2], {}, {})), "body: 0: Tuple should have at most 1 item"),
        (lambda m: m.update(body=body_of(["1"], {}, {})), "body: 0: 0: Input should be a valid integer"),
        (lambda m: m.update(body=body_of([0], {}, {})), "body: 0: 0: Input should be greater"),
        (lambda m: m.update(body=body_of([2**63], {}, {})), "body: 0: 0: Input should be less"),
        (lambda m: m.update(body=body_of([1], {"participant": 1}, {})), "body: 1: Dictionary should have at most 0"),
        (lambda m: m["properties"].update(padding="x" * MOST_BYTES), f"expected at most {MOST_BYTES} bytes"),
    ],
)
def test_a_message_that_differs_from_ours_is_not_ours(
    ours: bytes, known: Bodies, change: Callable[[Any], object], why: str
) -> None:
    message = json.loads(ours)
    change(message)
    with pytest.raises(NotOurs) as refused:
        read(json.dumps(message).encode(), known, QUEUE)
    assert str(refused.value).startswith(why)


def test_the_broker_keeps_the_beginnings_of_the_newest_dead_letters_and_counts_all(client: redis.Redis) -> None:
    for number in range(KEPT + 20):
        put_aside(client, "reports", b"%d\xff\x1b" % number + b"x" * 100_000, "no reason")
    kept: Any = client.lrange(DEAD_LETTERS, 0, -1)
    assert (len(kept), counts(client)) == (KEPT, {"reports": KEPT + 20})
    assert max(map(len, kept)) < 1_500
    newest = json.loads(kept[0])
    assert (newest["queue"], newest["why"], newest["bytes"]) == ("reports", "no reason", 100_005)
    assert newest["item"].startswith("119\\xff\x1bxxx")
