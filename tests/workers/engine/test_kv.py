"""Buffers of keys and values: the tree of beams, compaction, kept prompts, and bytes that are all accounted for."""

from __future__ import annotations

import pytest
import torch

from defsurvey.workers.engines.transformers.kv import STRIDE, LayerShape, Layout, OutOfRoom
from defsurvey.workers.engines.transformers.pool import Pool, store_for

LAYOUT = Layout(layers=(LayerShape(2, 4), LayerShape(1, 5)), dtype=torch.float32, device=torch.device("cpu"))
#: Keys and values of 2 heads x 4 numbers and of 1 head x 5 numbers, 4 bytes each.
TOKEN_BYTES = 104


@pytest.mark.parametrize("pooled", [False, True], ids=["buffers", "pool"])
def test_every_byte_is_counted(pooled: bool) -> None:
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


def test_a_pool_gives_its_pages_out_again_and_no_more_than_it_has() -> None:
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
