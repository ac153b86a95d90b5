"""Memory: how much a device can take on, what an error says of it, and how what is freed gets back to the system."""

from __future__ import annotations

import ctypes

import torch

from defsurvey.workers.engines import machine
from defsurvey.workers.engines.transformers.core.scheduler import Limits

#: Shares of memory: the rest of the machine, other workers, and what a step needs in passing come out of the rest.
_CPU_SHARE = 0.125
_GPU_SHARE = 0.8
#: On a CPU keys and values take no more than the weights do, or this where the weights are few: beyond some sixty rows
#: a larger batch is hardly faster there.
_CPU_LEAST = 384 << 20
#: Nor more than this share of what the model leaves: a step needs some in passing, the allocator keeps some more.
_CPU_LEFT = 0.5
#: A request of DEF: tokens of a prompt with memory, the mean of 1 to 5 beams, tokens of a reply.
_USUAL_PROMPT, _USUAL_BEAMS, _USUAL_REPLY = 600, 3, 96
#: How libraries say that there is no memory, where they have no class of error for it.
_WORDS = (
    "DefaultCPUAllocator",  # torch on a CPU
    "out of memory",  # CUDA
    "could not create a primitive",  # oneDNN under torch
    "could not create a memory",
    "Failed to allocate",  # OpenVINO, of a result or a buffer
    "can't alloc",  # OpenVINO, of a matrix product
    "posix_memalign failed",  # OpenVINO, of the buffers of attention
    "bad_alloc",  # OpenVINO, while it compiles
    "failed to map segment",  # the system's loader, of a library of OpenVINO's
)
#: Goes on from one of them where oneDNN does not compute a type at all.
_NOT_COMPUTED = "could not create a primitive descriptor"
#: How torch says that a device has failed for good: since 2.8 by a class, before that in words.
_DEVICE_ERRORS: tuple[type[Exception], ...] = (torch.AcceleratorError,) if hasattr(torch, "AcceleratorError") else ()
_IN_WORDS = "CUDA error: "
#: glibc's numbers for ``mallopt``, and what they are set to: bytes beyond which a piece of memory is taken from the
#: system and given back by itself, and bytes of free memory at the end of a heap that are given back.
_MMAP_THRESHOLD, _PIECE = -3, 32 << 20
_TRIM_THRESHOLD, _FREE = -1, 256 << 20


class OutOfRoom(MemoryError):
    """The device has no memory for keys and values."""


def limits_for(device: torch.device, bytes_per_token: int, weights: int) -> Limits:
    """Limits for a device; call it when the model is loaded and nothing else is.

    Args:
        device: The device.
        bytes_per_token: Keys and values of one token.
        weights: Bytes of the model's weights.

    Raises:
        OutOfRoom: the model leaves no room for one request of usual size.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what loading has left over counts as taken
        free, _ = torch.cuda.mem_get_info(device)
        room, rows = int(free * _GPU_SHARE), 512
    else:
        most = min(machine.memory() * _CPU_SHARE, machine.memory_left() * _CPU_LEFT)
        room, rows = min(int(most), max(weights, _CPU_LEAST)), 128
    if room < (least := _usual(bytes_per_token)):
        raise OutOfRoom(f"one request takes {least / 1e6:.3g} MB of them; its weights leave room for {room / 1e6:.3g}")
    return Limits(rows=rows, tokens=2048, kv_bytes=room)


def participants_at_once(bytes_per_token: int, limits: Limits) -> int:
    """How many participants can have a request running at the same time, at least 1.

    Reckoned with a prompt and beams of usual size; who has more waits in the batch's own queue, so that nothing but
    time depends on it.
    """
    return max(1, min(limits.kv_bytes // _usual(bytes_per_token), limits.rows // _USUAL_BEAMS))


def _usual(bytes_per_token: int) -> int:
    """Bytes of keys and values of a request of usual size."""
    return (_USUAL_PROMPT + _USUAL_BEAMS * _USUAL_REPLY) * bytes_per_token


def out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory: less of it at once may be possible."""
    message = str(error)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return _NOT_COMPUTED not in message and any(words in message for words in _WORDS)


def failed_for_good(error: Exception) -> bool:
    """Whether nothing can be computed on the device any more, whoever asks: no answer may be marked as failed."""
    device_failed = isinstance(error, _DEVICE_ERRORS) or (
        isinstance(error, RuntimeError) and str(error).startswith(_IN_WORDS)
    )
    return device_failed and not out_of_memory(error)


def give_back() -> None:
    """Give freed memory back to the system: glibc keeps what lies between pieces that are in use, until it is told."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def hold_on() -> None:
    """Let freed memory stay with the process, up to ``give_back``.

    What a step frees is what the next one wants: glibc would give it back to the system and get it again page by
    page, for every piece of more than 128 kB, which takes as long as a tenth of a step.
    """
    setting = getattr(ctypes.CDLL(None), "mallopt", None)
    if setting is not None:
        setting(_MMAP_THRESHOLD, _PIECE)
        setting(_TRIM_THRESHOLD, _FREE)
