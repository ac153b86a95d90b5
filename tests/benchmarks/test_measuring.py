"""What is measured of a piece of work, and that a process of its own has nothing of this one."""

from __future__ import annotations

import os

import numpy as np
import pytest

from benchmarks.measuring import in_its_own_process, measured

HELD: list[int] = []


def fill(megabytes: int) -> int:
    """Hold so much for a moment."""
    return int(np.ones(megabytes << 20, dtype=np.uint8)[-1])


def held() -> tuple[int, list[int]]:
    """Which process this is, and what it holds."""
    return os.getpid(), HELD


def fail(word: str) -> None:
    """Fail."""
    raise ValueError(word)


def test_the_peak_is_that_of_the_work_alone() -> None:
    fill(600)
    little, much = measured(lambda: fill(20)), measured(lambda: fill(300))
    assert much.peak_mb - little.peak_mb == pytest.approx(1.048576 * 280, rel=0.1)
    assert (much.tokens, much.seconds > 0, much.cpu_seconds > 0) == (1, True, True)


def test_a_process_of_its_own_begins_empty() -> None:
    HELD.append(1)
    process, there = in_its_own_process(held)
    assert process != os.getpid()
    assert there == []


def test_what_fails_there_fails_here() -> None:
    with pytest.raises(ValueError, match="no room"):
        in_its_own_process(fail, "no room")
