"""What an error says of the device: too little memory for what was tried, or that it has failed for good.

Deliberately knows nothing of what was computed, or for whom.
"""

from __future__ import annotations

import torch

#: How torch says, since 2.8, that a device has failed for good.
_DEVICE_ERRORS: tuple[type[Exception], ...] = (torch.AcceleratorError,) if hasattr(torch, "AcceleratorError") else ()


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
    return isinstance(error, _DEVICE_ERRORS) and not out_of_memory(error)
