"""A worker as a service: Prometheus reads what it does, and what a new start cannot mend does not go round for ever."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

from jobs.broker import EmbeddedBroker
from jobs.exit_codes import UNAVAILABLE
from tests.end_to_end.machine import PLANNED, STUDY, Machine, ended, wait_until


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _scrape(port: int) -> dict[str, float]:
    """Every sample by its name and labels; empty while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
    except (urllib.error.URLError, ConnectionError):
        return {}
    return {name: float(value) for name, value in re.findall(r"(?m)^([a-z]\S*) (\S+)$", "\n".join(lines))}


def test_prometheus_sees_a_real_worker_at_work(machine: Machine) -> None:
    """Three participants in flight and seven waiting; then every answer, counted once."""
    machine.set_latency(0.25)
    machine.type("enqueue", "study.yaml")
    port = _free_port()
    worker = machine.start("worker", "--concurrency", "3", "--metrics", str(port), "--events")
    reconciler = machine.start("reconciler")
    seen: dict[str, float] = {}

    def at_work() -> bool:  # participants are taken first, then their model is opened
        seen.update(_scrape(port))
        return seen.get("defsurvey_leases") == 3 and seen.get('defsurvey_model_resident{model="citizen"}') == 1

    wait_until(at_work, "three participants in flight")
    assert seen['defsurvey_backlog_participants{model="citizen"}'] == 7
    assert seen['defsurvey_backlog_answers{model="citizen"}'] == 56
    assert seen["defsurvey_database_up"] == 1
    answered = 'defsurvey_answers_total{model="citizen",state="answered"}'
    wait_until(lambda: _scrape(port).get(answered) == PLANNED, "every answer")
    seen = _scrape(port)
    assert (seen["defsurvey_leases"], seen["defsurvey_fenced_writes_total"]) == (0, 0)
    assert seen["defsurvey_model_loads_total"] == 1
    for daemon in (worker, reconciler):
        daemon.send_signal(signal.SIGTERM)
        assert ended(daemon).returncode == 0
    assert _scrape(port) == {}
    EmbeddedBroker(machine.home).stop()


def test_a_port_that_is_taken_is_wrong_usage(machine: Machine) -> None:
    """Said before anything is opened."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = machine.type("worker", "--metrics", str(port))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"defsurvey: --metrics 127.0.0.1:{port}: Address already in use"
    assert not machine.home.exists()


@pytest.mark.parametrize("address", ["0", "65536", "host", "1.2.3.4:x"])
def test_an_address_that_is_none(machine: Machine, address: str) -> None:
    """What was expected and what was given."""
    done = machine.type("worker", "--metrics", address)
    assert done.returncode == 2
    assert f"expected [HOST:]PORT with a port from 1 to 65535, got '{address}'" in done.stderr


def _read_until(process: subprocess.Popen[str], words: str) -> str:
    """What it says until it says these words."""
    assert process.stderr is not None
    said = ""
    while words not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return said


def test_a_worker_whose_model_cannot_be_loaded_stays_ill_instead_of_ending(machine: Machine) -> None:
    """It says why, once; it is unhealthy; told to stop, it ends with the status that says what it was."""
    machine.write_study(STUDY.replace("citizen", "empty"))
    machine.type("enqueue", "study.yaml")
    worker = machine.start("worker", "--stay")
    reconciler = machine.start("reconciler")
    said = _read_until(worker, "stays idle and unhealthy")
    assert "model empty" in said
    assert worker.poll() is None
    health = machine.type("healthy", "worker")
    assert (health.returncode, "no sign of life" in health.stderr) == (1, True)
    for daemon, status in ((worker, UNAVAILABLE), (reconciler, 0)):
        daemon.send_signal(signal.SIGTERM)
        assert ended(daemon).returncode == status
    EmbeddedBroker(machine.home).stop()


def test_a_worker_whose_options_are_wrong_stays_ill_too(machine: Machine) -> None:
    """A model that has no card: named, with the nearest."""
    worker = machine.start("worker", "--stay", "--models", "citizens")
    said = _read_until(worker, "stays idle and unhealthy")
    assert "there is no model 'citizens' (did you mean 'citizen'?)" in said
    worker.send_signal(signal.SIGINT)
    assert ended(worker).returncode == 2
