"""What an engine takes of its machine and leaves behind: memory, and threads."""

import platform
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from defsurvey.workers.engines import machine
from defsurvey.workers.engines.transformers.core.kv import STRIDE, LayerShape, Layout, OutOfRoom
from defsurvey.workers.engines.transformers.core.limits import limits_for, participants_at_once
from defsurvey.workers.engines.transformers.core.scheduler import Limits
from defsurvey.workers.engines.transformers.core.threads import in_passing
from defsurvey.workers.engines.transformers.gpu.pool import Pool, store_for
from tests.end_to_end.machine import wait_until

LAYOUT = Layout(layers=(LayerShape(1, 4),), dtype=torch.float32, device=torch.device("cpu"))
#: What one request of usual size takes: 600 + 3 * 96 tokens of 32 bytes.
ONE = 888 * 32


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
    assert limits_for(LAYOUT, weights) == Limits(rows=128, tokens=2048, kv_bytes=room, kept_bytes=room)


def test_a_gpu_gives_four_fifths_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (1_000_000, 2_000_000))
    found = limits_for(replace(LAYOUT, device=torch.device("cuda:0")), 5_000)
    assert found == Limits(rows=512, tokens=2048, kv_bytes=800_000, kept_bytes=800_000)


def test_a_model_that_leaves_no_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory", lambda: 32 << 30)
    monkeypatch.setattr(machine, "memory_left", lambda: 2 * ONE)
    assert limits_for(LAYOUT, 1).kv_bytes == ONE
    monkeypatch.setattr(machine, "memory_left", lambda: 2 * ONE - 2)
    with pytest.raises(OutOfRoom, match=r"one request takes 0\.0284 MB of them; its weights leave room for 0\.0284"):
        limits_for(LAYOUT, 1)


def test_the_room_of_a_model_says_how_many_participants_fit() -> None:
    for room, rows, expected in ((10 * ONE, 128, 10), (10 * ONE - 1, 128, 9), (1 << 40, 128, 42), (1, 128, 1)):
        chosen = Limits(rows=rows, tokens=512, kv_bytes=room, kept_bytes=room)
        assert participants_at_once(LAYOUT, chosen) == expected


#: Takes and frees four pieces of 8 MB again and again; prints how many pages were got anew, before and after.
_PAGES = """
import ctypes, resource
from defsurvey.workers.engines.transformers.core.freeing import give_back, hold_on

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


# Buffers of keys and values: the tree of beams, compaction, kept prompts, and bytes that are all accounted for.


TWO_LAYERS = Layout(layers=(LayerShape(2, 4), LayerShape(1, 5)), dtype=torch.float32, device=torch.device("cpu"))
#: Keys and values of 2 heads x 4 numbers and of 1 head x 5 numbers, 4 bytes each.
TOKEN_BYTES = 104


@pytest.mark.parametrize("pooled", [False, True], ids=["buffers", "pool"])
def test_every_byte_is_counted(pooled: bool) -> None:
    store = store_for(TWO_LAYERS, 640, pooled=pooled)
    one, other = store.open(1), store.open(STRIDE + 1)
    assert store.bytes == 3 * STRIDE * TOKEN_BYTES
    assert other.bytes == 2 * STRIDE * TOKEN_BYTES
    one.extend(STRIDE)
    assert one.wants((0,)) == STRIDE * TOKEN_BYTES
    one.branch((0,))
    assert one.wants((0,)) == 0
    assert store.bytes == 4 * STRIDE * TOKEN_BYTES
    one.close()
    one.close()
    other.close()
    assert store.bytes == 0
    assert store.peak_bytes == 4 * STRIDE * TOKEN_BYTES


def test_a_pool_gives_its_pages_out_again_and_no_more_than_it_has() -> None:
    pool = Pool(TWO_LAYERS, 3 * STRIDE + 1)
    first, second = pool.open(2 * STRIDE), pool.open(1)
    assert sorted([*first.slots, *second.slots]) == list(range(3 * STRIDE))
    with pytest.raises(OutOfRoom, match="1 pages of keys and values are wanted, 0 are free"):
        second.extend(STRIDE + 1)
    for layer in pool.layers:
        layer[int(first.slots[0])] = torch.nan
    first.close()
    second.extend(3 * STRIDE)
    assert all(torch.isfinite(layer).all() for layer in pool.layers)
    second.close()
    assert pool.bytes == 0
