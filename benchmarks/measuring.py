"""What a piece of work takes: seconds, of the processor too, and memory; and processes that hold nothing else.

Deliberately knows nothing of models.
"""

from __future__ import annotations

import gc
import multiprocessing
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from defsurvey.workers.engines.transformers.core.freeing import give_back

from defsurvey.workers.engines.transformers.core.threads import in_passing

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One way of serving one workload, once."""

    seconds: float  #: wall clock
    cpu_seconds: float  #: of all threads of this process
    tokens: int  #: of replies
    peak_mb: float  #: resident memory of this process at its highest, with everything that was there before


def measured(work: Callable[[], int]) -> Measured:
    """Run something that returns how many tokens it made, in a thread of its own."""
    gc.collect()
    give_back()
    _forget_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = in_passing(work)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    return Measured(seconds=seconds, cpu_seconds=cpu_seconds, tokens=tokens, peak_mb=_peak())


def in_its_own_process(
    work: Callable[_Arguments, _Result], *arguments: _Arguments.args, **named: _Arguments.kwargs
) -> _Result:
    """Do some work where nothing was done before, so that it finds no memory that others have left in pieces.

    Args:
        work: A function of a module; it, its arguments and its result travel by pickle.
        *arguments: What it is given.
        **named: The same, by name.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments, **named).result()


def _forget_peak() -> None:
    """Let the kernel measure peak memory anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak() -> float:
    """Highest resident memory since then, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1e3
