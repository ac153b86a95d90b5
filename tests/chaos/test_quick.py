"""The quick half with real processes: a few kills, two commands on one home, a worker without its broker."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from defsurvey.jobs.broker import EmbeddedBroker
from tests.chaos.machine import ChaosMachine, Row, finish_well, kill_server
from tests.end_to_end.machine import ended, wait_until

on_sqlite = pytest.mark.parametrize("machine", ["sqlite"], indirect=True)


@on_sqlite
def test_everything_at_once(machine: ChaosMachine, conclude: Callable[..., Row]) -> None:
    """A worker is killed, the broker is killed with its file, a second command comes: the answers are the same."""
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
    conclude("a kill, a lost broker and a second command")


@on_sqlite
def test_a_worker_that_is_told_to_end_ends_though_nothing_answers(machine: ChaosMachine, tmp_path: Path) -> None:
    """Its broker is gone and its model takes a minute for each answer: eight seconds, and its leases are free."""
    machine.set_latency(60.0)
    with EmbeddedBroker(tmp_path / "broker") as broker:
        here = {"DEFSURVEY_BROKER_URL": broker.url}
        machine.done("enqueue", "study.yaml", **here)
        worker = machine.start("worker", "--concurrency", "4", **here)
        wait_until(lambda: machine.unanswered(worker.pid) == 4, "four participants to be asked")
        kill_server(broker)
        worker.send_signal(signal.SIGTERM)
        assert ended(worker).returncode == 0
        assert machine.held() == {}
        assert machine.rows("SELECT sum(lease_epoch), sum(next_item) FROM participant") == [(4, 0)]
