"""What an error says of the device: too little memory for what was tried, or that it has failed for good."""

from __future__ import annotations

import torch

#: How torch says that a device has failed for good: since 2.8 by a class, before that in words.
_DEVICE_ERRORS: tuple[type[Exception], ...] = (torch.AcceleratorError,) if hasattr(torch, "AcceleratorError") else ()
_IN_WORDS = "CUDA error: "


def out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory: less of it at once may be possible."""
    # On the CPU torch says so in words only, and so do libraries that take memory past it.
    words = str(error)
    return (
        isinstance(error, (MemoryError, torch.OutOfMemoryError))
        or "DefaultCPUAllocator" in words
        or "out of memory" in words
    )


def failed_for_good(error: Exception) -> bool:
    """Whether nothing can be computed on the device any more, whoever asks: no answer may be marked as failed."""
    told = isinstance(error, _DEVICE_ERRORS) or (isinstance(error, RuntimeError) and str(error).startswith(_IN_WORDS))
    return told and not out_of_memory(error)
