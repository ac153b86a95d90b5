"""What an engine takes of its machine and leaves behind: memory, and threads."""

import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from defsurvey.workers.engines import machine
from defsurvey.workers.engines.transformers.core.memory import OutOfRoom, limits_for, participants_at_once
from defsurvey.workers.engines.transformers.core.scheduler import Limits
from defsurvey.workers.engines.transformers.core.threads import in_passing
from tests.end_to_end.machine import wait_until

CPU, TOKEN = torch.device("cpu"), 32
#: What one request of usual size takes: 600 + 3 * 96 tokens.
ONE = 888 * TOKEN


@pytest.mark.parametrize(
    ("memory", "left", "weights", "room"),
    [
        (1 << 40, 1 << 40, 1, 384 << 20),  # at least this, however small the model is
        (1 << 40, 1 << 40, 1 << 33, 1 << 33),  # as much as the weights
        (8 << 20, 8 << 20, 5 << 20, 1 << 20),  # an eighth of what there is
        (32 << 30, 3 << 30, 28 << 30, 3 << 29),  # half of what the weights have left
    ],
)
def test_a_processor_gives_a_share_of_its_memory(
    monkeypatch: pytest.MonkeyPatch, memory: int, left: int, weights: int, room: int
) -> None:
    monkeypatch.setattr(machine, "memory", lambda: memory)
    monkeypatch.setattr(machine, "memory_left", lambda: left)
    assert limits_for(CPU, TOKEN, weights) == Limits(rows=128, tokens=2048, kv_bytes=room)


def test_a_gpu_gives_four_fifths_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (1_000_000, 2_000_000))
    found = limits_for(torch.device("cuda:0"), TOKEN, 5_000)
    assert found == Limits(rows=512, tokens=2048, kv_bytes=800_000)


def test_a_model_that_leaves_no_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory", lambda: 32 << 30)
    monkeypatch.setattr(machine, "memory_left", lambda: 2 * ONE)
    assert limits_for(CPU, TOKEN, 1).kv_bytes == ONE
    monkeypatch.setattr(machine, "memory_left", lambda: 2 * ONE - 2)
    with pytest.raises(OutOfRoom, match=r"one request takes 0\.0284 MB of them; its weights leave room for 0\.0284"):
        limits_for(CPU, TOKEN, 1)


def test_the_room_of_a_model_says_how_many_participants_fit() -> None:
    for room, rows, expected in ((10 * ONE, 128, 10), (10 * ONE - 1, 128, 9), (1 << 40, 128, 42), (1, 128, 1)):
        chosen = Limits(rows=rows, tokens=512, kv_bytes=room)
        assert participants_at_once(TOKEN, chosen) == expected


#: Takes and frees four pieces of 8 MB again and again; prints how many pages were got anew, before and after.
_PAGES = """
import ctypes, resource
from defsurvey.workers.engines.transformers.core.memory import give_back, hold_on

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
    ended = subprocess.run([sys.executable, "-c", _PAGES], capture_output=True, text=True, check=True, timeout=60)
    thrown_away, kept, given_back = map(int, ended.stdout.split())
    all_pages = 32 * 256
    assert thrown_away > 5 * all_pages
    assert kept < all_pages
    assert given_back > 0.9 * all_pages


def _helpers() -> int:
    return len(list(Path("/proc/self/task").iterdir())) - threading.active_count()


def test_the_helpers_of_a_passing_thread_end_with_it(one_thread: None) -> None:
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
    with pytest.raises(ZeroDivisionError):
        in_passing(lambda: 1 // 0)
