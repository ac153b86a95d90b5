"""How many answers were valid, refused, unparsable or failed, and how many are there at all.

Knows counts of answers. Deliberately knows nothing of what was answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sqrt

from scipy.special import ndtri

from reports.metrics.divergence import MetricInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A share of answers with its Wilson interval; nan where ``reason`` says why."""

    count: int
    n: int
    share: float  #: in [0, 1]
    low: float
    high: float
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


def wilson(count: int, n: int, level: float = 0.95) -> Rate:
    """A rate with Wilson's score interval, which keeps its coverage at small n and at 0 and 1.

    Args:
        count: answers of the kind, in [0, n].
        n: answers in all.
        level: of the interval, in (0, 1).

    Raises:
        MetricInput: ``count`` is not in [0, n].

    Source: Wilson (1927); the example is 81 of 263 of Newcombe (1998), table I.

    >>> rate = wilson(81, 263)
    >>> round(rate.share, 4), round(rate.low, 4), round(rate.high, 4)
    (0.308, 0.2553, 0.3662)
    >>> wilson(0, 0).reason
    'no answer has ended'
    """
    if not 0 <= count <= n:
        raise MetricInput(f"count must be in [0, {n}], got {count}")
    if n == 0:
        return Rate(count=0, n=0, share=nan, low=nan, high=nan, reason="no answer has ended")
    return wilson_rate(count / n, float(n), count=count, n=n, level=level)


def wilson_rate(share: float, effective: float, *, count: int, n: int, level: float = 0.95, reason: str = "") -> Rate:
    """Wilson's interval of a share that rests on an effective number of answers, not necessarily whole.

    Args:
        share: in [0, 1]; anything where ``reason`` says why there is none.
        effective: number of independent answers that would tell as much, above 0.
        count: answers of the kind, as counted.
        n: answers in all, as counted.
        level: of the interval, in (0, 1).
        reason: why there is no rate; empty where there is one.

    >>> round(wilson_rate(.5, 10.0, count=5, n=20).low, 4)
    0.2366
    """
    if reason:
        return Rate(count=count, n=n, share=nan, low=nan, high=nan, reason=reason)
    z = float(ndtri((1 + level) / 2))
    widening = 1 + z * z / effective
    centre = (share + z * z / (2 * effective)) / widening
    half = z * sqrt(share * (1 - share) / effective + z * z / (4 * effective * effective)) / widening
    # at 0 and 1 the bound is the rate itself, which rounding may miss by a hair
    low, high = (0.0 if share <= 0 else centre - half), (1.0 if share >= 1 else centre + half)
    return Rate(count=count, n=n, share=share, low=low, high=high)


def quality(*, planned: int, answered: int, refused: int, unparsable: int, failed: int) -> Quality:
    """Rates of the four states among the answers that ended, and the coverage.

    >>> found = quality(planned=20, answered=8, refused=1, unparsable=1, failed=0)
    >>> found.valid.share, found.coverage
    (0.8, 0.5)
    """
    done = answered + refused + unparsable + failed
    return Quality(
        planned=planned,
        done=done,
        valid=wilson(answered, done),
        refused=wilson(refused, done),
        unparsable=wilson(unparsable, done),
        failed=wilson(failed, done),
        coverage=done / planned if planned else nan,
    )
