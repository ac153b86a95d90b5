"""Faults of brokers, databases and workers under real processes: every planned answer is there afterwards, once."""

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from defsurvey.jobs.broker import EmbeddedBroker, simulate_queue
from defsurvey.storage.database import BUSY_TIMEOUT
from defsurvey.storage.runs.recovery import QUARANTINE_AFTER
from defsurvey.storage.runs.run import Protocol
from defsurvey.workers.runner.watchdog import EXIT_HUNG
from defsurvey.workers.simulation.draws import completion_seed
from tests.chaos.engines import EXIT_POISONED, poison_line
from tests.chaos.faulty import EXIT_CRASHED
from tests.chaos.machine import (
    PLANNED,
    QUESTIONS,
    SEED,
    ChaosMachine,
    Row,
    finish_well,
    kill_server,
    points,
    server_of,
    state_of,
)
from tests.end_to_end.machine import ended, wait_until
from tests.storage.postgres import PostgresServer

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

Conclude = Callable[..., Row]
STOPS_WITHIN = 10.0  #: seconds within which a worker that is told to end has ended


def run(machine: ChaosMachine, latency: float, *options: str, **environment: str) -> subprocess.Popen[str]:
    machine.set_latency(latency)
    return machine.start("run", "study.yaml", "--concurrency", "8", *options, **environment)


def waiting_messages(broker: EmbeddedBroker) -> int:
    with broker.client() as client:
        return int(client.llen(simulate_queue("citizen")))  # type: ignore[arg-type]  # the stub knows async clients too


def test_the_broker_is_flushed(machine: ChaosMachine, conclude: Conclude) -> None:
    process, broker = run(machine, 0.2), EmbeddedBroker(machine.home)
    for point in (20, 60, 100):
        machine.wait_for_answers(point, process)
        wait_until(lambda: waiting_messages(broker) > 4, "messages to lose")
        machine.catch(waiting=True)
        with broker.client() as client:
            client.flushall()
    finish_well(process)
    assert machine.log("run").count("the broker has lost its queues") == 3
    conclude("the broker is flushed")


@pytest.mark.parametrize("file", ["kept", "lost"])
def test_the_broker_is_killed(machine: ChaosMachine, conclude: Conclude, file: str) -> None:
    process, broker = run(machine, 0.2), EmbeddedBroker(machine.home)
    for point in (20, 100, 180):
        machine.wait_for_answers(point, process)
        machine.catch(waiting=True)
        before = server_of(broker)
        kill_server(broker, and_its_file=file == "lost")
        wait_until(broker.alive, "a broker that is started again")
        assert server_of(broker) != before
    finish_well(process)
    assert ("the broker has lost its queues" in machine.log("run")) == (file == "lost")
    conclude(f"the broker is killed (kill -9), its file {file}")


def test_the_broker_is_away_while_tasks_finish(machine: ChaosMachine, conclude: Conclude, tmp_path: Path) -> None:
    """30 seconds without a broker: participants in hand go on to their end, and the rest follows when it is back."""
    with EmbeddedBroker(tmp_path / "broker") as broker:
        process = run(machine, 0.5, DEFSURVEY_BROKER_URL=broker.url)
        machine.wait_for_answers(16, process)
        machine.catch(waiting=True)
        in_hand, before = set(machine.held()), machine.answers()
        kill_server(broker)
        finished = "SELECT id FROM participant WHERE status = 'finished'"
        wait_until(lambda: in_hand <= {who for (who,) in machine.rows(finished)}, "those in hand to finish")
        assert machine.answers() > before
        time_left = 30 - (machine.rows("SELECT max(committed_at) FROM answer")[0][0] - machine.injections[0].at)
        time.sleep(max(time_left, 0))
        assert process.poll() is None
        assert len(machine.rows(finished)) == len(in_hand)
        broker.ensure()
        finish_well(process)
    conclude("the broker is away for 30 s while tasks finish")


