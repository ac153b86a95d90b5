"""Completions that arrive later: one thread holds any number of them."""

from __future__ import annotations

import heapq
import threading
import time
from concurrent.futures import Future
from itertools import count

from defsurvey.workers.engines.base import Completion, EngineUnavailable, give_up


class Delay:
    """Resolves futures when they are due. ``after`` is safe to call from any thread."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Future[Completion], Completion]] = []
        self._order = count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="delay", daemon=True)
        self._thread.start()

    def after(self, seconds: float, completion: Completion) -> Future[Completion]:
        """A future that resolves to ``completion`` after ``seconds``; raises EngineUnavailable once closed."""
        future: Future[Completion] = Future()
        with self._changed:
            if self._closed:
                raise EngineUnavailable("the scripted respondent is closed")
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), future, completion))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Cancel what is not due yet and end the thread."""
        with self._changed:
            self._closed = True
            pending, self._due = self._due, []
            self._changed.notify()
        for _, _, future, _ in pending:
            give_up(future)
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (not self._due or self._due[0][0] > time.monotonic()):
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._closed:
                    return
                _, _, future, completion = heapq.heappop(self._due)
            # Outside the lock: callbacks of the future may submit again.
            if future.set_running_or_notify_cancel():
                future.set_result(completion)
