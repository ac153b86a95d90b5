"""The participant bootstrap written out plainly, of any statistic: what the fast way must come to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def participant_bootstrap(
    answers: Floats, statistic: Callable[[Floats], Floats], rng: np.random.Generator, *, draws: int
) -> tuple[float, float]:
    """D - quantiles of (D* - mean D*), D* the statistic of resampled participants, at 95%.

    Args:
        answers: each participant's weights, shape (P, I, K): 1 in the category chosen; all 0 where an
            item has no valid answer.
        statistic: of weights summed over participants, (B, I, K) -> (B,).
        rng: draws how often each participant is in a resample.
        draws: how many resamples.
    """
    present = answers[answers.any(axis=(1, 2))]
    people = len(present)
    weights = rng.multinomial(people, np.full(people, 1 / people), size=draws)
    resampled = statistic(np.einsum("bp,pik->bik", weights, present))
    point = float(statistic(present.sum(axis=0)[None])[0])
    below, above = np.quantile(resampled - resampled.mean(), [0.025, 0.975])
    return point - float(above), point - float(below)
