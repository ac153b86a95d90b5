"""Workers that die, are told to end, hang or are poisoned, as real processes."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable

import pytest

from defsurvey.storage.runs.recovery import QUARANTINE_AFTER
from defsurvey.storage.runs.run import Protocol
from defsurvey.workers.runner.watchdog import EXIT_HUNG
from defsurvey.workers.simulation.draws import completion_seed
from tests.chaos.engines import EXIT_POISONED, poison_line
from tests.chaos.machine import PLANNED, QUESTIONS, SEED, ChaosMachine, finish_well, points, state_of
from tests.chaos.table import Row
from tests.end_to_end.machine import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

Record = Callable[[Row], None]
#: Seconds within which a worker that is told to end has ended.
STOPS_WITHIN = 10.0


def test_workers_killed_at_25_points(machine: ChaosMachine, expected: bytes, record: Record) -> None:
    """kill -9 of one of two workers, again and again, each time with answers in flight."""
    machine.set_latency(0.2)
    run = machine.start("run", "study.yaml", "--workers", "2", "--concurrency", "8")
    dice = random.Random(25)
    for point in points(25, seed=25):
        machine.wait_for_answers(point, run)
        wait_until(lambda: machine.kill_in_flight(dice.choice(machine.holders() or [0])), "a worker with work")
    finish_well(run)
    assert len(machine.injections) == 25
    assert machine.log("run").count("ended with status -9") >= 24  # the run may end before it misses the last one
    record(machine.conclude("a worker is killed (kill -9)", expected))


def test_everything_is_killed_at_once(machine: ChaosMachine, expected: bytes, record: Record) -> None:
    """kill -9 of command, workers, reporter and broker together, as when a machine is switched off; three times."""
    machine.set_latency(0.2)
    for number, point in enumerate(points(3, seed=3)):
        words = ("resume", "small", "--wait") if number else ("run", "study.yaml")
        run = machine.start(*words, "--workers", "2", "--concurrency", "8")
        machine.wait_for_answers(point, run)
        machine.catch()
        for pid in machine.processes():
            os.kill(pid, signal.SIGKILL)
        run.wait()
    finish_well(machine.start("resume", "small", "--wait", "--workers", "2", "--concurrency", "8"))
    record(machine.conclude("everything is killed at once (kill -9)", expected))


def tell_to_end_mid_answer(machine: ChaosMachine, victim: int) -> None:
    """SIGTERM to a worker whose answers take a minute, and to the others, so that nobody waits for that minute."""
    machine.set_latency(60.0)
    wait_until(lambda: machine.unanswered(victim) >= 8, "answers that take long")
    machine.catch(pid=victim)
    os.kill(victim, signal.SIGTERM)
    wait_until(lambda: state_of(victim) in ("", "Z"), "the worker's end", seconds=STOPS_WITHIN)
    assert victim not in machine.holders()
    others = [pid for pid in machine.processes("worker") if pid != victim]
    machine.set_latency(0.2)
    for pid in others:
        os.kill(pid, signal.SIGTERM)


def test_a_worker_is_told_to_end_mid_answer(machine: ChaosMachine, expected: bytes, record: Record) -> None:
    """SIGTERM: it lets go within seconds, and nobody has to wait for its leases or is suspected."""
    machine.set_latency(0.2)
    run = machine.start("run", "study.yaml", "--workers", "2", "--concurrency", "8")
    for point in points(5, seed=5):
        machine.wait_for_answers(point, run)
        wait_until(machine.holders, "a worker with work")
        tell_to_end_mid_answer(machine, machine.holders()[0])
    finish_well(run)
    assert machine.rows("SELECT count(*) FROM participant WHERE suspect OR deaths > 0") == [(0,)]
    record(machine.conclude("a worker is told to end (SIGTERM) mid-answer", expected))


def test_the_poisoned_are_found_and_set_aside(machine: ChaosMachine, expected: bytes, record: Record) -> None:
    """The engine's process ends at one question of one of 32 in flight: the others finish, and later so does it."""
    machine.set_engine("poisonable")
    machine.set_latency(0.05)
    index, question = 5, "Q4"
    machine.write("poison", poison_line(completion_seed(Protocol(seed=SEED), index, question), "cn", question))
    run = machine.start("run", "study.yaml", "--concurrency", "32")
    wait_until(lambda: machine.injected("poison"), "the first death")
    machine.catch()
    (caught,) = machine.injections
    assert len(caught.positions) == 32
    finish_well(run, code=3)
    ended = machine.log("run").count(f"ended with status {EXIT_POISONED}")
    assert ended == 1 + QUARANTINE_AFTER  # once among the others, and three times while alone
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
    record(machine.conclude("a participant ends its worker", expected, times=ended))


def test_a_hung_engine_is_ended(machine: ChaosMachine, expected: bytes, record: Record) -> None:
    """Nothing comes back any more: the worker ends itself, and its participants go on elsewhere."""
    machine.set_engine("hanging")
    machine.set_latency(0.1)
    run = machine.start("run", "study.yaml", "--concurrency", "16", DEFSURVEY_HANG_SECONDS="2")
    for point in points(2, seed=2):
        machine.wait_for_answers(point, run)
        machine.write("hang", "")
        wait_until(lambda: not (machine.folder / "hang").exists(), "an engine that hangs")
        machine.catch()
    finish_well(run)
    assert machine.log("run").count(f"ended with status {EXIT_HUNG}") == 2
    assert machine.log("worker-1").count("the engine hangs") == 2
    record(machine.conclude("the engine hangs", expected))


def test_a_frozen_worker_comes_back_after_its_lease_was_taken(
    machine: ChaosMachine, expected: bytes, record: Record
) -> None:
    """It sleeps past its leases, others take its participants, and what it commits on waking is refused."""
    machine.set_latency(0.5)
    environment = {"DEFSURVEY_LEASE_SECONDS": "3"}
    run = machine.start("run", "study.yaml", "--workers", "2", "--concurrency", "8", **environment)
    machine.wait_for_answers(40, run)
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
    finish_well(run)
    row = machine.conclude("a frozen worker comes back after its lease was taken", expected)
    assert row.fenced > 0
    record(row)
