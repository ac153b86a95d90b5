"""Loops in sequence: nobody begins one before everybody is done with the one before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numba import carray

from workers.engines.transformers.compiled import compiled, integers, take
from workers.engines.transformers.team import Sequel, run

#: What the loop below is told; a task is a number.
CALL = np.dtype(
    [("taken", np.int64), ("tasks", np.int64), ("source", np.int64), ("target", np.int64), ("slow", np.int64)]
)


def _add_neighbours(call: Any) -> None:
    told = carray(call, 1)[0]
    source, target = integers(told.source), integers(told.target)
    task = take(call)
    while task < told.tasks:
        x = task
        for _ in range(told.slow * (task % 7)):  # some take longer than others
            x = x * 1103515245 + 12345
        target[task] = source[task] + source[(task + 1) % told.tasks] + (1 if x == 0 and task != 0 else 0)
        task = take(call)


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Of torch, fewer than processors and more."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def chain(tasks: int, steps: int, slow: int) -> tuple[list[np.ndarray], list[tuple[int, np.ndarray]]]:
    """Numbers, and loops each of which adds neighbours of what the one before has made."""
    loop = compiled(_add_neighbours, CALL)
    numbers = [np.arange(tasks, dtype=np.int64), *(np.full(tasks, -1, np.int64) for _ in range(steps))]
    told = []
    for before, after in pairwise(numbers):
        call = np.zeros(1, CALL)
        call[0] = 7, tasks, before.ctypes.data, after.ctypes.data, slow
        told.append((loop, call))
    return numbers, told


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize(("tasks", "slow"), [(1, 100), (3, 2000), (40, 50), (500, 0)])
def test_each_loop_sees_all_that_the_one_before_has_made(threads: int, tasks: int, slow: int, long: bool) -> None:
    """Whether there are fewer tasks than threads or many, again and again."""
    numbers, steps = chain(tasks, 9, slow)
    sequel = Sequel(steps)
    for time in range(20):
        for each in numbers[1:]:
            each[:] = -1
        numbers[0][:] = np.arange(tasks) + time
        sequel.run(long=long)
        expected = numbers[0]
        for found in numbers[1:]:
            expected = expected + np.roll(expected, -1)
            assert found.tolist() == expected.tolist()


def test_what_loops_are_told_may_change_between_runs(threads: int) -> None:
    """A sequence is made once for many layers."""
    numbers, steps = chain(20, 2, 0)
    sequel = Sequel(steps)
    sequel.run()
    other = np.zeros(20, np.int64)
    steps[1][1]["target"] = other.ctypes.data
    numbers[0] += 1
    sequel.run()
    assert other.tolist() == (numbers[2] + 4).tolist()


def test_a_sequence_goes_on_beside_others_that_take_the_processors(threads: int) -> None:
    """Whoever waits lets others have theirs, and ends."""
    numbers, steps = chain(50, 9, 20_000)
    sequel, done = Sequel(steps), threading.Event()
    busy, call = compiled(_add_neighbours, CALL), np.zeros(1, CALL)
    spun = [np.zeros(50, np.int64), np.zeros(50, np.int64)]
    call[0] = 0, 50, spun[0].ctypes.data, spun[1].ctypes.data, 100_000

    def spin() -> None:
        while not done.is_set():
            run(busy, call.copy(), long=True)

    others = [threading.Thread(target=spin) for _ in range(2)]
    for other in others:
        other.start()
    try:
        for _ in range(5):
            sequel.run(long=True)
    finally:
        done.set()
        for other in others:
            other.join()
    expected = numbers[0]
    for _ in steps:
        expected = expected + np.roll(expected, -1)
    assert numbers[-1].tolist() == expected.tolist()
