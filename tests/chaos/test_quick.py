"""The quick half with real processes: a few kills, two brokers on one folder, two commands on one home."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from defsurvey.jobs.broker import EmbeddedBroker
from tests.chaos.machine import ChaosMachine, broker_elsewhere, finish_well, kill_server
from tests.chaos.table import Row
from tests.end_to_end.machine import ended, wait_until

Record = Callable[[Row], None]


def test_everything_at_once(sqlite_machine: ChaosMachine, expected: bytes, record: Record) -> None:
    """A worker is killed, the broker is killed with its file, a second command comes: the answers are the same."""
    machine = sqlite_machine
    machine.set_latency(0.4)  # the second command must not take longer to start than the run to end
    run = machine.start("run", "study.yaml", "--concurrency", "16")
    machine.wait_for_answers(20, run)
    wait_until(lambda: any(machine.kill_in_flight(pid) for pid in machine.holders()), "a worker with work")
    second = machine.type("run", "study.yaml", "--name", "other")
    assert second.returncode == 1
    in_use = f"defsurvey: {machine.home} is in use by another defsurvey run (process {run.pid}): "
    assert second.stderr.startswith(f"{in_use}wait until it has ended; or ")
    machine.wait_for_answers(120, run)
    machine.catch()
    kill_server(EmbeddedBroker(machine.home), and_its_file=True)
    finish_well(run)
    assert machine.rows("SELECT id FROM run") == [("small",)]
    record(machine.conclude("a kill, a lost broker and a second command", expected))


def test_a_worker_that_is_told_to_end_ends_though_nothing_answers(sqlite_machine: ChaosMachine, tmp_path: Path) -> None:
    """Its broker is gone and its model takes a minute for each answer: eight seconds, and its leases are free."""
    machine = sqlite_machine
    machine.set_latency(60.0)
    with broker_elsewhere(tmp_path / "broker") as broker:
        here = {"DEFSURVEY_BROKER_URL": broker.url}
        machine.done("enqueue", "study.yaml", **here)
        worker = machine.start("worker", "--concurrency", "4", **here)
        wait_until(lambda: machine.unanswered(worker.pid) == 4, "four participants to be asked")
        kill_server(broker)
        worker.send_signal(signal.SIGTERM)
        assert ended(worker).returncode == 0
        assert machine.held() == {}
