"""How many requests may be under way at once: as many as the server bears.

Adds slowly and takes away fast (additive increase, multiplicative decrease: Chiu & Jain 1989), as TCP does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

from defsurvey.workers.engines.exchange import Retryable


class Pace:
    """Gives out turns. Safe to use from any thread.

    Args:
        most: most turns held at once.
        clock: seconds that never run backward.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._limit = float(most)
        self._held = 0
        self._lowered_at = -1.0
        self._not_before = 0.0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """How many turns may be held at once now."""
        return int(self._limit)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold a turn while the block runs.

        A block that ends well lets a little more through; one that ends with an overloaded server halves what is let
        through, and lets nobody through until the server's wait is over.

        Raises:
            CancelledError: ``close`` was called.
        """
        begun = self._begin()
        try:
            yield
        except Retryable as failure:
            if failure.overloaded:
                self._slow_down(begun, failure.wait)
            raise
        else:
            self._speed_up()
        finally:
            self._end()

    def close(self) -> None:
        """Give out no more turns; whoever waits for one is told at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _begin(self) -> float:
        with self._changed:
            while not self._closed:
                now = self._clock()  # once: a wait that ended between two looks would be waited for without end
                remaining = self._not_before - now
                if remaining <= 0 and self._held < int(self._limit):
                    self._held += 1
                    return now
                self._changed.wait(remaining if remaining > 0 else None)
            raise CancelledError

    def _end(self) -> None:
        with self._changed:
            self._held -= 1
            self._changed.notify_all()

    def _slow_down(self, begun: float, wait: float | None) -> None:
        now = self._clock()
        with self._changed:
            # What was under way when the limit was lowered says nothing new: a burst of refusals counts once.
            if begun >= self._lowered_at:
                self._limit = max(1.0, self._limit / 2)
                self._lowered_at = now
            self._not_before = max(self._not_before, now + (wait or 0.0))

    def _speed_up(self) -> None:
        with self._changed:
            self._limit = min(float(self._most), self._limit + 1 / self._limit)
