"""Celery's consumer, but that it begins only at a broker that takes writes, and takes only messages to our tasks.

One that is full (OOM), whose disk fails (MISCONF) or that became a replica (READONLY) answers and refuses whatever a
worker has to write. To connect anew would not help, and each message that is taken meanwhile can neither be noted nor
given back: the ledger remembers it, and the reconciler sends it again.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import redis
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

from defsurvey.workers.runner.dead_letters import screened

log = logging.getLogger(__name__)

#: Seconds between two tries.
TRY_SECONDS = 0.5
#: Key that is written to find out.
_KEY = "defsurvey:writable"


class WaitingConsumer(Consumer):  # type: ignore[misc]  # Celery ships no types
    """A consumer that waits for its broker to take writes, and leaves to Celery nothing but messages to our tasks."""

    def connection_for_read(self, heartbeat: float | None = None) -> Any:
        """Connect, and wait before anything is done with the connection; whoever is told to stop meanwhile stops."""
        connection = self.app.connection_for_read(heartbeat=heartbeat)
        connection.transport_cls = screened(self.app)
        self.ensure_connected(connection)
        said = False
        while why := _refusal(connection):
            if not said:
                log.warning("broker: it answers and takes no writes: %s; waiting until it does", why)
            said = True
            maybe_shutdown()
            time.sleep(TRY_SECONDS)
        return connection


def _refusal(connection: Any) -> str:
    """Why the broker takes no writes; nothing where it does."""
    with connection.default_channel.conn_or_acquire() as client:
        try:
            client.set(_KEY, "", ex=60)
        except redis.ResponseError as error:
            return str(error)
    return ""
