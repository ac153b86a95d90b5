"""Arrays of the host onto a device, in one copy that nobody waits for.

A copy out of ordinary memory waits until the device has done all that it was given before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def place(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Tensors of the same shapes on the device; on a CPU they share their arrays' memory.

    Args:
        arrays: all of one number format.
        device: where they are wanted.
    """
    if device.type == "cpu":
        return [torch.from_numpy(array) for array in arrays]
    return apart(onto(together(arrays).pin_memory(), device), [array.shape for array in arrays])


def onto(pinned: Tensor, device: torch.device) -> Tensor:
    """A copy on the device that later work there finds complete; torch keeps the pinned memory until it is done."""
    return pinned.to(device, non_blocking=True)


def together(arrays: Sequence[np.ndarray]) -> Tensor:
    """The numbers of all arrays, one after the other."""
    return torch.from_numpy(np.concatenate([array.reshape(-1) for array in arrays]))


def apart(numbers: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """What was put ``together``, in its shapes."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    return [part.view(shape) for part, shape in zip(torch.split(numbers, sizes), shapes, strict=True)]
