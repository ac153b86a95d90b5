"""Does the option shown first draw answers, whatever it says?

An answer that does not care about order meets the first-shown option as often as if answers were dealt out anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, factorial

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from defsurvey.reports.metrics.aggregate import Bools, Floats

#: Most answers, to questions on which answers could meet more or less often, of which every way to deal is counted.
EXACT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionBias:
    """How often the option shown first is chosen beyond what its content earns; nan where ``reason`` says why."""

    answers: int = 0  #: to questions that were shown in more than one order
    questions: int = 0  #: of that kind
    first: float = np.nan  #: share of those answers that chose the option shown first
    expected: float = np.nan  #: that share if order did not matter, questions and answers as they are
    excess: float = np.nan  #: first - expected
    moved: float = np.nan  #: excess / (1 - expected): the share of answers that order would have moved; 1: all of them
    z: float = np.nan
    p: float = np.nan  #: two-sided: how often dealing answers out at random would lie as far from ``expected``
    reason: str = ""


def position_bias(question: ArrayLike, chosen: ArrayLike, shown: ArrayLike, options: int) -> PositionBias:
    """Compare choices (n,) with the option shown first (n,), question by question (n,).

    With a_o answers that chose option o, b_o that were shown it first, of n, and S = sum a_o b_o, dealing answers out
    at random gives S / n matches on average with variance (n^2 S - n sum a_o b_o (a_o + b_o) + S^2) / (n^2 (n - 1)),
    both exact; z = (matches - S / n) / sd, sums over questions. p counts every way to deal up to ``EXACT`` answers, and
    is normal beyond.

    Source: the moments are those of the permutation distribution of Mantel (1963).

    >>> found = position_bias([0] * 4, [0, 0, 1, 1], [0, 0, 1, 1], 2)
    >>> found.first, found.expected, found.moved, round(found.p, 6)
    (1.0, 0.5, 1.0, 0.333333)
    """
    of, picked, first = (np.asarray(each, dtype=np.int64) for each in (question, chosen, shown))
    asked = int(of.max(initial=-1)) + 1
    keys, shape = (of * options + picked, of * options + first), (asked, options)
    a, b = (np.bincount(key, minlength=asked * options).reshape(shape).astype(np.float64) for key in keys)
    n = np.bincount(of, minlength=asked).astype(np.float64)
    met = np.bincount(of[picked == first], minlength=asked).astype(np.float64)
    several = b.max(axis=1, initial=0.0) < n
    answers = int(n[several].sum())
    if answers == 0:
        return PositionBias(reason="every question was shown in one order only")
    n, a, b, met = n[several], a[several], b[several], met[several]
    ab = (a * b).sum(axis=1)
    mean = ab / n
    variance = (n**2 * ab - n * (a * b * (a + b)).sum(axis=1) + ab**2) / (n**2 * (n - 1))
    excess, sd = float((met - mean).sum()), float(np.sqrt(max(variance.sum(), 0.0)))
    first_share, expected = float(met.sum() / answers), float(mean.sum() / answers)
    z = excess / sd if sd > 0 else np.nan
    return PositionBias(
        answers=answers,
        questions=int(several.sum()),
        first=first_share,
        expected=expected,
        excess=first_share - expected,
        moved=(first_share - expected) / (1 - expected) if expected < 1 else np.nan,
        z=z,
        p=_p(a, b, excess, z, variance > 0) if sd > 0 else np.nan,
        reason="" if sd > 0 else "every participant gave the same answer: nothing could move",
    )


def _p(a: Floats, b: Floats, excess: float, z: float, moving: Bools) -> float:
    """Two-sided p of an excess of matches over their mean, of the questions on which they can be more or fewer."""
    if a[moving].sum() > EXACT:
        return float(2 * ndtr(-abs(z)))
    masses = np.ones(1)
    for picked, first in zip(a[moving].astype(int).tolist(), b[moving].astype(int).tolist(), strict=True):
        masses = np.convolve(masses, match_masses(picked, first))
    away = np.abs(np.arange(masses.size) - masses @ np.arange(masses.size))
    return float(min(masses[away >= abs(excess) - 1e-9].sum(), 1.0))


def match_masses(picked: Sequence[int], first: Sequence[int]) -> Floats:
    """Probability of every number of matches where a question's answers are dealt out at random.

    ``picked`` (K,) answers chose each option, ``first`` (K,) participants were shown it first. k answers can be placed
    on as many who were shown what they chose in C(a, k) C(b, k) k! ways where all are of one option, and in as many as
    the product of these polynomials says where they are of any; inclusion and exclusion give exactly m matches.

    Source: rook polynomials, Riordan (1958), An Introduction to Combinatorial Analysis, chapter 7.

    >>> match_masses([1, 1, 1], [1, 1, 1]).round(4).tolist()
    [0.3333, 0.5, 0.0, 0.1667]
    """
    rooks = np.array([1], dtype=object)
    for a, b in zip(picked, first, strict=True):
        ways = [comb(a, k) * comb(b, k) * factorial(k) for k in range(min(a, b) + 1)]
        rooks = np.convolve(rooks, np.array(ways, dtype=object))
    n = sum(picked)
    placed = [ways * factorial(n - k) for k, ways in enumerate(rooks.tolist())]
    exactly = [sum((-1) ** (k - m) * comb(k, m) * placed[k] for k in range(m, len(placed))) for m in range(len(placed))]
    return np.array([ways / factorial(n) for ways in exactly])