def test_a_task_is_longer_than_the_visibility_timeout(machine: ChaosMachine, conclude: Conclude) -> None:
    """Every participant takes longer than the broker waits for it: its message comes again, and does nothing."""
    process = run(machine, 2.0, "--concurrency", "32", DEFSURVEY_VISIBILITY_TIMEOUT="3")
    machine.wait_for_answers(32, process)
    assert len(machine.held()) == 32
    machine.catch()
    broker = EmbeddedBroker(machine.home)
    assert waiting_messages(broker) == 0
    wait_until(lambda: waiting_messages(broker), "messages to come again")
    again = waiting_messages(broker)
    finish_well(process)
    assert machine.rows("SELECT max(lease_epoch) FROM participant") == [(1,)]
    assert machine.asked() == PLANNED
    conclude("a task is longer than the visibility timeout", times=again)


def test_every_message_is_delivered_twice(machine: ChaosMachine, conclude: Conclude) -> None:
    machine.set_latency(0.1)
    process = machine.faulty("publish-twice", "run", "study.yaml", "--workers", "2", "--concurrency", "8")
    machine.wait_for_answers(20)
    machine.catch()
    finish_well(process)
    twice = machine.injected("message")
    assert twice >= 32
    assert machine.rows("SELECT max(lease_epoch) FROM participant") == [(1,)]
    assert machine.asked() == PLANNED
    conclude("every message is delivered twice", times=twice)


def test_a_crash_between_insert_and_publish(machine: ChaosMachine, conclude: Conclude, tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "broker") as broker:
        here = {"DEFSURVEY_BROKER_URL": broker.url}
        crashed = machine.faulty("crash-before-publishing", "enqueue", "study.yaml", **here)
        assert ended(crashed).returncode == EXIT_CRASHED
        assert (machine.injected("crash"), waiting_messages(broker)) == (1, 0)
        assert machine.rows("SELECT count(*), count(published_at) FROM participant") == [(32, 0)]
        finish_well(machine.start("resume", "small", "--wait", "--concurrency", "8", **here))
    conclude("a crash between insert and publish", times=1)


Away = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def database_away(machine: ChaosMachine, request: pytest.FixtureRequest) -> Away:
    @contextmanager
    def away() -> Iterator[None]:
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

    return away


@contextmanager
def daemons(
    machine: ChaosMachine, *faulty: str, plain: int = 0, **environment: str
) -> Iterator[list[subprocess.Popen[str]]]:
    words = ("worker", "--concurrency", "8")
    started = [machine.faulty(fault, *words, **environment) for fault in faulty]
    started += [machine.start(*words, **environment) for _ in range(plain)]
    others = [machine.start(verb, **environment) for verb in ("reporter", "reconciler")]
    try:
        yield started
        wait_until(lambda: machine.rows("SELECT count(*) FROM report") == [(1,)], "the report", seconds=180)
    finally:
        for process in (*started, *others):
            process.send_signal(signal.SIGTERM)
        machine.said = "".join(ended(process).stderr for process in (*started, *others))
        EmbeddedBroker(machine.home).stop()


def test_the_database_is_stopped_mid_save(machine: ChaosMachine, conclude: Conclude, database_away: Away) -> None:
    process = run(machine, 0.3, DEFSURVEY_SYNCHRONOUS="off")
    for point in points(3, seed=33):
        machine.wait_for_answers(point, process)
        machine.catch()
        with database_away():
            time.sleep(BUSY_TIMEOUT + 1.5 if machine.url is None else 4.0)
        assert process.poll() is None
    finish_well(process)
    assert machine.asked() == PLANNED
    assert "trying again in" in machine.log("worker-1")
    conclude("the database is away mid-save")


def test_a_worker_is_told_to_end_while_broker_and_database_are_away(
    machine: ChaosMachine, conclude: Conclude, database_away: Away, tmp_path: Path
) -> None:
    machine.set_latency(0.2)
    with EmbeddedBroker(tmp_path / "broker") as broker:
        here = {"DEFSURVEY_BROKER_URL": broker.url, "DEFSURVEY_LEASE_SECONDS": "10"}
        machine.done("enqueue", "study.yaml", **here)
        with daemons(machine, plain=1, **here) as processes:
            (worker,) = processes
            machine.wait_for_answers(40)
            machine.set_latency(60.0)
            wait_until(lambda: machine.unanswered(worker.pid) >= 8, "answers that take long")
            machine.catch(pid=worker.pid)
            kill_server(broker)
            with database_away():
                worker.send_signal(signal.SIGTERM)
                wait_until(lambda: state_of(worker.pid) in ("", "Z"), "the worker's end", seconds=STOPS_WITHIN)
            broker.ensure()
            machine.set_latency(0.05)
            processes.append(machine.start("worker", "--concurrency", "8", **here))
    conclude("SIGTERM while broker and database are away", log=machine.said)


