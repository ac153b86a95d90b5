"""How many answers were valid, refused, unparsable or failed, and how many are there at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr, ndtri, stdtrit

from defsurvey.reports.metrics.aggregate import Floats, shares_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A share of answers with its Wilson interval; nan where ``reason`` says why."""

    count: int = 0
    n: int = 0
    share: float = nan  #: in [0, 1]
    low: float = nan
    high: float = nan
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How the planned answers of a cell ended; the four rates are of the answers that ended."""

    planned: int
    done: int
    valid: Rate
    refused: Rate
    unparsable: Rate
    failed: Rate
    coverage: float  #: done / planned, in [0, 1]; nan if nothing was planned


def wilson(count: int, n: int) -> Rate:
    """A rate with Wilson's score interval, which keeps its coverage at small n and at 0 and 1.

    Source: Wilson (1927); the example is 81 of 263 of Newcombe (1998), table I.

    >>> rate = wilson(81, 263)
    >>> round(rate.share, 4), round(rate.low, 4), round(rate.high, 4)
    (0.308, 0.2553, 0.3662)
    """
    return wilson_rate(count / n, float(n), count=count, n=n) if n else Rate(reason="no answer has ended")


def wilson_rate(share: float, effective: float, *, count: int, n: int, level: float = 0.95) -> Rate:
    """Wilson's interval of a share that rests on an effective number of independent answers, not necessarily whole."""
    z = float(ndtri((1 + level) / 2))
    widening = 1 + z * z / effective
    centre = (share + z * z / (2 * effective)) / widening
    half = z * sqrt(share * (1 - share) / effective + z * z / (4 * effective * effective)) / widening
    # at 0 and 1 the bound is the rate itself, which rounding may miss by a hair
    low, high = (0.0 if share <= 0 else centre - half), (1.0 if share >= 1 else centre + half)
    return Rate(count=count, n=n, share=share, low=low, high=high)


def clustered(counts: ArrayLike, totals: ArrayLike) -> Rate:
    """A rate of answers that hang together within participants: Wilson's interval at the effective number of answers.

    With residuals e = count - share * total of P participants (both of shape (P,)), the share varies by
    P / (P - 1) sum e^2 / n^2; against share (1 - share) / n that is the design effect, at least 1. The effective number
    is n over it, times the square of the normal quantile over that of t, of P - 1 degrees of freedom or as many as have
    any answer of the rarer kind. It is no less than n^2 / sum total^2, as if each participant were one answer; that is
    taken, too, where nothing tells the design effect: all answers or none are of the kind, or of one participant.

    Source: Kish (1965) for the design effect; Korn and Graubard (1998) for the degrees of freedom.
    """
    each, of = np.asarray(counts, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    each, of = each[of > 0], of[of > 0]
    count, n, people = int(each.sum()), int(of.sum()), len(of)
    if n == 0:
        return wilson(0, 0)
    share, least = count / n, float(n**2 / (of**2).sum())
    if count in (0, n) or people < 2:
        return wilson_rate(share, least, count=count, n=n)
    variance = people / (people - 1) * float(((each - share * of) ** 2).sum()) / n**2
    effect = max(variance * n / (share * (1 - share)), 1.0)
    # as few as differ from the rest are all that the spread is known from
    freedom = min(people - 1, int((each if 2 * count <= n else of - each).astype(bool).sum()))
    known = float(ndtri(0.975) / stdtrit(freedom, 0.975))
    return wilson_rate(share, max(n / effect * known**2, least), count=count, n=n)


def quality(
    *, planned: int, answered: ArrayLike, refused: ArrayLike, unparsable: ArrayLike, failed: ArrayLike
) -> Quality:
    """Rates of the four states among the answers that ended, and the coverage of those planned.

    Each state is given for each participant (P,), or as one number of all, taken for independent answers.

    >>> found = quality(planned=20, answered=8, refused=1, unparsable=1, failed=0)
    >>> found.valid.share, found.coverage
    (0.8, 0.5)
    """
    given = {"valid": answered, "refused": refused, "unparsable": unparsable, "failed": failed}
    states = {name: np.asarray(count, dtype=np.int64) for name, count in given.items()}
    ended = np.sum(list(states.values()), axis=0)
    done = int(ended.sum())
    planned = max(planned, done)
    rates = {name: clustered(of, ended) if of.ndim else wilson(int(of), done) for name, of in states.items()}
    return Quality(planned=planned, done=done, coverage=done / planned if planned else nan, **rates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversity:
    """Diversity of replies; nan where ``reason`` says why."""

    d: float = nan  #: Eq. 6, in [0, maximum]
    maximum: float = nan  #: of ``d`` at this number of replies, (n - 1) / n
    relative: float = nan  #: d / maximum, in [0, 1]
    distinct: int = 0  #: distinct replies, summed over questions
    replies: int = 0  #: replies in all
    reason: str = ""


def diversity(digest: ArrayLike, question: ArrayLike) -> Diversity:
    """Diversity D of full replies, given as their hashes (n,) and the positions of their questions (n,).

    D = (n_diff - n_ques) / (n_test * n_ques), n_diff the distinct replies summed over questions; where these have
    unequal numbers of replies, the mean over questions of (distinct - 1) / replies. Questions without a reply are left
    out.

    Source: Liu et al. (2025), Eq. 6.

    >>> found = diversity([1, 2, 3, 3,  7, 7, 7, 7], [0, 0, 0, 0,  1, 1, 1, 1])
    >>> found.distinct, found.d, found.maximum, round(found.relative, 4)
    (4, 0.25, 0.75, 0.3333)
    """
    replies, of = np.asarray(digest), np.asarray(question)
    if replies.size == 0:
        return Diversity(reason="no reply")
    pairs = np.unique(np.stack([of.astype(np.int64), replies.astype(np.int64)]), axis=1)
    _, distinct = np.unique(pairs[0], return_counts=True)
    _, given = np.unique(of, return_counts=True)
    d, maximum = float(np.mean((distinct - 1) / given)), float(np.mean((given - 1) / given))
    found = Diversity(maximum=maximum, distinct=int(distinct.sum()), replies=int(replies.size))
    if maximum == 0:
        return replace(found, reason="one reply to every question: it cannot differ")
    return replace(found, d=d, relative=d / maximum)


def effective_options(weights: ArrayLike) -> Floats:
    """Number of equally used options that would be as varied: exp(entropy) of counts or shares, (..., K) -> (...).

    >>> effective_options([[5, 5, 0], [10, 0, 0], [0, 0, 0]]).round(6).tolist()
    [2.0, 1.0, nan]
    """
    return np.asarray(np.exp(entr(shares_of(weights)).sum(axis=-1)), dtype=np.float64)
