"""Buffers of keys and values: the tree of beams, compaction, kept prompts, and bytes that are all accounted for."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from defsurvey.workers.engines.transformers.buffers import BufferKV
from defsurvey.workers.engines.transformers.kv import KV, STRIDE, LayerShape, Layout, OutOfRoom
from defsurvey.workers.engines.transformers.pool import Pool, PooledKV, store_for
from defsurvey.workers.engines.transformers.prefix import PrefixIndex

LAYOUT = Layout(layers=(LayerShape(2, 4), LayerShape(1, 5)), dtype=torch.float32, device=torch.device("cpu"))
#: Keys and values of 2 heads x 4 numbers and of 1 head x 5 numbers, 4 bytes each.
TOKEN_BYTES = 104


def _mark(kv: KV, at: int, numbers: list[int]) -> None:
    """Write tokens' numbers into their keys and values, so that a test sees where they are."""
    for place, number in enumerate(numbers, start=at):
        if isinstance(kv, BufferKV):
            for buffer in kv.buffers:
                buffer[:, :, place] = number
        if isinstance(kv, PooledKV):
            for layer in kv.pool.layers:
                layer[int(kv.slots[place])] = number


def _read(kv: KV, layer: int, place: int) -> int:
    """The number that was written into a token's value, in a layer."""
    if isinstance(kv, PooledKV):
        return int(kv.pool.layers[layer][int(kv.slots[place]), 1, 0, 0])
    assert isinstance(kv, BufferKV)
    return int(kv.buffers[layer][1, 0, place, 0])


def _seen(kv: KV) -> list[list[int]]:
    """For each row the numbers of the tokens it sees, in every layer alike."""
    rows = []
    for row in kv.ancestors:
        places = [*range(kv.root), *(kv.root + np.flatnonzero(row))]
        layers = [[_read(kv, layer, place) for place in places] for layer in range(len(LAYOUT.layers))]
        assert all(layer == layers[0] for layer in layers)
        rows.append(layers[0])
    return rows


@pytest.mark.parametrize("pooled", [False, True], ids=["buffers", "pool"])
def test_beams_keep_their_own_histories_however_they_are_reordered(pooled: bool) -> None:
    """Against sequences copied outright, over 120 random reorderings with compaction on and off."""
    for compacting in (True, False):
        rng = random.Random(4)
        store = store_for(LAYOUT, 1024, compacting=compacting, pooled=pooled)
        kv = store.open(10)
        _mark(kv, kv.extend(6), [1, 2, 3, 4, 5, 6])
        _mark(kv, kv.extend(3), [7, 8, 9])
        histories = [[1, 2, 3, 4, 5, 6, 7, 8, 9]]
        number = 10
        for _ in range(120):
            parents = [rng.randrange(len(histories)) for _ in range(4)]
            tokens = list(range(number, number + 4))
            number += 4
            _mark(kv, kv.branch(parents), tokens)
            histories = [[*histories[parent], token] for parent, token in zip(parents, tokens, strict=True)]
            assert _seen(kv) == histories
            assert kv.positions[-4:].tolist() == [len(histories[0]) - 1] * 4
        assert (store.compactions > 0) == compacting
        assert kv.capacity < 400 if compacting else kv.capacity > 480


@pytest.mark.parametrize("pooled", [False, True], ids=["buffers", "pool"])
def test_every_byte_is_counted(pooled: bool) -> None:
    """Opening, growing, keeping and closing; at the end nothing is held."""
    store = store_for(LAYOUT, 640, pooled=pooled)
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


@pytest.mark.parametrize("pooled", [False, True], ids=["buffers", "pool"])
def test_the_longest_common_beginning_is_taken_over(pooled: bool) -> None:
    """Whoever asked before; the last token is left to be computed."""
    store = store_for(LAYOUT, 1024, pooled=pooled)
    index = PrefixIndex()
    prompts = [list(range(100, 140)), list(range(100, 120)) + list(range(20)), list(range(50))]
    for prompt in prompts:
        kv = store.open(len(prompt))
        _mark(kv, kv.extend(len(prompt)), prompt)
        kv.branch((0,))
        index.keep(prompt, kv)
    cases = [
        ([*range(100, 130), 7, 8], 30),
        (list(range(100, 120)) + list(range(15)), 34),
        (list(range(50)), 49),
        ([1, *range(50)], 0),
        (list(range(15)), 0),
        ([0], 0),
    ]
    for prompt, length in cases:
        kv = store.open(len(prompt))
        assert index.copy_into(kv, prompt) == length
        assert kv.filled == kv.root == length
        assert [_read(kv, 1, place) for place in range(length)] == prompt[:length]
        kv.close()
    assert index.bytes == store.bytes
    assert len(index) == 3
    assert index.drop_oldest()
    kv = store.open(32)
    assert index.copy_into(kv, [*range(100, 130), 7, 8]) == 20
    kv.close()
    index.clear()
    assert not index.drop_oldest()
    assert store.bytes == 0


def test_a_pool_gives_its_pages_out_again_and_no_more_than_it_has() -> None:
    """Pages are clean, whoever had them before; what does not fit is refused with both numbers."""
    pool = Pool(LAYOUT, 3 * STRIDE + 1)
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


def test_a_prompt_kept_in_a_pool_gives_back_the_pages_that_hold_none_of_it() -> None:
    """Also where dead branches were squeezed out, after which places of the tree are in any order."""
    pool = Pool(LAYOUT, 8 * STRIDE)
    kv = pool.open(STRIDE)
    prompt = STRIDE + 3
    _mark(kv, kv.extend(prompt), list(range(prompt)))
    for parents in ([0, 0, 0], *([0, 0, 0] for _ in range(4 * STRIDE // 3))):
        kv.branch(parents)
    assert pool.compactions > 0
    kv.cut(prompt)
    assert (kv.filled, kv.bytes, pool.bytes) == (prompt, 2 * STRIDE * TOKEN_BYTES, 2 * STRIDE * TOKEN_BYTES)
    assert [_read(kv, 1, place) for place in range(prompt)] == list(range(prompt))
    other = pool.open(6 * STRIDE)  # all the rest there is
    assert isinstance(other, PooledKV)
    assert isinstance(kv, PooledKV)
    assert not set(other.slots) & set(kv.slots)
    kv.branch([0, 0])
    assert kv.filled == prompt + 2
    kv.close()
    other.close()
    assert pool.bytes == 0


def test_a_device_without_room_for_a_pool_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's words become the engine's error."""

    def full(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("CUDA out of\n memory")

    monkeypatch.setattr(torch, "zeros", full)
    with pytest.raises(OutOfRoom, match=r"^CUDA out of memory$"):
        Pool(LAYOUT, STRIDE)
