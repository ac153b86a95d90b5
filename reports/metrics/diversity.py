"""How different the replies of a cell's participants are from each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversity:
    """Diversity of replies; nan where ``reason`` says why."""

    d: float  #: Eq. 6, in [0, maximum]
    maximum: float  #: of ``d`` at this number of replies, (n - 1) / n
    relative: float  #: d / maximum, in [0, 1]
    distinct: int  #: distinct replies, summed over questions
    replies: int  #: replies in all
    reason: str = ""


def diversity(digest: ArrayLike, question: ArrayLike) -> Diversity:
    """Diversity D of full replies (Eq. 6), its maximum and their ratio.

    D = (n_diff - n_ques) / (n_test * n_ques), n_diff the distinct replies summed over questions. Questions
    may have unequal numbers of replies: D is then the mean over questions of (distinct - 1) / replies,
    which is Eq. 6 when they are equal. Questions without a reply are left out.

    Args:
        digest: hash of each reply, shape (n,).
        question: position of the question it answers, shape (n,).

    Source: Liu et al. (2025), Eq. 6.

    >>> found = diversity([1, 2, 3, 3,  7, 7, 7, 7], [0, 0, 0, 0,  1, 1, 1, 1])
    >>> found.distinct, found.d, found.maximum, round(found.relative, 4)
    (4, 0.25, 0.75, 0.3333)
    """
    replies, of = np.asarray(digest), np.asarray(question)
    if replies.size == 0:
        return Diversity(d=np.nan, maximum=np.nan, relative=np.nan, distinct=0, replies=0, reason="no reply")
    pairs = np.unique(np.stack([of.astype(np.int64), replies.astype(np.int64)]), axis=1)
    _, distinct = np.unique(pairs[0], return_counts=True)
    _, given = np.unique(of, return_counts=True)
    d, maximum = float(np.mean((distinct - 1) / given)), float(np.mean((given - 1) / given))
    reason = "" if maximum > 0 else "one reply to every question: it cannot differ"
    return Diversity(
        d=d if maximum > 0 else np.nan,
        maximum=maximum,
        relative=d / maximum if maximum > 0 else np.nan,
        distinct=int(distinct.sum()),
        replies=int(replies.size),
        reason=reason,
    )


def effective_options(weights: ArrayLike) -> Floats:
    """Number of equally used options that would be as varied: exp(entropy of the shares).

    Args:
        weights: counts or shares per category, shape (..., K).

    Returns:
        Shape (...), from 1 (always the same) to K (all alike); nan where nothing was chosen.

    >>> effective_options([[5, 5, 0], [10, 0, 0], [0, 0, 0]]).round(6).tolist()
    [2.0, 1.0, nan]
    """
    array = np.asarray(weights, dtype=np.float64)
    total = array.sum(axis=-1, keepdims=True)
    shares = np.divide(array, total, out=np.full_like(array, np.nan), where=total > 0)
    return np.asarray(np.exp(entr(shares).sum(axis=-1)), dtype=np.float64)
