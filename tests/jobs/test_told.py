"""Which signals tell a process to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from defsurvey.jobs.daemons.startup import when_told_to_end

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The process's own handlers are put back."""
    before = {number: signal.getsignal(number) for number in ALL}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("nohup", [False, True])
def test_a_closed_terminal_tells_so_unless_that_is_ignored(nohup: bool) -> None:
    """``nohup`` has SIGHUP ignored, and whoever uses it means that."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
    told: list[int] = []
    when_told_to_end(lambda number, _frame: told.append(number))
    for number in ALL:
        os.kill(os.getpid(), number)
    assert told == [*ALL[:2], *([] if nohup else ALL[2:])]
