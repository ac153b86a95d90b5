"""Means over items: by value dimension, over dimensions, over questions.

Knows which item belongs to which dimension and question, as positions. Deliberately knows
nothing of what the values measure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Means of one value per item, items that are nan left out."""

    by_dimension: Floats  #: shape (D,); nan for a dimension without an item that has a value
    macro: float  #: mean over the dimensions that have one: every dimension weighs the same
    by_question: Floats  #: shape (Q,); a multiple-choice question is the mean of its options
    question_mean: float  #: mean over the questions that have a value: every question weighs the same
    items: int  #: items with a value
    reason: str = ""  #: why ``macro`` is nan; empty where it is not


def grouped_mean(values: ArrayLike, group: ArrayLike, groups: int) -> Floats:
    """Mean of the values of each group, nan left out.

    Args:
        values: shape (..., I).
        group: position of each item's group, shape (I,); -1 belongs to none.
        groups: how many groups there are.

    Returns:
        Shape (..., groups); nan for a group without a value.

    >>> grouped_mean([1, 3, np.nan, 8], [0, 0, 1, -1], 2).tolist()
    [2.0, nan]
    """
    array, of = np.asarray(values, dtype=np.float64), np.asarray(group)
    member = (of[:, None] == np.arange(groups)).astype(np.float64)
    known = ~np.isnan(array)
    total, count = np.where(known, array, 0.0) @ member, known.astype(np.float64) @ member
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def mean_known(values: ArrayLike) -> Floats:
    """Mean over the last axis, nan left out; nan where nothing is left.

    >>> float(mean_known([1, np.nan, 2])), float(mean_known([np.nan]))
    (1.5, nan)
    """
    array = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(array)
    total, count = np.where(known, array, 0.0).sum(axis=-1), known.sum(axis=-1)
    return np.divide(total, count, out=np.full_like(np.asarray(total), np.nan), where=count > 0)


def macro_mean(values: ArrayLike, dimension: ArrayLike, dimensions: int) -> Floats:
    """Mean over items of a dimension, then over dimensions; shape (..., I) -> (...).

    >>> float(macro_mean([1, 3, 8], [0, 0, 1], 3))
    5.0
    """
    return mean_known(grouped_mean(values, dimension, dimensions))


def means(
    values: ArrayLike, *, dimension: ArrayLike, dimensions: int, question: ArrayLike, questions: int
) -> Means:
    """All means of one value per item.

    Args:
        values: shape (I,), finite or nan.
        dimension: position of each item's value dimension, -1 for none, shape (I,).
        dimensions: how many there are.
        question: position of each item's question, shape (I,).
        questions: how many there are.

    >>> found = means([1, 3, 8], dimension=[0, 1, -1], dimensions=2, question=[0, 0, 1], questions=2)
    >>> found.macro, found.question_mean, found.items
    (2.0, 5.0, 3)
    """
    array = np.asarray(values, dtype=np.float64)
    by_dimension = grouped_mean(array, dimension, dimensions)
    by_question = grouped_mean(array, question, questions)
    items = int((~np.isnan(array)).sum())
    macro = float(mean_known(by_dimension))
    reason = "" if not np.isnan(macro) else "no item has a value" if items == 0 else "no item speaks to a dimension"
    return Means(
        by_dimension=by_dimension,
        macro=macro,
        by_question=by_question,
        question_mean=float(mean_known(by_question)),
        items=items,
        reason=reason,
    )
