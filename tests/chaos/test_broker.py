"""A broker that forgets, dies, stays away, or delivers too often, under real processes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from defsurvey.jobs.broker import EmbeddedBroker, simulate_queue
from tests.chaos.faulty import EXIT_CRASHED
from tests.chaos.machine import PLANNED, ChaosMachine, broker_elsewhere, finish_well, kill_server, server_of
from tests.chaos.table import Row
from tests.end_to_end.machine import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

Record = Callable[[Row], None]


def waiting_messages(broker: EmbeddedBroker) -> int:
    """How many messages lie in the model's queue."""
    with broker.client() as client:
        return int(client.llen(simulate_queue("citizen")))  # type: ignore[arg-type]  # the stub knows async clients too


def test_the_broker_is_flushed(machine: ChaosMachine, expected: bytes, record: Record) -> None:
    """FLUSHALL with half of the messages in the queue, three times: what was lost is sent again."""
    machine.set_latency(0.2)
    run = machine.start("run", "study.yaml", "--concurrency", "8")
    broker = EmbeddedBroker(machine.home)
    for point in (20, 60, 100):
        machine.wait_for_answers(point, run)
        wait_until(lambda: waiting_messages(broker) > 4, "messages to lose")
        machine.catch(waiting=True)
        with broker.client() as client:
            client.flushall()
    finish_well(run)
    assert machine.log("run").count("the broker has lost its queues") == 3
    record(machine.conclude("the broker is flushed", expected))


@pytest.mark.parametrize("file", ["kept", "lost"])
def test_the_broker_is_killed(machine: ChaosMachine, expected: bytes, record: Record, file: str) -> None:
    """kill -9 of the embedded broker, its append-only file kept or lost with it; it is started again."""
    machine.set_latency(0.2)
    run = machine.start("run", "study.yaml", "--concurrency", "8")
    broker = EmbeddedBroker(machine.home)
    for point in (20, 100, 180):
        machine.wait_for_answers(point, run)
        machine.catch(waiting=True)
        before = server_of(broker)
        kill_server(broker, and_its_file=file == "lost")
        wait_until(broker.alive, "a broker that is started again")
        assert server_of(broker) != before
    finish_well(run)
    assert ("the broker has lost its queues" in machine.log("run")) == (file == "lost")
    record(machine.conclude(f"the broker is killed (kill -9), its file {file}", expected))


def test_the_broker_is_away_while_tasks_finish(
    machine: ChaosMachine, expected: bytes, record: Record, tmp_path: Path
) -> None:
    """30 seconds without a broker: participants in hand go on to their end, and the rest follows when it is back."""
    machine.set_latency(0.5)
    with broker_elsewhere(tmp_path / "broker") as broker:
        run = machine.start("run", "study.yaml", "--concurrency", "8", DEFSURVEY_BROKER_URL=broker.url)
        machine.wait_for_answers(16, run)
        machine.catch(waiting=True)
        in_hand, before = set(machine.held()), machine.answers()
        kill_server(broker)
        finished = "SELECT id FROM participant WHERE status = 'finished'"
        wait_until(lambda: in_hand <= {who for (who,) in machine.rows(finished)}, "those in hand to finish")
        assert machine.answers() > before
        time_left = 30 - (machine.rows("SELECT max(committed_at) FROM answer")[0][0] - machine.injections[0].at)
        signal.sigtimedwait([], max(time_left, 0))
        assert run.poll() is None
        assert machine.rows("SELECT count(*) FROM participant WHERE status = 'finished'") == [(len(in_hand),)]
        broker.ensure()
        finish_well(run)
    record(machine.conclude("the broker is away for 30 s while tasks finish", expected))


def test_a_task_is_longer_than_the_visibility_timeout(machine: ChaosMachine, expected: bytes, record: Record) -> None:
    """Every participant takes longer than the broker waits for it: its message comes again, and does nothing."""
    machine.set_latency(2.0)
    run = machine.start("run", "study.yaml", "--concurrency", "32", DEFSURVEY_VISIBILITY_TIMEOUT="3")
    machine.wait_for_answers(32, run)
    assert len(machine.held()) == 32
    machine.catch()
    broker = EmbeddedBroker(machine.home)
    assert waiting_messages(broker) == 0
    wait_until(lambda: waiting_messages(broker), "messages to come again")
    again = waiting_messages(broker)
    finish_well(run)
    assert machine.rows("SELECT max(lease_epoch) FROM participant") == [(1,)]
    assert machine.asked() == PLANNED
    record(machine.conclude("a task is longer than the visibility timeout", expected, times=again))


def test_every_message_is_delivered_twice(machine: ChaosMachine, expected: bytes, record: Record) -> None:
    """To the same worker and to another one: whoever claims first asks, and nothing is asked twice."""
    machine.set_latency(0.1)
    run = machine.faulty("publish-twice", "run", "study.yaml", "--workers", "2", "--concurrency", "8")
    machine.wait_for_answers(20)
    machine.catch()
    finish_well(run)
    twice = machine.injected("message")
    assert twice >= 32
    assert machine.rows("SELECT max(lease_epoch) FROM participant") == [(1,)]
    assert machine.asked() == PLANNED
    record(machine.conclude("every message is delivered twice", expected, times=twice))


def test_a_crash_between_insert_and_publish(
    machine: ChaosMachine, expected: bytes, record: Record, tmp_path: Path
) -> None:
    """The rows are there and no message is: they are the outbox, and whoever comes next sends it."""
    with broker_elsewhere(tmp_path / "broker") as broker:
        here = {"DEFSURVEY_BROKER_URL": broker.url}
        crashed = machine.faulty("crash-before-publishing", "enqueue", "study.yaml", **here)
        wait_until(lambda: crashed.poll() is not None, "the crash")
        assert crashed.returncode == EXIT_CRASHED
        assert (machine.injected("crash"), waiting_messages(broker)) == (1, 0)
        assert machine.rows("SELECT count(*), count(published_at) FROM participant") == [(32, 0)]
        finish_well(machine.start("resume", "small", "--wait", "--concurrency", "8", **here))
    record(machine.conclude("a crash between insert and publish", expected, times=1))
