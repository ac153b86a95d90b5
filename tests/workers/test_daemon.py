"""What a daemon does when it is told to end, when its terminal is closed, and when its broker fails."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection, Consumer, Queue

from defsurvey.jobs.broker import EmbeddedBroker, make_app
from defsurvey.workers.runner.daemon import ForgetUnacknowledged

PATIENCE = 30.0
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


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A server of the test's own, which it may spoil."""
    with EmbeddedBroker(tmp_path) as running:
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


# A message that cannot be acknowledged does not keep a worker from taking others.


@pytest.fixture
def consumer(tmp_path: Path) -> Iterator[tuple[EmbeddedBroker, Consumer, Any]]:
    """A broker, a consumer that may take one message and has taken it, and that message."""
    broker = EmbeddedBroker(tmp_path)
    broker.ensure()
    taken: list[Any] = []
    with Connection(broker.url) as connection:
        channel = connection.channel()
        consumer = Consumer(channel, [Queue("q", routing_key="q")], accept=["json"])
        consumer.on_message = taken.append
        consumer.qos(prefetch_count=1)
        consumer.consume()
        with connection.Producer() as producer:
            for number in range(2):
                producer.publish({"number": number}, routing_key="q")
        connection.drain_events(timeout=5)
        assert not channel.qos.can_consume()
        yield broker, consumer, taken[0]
        channel.qos._delivered.clear()
    broker.stop()


@pytest.mark.parametrize("helped", [True, False])
def test_an_acknowledgement_that_fails_gives_its_place_to_another(consumer: Any, helped: bool) -> None:
    """The error is told as before, and the next message can be taken. When kombu does so by itself, the step can go."""
    broker, taking, message = consumer
    if helped:
        step = ForgetUnacknowledged.__new__(ForgetUnacknowledged)
        step.start(SimpleNamespace(task_consumer=taking))
    os.kill(int((broker.folder / "server.lock").read_text()), signal.SIGKILL)
    while broker.alive():
        pass
    with pytest.raises(taking.channel.connection.client.connection_errors):
        message.ack()
    assert taking.channel.qos.can_consume() is helped


# A broker that answers and takes no writes is waited for, as one that is away is.


FULL_PROGRAM = """
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
def daemon(broker: EmbeddedBroker) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", FULL_PROGRAM, broker.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(("why", "told"), [("full", False), ("read-only", True)])
def test_a_broker_that_takes_no_writes_ends_no_worker(
    broker: EmbeddedBroker, daemon: subprocess.Popen[str], why: str, told: bool
) -> None:
    """It says so once, goes on when there is room, and ends while it waits where it is told to."""
    app, out, said = make_app(broker.url), daemon.stdout, [""]
    assert out is not None

    def read_until(words: str) -> None:
        while words not in said[-1]:
            said.append(out.readline())
            assert said[-1], "".join(said)

    with broker.client() as client:
        for number in range(1, 9):
            app.send_task("say", args=[number], queue="q")
        read_until("1\n")
        if why == "full":
            client.config_set("maxmemory", "1")
        else:
            client.replicaof("127.0.0.1", "1")
        read_until("answers and takes no writes")
        time.sleep(1.2)
        assert daemon.poll() is None
        if not told:
            client.config_set("maxmemory", "0")
            client.delete("q")
            app.send_task("say", args=[9], queue="q")
            read_until("9\n")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE) == 0
    app.close()
    assert sum("answers and takes no writes" in line for line in said) == 1
    assert "Frequent restarts" not in "".join(said)
