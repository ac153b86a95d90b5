"""How often each unit is in each of many resamples, the same for every cell of a run."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@lru_cache(maxsize=4)
def weights_of(units: int, draws: int, seed: int) -> Floats:
    """How often each of n units is in each of B resamples of n, shape (B, n): the same for every cell of a run.

    >>> weights_of(3, 2, 0).sum(axis=1).tolist()
    [3.0, 3.0]
    """
    weights = participant_weights(units, np.random.default_rng(seed), draws)
    weights.flags.writeable = False
    return weights


def participant_weights(participants: int, rng: np.random.Generator, draws: int) -> Floats:
    """How often each of P participants is in each of B resamples of P, shape (B, P).

    >>> participant_weights(3, np.random.default_rng(0), 2).sum(axis=1).tolist()
    [3.0, 3.0]
    """
    return rng.multinomial(participants, np.full(participants, 1 / participants), size=draws).astype(np.float64)
