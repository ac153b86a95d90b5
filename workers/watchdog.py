"""Ends a process in which the engine hangs.

On a thread pool a hung call cannot be interrupted, so the process has to go; its leases are
found and its participants go on elsewhere. Knows only when the last completion came.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

#: Exit status of a process that the watchdog ended (sysexits' EX_SOFTWARE).
EXIT_HUNG = 70
#: Seconds between two looks, at most.
LOOK_SECONDS = 1.0


class Watchdog:
    """Counts what the engine is asked and notices when nothing comes back any more.

    Args:
        limit: seconds without any completion, while something is asked, after which the process ends.
        end: ends it.
        clock: seconds that never run backward.
    """

    def __init__(
        self,
        limit: float,
        *,
        end: Callable[[], None] = lambda: os._exit(EXIT_HUNG),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._end = end
        self._clock = clock
        self._asked = 0
        self._moved_at = clock()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Something is asked of the engine while the block runs."""
        with self._lock:
            if self._asked == 0:
                self._moved_at = self._clock()
            self._asked += 1
        try:
            yield
        finally:
            with self._lock:
                self._asked -= 1
                self._moved_at = self._clock()

    def hung(self) -> bool:
        """Whether something has been asked and nothing has come back for longer than the limit."""
        with self._lock:
            return self._asked > 0 and self._clock() - self._moved_at > self._limit

    def _run(self) -> None:
        while not self.hung():
            time.sleep(min(LOOK_SECONDS, self._limit / 4))
        log.critical("no completion for %.0f s while %d are asked: the engine hangs", self._limit, self._asked)
        self._end()
