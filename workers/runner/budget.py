"""What a run may still cost, summed up anew only where that could change anything.

The sum goes over all participants and judgements, and is asked for by every answer.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

#: Seconds after which the sum is made again in any case: others may spend meanwhile, and budgets are changed.
LOOK_SECONDS = 1.0
#: Share of what is left that may be spent unseen, at the cost that answers have had since the sum before.
_UNSEEN = 0.25


class Purse:
    """Tells whether a run has money left; to be asked once for every answer. Safe to ask from any thread.

    Near the end the sum is made at every answer, so that no more is overdrawn than by who is asked at that moment.
    Where other processes spend as well, what they do within ``LOOK_SECONDS`` may come on top.

    Args:
        left: sums up: US dollars that may still be spent, at most 0 where there are none; None: whatever it costs.
        clock: seconds.
    """

    def __init__(self, left: Callable[[], float | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._sum = left
        self._clock = clock
        self._lock = threading.Lock()
        self._asked = 0  #: since the last sum
        self._enough_for = 0.0  #: so many answers after it another is needed
        self._until = -math.inf
        self._left: float | None = None  #: as the last sum says

    def is_empty(self) -> bool:
        """Whether nothing more is to be asked."""
        with self._lock:
            self._asked += 1
            if self._asked < self._enough_for and self._clock() < self._until:
                return False
            asked, before, self._asked = self._asked, self._left, 0
        left = self._sum()
        with self._lock:
            self._left, self._until = left, self._clock() + LOOK_SECONDS
            self._enough_for = _enough_for(before, left, asked)
        return left is not None and left <= 0


def _enough_for(before: float | None, left: float | None, asked: int) -> float:
    """After how many answers a sum is needed again, by what the last ``asked`` of them have cost."""
    if left is None:
        return math.inf
    each = (before - left) / asked if before is not None else 0.0
    return _UNSEEN * left / each if each > 0 else 0.0
