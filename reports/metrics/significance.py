"""Student's and Welch's t-test and Hedges' g; rank correlation; from samples or from their published summaries."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtr
from scipy.stats import rankdata

from defsurvey.reports.metrics.divergence import MetricInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A sample as a paper prints it."""

    mean: float
    sd: float  #: with n - 1
    n: int

    @property
    def sem(self) -> float:
        """Standard error of the mean."""
        return self.sd / sqrt(self.n)


@dataclass(frozen=True, slots=True, kw_only=True)
class TTest:
    """A two-sided t-test of two means; nan where ``reason`` says why."""

    t: float
    df: float
    sed: float  #: standard error of the difference
    p: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Hedges' g, the standardised difference without its small-sample bias, with its interval."""

    g: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoSamples:
    """Two samples compared as Table 3 does, and as it should."""

    first: Summary
    second: Summary
    pooled: TTest  #: equal variances assumed, as the paper's degrees of freedom say
    welch: TTest
    effect: Effect


def summarise(sample: ArrayLike) -> Summary:
    """Mean, standard deviation (n - 1) and size; values that are nan are left out.

    >>> summarise([1, 2, 3, float("nan")])
    Summary(mean=2.0, sd=1.0, n=3)
    """
    values = np.asarray(sample, dtype=np.float64)
    values = values[~np.isnan(values)]
    mean = float(values.mean()) if values.size else np.nan
    return Summary(mean=mean, sd=float(values.std(ddof=1)) if values.size > 1 else np.nan, n=int(values.size))


def compare(first: Summary, second: Summary, *, level: float = 0.95) -> TwoSamples:
    """Compare two samples by their summaries.

    Args:
        first: sample 1; a positive t means that its mean is the larger.
        second: sample 2.
        level: of the effect's interval, in (0, 1).

    Raises:
        MetricInput: a standard deviation is negative or ``level`` is not in (0, 1).

    Source: Liu et al. (2025), Eq. 7 and Table 3 (US row); Welch (1947); Hedges (1981).

    >>> found = compare(Summary(mean=1.28, sd=.50, n=27), Summary(mean=.93, sd=.34, n=27))
    >>> round(found.pooled.t, 4), round(found.pooled.sed, 5), found.pooled.df, round(found.pooled.p, 6)
    (3.0078, 0.11636, 52.0, 0.004049)
    >>> round(found.welch.df, 3), round(found.welch.p, 6), round(found.effect.g, 4)
    (45.809, 0.004264, 0.8068)
    """
    for name, sd in (("first", first.sd), ("second", second.sd)):
        if sd < 0:
            raise MetricInput(f"sd of the {name} sample must be at least 0, got {sd:g}")
    if not 0 < level < 1:
        raise MetricInput(f"level must be in (0, 1), got {level:g}")
    if min(first.n, second.n) < 2:
        none = TTest(t=np.nan, df=np.nan, sed=np.nan, p=np.nan, reason="fewer than 2 values in a sample")
        nothing = Effect(g=np.nan, low=np.nan, high=np.nan)
        return TwoSamples(first=first, second=second, pooled=none, welch=none, effect=nothing)
    return TwoSamples(
        first=first,
        second=second,
        pooled=_pooled(first, second),
        welch=_welch(first, second),
        effect=hedges_g(first, second, level=level),
    )


def compare_samples(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> TwoSamples:
    """Compare two samples; nan values are left out.

    >>> found = compare_samples([1, 2, 3], [2, 3, 4])
    >>> round(found.pooled.t, 4), found.pooled.df
    (-1.2247, 4.0)
    """
    return compare(summarise(first), summarise(second), level=level)


def _two_sided(t: float, df: float) -> float:
    return float(2 * stdtr(df, -abs(t)))


def _test(difference: float, sed: float, df: float) -> TTest:
    if sed == 0:
        return TTest(t=np.nan, df=df, sed=0.0, p=np.nan, reason="neither sample varies")
    t = difference / sed
    return TTest(t=t, df=df, sed=sed, p=_two_sided(t, df))


def _pooled_variance(first: Summary, second: Summary) -> float:
    return ((first.n - 1) * first.sd**2 + (second.n - 1) * second.sd**2) / (first.n + second.n - 2)


def _pooled(first: Summary, second: Summary) -> TTest:
    sed = sqrt(_pooled_variance(first, second) * (1 / first.n + 1 / second.n))
    return _test(first.mean - second.mean, sed, float(first.n + second.n - 2))


def _welch(first: Summary, second: Summary) -> TTest:
    one, two = first.sem**2, second.sem**2
    spread = one**2 / (first.n - 1) + two**2 / (second.n - 1)
    df = (one + two) ** 2 / spread if spread else float(first.n + second.n - 2)
    return _test(first.mean - second.mean, sqrt(one + two), df)


def hedges_g(first: Summary, second: Summary, *, level: float = 0.95) -> Effect:
    """Difference of the means in pooled standard deviations, corrected for small samples, with its interval.

    g = J d, J = 1 - 3 / (4 m - 1), m = n1 + n2 - 2; the interval is
    g -+ z sqrt((n1+n2)/(n1 n2) + g^2 / (2 (n1+n2))).

    Source: Hedges (1981); Borenstein et al. (2009), ch. 4.

    >>> round(hedges_g(Summary(mean=1.35, sd=.74, n=27), Summary(mean=.92, sd=.33, n=27)).g, 4)
    0.7396
    """
    variance, m = _pooled_variance(first, second), first.n + second.n - 2
    if variance == 0:
        return Effect(g=np.nan, low=np.nan, high=np.nan)
    g = (1 - 3 / (4 * m - 1)) * (first.mean - second.mean) / sqrt(variance)
    half = float(ndtri((1 + level) / 2)) * sqrt(
        (first.n + second.n) / (first.n * second.n) + g**2 / (2 * (first.n + second.n))
    )
    return Effect(g=g, low=g - half, high=g + half)


def spearman(
    first: ArrayLike, second: ArrayLike, *, rearrangements: int = 9_999, seed: int = 20250314
) -> tuple[float, float]:
    """Spearman's rank correlation and its two-sided permutation p; nan where a side does not vary.

    >>> rho, p = spearman(np.array([1., 2., 3., 4., 5.]), np.array([2., 4., 6., 8., 10.]))
    >>> round(rho, 3), round(p, 2)
    (1.0, 0.02)
    """
    one, two = (rankdata(np.asarray(side, dtype=np.float64)) for side in (first, second))
    one, two = one - (one.size + 1) / 2, two - (two.size + 1) / 2
    scale = float(np.sqrt((one**2).sum() * (two**2).sum()))
    if scale == 0:
        return float("nan"), float("nan")
    rho = float(one @ two / scale)
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.broadcast_to(two, (rearrangements, two.size)), axis=1) @ one / scale
    above = int((np.abs(shuffled) >= abs(rho) - 1e-12).sum())
    return rho, (1 + above) / (1 + rearrangements)
