"""A database that goes away, loses its words, is full or has another clock, under real processes."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from defsurvey.jobs.broker import EmbeddedBroker
from defsurvey.storage.database import BUSY_TIMEOUT
from tests.chaos.machine import PLANNED, ChaosMachine, broker_elsewhere, finish_well, kill_server, points, state_of
from tests.chaos.postgres import PostgresServer
from tests.chaos.table import Row
from tests.end_to_end.machine import ended, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

Record = Callable[[Row], None]
#: Seconds within which a worker that is told to end has ended.
STOPS_WITHIN = 10.0


@contextmanager
def database_away(machine: ChaosMachine, request: pytest.FixtureRequest) -> Iterator[None]:
    """PostgreSQL is stopped as by a crash; SQLite's file is locked by somebody else."""
    if machine.url is not None:
        server: PostgresServer = request.getfixturevalue("server")
        server.stop()
        try:
            yield
        finally:
            server.start()
        return
    other = sqlite3.connect(machine.home / "defsurvey.db", isolation_level=None, timeout=30)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.rollback()
        other.close()


@contextmanager
def daemons(
    machine: ChaosMachine, *faulty: str, plain: int = 0, options: tuple[str, ...] = (), **environment: str
) -> Iterator[list[subprocess.Popen[str]]]:
    """Workers, some with a fault built in, a reporter and a reconciler, around an enqueued run."""
    words = ("worker", "--concurrency", "8", *options)
    started = [machine.faulty(fault, *words, **environment) for fault in faulty]
    started += [machine.start(*words, **environment) for _ in range(plain)]
    others = [machine.start(verb, **environment) for verb in ("reporter", "reconciler")]
    try:
        yield started
    finally:
        for process in (*started, *others):
            process.send_signal(signal.SIGTERM)
        said = [ended(process) for process in (*started, *others)]
        machine.write("said", "".join(process.stderr for process in said))
        EmbeddedBroker(machine.home).stop()


def test_the_database_is_stopped_mid_save(
    machine: ChaosMachine, expected: bytes, record: Record, request: pytest.FixtureRequest
) -> None:
    """Three times: whatever was in hand is saved when it is back, and not one question is asked again."""
    machine.set_latency(0.3)
    run = machine.start("run", "study.yaml", "--concurrency", "8", DEFSURVEY_SYNCHRONOUS="off")
    for point in points(3, seed=33):
        machine.wait_for_answers(point, run)
        machine.catch()
        with database_away(machine, request):
            time.sleep(BUSY_TIMEOUT + 1.5 if machine.url is None else 4.0)
        assert run.poll() is None
    finish_well(run)
    assert machine.asked() == PLANNED
    assert "trying again in" in machine.log("worker-1")
    record(machine.conclude("the database is away mid-save", expected))


def test_a_worker_is_told_to_end_while_broker_and_database_are_away(
    machine: ChaosMachine, expected: bytes, record: Record, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """It ends within seconds all the same; what it held is found, and asked by the next one."""
    machine.set_latency(0.2)
    with broker_elsewhere(tmp_path / "broker") as broker:
        here = {"DEFSURVEY_BROKER_URL": broker.url, "DEFSURVEY_LEASE_SECONDS": "10"}
        assert machine.type("enqueue", "study.yaml", **here).returncode == 0
        with daemons(machine, plain=1, **here) as (worker,):
            machine.wait_for_answers(40)
            machine.set_latency(60.0)
            wait_until(lambda: machine.unanswered(worker.pid) >= 8, "answers that take long")
            machine.catch(pid=worker.pid)
            kill_server(broker)
            with database_away(machine, request):
                told = time.monotonic()
                worker.send_signal(signal.SIGTERM)
                wait_until(lambda: state_of(worker.pid) in ("", "Z"), "the worker's end", seconds=STOPS_WITHIN)
                assert time.monotonic() - told < STOPS_WITHIN
            broker.ensure()
            machine.set_latency(0.05)
            replacement = machine.start("worker", "--concurrency", "8", **here)
            wait_until(lambda: machine.rows("SELECT count(*) FROM report") == [(1,)], "the report", seconds=120)
            replacement.send_signal(signal.SIGTERM)
            ended(replacement)
    log = (machine.folder / "said").read_text()
    record(machine.conclude("SIGTERM while broker and database are away", expected, log=log))


def test_the_word_of_a_commit_is_lost(machine: ChaosMachine, expected: bytes, record: Record) -> None:
    """One of ten commits is done and reported as failed: what is in the ledger is recognised, not written twice."""
    machine.set_latency(0.1)
    lease = {"DEFSURVEY_LEASE_SECONDS": "4"}
    machine.done("enqueue", "study.yaml")
    with daemons(machine, "lose-commits=0.1", "lose-commits=0.1", **lease):
        machine.wait_for_answers(40)
        machine.catch()
        wait_until(lambda: machine.rows("SELECT count(*) FROM report") == [(1,)], "the report", seconds=180)
    assert machine.injected("commit") > PLANNED / 20
    log = (machine.folder / "said").read_text()
    row = machine.conclude("a commit is done, its word lost", expected, times=machine.injected("commit"), log=log)
    assert row.recomputed == 0
    record(row)


@pytest.mark.parametrize("offset", [3600, -3600], ids=["ahead", "behind"])
def test_a_clock_is_an_hour_off(machine: ChaosMachine, expected: bytes, record: Record, offset: int) -> None:
    """One of two workers: PostgreSQL does not even notice, on SQLite the fence holds."""
    machine.set_latency(0.4)
    machine.done("enqueue", "study.yaml")
    with daemons(machine, f"wrong-clock={offset}") as (wrong,):
        machine.wait_for_answers(8)
        machine.catch(pid=wrong.pid)
        right = machine.start("worker", "--concurrency", "32")
        wait_until(lambda: machine.rows("SELECT count(*) FROM report") == [(1,)], "the report", seconds=180)
        right.send_signal(signal.SIGTERM)
        assert ended(right).returncode == 0
    if machine.url is None:
        machine.injections.clear()  # times of answers are by the clock of who wrote them
    log = (machine.folder / "said").read_text()
    row = machine.conclude(f"a worker's clock is 1 h {'ahead' if offset > 0 else 'behind'}", expected, log=log, times=1)
    taken = machine.url is None and offset < 0  # its leases look as if they had run out long ago
    assert (row.recomputed > 0, row.fenced > 0) == (taken, taken)
    record(row)


def test_the_disk_is_full(sqlite_machine: ChaosMachine, expected: bytes, record: Record) -> None:
    """Answers in hand are kept until there is room again, and no question is asked twice."""
    machine = sqlite_machine
    machine.set_latency(0.1)
    machine.done("enqueue", "study.yaml")
    with daemons(machine, "full-disk") as (worker,):
        for point in (40, 120, 200):
            machine.wait_for_answers(point)
            machine.catch()
            machine.write("full", "")
            wait_until(lambda: machine.unanswered(worker.pid) == 0, "every answer to wait for room")
            before = machine.answers()
            time.sleep(2)
            assert machine.answers() <= before + 8
            (machine.folder / "full").unlink()
        wait_until(lambda: machine.rows("SELECT count(*) FROM report") == [(1,)], "the report", seconds=120)
    log = (machine.folder / "said").read_text()
    assert "database or disk is full; trying again in" in log
    row = machine.conclude("the disk is full while saving", expected, log=log)
    assert row.recomputed == 0
    record(row)
