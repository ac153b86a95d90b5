"""A broker that answers and takes no writes is waited for, as one that is away is."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from defsurvey.jobs.broker import EmbeddedBroker, make_app

PATIENCE = 30.0
PROGRAM = """
import logging, sys, time
from defsurvey.jobs.broker import make_app
from defsurvey.workers.runner.daemon import serve

logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="log %(message)s")
app = make_app(sys.argv[1])

@app.task(name="say", shared=False)
def say(number):
    print(number, flush=True)
    time.sleep(0.5)

print("ready", flush=True)
sys.exit(serve(app, queues=["q"], concurrency=1, name="x", on_stop=lambda: None))
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A server of the test's own, which it spoils."""
    with EmbeddedBroker(tmp_path) as running:
        yield running


@pytest.fixture
def daemon(broker: EmbeddedBroker) -> Iterator[subprocess.Popen[str]]:
    """A process that says numbers, one each half second, and logs to the same stream."""
    command = [sys.executable, "-c", PROGRAM, broker.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def refuse(client: redis.Redis, why: str) -> None:
    """Have a server take no writes any more."""
    if why == "full":
        client.config_set("maxmemory", "1")
    else:
        client.replicaof("127.0.0.1", "1")


def take(client: redis.Redis) -> None:
    """Have it take them again."""
    client.config_set("maxmemory", "0")
    client.replicaof("NO", "ONE")


@pytest.mark.parametrize("why", ["full", "read-only"])
@pytest.mark.parametrize("told", [False, True])
def test_a_broker_that_takes_no_writes_ends_no_worker(
    broker: EmbeddedBroker, daemon: subprocess.Popen[str], why: str, told: bool
) -> None:
    """It says so once, goes on when there is room, and ends while it waits where it is told to."""
    app = make_app(broker.url)
    out = daemon.stdout
    assert out is not None
    with broker.client() as client:
        for number in range(1, 9):
            app.send_task("say", args=[number], queue="q")
        until = time.monotonic() + PATIENCE
        while out.readline() != "1\n":
            assert time.monotonic() < until
        refuse(client, why)
        said = []
        while "answers and takes no writes" not in "".join(said[-1:]):
            said.append(out.readline())
            assert said[-1], "".join(said)
        time.sleep(1.2)
        assert daemon.poll() is None
        if told:
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(PATIENCE) == 0
            return
        take(client)
        client.delete("q")
        app.send_task("say", args=[9], queue="q")
        while said[-1] != "9\n":
            said.append(out.readline())
            assert said[-1], "".join(said)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE) == 0
    app.close()
    assert sum("answers and takes no writes" in line for line in said) == 1
    assert "Frequent restarts" not in "".join(said)
