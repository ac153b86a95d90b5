"""A Celery worker on a thread pool: every participant in flight is a thread, all feed one engine."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import redis
from celery import Celery, bootsteps, signals
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from kombu.transport.virtual import QoS

from defsurvey.workers.runner.dead_letters import screened

log = logging.getLogger(__name__)

#: Seconds between two looks at whether the parent lives.
PARENT_LOOK_SECONDS = 1.0
#: Seconds between two tries whether the broker takes writes, and the key that is written.
WRITE_TRY_SECONDS = 0.5
_WRITABLE = "defsurvey:writable"


def serve(
    app: Celery,
    *,
    queues: Sequence[str],
    concurrency: int,
    name: str,
    on_stop: Callable[[], None],
    steps: Sequence[type[Any]] = (),
    events: bool = False,
) -> int:
    """Work until SIGTERM, SIGINT or, unless that is ignored, SIGHUP. Returns the exit status.

    ``name`` is unique on this host; ``on_stop`` is called when the worker is told to stop, before it waits for tasks;
    with ``events`` Celery tells what becomes of each task, for those who watch the queue.
    """
    app.steps["consumer"].update([ForgetUnacknowledged, *steps])

    def stopping(**_: Any) -> None:
        on_stop()
        # A signal does not wake the loop, which may sleep for a second; nor does a call from the loop's own thread.
        threading.Thread(target=worker.hub.call_soon, args=(lambda: None,), name="wake", daemon=True).start()

    signals.worker_shutting_down.connect(stopping, weak=False)
    worker = _ending_when_hung_up(app.Worker)(
        hostname=f"{name}@{os.uname().nodename}",
        pool="threads",
        concurrency=concurrency,
        queues=list(queues),
        consumer_cls="defsurvey.workers.runner.daemon:WaitingConsumer",
        loglevel=None,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=not events,
        task_events=events,
    )
    try:
        worker.start()
    finally:
        signals.worker_shutting_down.disconnect(stopping)
    return int(worker.exitcode or 0)


def _ending_when_hung_up(kind: Any) -> Any:
    """Celery's worker, but that a closed terminal is what SIGTERM is to it, and under ``nohup`` nothing."""
    # Celery would begin anew, in a process that heeds SIGTERM no more; on a terminal it would end amid its work.

    class Worker(kind):  # type: ignore[misc]  # Celery ships no types
        def install_platform_tweaks(self, worker: Any) -> None:
            ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            super().install_platform_tweaks(worker)
            signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.getsignal(signal.SIGTERM))

    return Worker


def end_with_parent(parent: int, on_orphaned: Callable[[], None]) -> None:
    """End this process as soon as its parent is gone, so that a killed ``defsurvey run`` leaves nothing behind.

    ``on_orphaned`` is called first; the process ends whatever it does.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_LOOK_SECONDS)
        log.warning("process %d, which started this worker, is gone", parent)
        try:
            on_orphaned()
        finally:
            os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


class WaitingConsumer(Consumer):  # type: ignore[misc]  # Celery ships no types
    """Celery's consumer, but that it begins only at a broker that takes writes, and takes only messages to our tasks.

    A message that is taken from one that is full or read-only could neither be noted nor given back.
    """

    def connection_for_read(self, heartbeat: float | None = None) -> Any:
        """Connect, and wait before anything is done with the connection; whoever is told to stop meanwhile stops."""
        connection = self.app.connection_for_read(heartbeat=heartbeat)
        connection.transport_cls = screened(self.app)
        self.ensure_connected(connection)
        said = False
        with connection.default_channel.conn_or_acquire() as client:
            while True:
                try:
                    client.set(_WRITABLE, "", ex=60)
                    return connection
                except redis.ResponseError as why:
                    if not said:
                        log.warning("broker: it answers and takes no writes: %s; waiting until it does", why)
                said = True
                maybe_shutdown()
                time.sleep(WRITE_TRY_SECONDS)


class ForgetUnacknowledged(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """A Celery consumer step: counts a message as gone whether or not the broker could be told.

    With kombu 5.7 on Redis, an acknowledgement that fails leaves its message counted for ever: a worker of which all
    fail takes nothing any more. What is delivered again later finds nothing to claim.
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
