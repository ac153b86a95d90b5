"""Where torch computes: what a passing thread leaves behind."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from defsurvey.workers.engines.transformers.threads import in_passing
from tests.end_to_end.machine import wait_until


def _helpers() -> int:
    """Threads of this process that are not Python's."""
    return len(list(Path("/proc/self/task").iterdir())) - threading.active_count()


def test_the_helpers_of_a_passing_thread_end_with_it(one_thread: None) -> None:
    """It has some while it computes, and none are left when it is done."""
    before = _helpers()

    def compute() -> int:
        torch.set_num_threads(2)
        torch.ones(1 << 20).mul_(2)
        return _helpers()

    try:
        assert in_passing(compute) == before + 1
        wait_until(lambda: _helpers() == before, "the end of the helpers")  # the system takes a moment for it
    finally:
        torch.set_num_threads(1)


def test_what_passing_work_raises_reaches_who_asked() -> None:
    """As if it had been called."""
    with pytest.raises(ZeroDivisionError):
        in_passing(lambda: 1 // 0)
