"""Interleavings that are forced, not hoped for: who comes back too late, who comes at the same instant."""

# ruff: noqa: F811
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from celery import Celery
from sqlalchemy import bindparam, select

from defsurvey.jobs.broker import REPORT, EmbeddedBroker, make_app
from defsurvey.jobs.daemons import tasks
from defsurvey.jobs.daemons.reconciler import Reconciler, ask_for_report
from defsurvey.storage.database import Database
from defsurvey.storage.runs import ledger as ledger_module
from defsurvey.storage.runs import outbox, recovery, tables
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.outbox import BuiltReport
from defsurvey.storage.runs.run import AnswerState, Participant
from defsurvey.workers.runner.participant_runner import Outcome, ParticipantRunner
from tests.chaos.machine import follow
from tests.chaos.stages import PATIENCE, QUESTIONS, RUN, TO_OPEN, Gated, stage_of, started
from tests.storage.conftest import (  # noqa: F401  # fixtures, which tests take as arguments of the same name
    database,
    migrated_postgres,
    migrated_sqlite,
    postgres,
    postgresql_url,
    sqlite_url,
    url,
)


@pytest.fixture(autouse=True)
def nothing_to_open() -> None:
    TO_OPEN.clear()


def remove_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    fenced = ledger_module.ADVANCE
    unfenced = fenced.where()
    unfenced._where_criteria = tuple(part for part in fenced._where_criteria if "lease_epoch" not in str(part))
    assert len(unfenced._where_criteria) == len(fenced._where_criteria) - 1
    monkeypatch.setattr(ledger_module, "ADVANCE", unfenced.where(bindparam("held") > 0))


def come_back_too_late(database: Database, folder: Path) -> tuple[Outcome, Outcome]:
    """One worker is stuck at the third question while everything is taken back and asked anew by another, up to there.

    Then the first comes back with what it was told before. Returns what became of the late one and of the other.
    """
    (who,) = started(database)
    late, fresh = Gated(folder, "Q3"), Gated(folder, "Q3")
    first, second = stage_of(database, late), stage_of(database, fresh, name="two")
    with ThreadPoolExecutor(2) as pool:
        stuck = pool.submit(first.simulate, who)
        assert late.arrived.wait(PATIENCE)
        assert recovery.rewind(database, RUN, [AnswerState.ANSWERED]) == 2
        # The engine waits for its users to exchange it: each stage has its own.
        going = pool.submit(second.simulate, who)
        assert fresh.arrived.wait(PATIENCE)
        late.let_go()
        come_back = stuck.result(PATIENCE)
        fresh.let_go()
        gone_on = going.result(PATIENCE)
    late.close()
    fresh.close()
    return come_back, gone_on


def test_a_stale_writer_that_comes_back_writes_nothing(database: Database, tmp_path: Path) -> None:
    assert come_back_too_late(database, tmp_path) == (Outcome.LOST, Outcome.FINISHED)
    chained = follow(database, RUN)
    assert (chained.kept, chained.breaks) == (len(QUESTIONS), ())


