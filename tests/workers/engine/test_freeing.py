"""Freed memory: what the next forward wants stays, and all of it goes back when a model is given up."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from defsurvey.workers.engines.transformers.freeing import give_back, hold_on

#: Takes and frees four pieces of 8 MB again and again; prints how many pages were got anew, before and after.
_PAGES = """
import ctypes, resource
from defsurvey.workers.engines.transformers.freeing import give_back, hold_on

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)

def pages(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        pieces = [libc.malloc(8 << 20) for _ in range(4)]
        for piece in pieces:
            ctypes.memset(piece, 1, 8 << 20)
        for piece in pieces:
            libc.free(piece)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages(2)
thrown_away = pages(10)
hold_on()
pages(2)
kept = pages(10)
held = int(open("/proc/self/statm").read().split()[1])
give_back()
print(thrown_away, kept, held - int(open("/proc/self/statm").read().split()[1]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has rules of its own")
def test_memory_stays_until_it_is_given_back() -> None:
    """Ten rounds over 32 MB: without it every page is got anew, with it hardly any, and then all are given back."""
    ended = subprocess.run([sys.executable, "-c", _PAGES], capture_output=True, text=True, check=True, timeout=60)
    thrown_away, kept, given_back = map(int, ended.stdout.split())
    all_pages = 32 * 256
    assert thrown_away > 5 * all_pages
    assert kept < all_pages
    assert given_back > 0.9 * all_pages


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without these functions is asked for them, and that is no error."""
    asked = []

    class Library:
        def __getattr__(self, name: str) -> object:
            asked.append(name)
            raise AttributeError(name)

    monkeypatch.setattr("ctypes.CDLL", lambda _name: Library())
    hold_on()
    give_back()
    assert asked == ["mallopt", "malloc_trim"]
