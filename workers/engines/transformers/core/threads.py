"""In which threads torch computes: in one at a time, for OpenMP's sake.

Every thread that computes gets helpers of its own from GNU's OpenMP. As soon as a process has more of them than the
machine has processors, all of them fall asleep between any two operations, and waking them takes longer than most
operations of a small batch: 50 instead of 7 microseconds. Helpers end with the thread whose they are.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Result = TypeVar("_Result")


def in_passing(work: Callable[[], _Result]) -> _Result:
    """Do some work in a thread that ends with it, and leaves no helpers behind; raises what the work raises."""
    with ThreadPoolExecutor(1, thread_name_prefix="passing") as thread:
        return thread.submit(work).result()
