"""Many comparisons at once: tests over questions and over participants, corrections, places with ties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtr

from defsurvey.reports.metrics.aggregate import Bools, Floats

#: Random sign vectors where there are too many to go through all, and rearrangements of ranks with their seed.
FLIPS, RANK_SEED = 9_999, 20250314
#: Up to this many questions every sign vector is gone through: the test is exact.
EXACT = 13
#: Numbers of signs held at once.
AT_ONCE = 4_000_000
#: Rearrangements of participants behind the p of an axis, at least; and as many are worked off at once.
REARRANGEMENTS = 999
#: Of as many tests, the smallest p that rearrangements can give is this part of the level that Holm asks of it.
FINENESS = 0.5
#: A p below this is worked out as finely as asked; one above it is that of the first rearrangements.
LEVEL = 0.05


def sign_flip(differences: ArrayLike, rng: np.random.Generator, *, flips: int = FLIPS) -> Floats:
    """Two-sided permutation test that the sums of paired differences (Q, C) or (Q,) are 0, by turning signs.

    Under the null a question's difference between two models is as likely as its negative. Weights of questions are put
    into the differences; 0 where one does not enter. p is the share of sign vectors with an absolute sum at least as
    large, the observed one counted: all of them up to ``EXACT`` questions, else as many as ``flips``, the same for
    every comparison. Source: Fisher (1935); Phipson and Smyth (2010) for the observed one counted.

    >>> sign_flip([1., 2., 3.], np.random.default_rng(0)).tolist()   # 2 of 8 sign vectors
    [0.25]
    """
    array = np.asarray(differences, dtype=np.float64)
    columns = array[:, None] if array.ndim == 1 else array
    asked, comparisons = columns.shape
    # equal sums must count as equal whatever the order of addition
    bound = np.abs(columns.sum(axis=0)) - 1e-12 * np.abs(columns).sum(axis=0)
    if asked <= EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2**asked)[:, None] >> np.arange(asked)) & 1)
        p = (np.abs(signs @ columns) >= bound).mean(axis=0)
    else:
        above, part = np.ones(comparisons), max(1, AT_ONCE // max(asked, comparisons))
        for start in range(0, flips, part):
            signs = 1.0 - 2.0 * rng.integers(0, 2, size=(min(part, flips - start), asked), dtype=np.int8)
            above += (np.abs(signs @ columns) >= bound).sum(axis=0)
        p = above / (flips + 1)
    return np.where((columns != 0).any(axis=0), p, np.nan if asked == 0 else 1.0)


def participants_apart(left_out: Sequence[Floats], signs: ArrayLike, differences: ArrayLike) -> Floats:
    """Two-sided p that C contrasts of M models are 0 for other questions and other participants, by the jackknife.

    What makes a participant answer all questions in the same way moves them together, which turning signs does not see.
    The variance is that over questions, and beyond it the jackknife's variance of their sum less the sum of theirs. p
    is of t with Satterthwaite's degrees of freedom: Q over questions, beyond it those of the fewest participants.

    Args:
        left_out: of each model, what leaving out a participant adds to each question, shape (P_m, Q); a row of nan for
            one who answered none. Participant i of one model and of another are a unit, since they share draws.
        signs: how a contrast weighs the models, shape (C, M).
        differences: of each contrast by question, shape (Q, C); they sum to it.

    Source: Tukey (1958), Bias and confidence in not quite large samples; Satterthwaite (1946); docs/metrics.md.

    >>> alike = np.array([[.01, -.01], [-.01, .01]] * 5)  # participants move two questions against each other
    >>> participants_apart([alike, -alike], [[1., -1.]], [[.1], [.1]]).round(3).tolist()
    [0.293]
    """
    weighing, by_question = np.asarray(signs, dtype=np.float64), np.asarray(differences, dtype=np.float64)
    there = [~np.isnan(changes).any(axis=1) for changes in left_out]
    people = np.array([int(answered.sum()) for answered in there])
    spread = np.zeros((len(people), max((len(changes) for changes in left_out), default=0), len(by_question)))
    for model, (changes, answered) in enumerate(zip(left_out, there, strict=True)):
        if people[model] > 1:
            apart = changes[answered] - changes[answered].mean(axis=0)
            spread[model, np.flatnonzero(answered)] = np.sqrt(1 - 1 / people[model]) * apart
    alone, summed = spread.reshape(len(people), -1), spread.sum(axis=2)
    together = summed @ summed.T - alone @ alone.T
    beyond = np.maximum(np.einsum("cm,mn,cn->c", weighing, together, weighing), 0.0)
    over_questions = (by_question**2).sum(axis=0)
    variance = over_questions + beyond
    least = np.where((weighing != 0) & (people > 1), people, np.inf).min(axis=1, initial=np.inf)
    shaky = over_questions**2 / max(len(by_question), 1) + beyond**2 / np.maximum(least - 1, 1)
    freedom = np.divide(variance**2, shaky, out=np.ones_like(variance), where=shaky > 0)
    away = np.abs(by_question.sum(axis=0))
    t = np.divide(away, np.sqrt(variance), out=np.zeros_like(away), where=variance > 0)
    return np.asarray(2 * stdtr(freedom, -t), dtype=np.float64)


def holm(p: ArrayLike) -> Floats:
    """p-values (C,) adjusted by Holm's step-down: the chance of any false finding stays below them; nan is not counted.

    >>> holm([.01, .04, .03]).round(10).tolist()
    [0.03, 0.06, 0.06]
    """
    return _adjusted(p, lambda ordered: np.maximum.accumulate(ordered * np.arange(len(ordered), 0, -1)))


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """The same by Benjamini and Hochberg (1995): the share of false findings stays below them.

    >>> benjamini_hochberg([.01, .04, .03]).round(10).tolist()
    [0.03, 0.04, 0.04]
    """
    count = np.arange(np.count_nonzero(~np.isnan(np.asarray(p, dtype=np.float64)))) + 1
    return _adjusted(p, lambda ordered: np.minimum.accumulate((ordered * len(count) / count)[::-1])[::-1])


def _adjusted(p: ArrayLike, adjust: Callable[[Floats], Floats]) -> Floats:
    values = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    adjusted = np.full_like(values, np.nan)
    adjusted[order] = np.minimum(adjust(values[order]), 1.0)
    return adjusted


def rearrangements_for(tests: int) -> int:
    """How many rearrangements let the smallest p of that many tests be told from chance by Holm."""
    return max(REARRANGEMENTS, ceil(tests / (LEVEL * FINENESS)) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one of several models stands, 1 the closest."""

    first: int  #: 1 + the models that are significantly closer
    last: int  #: the models that are not significantly further, itself included
    group: int  #: models of one group are not told apart from the group's closest one