def test_the_word_of_a_commit_is_lost(machine: ChaosMachine, conclude: Conclude) -> None:
    """One of ten commits is done and reported as failed: what is in the ledger is recognised, not written twice."""
    machine.set_latency(0.1)
    machine.done("enqueue", "study.yaml")
    with daemons(machine, "lose-commits=0.1", "lose-commits=0.1", DEFSURVEY_LEASE_SECONDS="4"):
        machine.wait_for_answers(40)
        machine.catch()
    lost = machine.injected("commit")
    assert lost > PLANNED / 20
    assert conclude("a commit is done, its word lost", times=lost, log=machine.said).recomputed == 0


@pytest.mark.parametrize("offset", [3600, -3600], ids=["ahead", "behind"])
def test_a_clock_is_an_hour_off(machine: ChaosMachine, conclude: Conclude, offset: int) -> None:
    machine.set_latency(0.4)
    machine.done("enqueue", "study.yaml")
    with daemons(machine, f"wrong-clock={offset}") as processes:
        machine.wait_for_answers(8)
        machine.catch(pid=processes[0].pid)
        processes.append(machine.start("worker", "--concurrency", "32"))
    if machine.url is None:
        machine.injections.clear()  # times of answers are by the clock of who wrote them
    row = conclude(f"a worker's clock is 1 h {'ahead' if offset > 0 else 'behind'}", log=machine.said, times=1)
    taken = machine.url is None and offset < 0  # its leases look as if they had run out long ago
    assert (row.recomputed > 0, row.fenced > 0) == (taken, taken)


@pytest.mark.parametrize("machine", ["sqlite"], indirect=True)
def test_the_disk_is_full(machine: ChaosMachine, conclude: Conclude) -> None:
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
    assert "database or disk is full; trying again in" in machine.said
    assert conclude("the disk is full while saving", log=machine.said).recomputed == 0


def test_workers_killed_at_25_points(machine: ChaosMachine, conclude: Conclude) -> None:
    process, dice = run(machine, 0.2, "--workers", "2"), random.Random(25)
    for point in points(25, seed=25):
        machine.wait_for_answers(point, process)
        wait_until(lambda: machine.kill_in_flight(dice.choice(machine.holders() or [0])), "a worker with work")
    finish_well(process)
    assert len(machine.injections) == 25
    assert machine.log("run").count("ended with status -9") >= 24  # the run may end before it misses the last one
    conclude("a worker is killed (kill -9)")


def test_everything_is_killed_at_once(machine: ChaosMachine, conclude: Conclude) -> None:
    """kill -9 of command, workers, reporter and broker together, as when a machine is switched off; three times."""
    machine.set_latency(0.2)
    options = ("--workers", "2", "--concurrency", "8")
    for number, point in enumerate(points(3, seed=3)):
        process = machine.start(*(("resume", "small", "--wait") if number else ("run", "study.yaml")), *options)
        machine.wait_for_answers(point, process)
        machine.catch()
        for pid in machine.processes():
            os.kill(pid, signal.SIGKILL)
        process.wait()
    finish_well(machine.start("resume", "small", "--wait", *options))
    conclude("everything is killed at once (kill -9)")


