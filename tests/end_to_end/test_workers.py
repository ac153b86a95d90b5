"""Workers, reporter and reconciler as processes of their own, beside an ``enqueue`` that started nothing."""

from __future__ import annotations

import signal
import time

from defsurvey.jobs.broker import EmbeddedBroker
from tests.end_to_end.machine import PLANNED, Machine, ended, wait_until


def test_what_was_enqueued_without_a_broker_is_worked_off_later(machine: Machine, expected: list[str]) -> None:
    """The outbox waits for a reconciler; worker, reporter and reconciler come in any order and go when told."""
    enqueued = machine.type("enqueue", "study.yaml")
    assert (enqueued.returncode, enqueued.stdout) == (0, "small\n")
    assert enqueued.stderr.startswith("no broker: 10 messages wait in the outbox")
    assert machine.json("enqueue", "study.yaml") == {"run": "small", "added": 0, "published": 0, "waiting": 10}
    status = machine.json("status", "small")
    assert (status["state"], status["remaining"], status["report"]) == ("waiting", PLANNED, None)
    daemons = [machine.start(verb) for verb in ("worker", "reporter", "reconciler")]
    wait_until(lambda: machine.rows("SELECT revision FROM report") == [(PLANNED,)], "the report")
    for daemon in daemons:
        daemon.send_signal(signal.SIGTERM)
    assert [ended(daemon).returncode for daemon in daemons] == [0, 0, 0]
    assert machine.export() == expected
    assert machine.rows("SELECT count(*) FROM worker") == [(0,)]
    broker = EmbeddedBroker(machine.home)
    assert broker.alive()  # it stays for whoever works next
    assert machine.json("enqueue", "study.yaml", "--name", "next") == {
        "run": "next",
        "added": 10,
        "published": 10,
        "waiting": 0,
    }
    assert machine.done("resume", "next") == "next: 10 messages published\n"
    broker.stop()


def test_a_worker_that_is_told_to_stop_lets_go_at_once(machine: Machine) -> None:
    """SIGTERM in the middle of an answer: the process ends within seconds, and nobody has to wait for its leases."""
    machine.set_latency(120.0)
    machine.type("enqueue", "study.yaml")
    worker = machine.start("worker", "--concurrency", "3")
    reconciler = machine.start("reconciler")
    held = "SELECT count(*) FROM participant WHERE lease_until IS NOT NULL"
    wait_until(lambda: machine.rows(held) == [(3,)], "three participants to be asked")
    told = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    finished = ended(worker)
    assert time.monotonic() - told < 10
    assert finished.returncode == 0, finished.stderr
    assert machine.rows(held) == [(0,)]
    assert machine.rows("SELECT sum(lease_epoch), sum(next_item) FROM participant") == [(3, 0)]
    reconciler.send_signal(signal.SIGINT)
    assert ended(reconciler).returncode == 0
    EmbeddedBroker(machine.home).stop()


def test_two_resumes_at_once_are_harmless(machine: Machine, expected: list[str]) -> None:
    """Both end well in the middle of the work, and no answer is lost or asked for twice."""
    machine.set_latency(0.8)
    machine.type("enqueue", "study.yaml")
    daemons = [machine.start(verb) for verb in ("worker", "reporter", "reconciler")]
    wait_until(lambda: machine.answers() > 0, "the first answers")
    both = [machine.start("resume", "small") for _ in range(2)]
    assert [ended(one).returncode for one in both] == [0, 0]
    assert machine.answers() < PLANNED  # they came in the middle of it
    wait_until(lambda: machine.rows("SELECT revision FROM report") == [(PLANNED,)], "the report")
    for daemon in daemons:
        daemon.send_signal(signal.SIGTERM)
    assert [ended(daemon).returncode for daemon in daemons] == [0, 0, 0]
    assert machine.export() == expected
    assert machine.rows("SELECT sum(commits) FROM participant") == [(PLANNED,)]
    EmbeddedBroker(machine.home).stop()