def places(values: Sequence[float], apart: Bools) -> tuple[Place, ...]:
    """Places with ties: a model shares its places with all that it cannot be told from.

    Smaller of ``values`` (M,) is closer; ``apart`` (M, M) says which two differ. ``last`` is the place that may be
    claimed: with fewer answers fewer models can be told apart, so that answering less does not improve it.

    >>> told = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], bool)
    >>> [(p.first, p.last, p.group) for p in places([.1, .2, .3], told)]
    [(1, 2, 1), (1, 3, 1), (2, 3, 2)]
    """
    figures = np.asarray(values, dtype=np.float64)
    order = np.argsort(figures, kind="stable").tolist()
    group, head, groups = 1, order[0] if order else 0, np.ones(len(figures), dtype=np.int64)
    for model in order:
        if apart[head, model]:
            group, head = group + 1, model
        groups[model] = group
    closer = (apart & (figures[None, :] < figures[:, None])).sum(axis=1).tolist()
    further = (apart & (figures[None, :] > figures[:, None])).sum(axis=1).tolist()
    return tuple(
        Place(first=1 + before, last=len(figures) - after, group=of)
        for before, after, of in zip(closer, further, groups.tolist(), strict=True)
    )


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

    t: float = np.nan
    df: float = np.nan
    sed: float = np.nan  #: standard error of the difference
    p: float = np.nan
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Hedges' g, the standardised difference without its small-sample bias, with its interval."""

    g: float = np.nan
    low: float = np.nan
    high: float = np.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoSamples:
    """Two samples compared as Table 3 does, and as it should."""

    first: Summary
    second: Summary
    pooled: TTest  #: equal variances assumed, as the paper's degrees of freedom say
    welch: TTest
    effect: Effect


