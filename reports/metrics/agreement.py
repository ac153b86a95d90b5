"""Do two judges agree? Cohen's kappa, Gwet's AC1, McNemar's test.

Kappa sinks towards 0 where nearly all labels are alike, however often judges agree; AC1 does not: both are given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr

from defsurvey.reports.metrics.divergence import MetricInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement of two judges on n answers; nan where ``reason`` says why."""

    n: int
    observed: float  #: share of equal labels, in [0, 1]
    kappa: float  #: Cohen's, at most 1; 0: as by chance
    ac1: float  #: Gwet's, at most 1
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """Is one of two judges stricter? Only the answers that they judge differently count."""

    first_only: int  #: labelled by the first judge alone
    second_only: int
    exact_p: float  #: binomial, two-sided, in (0, 1]


def agreement(first: ArrayLike, second: ArrayLike, labels: int) -> Agreement:
    """Agreement of two judges beyond chance.

    Args:
        first: labels 0..labels-1 of the first judge, shape (n,).
        second: of the second, shape (n,).
        labels: how many labels there are, at least 2.

    Raises:
        MetricInput: shapes differ, or a label is out of range.

    Source: Cohen (1960); Gwet (2008): chance agreement is sum p (1 - p) / (labels - 1), p the mean share of a label.

    >>> found = agreement([1, 1, 1, 0, 0, 1], [1, 1, 0, 0, 1, 1], 2)
    >>> round(found.observed, 4), round(found.kappa, 4), round(found.ac1, 4)
    (0.6667, 0.25, 0.4)
    """
    one, two = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    if one.shape != two.shape or one.ndim != 1:
        raise MetricInput(f"two judges must label the same answers, got shapes {one.shape} and {two.shape}")
    if one.size == 0:
        return Agreement(n=0, observed=np.nan, kappa=np.nan, ac1=np.nan, reason="no answer was labelled by both")
    if min(one.min(), two.min()) < 0 or max(one.max(), two.max()) >= labels:
        raise MetricInput(
            f"labels must be in [0, {labels - 1}], got {min(one.min(), two.min())} to {max(one.max(), two.max())}"
        )
    observed = float((one == two).mean())
    shares = np.stack([np.bincount(each, minlength=labels) / one.size for each in (one, two)])
    chance, mean = float(shares[0] @ shares[1]), shares.mean(axis=0)
    unlike = float((mean * (1 - mean)).sum() / (labels - 1))
    alike = chance >= 1.0
    return Agreement(
        n=int(one.size),
        observed=observed,
        kappa=np.nan if alike else (observed - chance) / (1 - chance),
        ac1=(observed - unlike) / (1 - unlike),
        reason="both judges gave one and the same label throughout: kappa has no value" if alike else "",
    )


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """McNemar's test of two judges' yes/no labels on the same answers.

    Args:
        first: shape (n,), true where the first judge says yes.
        second: the same of the second.

    Raises:
        MetricInput: shapes differ.

    Source: McNemar (1947), by the exact binomial p.

    >>> found = mcnemar([1] * 8 + [0] * 2 + [1] * 5, [0] * 8 + [1] * 2 + [1] * 5)
    >>> found.first_only, found.second_only, round(found.exact_p, 4)
    (8, 2, 0.1094)
    """
    one, two = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if one.shape != two.shape:
        raise MetricInput(f"two judges must label the same answers, got shapes {one.shape} and {two.shape}")
    mine, theirs = int((one & ~two).sum()), int((~one & two).sum())
    total = mine + theirs
    p = min(1.0, 2 * float(bdtr(min(mine, theirs), total, 0.5))) if total else 1.0
    return McNemar(first_only=mine, second_only=theirs, exact_p=p)
