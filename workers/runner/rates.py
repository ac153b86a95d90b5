"""How fast a process commits answers, run by run, over the last minute.

An answer may take far longer than the time between two beats, so that what one beat counts says nothing.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

#: Seconds over which answers are counted.
WINDOW_SECONDS = 60.0


class Rates:
    """Counts answers and tells how many a second there were. Not safe to use from several threads at once.

    Args:
        clock: seconds that never run backward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._made_at = clock()
        self._begun: dict[str, float] = {}  # when the runs counted now could first be asked
        self._looks: deque[tuple[float, Counter[str]]] = deque()  # when it was looked, and what had come since before
        self._fresh: Counter[str] = Counter()

    def begin(self, run: str) -> None:
        """Note that a run can be asked from now on, if not before: what came before it is none of its time."""
        self._begun.setdefault(run, self._clock())

    def count(self, run: str) -> None:
        """Note an answer."""
        self._fresh[run] += 1

    def look(self) -> dict[str, float]:
        """Run -> answers per second over ``WINDOW_SECONDS``, or since it began where that is less; none without any."""
        now = self._clock()
        self._looks.append((now, self._fresh))
        self._fresh = Counter()
        while self._looks[0][0] <= now - WINDOW_SECONDS:
            self._looks.popleft()
        counted: Counter[str] = Counter()
        for _, each in self._looks:
            counted.update(each)
        since = now - WINDOW_SECONDS
        self._begun = {run: at for run, at in self._begun.items() if run in counted or at > since}
        return {run: number / self._seconds(run, now) for run, number in counted.items()}

    def _seconds(self, run: str, now: float) -> float:
        return max(min(now - self._begun.get(run, self._made_at), WINDOW_SECONDS), 1e-9)
