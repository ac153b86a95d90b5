"""Compiled loops in the very threads in which torch computes.

Threads of our own beside torch's would get in each other's way: OpenMP's helpers spin for their next piece of work, and
a process with more of them than processors puts all of them to sleep (see ``threads``). Where torch's OpenMP is not
GNU's, as on macOS, a loop is run by the calling thread alone, which is slower and gives the same.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

#: Starts a function in all threads of a team and waits for them: function, argument, number of threads, flags.
_Start = Callable[[int, int, int, int], None]


def run(loop: int, call: np.ndarray, *, long: bool = False) -> None:
    """Run a compiled loop in as many threads as torch has.

    Args:
        loop: its address.
        call: what it is told: one record, whose ``taken`` counts the tasks that have been taken.
        long: whether other threads of the interpreter may go on meanwhile: most loops take less time than it can take
            to get its lock back.
    """
    call["taken"] = 0
    (_start_unlocked if long else _start)(loop, call.ctypes.data, torch.get_num_threads(), 0)


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
