"""A broker into whose queues somebody else has written: daemons put that aside, go on, and say how much it was."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from defsurvey.jobs.broker import (
    JUDGE,
    JUDGE_QUEUE,
    REPORT,
    REPORTS_QUEUE,
    SIMULATE,
    EmbeddedBroker,
    make_app,
    simulate_queue,
)
from tests.end_to_end.machine import PLANNED, STUDY, Machine, ended, wait_until
from tests.jobs.hostile import hostile
from tests.judging.conftest import KEY
from tests.judging.provider import judging

ITEMS = 200  #: in each queue
#: Queue -> task, and arguments that are in order and lead to nothing.
QUEUES: dict[str, tuple[str, list[Any]]] = {
    simulate_queue("citizen"): (SIMULATE, [999]),
    REPORTS_QUEUE: (REPORT, ["nobody", 1, 0]),
    JUDGE_QUEUE: (JUDGE, ["nobody"]),
}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker of the test's own, which the machine shares with others."""
    with EmbeddedBroker(tmp_path / "shared") as running:
        yield running


def fill(broker: EmbeddedBroker, client: redis.Redis) -> None:
    """Put hostile items into every queue, and among what workers have taken and not acknowledged."""
    app = make_app(broker.url)
    for number, (queue, (task, arguments)) in enumerate(QUEUES.items()):
        app.send_task(task, args=arguments, queue="sample", retry=False)
        ours: Any = client.rpop("sample")
        client.lpush(queue, *hostile(ours, ITEMS, seed=number))
    for tag, item in {"a": b"x", "b": b"[1]", "c": b'[{}, ["x"], {}]', "d": b"[" * 5_000}.items():
        client.hset("unacked", tag, item)
        client.zadd("unacked_index", {tag: 0})
    app.close()


def start(machine: Machine, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Start a daemon that logs to a file: it says more than a pipe that nobody reads can take."""
    command = [sys.executable, "-m", "defsurvey", *words]
    with (machine.folder / f"{words[0]}.log").open("w") as log:
        process = subprocess.Popen(command, env=machine.environment(**environment), stderr=log, text=True)
    machine.started.append(process)
    return process


def test_whatever_lies_in_the_queues_work_goes_on(machine: Machine, broker: EmbeddedBroker) -> None:
    """Worker and reporter live, all questions are answered, judged and reported, and nothing comes back."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with judging() as judge, broker.client() as client:
        fill(broker, client)
        (machine.folder / "cards.toml").write_text((machine.folder / "cards.toml").read_text() + judge.cards())
        machine.write_study(STUDY + "judge: {model: judge, sample: all}\n")
        where = {"DEFSURVEY_BROKER_URL": broker.url, "JUDGE_KEY": KEY}
        machine.done("enqueue", "study.yaml", **where)
        verbs = (("worker", "--metrics", str(port)), ("reporter",), ("reconciler",))
        daemons = [start(machine, *verb, **where) for verb in verbs]
        wait_until(lambda: (PLANNED, 1) in machine.rows("SELECT revision, judgements FROM report"), "the report")
        wait_until(lambda: not client.exists("unacked", "unacked_index"), "what nobody acknowledged")
        assert [daemon.poll() for daemon in daemons] == [None, None, None]
        assert [client.llen(queue) for queue in QUEUES] == [0, 0, 0]
        shown = machine.done("status", "small", **where)
        counted = {queue: int(number) for queue, number in client.hgetall("defsurvey:dead-letter-counts").items()}  # type: ignore[union-attr]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            metrics = page.read().decode()
        for daemon in daemons:
            daemon.send_signal(signal.SIGTERM)
        assert [ended(daemon).returncode for daemon in daemons] == [0, 0, 0]
    for queue in QUEUES:
        assert ITEMS / 2 < counted[queue.encode()] <= ITEMS
        assert f'defsurvey_dead_letters_total{{queue="{queue}"}} {counted[queue.encode()]}.0' in metrics
    assert f"dead letters: {sum(counted.values())} items in the broker were not messages of defsurvey" in shown
    assert sorted(folder.name for folder in (machine.home / "reports").iterdir()) == ["small"]
    assert machine.rows("SELECT sum(commits) FROM participant") == [(PLANNED,)]
