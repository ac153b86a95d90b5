"""The smallest difference between two models that a design can be expected to find.

Knows reference distributions and a number of participants. Deliberately knows no model: it is what chance alone does to
two models that both answer as people do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from reports.metrics.aggregate import Grouping, headline_mean
from reports.metrics.divergence import smoothed_kl

#: Two-sided level of the test, and the probability with which a true difference is to be found.
LEVEL, POWER = 0.05, 0.8
DRAWS = 400


def detectable_difference(
    shares: ArrayLike,
    n_human: ArrayLike,
    offered: NDArray[np.bool_],
    grouping: Grouping,
    *,
    n: int,
    seed: int = 0,
    draws: int = DRAWS,
) -> float:
    """Smallest difference of two models' mean smoothed KL that is found in 4 of 5 runs, in nats.

    With s the standard deviation of the mean over repeated draws of n answers per question from the reference, the
    difference of two independent models has the deviation s sqrt(2), and (z(1 - level / 2) + z(power)) s sqrt(2) is
    found at that level with that power. Questions are taken as they are: it is no statement about other questions.

    Args:
        shares: what people answered, shape (I, K); a row of nan where that is not known.
        n_human: how many people are behind it, shape (I,).
        offered: which columns each item has, shape (I, K).
        grouping: to which question and dimension each item belongs.
        n: participants of each cell, at least 1.
        seed: of the simulation.
        draws: how often it is repeated.

    Source: Cohen (1988), section 2.2, for the sum of both quantiles.

    >>> from reports.metrics.aggregate import Grouping
    >>> lone = np.zeros(1, np.int64)
    >>> one = Grouping(question=lone, questions=1, dimension=lone, dimensions=1, by_dimension=True)
    >>> found = [detectable_difference([[0.5, 0.3, 0.2]], [1000], np.ones((1, 3), bool), one, n=n) for n in (20, 80)]
    >>> found[0] > 2 * found[1] > 0
    True
    """
    known = np.asarray(shares, dtype=np.float64)
    rng = np.random.default_rng(seed)
    counts = np.full((draws, *known.shape), np.nan)
    for item, row in enumerate(known):
        if np.isfinite(row).all():
            counts[:, item] = rng.multinomial(n, row / row.sum(), size=draws)
    values = headline_mean(smoothed_kl(counts, known, n_human, offered), grouping)
    return float((ndtri(1 - LEVEL / 2) + ndtri(POWER)) * np.sqrt(2) * values.std(ddof=1))
