"""Compiled loops: number formats, what is kept for the next process, and threads that share a loop's tasks."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from numba import carray, from_dtype, types
from torch import Tensor

from defsurvey.workers.engines.transformers.cpu import drawing, keeping, linear, loops, rowwise, tiles
from defsurvey.workers.engines.transformers.cpu.compiled import FORMATS, compiled, integers, narrow, take, widen
from defsurvey.workers.engines.transformers.cpu.keeping import kept, sources
from defsurvey.workers.engines.transformers.cpu.team import Sequel, run

#: What the loops here are told; a task is a number.
CALL = np.dtype(
    [("taken", np.int64), ("tasks", np.int64), ("source", np.int64), ("target", np.int64), ("slow", np.int64)]
)


def converted(convert: Any, form: int, numbers: Tensor, to: torch.dtype) -> Tensor:
    def loop(call: Any) -> None:
        told = carray(call, 1)[0]
        convert(form, told.source, told.target, told.tasks)

    result, told = torch.empty(len(numbers), dtype=to), np.zeros(1, CALL)
    told[0] = 0, len(numbers), numbers.data_ptr(), result.data_ptr(), 0
    run(compiled(loop, CALL), told)
    return result


@pytest.mark.parametrize("name", FORMATS)
def test_every_number_of_a_format_goes_both_ways(one_thread: None, name: str) -> None:
    dtype = getattr(torch, name)
    if dtype.itemsize == 2:
        numbers = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    else:
        numbers = torch.cat((torch.randn(1000), torch.tensor([torch.inf, -torch.inf, torch.nan])))
    wide = converted(widen, FORMATS.index(name), numbers, torch.float32)
    torch.testing.assert_close(wide, numbers.float(), rtol=0, atol=0, equal_nan=True)
    found, some = converted(narrow, FORMATS.index(name), wide, dtype), ~torch.isnan(numbers)
    assert torch.equal(found[some].view(torch.int16), numbers[some].view(torch.int16))
    assert torch.isnan(found[~some]).all()


def _count_up(call: Any) -> None:
    told = carray(call, 1)[0]
    told.tasks += 1


def test_what_was_compiled_is_found_until_a_module_changes_that_loops_are_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def hits() -> int:
        return int(kept(_count_up, types.void(types.CPointer(from_dtype(CALL))), {}).cache_hits)

    found = [hits(), hits()]
    files = {file.name for file in tmp_path.rglob("*.nb?")}
    monkeypatch.setattr(keeping, "sources", lambda: b"others")
    found += [hits(), hits()]
    assert found == [0, 1, 0, 1]
    assert {file.name for file in tmp_path.rglob("*.nb?")} == files
    assert len(files) == 2


def test_only_modules_that_have_to_do_with_compiling_count(tmp_path: Path) -> None:
    before = sources.__wrapped__(tmp_path)
    (tmp_path / "other.py").write_text("import torch")
    assert sources.__wrapped__(tmp_path) == before
    (tmp_path / "making.py").write_text("from llvmlite import ir")
    assert sources.__wrapped__(tmp_path) != before


#: Opens loops of several kinds, as a worker does at its start.
OPENED = """
from defsurvey.workers.engines.transformers.cpu import team
from defsurvey.workers.engines.transformers.cpu import rowwise
from defsurvey.workers.engines.transformers.cpu import outputs
from defsurvey.workers.engines.transformers.cpu import loops
from defsurvey.workers.engines.transformers.cpu import linear

linear.multiplying(outputs.NONE, linear.IN_REGISTERS, biased=True)
loops.storing(64, "bfloat16")
rowwise.norming(1)
team._sequence()
"""


def test_the_next_process_finds_all_that_was_compiled(tmp_path: Path) -> None:
    files = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", OPENED], env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}, check=True)
        files.append({file.name for file in tmp_path.rglob("*.nbc")})
    assert len(files[0]) == 4
    assert files[0] == files[1]


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


def summed(numbers: np.ndarray, steps: int) -> list[int]:
    for _ in range(steps):
        numbers = numbers + np.roll(numbers, -1)
    return numbers.tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize(("tasks", "slow"), [(1, 100), (3, 2000), (40, 50), (500, 0)])
def test_each_loop_sees_all_that_the_one_before_has_made(threads: int, tasks: int, slow: int, long: bool) -> None:
    numbers, steps = chain(tasks, 9, slow)
    sequel = Sequel(steps)
    for time in range(10):
        for each in numbers[1:]:
            each[:] = -1
        numbers[0][:] = np.arange(tasks) + time
        sequel.run(long=long)
        assert [found.tolist() for found in numbers] == [summed(numbers[0], step) for step in range(10)]


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
    call = np.zeros(1, told)
    if told is loops.CALL:
        call["most_rows"] = 1
    call[wants] = 1 << 54
    with pytest.raises(MemoryError):
        run(loop(), call)


@pytest.mark.parametrize("long", [False, True])
def test_others_go_on_while_a_long_loop_runs(long: bool) -> None:
    told = np.zeros(1, np.dtype([("taken", np.int64), ("spins", np.int64), ("counted", np.int64)]))
    told["spins"] = 200_000_000

    def spin(call: Any) -> None:
        number = carray(call, 1)[0]
        before = x = take(call)
        for i in range(number.spins + before):
            x = x * 1103515245 + i
        carray(call, 1)[0].spins = x
        carray(call, 1)[0].counted = take(call) - before - 1

    loop, done = compiled(spin, told.dtype), threading.Event()

    def count() -> None:
        while not done.wait(0.001):
            told["taken"] += 1

    threads, other = torch.get_num_threads(), threading.Thread(target=count)
    torch.set_num_threads(1)
    other.start()
    try:
        run(loop, told, long=long)
        counted = int(told["counted"][0])
    finally:
        torch.set_num_threads(threads)
        done.set()
        other.join()
    assert (counted > 0) is long