def summarise(sample: ArrayLike) -> Summary:
    """Mean, standard deviation (n - 1) and size; values that are nan are left out."""
    values = np.asarray(sample, dtype=np.float64)
    values = values[~np.isnan(values)]
    mean = float(values.mean()) if values.size else np.nan
    return Summary(mean=mean, sd=float(values.std(ddof=1)) if values.size > 1 else np.nan, n=int(values.size))


def compare(first: Summary, second: Summary) -> TwoSamples:
    """Compare two samples by their summaries; a positive t means that the first mean is the larger.

    With m = n1 + n2 - 2, Hedges' g is (1 - 3 / (4 m - 1)) times the difference in pooled standard deviations; its 95%
    interval is g -+ z sqrt((n1 + n2) / (n1 n2) + g^2 / (2 (n1 + n2))).

    Source: Liu et al. (2025), Eq. 7 and Table 3 (US row); Welch (1947); Hedges (1981); Borenstein et al. (2009), ch. 4.

    >>> found = compare(Summary(mean=1.28, sd=.50, n=27), Summary(mean=.93, sd=.34, n=27))
    >>> round(found.pooled.t, 4), round(found.pooled.sed, 5), found.pooled.df, round(found.pooled.p, 6)
    (3.0078, 0.11636, 52.0, 0.004049)
    >>> round(found.welch.df, 3), round(found.welch.p, 6), round(found.effect.g, 4)
    (45.809, 0.004264, 0.8068)
    """
    if min(first.n, second.n) < 2:
        few = TTest(reason="fewer than 2 values in a sample")
        return TwoSamples(first=first, second=second, pooled=few, welch=few, effect=Effect())
    difference, m = first.mean - second.mean, first.n + second.n - 2
    variance = ((first.n - 1) * first.sd**2 + (second.n - 1) * second.sd**2) / m
    one, two = first.sem**2, second.sem**2
    spread = one**2 / (first.n - 1) + two**2 / (second.n - 1)
    effect = Effect()
    if variance > 0:
        g, total = (1 - 3 / (4 * m - 1)) * difference / sqrt(variance), first.n + second.n
        half = float(ndtri(0.975)) * sqrt(total / (first.n * second.n) + g**2 / (2 * total))
        effect = Effect(g=g, low=g - half, high=g + half)
    return TwoSamples(
        first=first,
        second=second,
        pooled=_test(difference, sqrt(variance * (1 / first.n + 1 / second.n)), float(m)),
        welch=_test(difference, sqrt(one + two), (one + two) ** 2 / spread if spread else float(m)),
        effect=effect,
    )


def compare_samples(first: ArrayLike, second: ArrayLike) -> TwoSamples:
    """Compare two samples; nan values are left out."""
    return compare(summarise(first), summarise(second))


def _test(difference: float, sed: float, df: float) -> TTest:
    if sed == 0:
        return TTest(df=df, sed=0.0, reason="neither sample varies")
    t = difference / sed
    return TTest(t=t, df=df, sed=sed, p=float(2 * stdtr(df, -abs(t))))


def spearman(first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    """Spearman's rank correlation and its two-sided permutation p; nan where a side does not vary.

    >>> rho, p = spearman(np.array([1., 2., 3., 4., 5.]), np.array([2., 4., 6., 8., 10.]))
    >>> round(rho, 3), round(p, 2)
    (1.0, 0.02)
    """
    from scipy.stats import rankdata

    one, two = (rankdata(np.asarray(side, dtype=np.float64)) for side in (first, second))
    one, two = one - (one.size + 1) / 2, two - (two.size + 1) / 2
    scale = float(np.sqrt((one**2).sum() * (two**2).sum()))
    if scale == 0:
        return float("nan"), float("nan")
    rho = float(one @ two / scale)
    rng = np.random.default_rng(RANK_SEED)
    shuffled = rng.permuted(np.broadcast_to(two, (FLIPS, two.size)), axis=1) @ one / scale
    above = int((np.abs(shuffled) >= abs(rho) - 1e-12).sum())
    return rho, (1 + above) / (1 + FLIPS)
