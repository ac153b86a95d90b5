"""Buffers of keys and values: the tree of beams, compaction, kept prompts, and bytes that are all accounted for."""

from __future__ import annotations

import random

import numpy as np
import torch

from workers.engines.transformers.kv import KV, STRIDE, KVStore, LayerShape, Layout
from workers.engines.transformers.prefix import PrefixIndex

LAYOUT = Layout(layers=(LayerShape(2, 4), LayerShape(1, 5)), dtype=torch.float32, device=torch.device("cpu"))
#: Keys and values of 2 heads x 4 numbers and of 1 head x 5 numbers, 4 bytes each.
TOKEN_BYTES = 104


def _mark(kv: KV, at: int, numbers: list[int]) -> None:
    """Write tokens' numbers into their keys and values, so that a test sees where they are."""
    for buffer in kv.buffers:
        for place, number in enumerate(numbers, start=at):
            buffer[:, :, place] = number


def _seen(kv: KV) -> list[list[int]]:
    """For each row the numbers of the tokens it sees, in every layer alike."""
    rows = []
    for row in kv.ancestors:
        places = [*range(kv.root), *(kv.root + np.flatnonzero(row))]
        layers = [[int(of[0, place, 0]) for place in places] for buffer in kv.buffers for of in buffer]
        assert all(layer == layers[0] for layer in layers)
        rows.append(layers[0])
    return rows


def test_beams_keep_their_own_histories_however_they_are_reordered() -> None:
    """Against sequences copied outright, over 120 random reorderings with compaction on and off."""
    for compacting in (True, False):
        rng = random.Random(4)
        store = KVStore(LAYOUT, compacting=compacting)
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


def test_every_byte_is_counted() -> None:
    """Opening, growing, keeping and closing; at the end nothing is held."""
    store = KVStore(LAYOUT)
    one, other = store.open(1), store.open(STRIDE + 1)
    assert store.bytes == 3 * STRIDE * TOKEN_BYTES
    assert other.bytes == 2 * STRIDE * TOKEN_BYTES
    one.extend(STRIDE)
    assert one.wants(1) == STRIDE * TOKEN_BYTES
    one.branch((0,))
    assert one.wants(1) == 0
    assert store.bytes == 4 * STRIDE * TOKEN_BYTES
    one.close()
    one.close()
    other.close()
    assert store.bytes == 0
    assert store.peak_bytes == 4 * STRIDE * TOKEN_BYTES


def test_the_longest_common_beginning_is_taken_over() -> None:
    """Whoever asked before; the last token is left to be computed."""
    store = KVStore(LAYOUT)
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
        assert [int(kv.buffers[1][1, 0, place, 4]) for place in range(length)] == prompt[:length]
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
