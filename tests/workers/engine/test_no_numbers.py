"""What is no number, or infinite, is not lost on its way through attention: it is how a defect of a model is known."""

from __future__ import annotations

import pytest
import torch

from defsurvey.workers.engines.transformers import tiles
from defsurvey.workers.engines.transformers.batch import Packed, Piece
from defsurvey.workers.engines.transformers.buffered import attend_buffered
from defsurvey.workers.engines.transformers.buffers import Buffers
from defsurvey.workers.engines.transformers.kv import LayerShape, Layout
from tests.workers.engine.test_buffered import Shape

SHAPES = [
    Shape(width=width, key_heads=2, per_group=2, dtype=dtype)
    for width in (64, 20)
    for dtype in (torch.float32, torch.bfloat16, torch.float16)
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.width}-{shape.dtype}")
@pytest.mark.parametrize("which", ["query", "key", "value"])
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_what_is_no_number_does_not_become_one(one_thread: None, shape: Shape, which: str, number: float) -> None:
    """In a row, or in a key or value that all rows see; of a prompt and of beams."""
    numbers, length, beams = torch.Generator().manual_seed(0), 40, 3
    of = {
        name: torch.randn(heads, length + beams, shape.width, generator=numbers).to(shape.dtype)
        for name, heads in (("query", 4), ("key", 2), ("value", 2))
    }
    of[which][0, [10, length + 1] if which == "query" else 0] = number
    layout = Layout(layers=(LayerShape(2, shape.width),), dtype=shape.dtype, device=torch.device("cpu"))
    store = Buffers(layout)
    kv = store.open(length + beams)
    found = []
    for rows, tree in ((slice(length), False), (slice(length, None), True)):
        count = beams if tree else length
        at = kv.branch([0] * beams) if tree else kv.extend(length)
        piece = Piece(kv, [0] * count, at, at, tree=tree, logits=True)
        packed = Packed(store, [piece], [0], count, layout.device)
        found.append(attend_buffered(packed, 0, *(each[:, rows] for each in of.values()), 0.125, None))
    lost = torch.cat(found).flatten(1).isfinite().logical_not().any(1).nonzero().flatten().tolist()
    expected = [10, length + 1] if which == "query" else list(range(length + beams))
    ours = 0 if tiles.serves(shape.width, str(shape.dtype).removeprefix("torch.")) else length
    assert [row for row in lost if row >= ours] == [row for row in expected if row >= ours]
