"""Takes a worker's messages from the broker and puts everything else aside.

Celery 5.7 ends on some of what others can leave in its lists. So every item is read before Celery sees it, and what is
no message to a task of the app becomes a dead letter; of any other Celery gets task, id and arguments alone.
"""

from __future__ import annotations

import base64
import inspect
import json
import logging
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_type_hints
from uuid import UUID, uuid4

import redis
from celery import Celery
from kombu.transport.redis import Channel, QoS, Transport
from pydantic import Base64Bytes, BaseModel, Field, TypeAdapter, ValidationError

log = logging.getLogger(__name__)

#: Longest message in bytes; one of ours has less than 1,000.
MOST_BYTES = 65_536
#: How many dead letters the broker keeps, the newest ones, and how many bytes of each.
KEPT = 100
KEPT_BYTES = 1_000
#: Keys of the broker: a list of dead letters as JSON, and a hash of how many there were, by queue.
DEAD_LETTERS = "defsurvey:dead-letters"
DEAD_LETTER_COUNTS = "defsurvey:dead-letter-counts"

#: Task name -> reads the body of a message to it: arguments, keywords, and what Celery adds.
Bodies = Mapping[str, TypeAdapter[tuple[tuple[Any, ...], dict[str, Any], Any]]]


class NotOurs(ValueError):
    """An item of a queue is no message of ours; the message says why."""


class _Headers(BaseModel):
    task: str
    id: UUID


class _Message(BaseModel):
    """What is read of a message as Celery's producer writes it."""

    headers: _Headers
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")
    body: Base64Bytes


def counts(client: redis.Redis) -> dict[str, int]:
    """Queue -> how many of its items were put aside since the broker's memory began."""
    found: Any = client.hgetall(DEAD_LETTER_COUNTS)
    return {queue.decode(): int(number) for queue, number in sorted(found.items())}


def put_aside(client: redis.Redis, queue: str, item: bytes, why: str) -> None:
    """Keep the beginning of an item in the list of dead letters, and count it."""
    log.warning("queue %s: an item of %d bytes is put aside as a dead letter: %s", queue, len(item), why)
    kept = item[:KEPT_BYTES].decode(errors="backslashreplace")
    letter = {"at": round(time.time()), "queue": queue, "why": why, "bytes": len(item), "item": kept}
    try:
        with client.pipeline() as pipe:
            pipe.lpush(DEAD_LETTERS, json.dumps(letter))
            pipe.ltrim(DEAD_LETTERS, 0, KEPT - 1)
            pipe.hincrby(DEAD_LETTER_COUNTS, queue, 1)
            pipe.execute()
    except redis.RedisError as error:
        log.warning("the dead letter could not be kept: %s", error)


def bodies(app: Celery) -> Bodies:
    """How bodies are read of messages to the tasks that an app has itself."""
    found: dict[str, TypeAdapter[Any]] = {}
    for name, task in app.tasks.items():
        if not name.startswith("celery."):
            hints = get_type_hints(task.run, include_extras=True)
            arguments = tuple(hints.get(each, Any) for each in inspect.signature(task.run).parameters)
            found[name] = TypeAdapter(tuple[tuple[arguments], Annotated[dict[str, Any], Field(max_length=0)], Any])  # type: ignore[valid-type]
    return found


def read(item: bytes, known: Bodies, queue: str) -> bytes:
    """An item of a queue, written anew from what is known of it; raises NotOurs."""
    if len(item) > MOST_BYTES:
        raise NotOurs(f"expected at most {MOST_BYTES} bytes")
    part = []
    try:
        message = _Message.model_validate_json(item)
        part = ["body"]
        task = message.headers.task
        if task not in known:
            raise NotOurs(f"expected task {' or '.join(sorted(known))}")
        arguments, _, _ = known[task].validate_json(message.body, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise NotOurs(": ".join((*part, *map(str, first["loc"]), first["msg"]))) from None
    body = json.dumps([arguments, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    name = str(message.headers.id)
    fresh = {
        "body": base64.b64encode(body.encode()).decode(),
        "content-type": message.content_type,
        "content-encoding": message.content_encoding,
        "headers": {"lang": "py", "task": task, "id": name, "root_id": name, "argsrepr": repr(arguments)},
        "properties": {
            "correlation_id": name,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "delivery_tag": str(uuid4()),
            "body_encoding": "base64",
            "priority": 0,
        },
    }
    return json.dumps(fresh).encode()


class _Unacknowledged(QoS):
    """Messages that are taken and not acknowledged; what others left among them is put aside."""

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Give a message back to its queue."""
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]  # kombu's
        except (*self.channel.connection_errors, redis.ResponseError):
            raise
        except Exception as error:  # noqa: BLE001 -- whatever kombu does on something that is no message
            with self.channel.conn_or_acquire(client) as connected:
                put_aside(connected, self.unacked_key, connected.hget(self.unacked_key, tag) or b"", str(error))
                self._remove_from_indices(tag).execute()  # type: ignore[no-untyped-call]  # kombu's


def screened(app: Celery) -> type[Transport]:
    """Kombu's transport, but that the app's workers are given nothing but messages to its tasks."""
    known = bodies(app)

    class Screened(Channel):
        QoS = _Unacknowledged

        def _create_client(self, asynchronous: bool = False) -> redis.Redis:
            client: redis.Redis = super()._create_client(asynchronous)  # type: ignore[no-untyped-call]  # kombu's
            client.set_response_callback("BRPOP", self._taken)
            return client

        def _taken(self, found: tuple[bytes, bytes] | None, **_: Any) -> tuple[bytes, bytes] | None:
            if not found:
                return None
            name, item = found
            queue = name.decode().rsplit(self.sep, 1)[0]
            try:
                return name, read(item, known, queue)
            except NotOurs as why:
                with self.conn_or_acquire() as client:
                    put_aside(client, queue, item, str(why))
                return None  # for kombu the queue was empty

    class ScreenedTransport(Transport):
        Channel = Screened

    return ScreenedTransport
