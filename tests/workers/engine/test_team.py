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

from defsurvey.workers.engines.transformers import drawing, linear, loops, rowwise, tiles
from defsurvey.workers.engines.transformers.compiled import claim, compiled, integers, release, take
from defsurvey.workers.engines.transformers.team import Sequel, run

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


def _work_in_memory(call: Any) -> None:
    """As ``_add_neighbours``; ``slow`` is how many bytes a thread wants."""
    told = carray(call, 1)[0]
    own = claim(call, told.slow)
    if own == 0:
        return
    source, target = integers(told.source), integers(told.target)
    task = take(call)
    while task < told.tasks:
        integers(own)[0] = source[task]
        target[task] = integers(own)[0] + source[(task + 1) % told.tasks]
        task = take(call)
    release(own)


#: More than any machine has.
MUCH = 1 << 60


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_loop_that_finds_no_memory_says_so(threads: int, which: int, long: bool) -> None:
    """Alone and in any place of a sequence, which ends; with memory it does its work again."""
    numbers, steps = chain(20, 3, 8)
    loop = compiled(_work_in_memory, CALL)
    sequel = Sequel([(loop, call) for _, call in steps])
    steps[which][1]["slow"] = MUCH
    for _ in range(20):
        with pytest.raises(MemoryError, match="a compiled loop found no memory for its own numbers"):
            sequel.run(long=long)
    with pytest.raises(MemoryError):
        run(loop, steps[which][1], long=long)
    steps[which][1]["slow"] = 8
    sequel.run(long=long)
    expected = numbers[0]
    for found in numbers[1:]:
        expected = expected + np.roll(expected, -1)
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("loop", "told", "wants"),
    [
        (lambda: loops.attending(64, 3, "float32"), loops.CALL, "most_keys"),
        (lambda: tiles.attending(64, 3, "float32"), loops.CALL, "most_keys"),
        (lambda: linear.multiplying(0, linear.IN_REGISTERS, biased=False), linear.LINEAR, "units"),
        (lambda: rowwise.norming(1), rowwise.NORM, "width"),
        (lambda: rowwise.rotating(1), rowwise.ROTATION, "width"),
        (drawing.drawing, drawing.TOLD, "n"),
    ],
    ids=["beams", "prompts", "product", "norm", "rotation", "draw"],
)
def test_every_loop_says_that_it_finds_no_memory(threads: int, loop: Any, told: Any, wants: str) -> None:
    """Of those whose own numbers depend on what they are told."""
    call = np.zeros(1, told)
    if told is loops.CALL:
        call["most_rows"] = 1
    call[wants] = 1 << 54
    with pytest.raises(MemoryError):
        run(loop(), call)
