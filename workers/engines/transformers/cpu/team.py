"""Compiled loops in the very threads in which torch computes, one at a time or several in sequence.

To start threads and to wait for them takes longer than many a loop. In a sequence they are started once: who finds no
more tasks in a loop waits until nobody is at one, and goes on to the next.

Threads of our own beside torch's would get in each other's way: OpenMP's helpers spin for their next piece of work, and
a process with more of them than processors puts all of them to sleep (see ``threads``). Where torch's OpenMP is not
GNU's, as on macOS, a loop is run by the calling thread alone, which is slower and gives the same.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from defsurvey.workers.engines.transformers.cpu.compiled import UNDONE, compiled, integers
from defsurvey.workers.engines.transformers.cpu.product import can

#: One loop of a sequence.
STEP = np.dtype(
    [
        ("loop", np.int64),  # its address
        ("told", np.int64),  # address of what it is told
        ("entered", np.int64),  # how many threads have begun to look for tasks
        ("left", np.int64),  # how many have found no more
    ]
)
#: What a sequence is told.
SEQUENCE = np.dtype([("taken", np.int64), ("steps", np.int64), ("step", np.int64)], align=True)
#: So often a thread looks whether the others are done before it lets another program have the processor.
_PATIENCE = 2000

#: Starts a function in all threads of a team and waits for them: function, argument, number of threads, flags.
_Start = Callable[[int, int, int, int], None]


def run(loop: int, call: np.ndarray, *, long: bool = False) -> None:
    """Run a compiled loop in as many threads as torch has.

    Args:
        loop: its address.
        call: what it is told: one record, whose ``taken`` counts the tasks that have been taken.
        long: whether other threads of the interpreter may go on meanwhile: most loops take less time than it can take
            to get its lock back.

    Raises:
        MemoryError: a thread found none for its own numbers; not all is done.
    """
    call["taken"] = 0
    (_start_unlocked if long else _start)(loop, call.ctypes.data, torch.get_num_threads(), 0)
    if call["taken"].item() >= UNDONE:
        raise MemoryError("a compiled loop found no memory for its own numbers")


class Sequel:
    """Compiled loops that run one after the other: all threads are done with one before the next.

    Args:
        steps: for each loop its address and what it is told, which may be changed between runs.
    """

    def __init__(self, steps: Sequence[tuple[int, np.ndarray]]) -> None:
        self._steps, self._call = np.zeros(len(steps), STEP), np.zeros(1, SEQUENCE)
        self._told = [told[0] for _, told in steps]
        for number, (loop, told) in enumerate(steps):
            self._steps[number] = loop, told.ctypes.data, 0, 0
        self._call[0] = 0, len(steps), self._steps.ctypes.data

    def run(self, *, long: bool = False) -> None:
        """Run them all; ``long`` as for ``run``, and so is what it raises."""
        for told in self._told:
            told["taken"] = 0
        self._steps["entered"] = self._steps["left"] = 0
        run(_sequence(), self._call, long=long)


@cache
def _sequence() -> int:
    size, of, entered, left = STEP.itemsize, 8, 16, 24  # where they are in it

    def sequence(call: Any) -> None:  # pragma: no cover
        told = carray(call, 1)[0]
        for number in range(told.steps):
            step = told.step + number * size
            _count(step + entered)
            _call(step)
            _count(step + left)
            # Whoever has taken a task has entered before: no task is left, so nobody is missing. Who finds no memory
            # leaves none to others either: nobody may go on to the next loop while tasks of this one are to be taken.
            looked = 0
            while _number(step + left) < _number(step + entered):
                looked += 1
                _wait(looked > _PATIENCE)
            if _number(integers(step + of)[0]) >= UNDONE:
                told.taken = UNDONE

    return compiled(sequence, SEQUENCE)


@intrinsic
def _call(_typing: Any, step: Any) -> Any:
    """Call the loop at an address with what is told at the next."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word, byte = ir.IntType(64), ir.IntType(8).as_pointer()
        loop, told = (
            builder.load(builder.inttoptr(builder.add(arguments[0], word(place)), word.as_pointer()))
            for place in (0, 8)
        )
        kind = ir.FunctionType(ir.VoidType(), [byte]).as_pointer()
        builder.call(builder.inttoptr(loop, kind), [builder.inttoptr(told, byte)])
        return context.get_dummy_value()

    return types.void(step), generate


@intrinsic
def _count(_typing: Any, address: Any) -> Any:
    """One more at an address, seen by everyone in the same order."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        builder.atomic_rmw("add", builder.inttoptr(arguments[0], word.as_pointer()), word(1), "seq_cst")
        return context.get_dummy_value()

    return types.void(address), generate


@intrinsic
def _number(_typing: Any, address: Any) -> Any:
    """What was counted at an address."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()), "seq_cst", 8)

    return types.int64(address), generate


@intrinsic
def _wait(_typing: Any, _impatient: Any) -> Any:
    """Wait a moment, or let another program have the processor."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        if can("sse2"):
            nothing = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), nothing), [])
        if sys.platform != "win32":
            with builder.if_then(arguments[0]):
                kind = ir.FunctionType(ir.IntType(32), [])
                builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(types.boolean), generate


def _found(library: Callable[[str], Any]) -> _Start:
    try:
        start: Any = library("libgomp.so.1").GOMP_parallel  # by name it is the library that torch has loaded
    except (OSError, AttributeError):
        return _alone
    start.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    start.restype = None
    found: _Start = start
    return found


def _alone(loop: int, call: int, _threads: int, _flags: int) -> None:
    ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(loop)(call)


_start, _start_unlocked = _found(ctypes.PyDLL), _found(ctypes.CDLL)
