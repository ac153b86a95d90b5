"""What a worker takes from its queues: messages to its tasks, and nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery

from defsurvey.jobs.broker import REPORT, SIMULATE, make_app, simulate_queue
from defsurvey.jobs.daemons.tasks import register_simulation
from defsurvey.workers.runner.dead_letters import (
    DEAD_LETTERS,
    KEPT,
    MOST_BYTES,
    Bodies,
    NotOurs,
    bodies,
    counts,
    put_aside,
    read,
)

QUEUE = simulate_queue("human")


@pytest.fixture
def known() -> Bodies:
    made = make_app("redis://nowhere")
    register_simulation(made, None)  # type: ignore[arg-type]  # nobody is asked here
    return bodies(made)


@pytest.fixture
def ours(app: Celery, client: redis.Redis) -> bytes:
    app.send_task(SIMULATE, args=[42], queue=QUEUE, retry=False)
    found: Any = client.lindex(QUEUE, 0)
    return bytes(found)


def body_of(*parts: object) -> str:
    return base64.b64encode(json.dumps(parts).encode()).decode()


def test_of_a_message_of_ours_task_id_and_arguments_are_passed_on(ours: bytes, known: Bodies) -> None:
    """Whatever else it says (when it expires, what is to be called afterwards) reaches no worker."""
    sent = json.loads(ours)
    sent["headers"] |= {"eta": "yesterday", "expires": ["x"], "timelimit": 7, "group": {}}
    sent["properties"] |= {"delivery_tag": ["x"], "delivery_info": None, "priority": "high"}
    sent["body"] = body_of([42], {}, {"chain": [{"task": "celery.map"}]})
    read_as = json.loads(read(json.dumps(sent).encode(), known, QUEUE))
    assert json.loads(base64.b64decode(read_as["body"]))[:2] == [[42], {}]
    assert "celery.map" not in base64.b64decode(read_as["body"]).decode()
    assert read_as["headers"].keys() == {"lang", "task", "id", "root_id", "argsrepr"}
    assert (read_as["headers"]["task"], read_as["headers"]["id"]) == (SIMULATE, sent["headers"]["id"])
    assert read_as["properties"]["delivery_info"] == {"exchange": "", "routing_key": QUEUE}
    assert json.loads(read(read(ours, known, QUEUE), known, QUEUE))["headers"] == read_as["headers"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: m["headers"].update(task=["a"]), "headers: task: Input should be a valid string"),
        (lambda m: m["headers"].update(task=REPORT), f"expected task {SIMULATE}"),
        (lambda m: m["headers"].update(id=7), "headers: id: UUID input should be a string"),
        (lambda m: m.pop("headers"), "headers: Field required"),
        (lambda m: m.update({"content-type": "application/x-python-serialize"}), "content-type: Input should be"),
        (lambda m: m.update(body="?"), "body: Invalid JSON"),
        (lambda m: m.update(body=body_of([1, 2], {}, {})), "body: 0: Tuple should have at most 1 item"),
        (lambda m: m.update(body=body_of(["1"], {}, {})), "body: 0: 0: Input should be a valid integer"),
        (lambda m: m.update(body=body_of([0], {}, {})), "body: 0: 0: Input should be greater"),
        (lambda m: m.update(body=body_of([2**63], {}, {})), "body: 0: 0: Input should be less"),
        (lambda m: m.update(body=body_of([1], {"participant": 1}, {})), "body: 1: Dictionary should have at most 0"),
        (lambda m: m["properties"].update(padding="x" * MOST_BYTES), f"expected at most {MOST_BYTES} bytes"),
    ],
)
def test_a_message_that_differs_from_ours_is_not_ours(
    ours: bytes, known: Bodies, change: Callable[[Any], object], why: str
) -> None:
    message = json.loads(ours)
    change(message)
    with pytest.raises(NotOurs) as refused:
        read(json.dumps(message).encode(), known, QUEUE)
    assert str(refused.value).startswith(why)


def test_the_broker_keeps_the_beginnings_of_the_newest_dead_letters_and_counts_all(client: redis.Redis) -> None:
    for number in range(KEPT + 20):
        put_aside(client, "reports", b"%d\xff\x1b" % number + b"x" * 100_000, "no reason")
    kept: Any = client.lrange(DEAD_LETTERS, 0, -1)
    assert (len(kept), counts(client)) == (KEPT, {"reports": KEPT + 20})
    assert max(map(len, kept)) < 1_500
    newest = json.loads(kept[0])
    assert (newest["queue"], newest["why"], newest["bytes"]) == ("reports", "no reason", 100_005)
    assert newest["item"].startswith("119\\xff\x1bxxx")
