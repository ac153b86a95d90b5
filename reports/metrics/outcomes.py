"""Every way in which n answers can fall into k categories."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=64)  # the same for every item of that size
def outcomes(n: int, k: int) -> NDArray[np.int64]:
    """The outcomes of n answers to k categories, shape (C(n + k - 1, k - 1), k); each row sums to n. Read-only.

    >>> outcomes(2, 2).tolist()
    [[0, 2], [1, 1], [2, 0]]
    """
    bars = np.array(list(combinations(range(n + k - 1), k - 1)), dtype=np.int64).reshape(-1, k - 1)
    edges = np.hstack([np.full((len(bars), 1), -1), bars, np.full((len(bars), 1), n + k - 1)])
    counts = np.diff(edges, axis=1) - 1
    counts.flags.writeable = False
    return counts
