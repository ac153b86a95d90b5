"""How much a device can take on at once."""

from __future__ import annotations

import torch

from defsurvey.workers.engines import machine
from defsurvey.workers.engines.transformers.core.kv import Layout, OutOfRoom
from defsurvey.workers.engines.transformers.core.scheduler import Limits

#: Shares of memory: the rest of the machine, other workers, and what a forward needs in passing come out of the rest.
_CPU_SHARE = 0.125
_GPU_SHARE = 0.8
#: On a CPU keys and values take no more than the weights do, or this where the weights are few: beyond some sixty rows
#: a larger batch is hardly faster there.
_CPU_LEAST = 384 << 20
#: Nor more than this share of what the model leaves: a forward needs some in passing, the allocator keeps some more.
_CPU_LEFT = 0.5
#: A request of DEF: tokens of a prompt with memory, the mean of 1 to 5 beams, tokens of a reply.
_USUAL_PROMPT, _USUAL_BEAMS, _USUAL_REPLY = 600, 3, 96


def limits_for(layout: Layout, weights: int) -> Limits:
    """Limits for the device that a layout is on; call it when the model is loaded and nothing else is.

    All room that no running request needs may be taken by kept prompts.

    Args:
        layout: What the model keeps for one token, and where.
        weights: Bytes of the model's weights.

    Raises:
        OutOfRoom: the model leaves no room for one request of usual size.
    """
    if layout.device.type == "cuda":
        torch.cuda.empty_cache()  # what loading has left over counts as taken
        free, _ = torch.cuda.mem_get_info(layout.device)
        room, rows = int(free * _GPU_SHARE), 512
    else:
        most = min(machine.memory() * _CPU_SHARE, machine.memory_left() * _CPU_LEFT)
        room, rows = min(int(most), max(weights, _CPU_LEAST)), 128
    if room < (least := _usual(layout)):
        raise OutOfRoom(f"one request takes {least / 1e6:.3g} MB of them; its weights leave room for {room / 1e6:.3g}")
    return Limits(rows=rows, tokens=2048, kv_bytes=room, kept_bytes=room)


def participants_at_once(layout: Layout, limits: Limits) -> int:
    """How many participants can have a request running at the same time, at least 1.

    Reckoned with a prompt and beams of usual size; who has more waits in the batch's own queue, so that nothing but
    time depends on it.

    Args:
        layout: What the model keeps for one token.
        limits: What the batch may take.
    """
    return max(1, min(limits.kv_bytes // _usual(layout), limits.rows // _USUAL_BEAMS))


def _usual(layout: Layout) -> int:
    """Bytes of keys and values of a request of usual size."""
    return (_USUAL_PROMPT + _USUAL_BEAMS * _USUAL_REPLY) * layout.bytes_per_token
