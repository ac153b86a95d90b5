"""How many participants a worker takes up at once: as many as its engine has room for.

The pool's threads are started when they are needed, so there may be many; what is limited is how many messages the
worker holds. The number is known only when a model is in memory, and changes with the model.
"""

from __future__ import annotations

import threading
from typing import Any

from celery import bootsteps

from defsurvey.workers.engines.base import Roomy
from defsurvey.workers.runner.stage import Stage

#: As long as there is no engine, and for one that does not say.
FIRST = 16
#: Threads that a worker has at most.
MOST = 256
#: Seconds between two looks at what the engine says.
LOOK_SECONDS = 0.5


def at_once(engine: object | None) -> int:
    """How many participants to take up for an engine: what it says itself, if it does.

    Args:
        engine: what serves now; None while there is none.
    """
    said = engine.at_once if isinstance(engine, Roomy) else None
    return FIRST if said is None else max(1, min(said, MOST))


def room_step(stage: Stage) -> type[bootsteps.StartStopStep]:
    """A Celery consumer step that lets as many messages in as the resident engine has room for."""

    class Room(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **options: Any) -> None:
            super().__init__(consumer, **options)
            consumer.initial_prefetch_count = FIRST  # else as many as there could be threads
            self._stopped = threading.Event()

        def start(self, consumer: Any) -> None:
            self._stopped.clear()
            threading.Thread(target=self._run, args=(consumer,), name="room", daemon=True).start()

        def stop(self, _consumer: Any) -> None:
            self._stopped.set()

        def _run(self, consumer: Any) -> None:
            while not self._stopped.is_set():
                _, engine = stage.resident
                if engine is not None:
                    consumer.qos.value = at_once(engine)  # the consumer's loop tells the broker of a new value
                self._stopped.wait(LOOK_SECONDS)

    return Room
