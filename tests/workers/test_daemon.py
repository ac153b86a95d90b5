"""What a daemon does when it is told to end, or when its terminal is closed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from defsurvey.jobs.broker import EmbeddedBroker

PATIENCE = 20.0
PROGRAM = """
import os, signal, sys
from celery import signals
from defsurvey.jobs.broker import make_app
from defsurvey.workers.runner.daemon import serve

if sys.argv[2] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
signals.worker_ready.connect(lambda **_: print("ready", flush=True), weak=False)
stopping = lambda: os.write(1, b"stopping\\n")  # a signal's handler may come amid a print
sys.exit(serve(make_app(sys.argv[1]), queues=["idle"], concurrency=1, name="x", on_stop=stopping))
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """One server for all."""
    with EmbeddedBroker(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.mark.parametrize(("told", "under"), [("SIGTERM", ""), ("SIGHUP", ""), ("SIGHUP", "nohup")])
def test_a_daemon_whose_terminal_is_closed_ends_unless_that_is_ignored(
    broker: EmbeddedBroker, tmp_path: Path, told: str, under: str
) -> None:
    """As on SIGTERM, which it heeds afterwards too; Celery's own way is to begin anew, under nohup as well."""
    command = [sys.executable, "-c", PROGRAM, broker.url, under]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == "ready\n"
            daemon.send_signal(signal.Signals[told])
            if under:
                with pytest.raises(subprocess.TimeoutExpired):
                    daemon.wait(0.5)
                daemon.terminate()
            assert daemon.wait(PATIENCE) == 0
            said = daemon.stdout.read()
        finally:
            daemon.kill()
    assert "stopping" in said
    assert "ready" not in said
    assert "Restarting" not in said
