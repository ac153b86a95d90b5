"""Ends a process in which the engine hangs or has died, or that does not end when it is told to.

On a thread pool a hung call cannot be interrupted, so the process has to go; its leases are found and its participants
go on elsewhere.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from defsurvey.storage.runs.run import EngineDescription
from defsurvey.workers.engines.base import Completion, Engine, Request

log = logging.getLogger(__name__)

#: Exit status of a process that the watchdog ended (sysexits' EX_SOFTWARE).
EXIT_HUNG = 70
#: Seconds between two looks, at most.
LOOK_SECONDS = 1.0
#: Seconds that a process may take to end in good order; container engines kill after 10.
STOP_SECONDS = 8.0
#: Seconds for the last thing that a process does when it ends otherwise.
LAST_SECONDS = 1.0


class Watchdog:
    """Counts what the engine is asked and ends the process when nothing comes back any more.

    ``limit`` is the seconds without any completion, while something is asked.
    """

    def __init__(
        self,
        limit: float,
        *,
        end: Callable[[], None] = lambda: os._exit(EXIT_HUNG),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit, self._end, self._clock = limit, end, clock
        self._asked = 0
        self._moved_at = clock()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def asked(self) -> None:
        """Note that the engine is asked something."""
        with self._lock:
            if self._asked == 0:
                self._moved_at = self._clock()
            self._asked += 1

    def answered(self) -> None:
        """Note that a request has come to its end, in whatever way."""
        with self._lock:
            self._asked -= 1
            self._moved_at = self._clock()

    def hung(self) -> bool:
        """Whether something has been asked and nothing has come back for longer than the limit."""
        with self._lock:
            return self._asked > 0 and self._clock() - self._moved_at > self._limit

    def give_up(self, reason: str) -> None:
        """End the process as it is, to be started again; what it holds is found as after any death."""
        log.critical("%s", reason)
        self._end()

    def _run(self) -> None:
        pause = min(LOOK_SECONDS, self._limit / 4)
        while not self.hung():
            time.sleep(pause)
        self.give_up(f"no completion for {self._limit:.0f} s while {self._asked} are asked: the engine hangs")


class Watched:
    """An engine of which a watchdog sees each request and each completion, however many an answer takes."""

    def __init__(self, engine: Engine, watchdog: Watchdog) -> None:
        self._engine, self._watchdog = engine, watchdog

    def submit(self, request: Request) -> Future[Completion]:
        """Queue a request; it is asked until its future is done."""
        self._watchdog.asked()
        try:
            future = self._engine.submit(request)
        except BaseException:
            self._watchdog.answered()
            raise
        future.add_done_callback(lambda _: self._watchdog.answered())
        return future

    def describe(self) -> EngineDescription:
        """What the engine says of itself."""
        return self._engine.describe()

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


def end_after(seconds: float, *, first: Callable[[], None], end: Callable[[], None] = lambda: os._exit(0)) -> None:
    """End this process, which is to stop, if it is still there after so many seconds: no thread can be interrupted.

    ``first`` is called before, and waited for at most ``LAST_SECONDS``.
    """

    def last() -> None:
        time.sleep(seconds)
        log.warning("still busy %.0f s after it was told to end: this process ends as it is", seconds)
        words = threading.Thread(target=first, name="last words", daemon=True)
        words.start()
        words.join(LAST_SECONDS)
        end()

    threading.Thread(target=last, name="end", daemon=True).start()