def test_a_worker_is_told_to_end_mid_answer(machine: ChaosMachine, conclude: Conclude) -> None:
    process = run(machine, 0.2, "--workers", "2")
    for point in points(5, seed=5):
        machine.wait_for_answers(point, process)
        wait_until(machine.holders, "a worker with work")
        victim = machine.holders()[0]
        machine.set_latency(60.0)
        wait_until(lambda victim=victim: machine.unanswered(victim) >= 8, "answers that take long")  # type: ignore[misc]
        machine.catch(pid=victim)
        os.kill(victim, signal.SIGTERM)
        wait_until(lambda victim=victim: state_of(victim) in ("", "Z"), "its end", seconds=STOPS_WITHIN)  # type: ignore[misc]
        assert victim not in machine.holders()
        machine.set_latency(0.2)
        for other in machine.processes("worker"):  # so that nobody waits for a minute
            if other != victim:
                os.kill(other, signal.SIGTERM)
    finish_well(process)
    assert machine.rows("SELECT count(*) FROM participant WHERE suspect OR deaths > 0") == [(0,)]
    conclude("a worker is told to end (SIGTERM) mid-answer")


def test_the_poisoned_are_found_and_set_aside(machine: ChaosMachine, conclude: Conclude) -> None:
    """The engine's process ends at one question of one of 32 in flight: the others finish, and later so does it."""
    machine.set_engine("poisonable")
    index, question = 5, "Q4"
    machine.write("poison", poison_line(completion_seed(Protocol(seed=SEED), index, question), "cn", question))
    process = run(machine, 0.05, "--concurrency", "32")
    wait_until(lambda: machine.injected("poison"), "the first death")
    machine.catch()
    (caught,) = machine.injections
    assert len(caught.positions) == 32
    finish_well(process, code=3)
    deaths = machine.log("run").count(f"ended with status {EXIT_POISONED}")
    assert deaths == 1 + QUARANTINE_AFTER  # once among the others, and three times while alone
    unfinished = "SELECT id, number, next_item, deaths, status FROM participant WHERE status <> 'finished'"
    ((poisoned, *standing),) = machine.rows(unfinished)
    assert standing == [index, 3, QUARANTINE_AFTER, "quarantined"]
    assert machine.rows("SELECT count(*) FROM participant WHERE status = 'finished' AND deaths = 0") == [(31,)]
    assert "is set aside" in machine.log("run")
    assert machine.answers() == PLANNED - (QUESTIONS - 3)
    (machine.folder / "poison").unlink()
    machine.done("retry", "small", "--state", "missing")
    finish_well(machine.start("resume", "small", "--wait"))
    del caught.positions[poisoned]  # it recovers when the poison is gone
    conclude("a participant ends its worker", times=deaths)


def test_a_hung_engine_is_ended(machine: ChaosMachine, conclude: Conclude) -> None:
    machine.set_engine("hanging")
    process = run(machine, 0.1, "--concurrency", "16", DEFSURVEY_HANG_SECONDS="2")
    for point in points(2, seed=2):
        machine.wait_for_answers(point, process)
        machine.write("hang", "")
        wait_until(lambda: not (machine.folder / "hang").exists(), "an engine that hangs")
        machine.catch()
    finish_well(process)
    assert machine.log("run").count(f"ended with status {EXIT_HUNG}") == 2
    assert machine.log("worker-1").count("the engine hangs") == 2
    conclude("the engine hangs")


def test_a_frozen_worker_comes_back_after_its_lease_was_taken(machine: ChaosMachine, conclude: Conclude) -> None:
    """It sleeps past its leases, others take its participants, and what it commits on waking is refused."""
    process = run(machine, 0.5, "--workers", "2", DEFSURVEY_LEASE_SECONDS="3")
    machine.wait_for_answers(40, process)
    wait_until(lambda: len(machine.holders()) == 2, "two workers with work")
    frozen = machine.holders()[0]
    os.kill(frozen, signal.SIGSTOP)
    machine.catch(pid=frozen)
    before = machine.injections[-1].positions
    assert machine.unanswered(frozen) > 0
    taken = "SELECT id FROM participant WHERE lease_epoch > 1 AND next_item > 0"
    wait_until(lambda: set(before) & {who for (who,) in machine.rows(taken)}, "others to take them")
    wait_until(lambda: frozen not in machine.holders(), "all its leases to run out")
    os.kill(frozen, signal.SIGCONT)
    finish_well(process)
    assert conclude("a frozen worker comes back after its lease was taken").fenced > 0
