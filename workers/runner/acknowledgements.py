"""A message that cannot be acknowledged must not be waited for.

A worker takes as many messages as it has threads and waits for acknowledgements before it takes more. With kombu 5.7 on
Redis, an acknowledgement that fails because the broker is away leaves its message counted as unacknowledged for ever.
When all of them fail (every participant in hand finished during the outage) the worker takes nothing any more, does not
even look at its connection, and so never finds out that the broker is back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import redis
from celery import bootsteps
from kombu.transport.virtual import QoS


class ForgetUnacknowledged(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """A Celery consumer step: counts a message as gone whether or not the broker could be told.

    The broker delivers it again after the visibility timeout, and the claim in SQL makes that do nothing.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """Begin, on each new connection."""
        qos = consumer.task_consumer.channel.qos
        qos.ack, qos.reject = _forgetting(qos, qos.ack), _forgetting(qos, qos.reject)

    def stop(self, _consumer: Any) -> None:
        """Nothing to end: it ends with the connection."""


def _forgetting(qos: Any, tell: Callable[..., None]) -> Callable[..., None]:
    """``tell`` the broker about a delivery, and give its place to another even where that fails."""

    forget: Callable[[Any, str], None] = QoS.ack

    @wraps(tell)
    def told(delivery_tag: str, *arguments: Any, **options: Any) -> None:
        try:
            tell(delivery_tag, *arguments, **options)
        except qos.channel.connection_errors:
            forget(qos, delivery_tag)  # the bookkeeping alone
            raise  # Celery logs it and goes on; the next look at the queue finds the connection lost
        except redis.ResponseError as error:
            forget(qos, delivery_tag)
            raise redis.ConnectionError(str(error)) from None  # it takes no writes, of which Celery knows nothing

    return told
