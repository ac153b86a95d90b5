"""What every participant drew on the axes of DEF, as arrays.

Knows the shape. How it is read from SQL is the storage room's business; that a configuration is the
effective one (what an engine really used, not what it was asked for) is for whoever fills it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawArrays:
    """One row per participant, or, where the axes are drawn anew for every question, one per answer; shape (n,)."""

    cell: NDArray[np.int32]  #: position in ``Run.cells``
    participant: NDArray[np.int32]  #: the participant's index within its cell
    question: NDArray[np.int32]  #: position in ``Run.questions``; -1: the draw holds for all of them
    num_beams: NDArray[np.float64]  #: nan: the provider's default
    do_sample: NDArray[np.float64]  #: 1 or 0; nan: the provider's default
    memory_capacity: NDArray[np.int64]
    region: NDArray[np.int32]  #: position in ``regions``; -1: the country alone
    regions: tuple[str, ...]  #: codes of the regions drawn
