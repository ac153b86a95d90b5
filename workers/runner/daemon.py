"""A Celery worker on a thread pool: every participant in flight is a thread, all feed one engine.

The app, its tasks and its queues are handed in by jobs.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery, signals

from defsurvey.workers.runner.acknowledgements import ForgetUnacknowledged

log = logging.getLogger(__name__)

#: Seconds between two looks at whether the parent lives.
PARENT_LOOK_SECONDS = 1.0


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

    Args:
        app: the Celery app with its tasks.
        queues: queues to listen to from the start.
        concurrency: participants in flight at once.
        name: the worker's name, unique on this host.
        on_stop: called when the worker is told to stop, before it waits for its tasks.
        steps: further steps of Celery's consumer.
        events: whether Celery tells what becomes of each task, for those who watch the queue.
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
        consumer_cls="defsurvey.workers.runner.consumer:WaitingConsumer",
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
    """Celery's worker, but that a closed terminal is what SIGTERM is to it, and under ``nohup`` nothing.

    Celery would end and begin anew, in a process that heeds SIGTERM no more; on a terminal it would end amid its work.
    """

    class Worker(kind):  # type: ignore[misc]  # Celery ships no types
        def install_platform_tweaks(self, worker: Any) -> None:
            ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            super().install_platform_tweaks(worker)
            signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.getsignal(signal.SIGTERM))

    return Worker


def end_with_parent(parent: int, on_orphaned: Callable[[], None]) -> None:
    """End this process as soon as its parent is gone, so that a killed ``defsurvey run`` leaves nothing behind.

    Args:
        parent: process id of the parent.
        on_orphaned: called first; the process ends whatever it does.
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
