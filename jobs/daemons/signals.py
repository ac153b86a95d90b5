"""The signals by which a process is told to end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType


def when_told_to_end(do: Callable[[int, FrameType | None], None]) -> None:
    """Have something done on SIGINT, SIGTERM and, unless that is ignored as by ``nohup``, on SIGHUP.

    Args:
        do: called in the main thread with the signal, in place of what was done on it before.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, do)
