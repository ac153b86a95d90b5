"""Has a model seen the survey? What it completes from a question's wording, against shuffled controls.

A model that has never seen a survey can still guess well. So everything is compared with what it would score had it
been paired with another question's options, or with the published percentages dealt out anew.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from defsurvey.reports.metrics.aggregate import Bools, Floats, ratio

#: Shuffles of each control.
SHUFFLES = 1999
#: A similarity of at least so much is nearly word for word.
VERBATIM = 0.95
#: A mean error of at most so many percentage points is more than a guess.
CLOSE = 1.0
_BULLET = re.compile(r"^[\s\-*•·(\[]*(?:\d+|[A-Za-z])\s*[:.)\]：、]\s*|^[\s\-*•·]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """How near completions come to their own question's options; nan where ``reason`` says why."""

    own: Floats  #: (q,) similarity to the question's own options, in [0, 1]
    others: Floats  #: (q,) mean similarity to other questions' options
    p: Floats  #: (q,) share of other questions whose options are as near; the smallest is 1/(others + 1)
    nearest: Bools  #: (q,) whether no other question's options are as near
    verbatim: Bools  #: (q,) whether the similarity is at least ``VERBATIM``
    mean_own: float
    mean_others: float = np.nan  #: mean over shuffles of all questions
    p_all: float = np.nan  #: share of shuffles in which the completions come as near
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guessed:
    """How near percentages come to the published ones; errors are mean absolute ones, in percentage points."""

    error: Floats  #: (q,)
    shuffled: Floats  #: (q,) mean error against the published percentages dealt out anew to the options
    p: Floats  #: (q,) share of shuffles that are as near
    close: Bools  #: (q,) whether the error is at most ``CLOSE``
    mean_error: float = np.nan
    mean_shuffled: float = np.nan
    p_all: float = np.nan  #: share of shuffles of all questions whose mean error is as small
    reason: str = ""


def similarity(completion: str, labels: Sequence[str]) -> float:
    """How near a completion comes to a list of labels, in [0, 1].

    For each label that is no number, the best Dice coefficient of character pairs with a line of the completion; the
    mean over labels. Case, codes, bullets and spaces do not count. nan where every label is a number.

    >>> similarity("1. Very important\\n2. rather important", ["Very important", "Rather important"])
    1.0
    >>> round(similarity("Fairly important\\nNo", ["Very important", "Rather important"]), 2)
    0.63
    """
    lines = [_pairs(_BULLET.sub("", line)) for line in completion.splitlines()]
    wanted = [_pairs(label) for label in labels if not label.strip().isdecimal()]
    if not wanted:
        return float("nan")
    dice = [[2 * len(label & line) / max(len(label) + len(line), 1) for line in lines] for label in wanted]
    return float(np.mean([max(near, default=0.0) for near in dice]))


def _pairs(text: str) -> frozenset[str]:
    bare = "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())
    return frozenset(bare[start : start + 2] for start in range(max(1, len(bare) - 1))) if bare else frozenset()


def recalled(similarities: ArrayLike, alike: ArrayLike, rng: np.random.Generator) -> Recalled:
    """Whether completions fit their own question's options better than other questions'.

    ``similarities`` (q, q): of the completion to question i with the options of question j. ``alike`` (q, q): questions
    j that have the very options of i and are no control for it. ``rng`` shuffles.

    A permutation test: Fisher (1935); (1 + b) / (1 + m) as in Phipson and Smyth (2010).

    >>> found = recalled(np.eye(20), np.eye(20, dtype=bool), np.random.default_rng(1))
    >>> float(found.mean_own), round(float(found.p[0]), 3), found.p_all
    (1.0, 0.05, 0.0005)
    """
    near, controls = np.asarray(similarities, dtype=np.float64), ~np.asarray(alike, dtype=bool)
    count, own, others = near.shape[0], np.diagonal(near), controls.sum(axis=1)
    as_near = (controls & (near >= own[:, None])).sum(axis=1)
    found = Recalled(
        own=own,
        others=ratio(np.where(controls, near, 0.0).sum(axis=1), others),
        p=np.where(others > 0, (1 + as_near) / (1 + others), np.nan),
        nearest=(others > 0) & (as_near == 0),
        verbatim=own >= VERBATIM,
        mean_own=float(own.mean()) if count else np.nan,
    )
    if not others.any():
        return replace(found, reason="no two questions with different options")
    rows = np.arange(count)
    shuffled = np.array([near[rows, rng.permutation(count)].mean() for _ in range(SHUFFLES)])
    p_all = float((1 + (shuffled >= own.mean()).sum()) / (1 + SHUFFLES))
    return replace(found, mean_others=float(shuffled.mean()), p_all=p_all)


def guessed(told: Sequence[ArrayLike], published: Sequence[ArrayLike], rng: np.random.Generator) -> Guessed:
    """Whether percentages that a model gives fit the published ones better than these dealt out anew.

    >>> found = guessed([[60, 30, 8, 2]], [[60, 30, 8, 2]], np.random.default_rng(1))
    >>> float(found.error[0]), bool(found.close[0]), bool(0.03 < found.p[0] < 0.06)
    (0.0, True, True)
    """
    if not told:
        none = np.empty(0)
        return Guessed(
            error=none, shuffled=none, p=none, close=none.astype(bool), reason="no percentages that can be read"
        )
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(told, published, strict=True)]
    error = np.array([np.abs(a - b).mean() for a, b in pairs])
    shuffles = np.stack([np.abs(a - rng.permuted(np.tile(b, (SHUFFLES, 1)), axis=1)).mean(axis=1) for a, b in pairs])
    slack = 1e-9  # equal errors must count as equal whatever the order in which they were summed
    return Guessed(
        error=error,
        shuffled=shuffles.mean(axis=1),
        p=(1 + (shuffles <= error[:, None] + slack).sum(axis=1)) / (1 + SHUFFLES),
        close=error <= CLOSE,
        mean_error=float(error.mean()),
        mean_shuffled=float(shuffles.mean()),
        p_all=float((1 + (shuffles.mean(axis=0) <= error.mean() + slack).sum()) / (1 + SHUFFLES)),
    )
