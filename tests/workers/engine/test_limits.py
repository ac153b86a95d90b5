"""How much a device takes on at once, by its memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from defsurvey.workers.engines import machine
from defsurvey.workers.engines.transformers.kv import LayerShape, Layout, OutOfRoom
from defsurvey.workers.engines.transformers.limits import limits_for
from defsurvey.workers.engines.transformers.scheduler import Limits

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
    """Keys and values take what neither the weights nor a forward in passing want."""
    monkeypatch.setattr(machine, "memory", lambda: memory)
    monkeypatch.setattr(machine, "memory_left", lambda: left)
    assert limits_for(LAYOUT, weights) == Limits(rows=128, tokens=2048, kv_bytes=room, kept_bytes=room)


def test_a_gpu_gives_four_fifths_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own memory has no say."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (1_000_000, 2_000_000))
    found = limits_for(replace(LAYOUT, device=torch.device("cuda:0")), 5_000)
    assert found == Limits(rows=512, tokens=2048, kv_bytes=800_000, kept_bytes=800_000)


def test_a_model_that_leaves_no_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than served until the system ends the process: room for one usual request is the least."""
    monkeypatch.setattr(machine, "memory", lambda: 32 << 30)
    monkeypatch.setattr(machine, "memory_left", lambda: 2 * ONE)
    assert limits_for(LAYOUT, 1).kv_bytes == ONE
    monkeypatch.setattr(machine, "memory_left", lambda: 2 * ONE - 2)
    with pytest.raises(OutOfRoom, match=r"one request takes 0\.0284 MB of them; its weights leave room for 0\.0284"):
        limits_for(LAYOUT, 1)
