"""Workers, reporter and reconciler as processes of their own, beside an ``enqueue`` that started nothing."""

import random
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from defsurvey.jobs import broker as broker_module
from defsurvey.jobs.broker import EmbeddedBroker, make_app, simulate_queue
from tests.end_to_end.library import FOLDER, MODELS, ROOM
from tests.end_to_end.machine import PLANNED, STUDY, Machine, ended, free_port, wait_until
from tests.jobs.small_study import hostile
from tests.judging.conftest import KEY
from tests.judging.provider import judging


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
    enqueued = machine.json("enqueue", "study.yaml", "--name", "next")
    assert enqueued == {"run": "next", "added": 10, "published": 10, "waiting": 0}
    assert machine.done("resume", "next") == "next: 10 messages published\n"
    broker.stop()


CARD = '[{name}]\nengine = "tests.end_to_end.library:open_slowly"\npath = "."\n\n'
REPOSITORY = Path(__file__).parents[2]


def environment(machine: Machine) -> dict[str, str]:
    return {FOLDER: str(machine.folder), "PYTHONPATH": str(REPOSITORY)}


def prepare(machine: Machine) -> int:
    (machine.folder / "cards.toml").write_text("".join(CARD.format(name=name) for name in MODELS))
    drawn = random.Random(20250314)
    for name in ("first", "second"):
        order = drawn.sample(MODELS, len(MODELS))
        machine.write_study(STUDY.replace("citizen", ", ".join(order)))
        enqueued = machine.type("enqueue", "study.yaml", "--name", name, **environment(machine))
        assert enqueued.returncode == 0, enqueued.stderr
    return 2 * len(MODELS) * PLANNED


def loads(machine: Machine) -> list[str]:
    return [line.split()[1] for line in (machine.folder / "loads").read_text().splitlines()]


def worked_off(machine: Machine, planned: int) -> None:
    daemons = [machine.start("worker", **environment(machine)), machine.start("reconciler")]
    wait_until(lambda: machine.answers() == planned, "every answer")
    machine.stop(*daemons)


def test_shuffled_work_of_four_models_costs_four_loads(machine: Machine) -> None:
    """The worker stays with a model over all runs; it takes up as many participants as the model has room for."""
    worked_off(machine, prepare(machine))
    assert Counter(loads(machine)) == dict.fromkeys(MODELS, 1)
    most = dict(line.split() for line in (machine.folder / "most").read_text().splitlines())
    # The first one was opened for those who had been let in before there was a model to say how many.
    filled = sorted(int(most[model]) for model in loads(machine)[1:])
    assert filled == [ROOM] * 3


@pytest.mark.slow
def test_a_worker_killed_while_it_changes_models_loses_nothing(machine: Machine) -> None:
    """The second model's opening ends the process; another worker goes on, and every planned answer is there once."""
    planned = prepare(machine)
    environ = environment(machine) | {"DEFSURVEY_LEASE_SECONDS": "3"}
    (machine.folder / "fatal").write_text(MODELS[2])
    first = machine.start("worker", "--models", ",".join(MODELS[1:3]), **environ)
    reconciler = machine.start("reconciler", **environ)
    assert ended(first).returncode == -signal.SIGKILL
    before = machine.answers()
    assert 0 < before < planned
    machine.stop(reconciler)
    worked_off(machine, planned)
    assert loads(machine).count(MODELS[2]) == 2
    doubled = machine.rows("SELECT 1 FROM answer GROUP BY participant, item, slot HAVING count(*) > 1")
    unfinished = machine.rows("SELECT 1 FROM participant WHERE status <> 'finished'")
    assert (doubled, unfinished) == ([], [])


ITEMS = 200  #: in each queue
#: Queue -> task, and arguments that are in order and lead to nothing.
QUEUES: dict[str, tuple[str, list[Any]]] = {
    simulate_queue("citizen"): (broker_module.SIMULATE, [999]),
    broker_module.REPORTS_QUEUE: (broker_module.REPORT, ["nobody", 1, 0]),
    broker_module.JUDGE_QUEUE: (broker_module.JUDGE, ["nobody"]),
}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path / "shared") as running:
        yield running


def fill(broker: EmbeddedBroker, client: redis.Redis) -> None:
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
    command = [sys.executable, "-m", "defsurvey", *words]
    with (machine.folder / f"{words[0]}.log").open("w") as log:
        process = subprocess.Popen(command, env=machine.environment(**environment), stderr=log, text=True)
    machine.started.append(process)
    return process


def test_whatever_lies_in_the_queues_work_goes_on(machine: Machine, broker: EmbeddedBroker) -> None:
    """Worker and reporter live, all questions are answered, judged and reported, and nothing comes back."""
    port = free_port()
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
        machine.stop(*daemons)
    for queue in QUEUES:
        assert ITEMS / 2 < counted[queue.encode()] <= ITEMS
        assert f'defsurvey_dead_letters_total{{queue="{queue}"}} {counted[queue.encode()]}.0' in metrics
    assert f"dead letters: {sum(counted.values())} items in the broker were not messages of defsurvey" in shown
    assert sorted(folder.name for folder in (machine.home / "reports").iterdir()) == ["small"]
    assert machine.rows("SELECT sum(commits) FROM participant") == [(PLANNED,)]
