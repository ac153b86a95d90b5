"""How much a device can take on at once.

Knows how to ask for free memory. Deliberately knows nothing of models but what a token takes.
"""

from __future__ import annotations

import os

import torch

from workers.engines.transformers.kv import Layout
from workers.engines.transformers.scheduler import Limits

#: Shares of memory: the rest of the machine, other workers, and what a forward needs in passing come out of the rest.
_CPU_SHARE = 0.125
_GPU_SHARE = 0.8
#: On a CPU keys and values take no more than the weights do, or this where the weights are few: beyond some sixty rows
#: a larger batch is hardly faster there.
_CPU_LEAST = 384 << 20
#: A request of DEF: tokens of a prompt with memory, the mean of 1 to 5 beams, tokens of a reply.
_USUAL_PROMPT, _USUAL_BEAMS, _USUAL_REPLY = 600, 3, 96


def limits_for(layout: Layout, weights: int) -> Limits:
    """Limits for the device that a layout is on; call it when the model is loaded and nothing else is.

    All room that no running request needs may be taken by kept prompts.

    Args:
        layout: What the model keeps for one token, and where.
        weights: Bytes of the model's weights.
    """
    if layout.device.type == "cuda":
        torch.cuda.empty_cache()  # what loading has left over counts as taken
        free, _ = torch.cuda.mem_get_info(layout.device)
        room, rows = int(free * _GPU_SHARE), 512
    else:
        room, rows = min(int(_machine_memory() * _CPU_SHARE), max(weights, _CPU_LEAST)), 128
    return Limits(rows=rows, tokens=2048, kv_bytes=room, kept_bytes=room)


def participants_at_once(layout: Layout, limits: Limits) -> int:
    """How many participants can have a request running at the same time, at least 1.

    Reckoned with a prompt and beams of usual size; who has more waits in the batch's own queue, so that nothing but
    time depends on it.

    Args:
        layout: What the model keeps for one token.
        limits: What the batch may take.
    """
    one = (_USUAL_PROMPT + _USUAL_BEAMS * _USUAL_REPLY) * layout.bytes_per_token
    return max(1, min(limits.kv_bytes // one, limits.rows // _USUAL_BEAMS))


def _machine_memory() -> int:
    """Bytes of memory, of the container where it is limited."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:  # noqa: PTH123 -- a kernel's file, not one of ours
            limit = file.read().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total
