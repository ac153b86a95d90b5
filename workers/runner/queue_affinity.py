"""Which model's queue a worker drains, and how many participants it takes up at once.

A worker that listened to every queue would load a model for nearly every message. So it listens to one, and changes
only when SQL shows no claimable work for that model and nothing is in flight.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from celery import bootsteps
from sqlalchemy.exc import SQLAlchemyError

from defsurvey.storage.database import Database
from defsurvey.storage.runs.ledger import Backlog, backlogs
from defsurvey.workers.engines.base import Roomy
from defsurvey.workers.runner.lease import Leases
from defsurvey.workers.runner.resident import Resident

log = logging.getLogger(__name__)

#: Seconds between two looks at the backlogs.
LOOK_SECONDS = 0.5
#: Participants taken up at once as long as there is no engine, and for one that does not say.
FIRST = 16
#: Threads that a worker has at most; they are started when they are needed.
MOST = 256


def choose(candidates: Sequence[Backlog], current: str) -> str:
    """The model to drain next: fewest workers, then largest backlog; ``current`` if it has work or nothing waits."""
    if not candidates or any(candidate.model == current for candidate in candidates):
        return current
    return min(candidates, key=lambda backlog: (backlog.workers, -backlog.claimable, backlog.model)).model


def at_once(engine: object | None) -> int:
    """How many participants to take up for an engine: what it says itself, if it does."""
    said = engine.at_once if isinstance(engine, Roomy) else None
    return FIRST if said is None else max(1, min(said, MOST))


def affinity_step(
    leases: Leases,
    resident: Resident,
    *,
    database: Database,
    models: Sequence[str],
    queue_of: Callable[[str], str],
    run: str | None = None,
    by_room: bool = False,
) -> type[bootsteps.StartStopStep]:
    """A Celery consumer step that keeps this worker on one model's queue, and sets ``leases.model``.

    It chooses among ``models`` (all where none is named), by the work of ``run`` (of all where it is None). With
    ``by_room`` as many messages are let in as the engine has room for.
    """

    class Affinity(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **options: Any) -> None:
            super().__init__(consumer, **options)
            self._stopped = threading.Event()
            if by_room:
                consumer.initial_prefetch_count = FIRST  # else as many as there could be threads

        def start(self, consumer: Any) -> None:
            if leases.model:  # the connection was lost and is back: the queue has to be taken up again
                consumer.call_soon(consumer.add_task_queue, queue_of(leases.model))
            else:  # before the loop begins: once it waits for the broker, a new queue has to wait for a second
                self.choose_queue(consumer)
            self._stopped = threading.Event()  # the thread of before may be amid a look yet, and has its own
            threading.Thread(target=self._run, args=(consumer, self._stopped), name="affinity", daemon=True).start()

        def stop(self, _consumer: Any) -> None:
            self._stopped.set()

        def _run(self, consumer: Any, stopped: threading.Event) -> None:
            while not stopped.wait(LOOK_SECONDS):
                self.choose_queue(consumer)
                _, engine = resident.now
                if by_room and engine is not None:
                    consumer.qos.value = at_once(engine)  # the consumer's loop tells the broker of a new value

        def choose_queue(self, consumer: Any) -> None:
            if leases.holding():
                return
            try:
                waiting = backlogs(database, models=models, run=run)
            except SQLAlchemyError as error:  # an outage: look again later, stay where we are
                log.warning("backlogs: %s", error)
                return
            if run is not None and not waiting and not leases.holding():
                resident.rest()  # of its only run nothing is left but, maybe, to be judged: the judge needs memory too
            before, leases.model = leases.model, choose(waiting, leases.model)
            if leases.model != before:
                if before:
                    consumer.call_soon(consumer.cancel_task_queue, queue_of(before))
                log.info("draining %s", leases.model)
                consumer.call_soon(consumer.add_task_queue, queue_of(leases.model))

    return Affinity
