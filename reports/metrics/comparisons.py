"""Many comparisons at once: sign-flip tests paired by question, corrections, places with ties.

Knows differences per question and p-values. Deliberately knows nothing of which models are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reports.metrics.divergence import MetricInput

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Random sign vectors where there are too many to go through all.
FLIPS = 9_999
#: Up to this many questions every sign vector is gone through: the test is exact.
EXACT = 13
#: Numbers of signs held at once.
AT_ONCE = 4_000_000


def sign_flip(differences: ArrayLike, rng: np.random.Generator, *, flips: int = FLIPS) -> Floats:
    """Two-sided permutation test that a sum of paired differences is 0, by turning signs question by question.

    Under the null a question's difference between two models is as likely as its negative, however much questions
    differ from each other, so prompt and question need no model of their own. The statistic is the absolute sum:
    weights (of questions in a macro mean) are put into the differences.

    Args:
        differences: one column per comparison, shape (Q, C) or (Q,); 0 where a question does not enter.
        rng: draws the signs; the same signs serve every comparison.
        flips: random sign vectors where Q is above ``EXACT``.

    Returns:
        p per comparison, shape (C,), in (0, 1]: the share of sign vectors with a sum at least as large,
        the observed one counted. nan for a comparison without a question.

    Source: Fisher (1935); Phipson and Smyth (2010) for the observed one counted.

    >>> sign_flip([1., 2., 3.], np.random.default_rng(0)).tolist()   # 2 of 8 sign vectors
    [0.25]
    """
    array = np.asarray(differences, dtype=np.float64)
    columns = array[:, None] if array.ndim == 1 else array
    if np.isnan(columns).any():
        raise MetricInput("differences must not be nan: a question that does not enter has 0")
    asked, comparisons = columns.shape
    observed = np.abs(columns.sum(axis=0))
    # equal sums must count as equal whatever the order of addition
    bound = observed - 1e-12 * np.abs(columns).sum(axis=0)
    if asked <= EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2**asked)[:, None] >> np.arange(asked)) & 1)
        p = (np.abs(signs @ columns) >= bound).mean(axis=0)
    else:
        above, part = np.ones(comparisons), max(1, AT_ONCE // asked)
        for start in range(0, flips, part):
            signs = 1.0 - 2.0 * rng.integers(0, 2, size=(min(part, flips - start), asked), dtype=np.int8)
            above += (np.abs(signs @ columns) >= bound).sum(axis=0)
        p = above / (flips + 1)
    return np.where((columns != 0).any(axis=0), p, np.nan if asked == 0 else 1.0)


def holm(p: ArrayLike) -> Floats:
    """p-values adjusted by Holm's step-down, shape (C,): the chance of any false finding among them stays below it.

    nan stays nan and is not counted as a comparison.

    >>> holm([.01, .04, .03]).round(10).tolist()
    [0.03, 0.06, 0.06]
    """
    return _adjusted(p, lambda ordered: np.maximum.accumulate(ordered * np.arange(len(ordered), 0, -1)))


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """p-values adjusted by Benjamini and Hochberg (1995), shape (C,): the share of false findings stays below it.

    nan stays nan and is not counted as a comparison.

    >>> benjamini_hochberg([.01, .04, .03]).round(10).tolist()
    [0.03, 0.04, 0.04]
    """

    def step_up(ordered: Floats) -> Floats:
        scaled = ordered * len(ordered) / np.arange(1, len(ordered) + 1)
        return np.asarray(np.minimum.accumulate(scaled[::-1])[::-1], dtype=np.float64)

    return _adjusted(p, step_up)


def _adjusted(p: ArrayLike, step: object) -> Floats:
    values = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    if np.any((values[known] < 0) | (values[known] > 1)):
        raise MetricInput(f"p must be in [0, 1], got {values[known].min():g} to {values[known].max():g}")
    order = known[np.argsort(values[known], kind="stable")]
    adjusted = np.full_like(values, np.nan)
    assert callable(step)
    adjusted[order] = np.minimum(step(values[order]), 1.0)
    return adjusted


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one of several models stands, 1 the closest."""

    first: int  #: 1 + the models that are significantly closer
    last: int  #: the models that are not significantly further, itself included
    group: int  #: models of one group are not told apart from the group's closest one


def places(values: Sequence[float], apart: Bools) -> tuple[Place, ...]:
    """Places with ties: a model shares its places with all that it cannot be told from.

    Args:
        values: the figure of each of M models, smaller is closer.
        apart: whether two models differ significantly, shape (M, M), symmetric.

    Returns:
        One per model, in the order of ``values``. ``last`` is the place that may be claimed: with fewer answers fewer
        models can be told apart, so that answering less does not improve it.

    >>> told = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], bool)
    >>> [(p.first, p.last, p.group) for p in places([.1, .2, .3], told)]
    [(1, 2, 1), (1, 3, 1), (2, 3, 2)]
    """
    figures = np.asarray(values, dtype=np.float64)
    order = np.argsort(figures, kind="stable")
    group, head, groups = 1, int(order[0]) if len(order) else 0, np.ones(len(figures), dtype=np.int64)
    for model in order.tolist():
        if apart[head, model]:
            group, head = group + 1, model
        groups[model] = group
    closer = apart & (figures[None, :] < figures[:, None])
    further = apart & (figures[None, :] > figures[:, None])
    return tuple(
        Place(first=1 + int(closer[m].sum()), last=len(figures) - int(further[m].sum()), group=int(groups[m]))
        for m in range(len(figures))
    )