def test_without_the_fence_the_chain_breaks(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_the_epoch(monkeypatch)
    come_back, gone_on = come_back_too_late(database, tmp_path)
    assert come_back is not Outcome.FINISHED or gone_on is not Outcome.FINISHED
    assert follow(database, RUN).breaks != ()


def end_at_once(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    barrier = threading.Barrier(number)
    checkpoint = Ledger.checkpoint

    def together(self: Ledger, held: Participant, answer: object, memory: tuple[int, ...], *more: object) -> None:
        if answer.item == len(QUESTIONS) - 1:  # type: ignore[attr-defined]
            barrier.wait(PATIENCE)
        checkpoint(self, held, answer, memory, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "checkpoint", together)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture
def reporter(
    broker: EmbeddedBroker, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Celery, list[int]]]:
    built: list[int] = []

    def note(database: Database, run: str, folder: Path, **_options: object) -> BuiltReport:
        revision = outbox.revision(database, run)
        built.append(revision)
        page = tmp_path / "report.html"
        page.write_text(str(revision))
        report = BuiltReport(run=run, revision=revision, html=str(page), markdown=str(page))
        outbox.record_report(database, report)
        return report

    monkeypatch.setattr(tasks, "write_report", note)
    app = make_app(broker.url)
    with broker.client() as client:
        client.flushall()
        tasks.register_reports(app, database, tmp_path, client)
        yield app, built
    app.close()


def deliver(app: Celery, broker: EmbeddedBroker) -> int:
    delivered = 0
    with app.connection() as connection:
        while message := connection.default_channel.basic_get("reports"):
            asked, _, _ = message.decode()
            app.tasks[REPORT](*asked)
            message.ack()
            delivered += 1
    return delivered


def revisions(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.execute(select(tables.report.c.revision).order_by("revision")).scalars())


def test_one_report_for_each_revision_of_the_ledger(
    database: Database,
    broker: EmbeddedBroker,
    reporter: tuple[Celery, list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four that finish at the same instant, a trigger told again and again, and answers asked again afterwards."""
    app, built = reporter
    who = started(database, participants=4)
    engine = Gated(tmp_path)
    stage: ParticipantRunner = stage_of(database, engine, on_run_finished=partial(ask_for_report, app, database))
    with monkeypatch.context() as patched, ThreadPoolExecutor(4) as pool:
        end_at_once(patched, 4)
        assert set(pool.map(stage.simulate, who)) == {Outcome.FINISHED}
    with broker.client() as client:
        reconciler = Reconciler(database=database, app=app, broker=client)
        reconciler.reconcile()  # has not heard of the triggers, and asks as well
        revision = 4 * len(QUESTIONS)
        assert 2 <= deliver(app, broker) <= 5
        assert (built, revisions(database)) == ([revision], [revision])
        for _ in range(3):
            ask_for_report(app, database, RUN)
        reconciler.reconcile()
        assert deliver(app, broker) == 3
        assert (built, revisions(database)) == ([revision], [revision])
        assert recovery.ask_again(database, RUN, [AnswerState.ANSWERED]) == revision
        reconciler.reconcile()
        assert deliver(app, broker) == 0  # it is not finished: nothing is due
        assert [stage.simulate(one) for one in who] == 4 * [Outcome.FINISHED]
        reconciler.reconcile()
        deliver(app, broker)
        assert (built, revisions(database)) == ([revision, 2 * revision], [revision, 2 * revision])
    engine.close()


def test_two_requests_at_the_same_instant_build_one_report(
    database: Database, reporter: tuple[Celery, list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, built = reporter
    (who,) = started(database)
    engine = Gated(tmp_path)
    assert stage_of(database, engine).simulate(who) is Outcome.FINISHED
    note = tasks.write_report

    def slowly(database: Database, run: str, folder: Path, **_: object) -> BuiltReport:
        time.sleep(0.3)
        return note(database, run, folder)

    monkeypatch.setattr(tasks, "write_report", slowly)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(app.tasks[REPORT], [RUN, RUN], [len(QUESTIONS)] * 2))
    app.tasks[REPORT](RUN, 1)  # a message that comes too late, for an older revision
    assert built == [len(QUESTIONS)]
    engine.close()


def test_every_message_twice_at_the_same_instant(database: Database, tmp_path: Path) -> None:
    who = started(database, participants=8)
    engines = Gated(tmp_path), Gated(tmp_path)
    stages = [stage_of(database, engines[0]), stage_of(database, engines[1], name="two")]
    start = threading.Barrier(16)

    def simulate(task: tuple[ParticipantRunner, int]) -> Outcome:
        start.wait(PATIENCE)
        return task[0].simulate(task[1])

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(simulate, [(stage, one) for one in who for stage in stages]))
    assert sorted(outcome.name for outcome in outcomes) == 8 * ["FINISHED"] + 8 * ["NOT_CLAIMED"]
    assert sum(len(engine.asked) for engine in engines) == 8 * len(QUESTIONS)
    chained = follow(database, RUN)
    assert (chained.kept, chained.breaks) == (8 * len(QUESTIONS), ())
    for engine in engines:
        engine.close()
