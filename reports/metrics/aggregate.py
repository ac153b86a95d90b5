"""Means over items: by value dimension, over dimensions, over questions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """To which question and value dimension each of I items belongs."""

    question: Ints  #: position of the item's question, shape (I,)
    questions: int  #: how many there are
    dimension: Ints  #: position of its value dimension, -1 for none, shape (I,)
    dimensions: int  #: how many there are
    by_dimension: bool  #: whether any item of the run speaks to one: the headline is then the mean over dimensions

    @property
    def headline(self) -> Bools:
        """Which items the headline is of, shape (I,): those of a dimension, or all where no item of the run has one."""
        return self.dimension >= 0 if self.by_dimension else np.ones(self.dimension.shape, dtype=bool)

    def of(self, where: NDArray[np.generic]) -> Grouping:
        """The same for some of the items only, given by a mask or by positions; the headline stays what it is."""
        return replace(self, question=self.question[where], dimension=self.dimension[where])


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Means of one value per item, items that are nan left out."""

    by_dimension: Floats  #: shape (D,); nan for a dimension without an item that has a value
    macro: float  #: mean over the dimensions that have one: every dimension weighs the same
    headline: float  #: ``macro``, or ``question_mean`` where no item of the run speaks to a dimension
    by_question: Floats  #: shape (Q,); a multiple-choice question is the mean of its options
    question_mean: float  #: mean over the questions that have a value: every question weighs the same
    items: int  #: items with a value
    reason: str = ""  #: why ``macro`` is nan; empty where it is not


def ratio(part: ArrayLike, whole: ArrayLike) -> Floats:
    """Part over whole; nan where the whole is not above 0."""
    above, below = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.asarray(np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0), dtype=np.float64)


def shares_of(weights: ArrayLike) -> Floats:
    """Counts or shares made to sum to 1 over the last axis; nan where they sum to 0."""
    array = np.asarray(weights, dtype=np.float64)
    return ratio(array, array.sum(axis=-1, keepdims=True))


def grouped_sum(values: ArrayLike, group: ArrayLike, groups: int) -> Floats:
    """Sum of values (..., I) by the group of each (I,), -1 for none: shape (..., groups), 0 for an empty one."""
    array, of = np.asarray(values, dtype=np.float64), np.asarray(group)
    total = np.zeros((*array.shape[:-1], groups))
    order = np.argsort(of, kind="stable")
    order = order[of[order] >= 0]
    if order.size:
        present, starts = np.unique(of[order], return_index=True)
        total[..., present] = np.add.reduceat(array[..., order], starts, axis=-1)
    return total


def grouped_mean(values: ArrayLike, group: ArrayLike, groups: int) -> Floats:
    """Mean of values (..., I) by the group of each (I,), nan left out: shape (..., groups), nan for an empty group."""
    array = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(array)
    return ratio(grouped_sum(np.where(known, array, 0.0), group, groups), grouped_sum(known, group, groups))


def mean_known(values: ArrayLike) -> Floats:
    """Mean over the last axis, nan left out; nan where nothing is left."""
    array = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(array)
    return ratio(np.where(known, array, 0.0).sum(axis=-1), known.sum(axis=-1))


def headline_mean(values: ArrayLike, grouping: Grouping) -> Floats:
    """The mean that the headline uses, (..., I) -> (...): over dimensions, or questions where no item speaks to one."""
    if grouping.by_dimension:
        return mean_known(grouped_mean(values, grouping.dimension, grouping.dimensions))
    return mean_known(grouped_mean(values, grouping.question, grouping.questions))


def headline_weights(grouping: Grouping) -> Floats:
    """The weight of each item in the headline mean, shape (I,); they sum to 1, or are 0 where no item is of it."""
    spoken = grouping.dimension >= 0
    if not grouping.by_dimension:
        _, place, size = np.unique(grouping.question, return_inverse=True, return_counts=True)
        return np.asarray(1 / size[place] / len(size), dtype=np.float64)
    size = np.bincount(grouping.dimension[spoken], minlength=grouping.dimensions)
    weights = np.zeros(len(spoken))
    weights[spoken] = 1 / size[grouping.dimension[spoken]] / (size > 0).sum()
    return weights


def means(values: ArrayLike, grouping: Grouping) -> Means:
    """All means of one value per item, shape (I,), finite or nan.

    >>> speaks = np.array([0, 1, -1])
    >>> of = Grouping(question=np.array([0, 0, 1]), questions=2, dimension=speaks, dimensions=2, by_dimension=True)
    >>> found = means([1, 3, 8], of)
    >>> found.macro, found.question_mean, found.items
    (2.0, 5.0, 3)
    """
    by_dimension = grouped_mean(values, grouping.dimension, grouping.dimensions)
    by_question = grouped_mean(values, grouping.question, grouping.questions)
    macro, items = float(mean_known(by_dimension)), int((~np.isnan(np.asarray(values, dtype=np.float64))).sum())
    without = "no item of a dimension has a value" if grouping.by_dimension else "no item speaks to a dimension"
    return Means(
        by_dimension=by_dimension,
        macro=macro,
        headline=float(headline_mean(values, grouping)),
        by_question=by_question,
        question_mean=float(mean_known(by_question)),
        items=items,
        reason="" if not np.isnan(macro) else without if items else "no item has a value",
    )
