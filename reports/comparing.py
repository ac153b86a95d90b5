"""Cells of one culture compared question by question, at one number of answers each.

Knows counts by item and which difference is tested. Deliberately knows nothing of models, series
or conditions: whoever compares says which cells stand against which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reports.items import Bools, Floats, ItemTable, ReferenceTable
from reports.metrics.aggregate import Grouping, grouped_sum, headline_mean
from reports.metrics.comparisons import holm, sign_flip
from reports.metrics.floor import rarefied_smoothed_kl

#: Fewest valid answers to a question with which it enters a comparison, and the number that every cell is brought to.
#: Were it the smallest number found, a cell that answers less would change the yardstick for all the others.
COMPARABLE = 10
#: Seed of the sign vectors: the same answers always give the same p.
SIGNS_SEED = 20250314


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """M cells on the items of the headline where all have at least n valid answers, each rarefied to n of them."""

    names: tuple[str, ...]
    common: Bools  #: items compared, shape (I,)
    values: Floats  #: rarefied smoothed KL, nats, of the items compared, shape (M, C)
    grouping: Grouping  #: of the items compared
    n: int

    @property
    def figures(self) -> Floats:
        """Headline mean of each cell, shape (M,)."""
        return np.asarray(headline_mean(self.values, self.grouping), dtype=np.float64)

    @property
    def questions(self) -> int:
        """How many questions are compared."""
        return len(np.unique(self.grouping.question))

    @property
    def by_question(self) -> Floats:
        """What each question adds to the headline mean of each cell, shape (M, Q'): rows sum to ``figures``."""
        asked, place = np.unique(self.grouping.question, return_inverse=True)
        return grouped_sum(self.values * headline_weights(self.grouping), place, len(asked))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Two groups of cells, paired by question."""

    first: str
    second: str
    difference: float  #: mean of the first less mean of the second, nats; negative: the first is closer
    p: float  #: two-sided sign-flip permutation by question
    p_holm: float  #: adjusted over the contrasts planned together
    questions: int
    n: int  #: valid answers per question that every cell was brought down to


def headline_weights(grouping: Grouping) -> Floats:
    """The weight of each item in the headline mean, shape (I,); they sum to 1, or are 0 where no item is of it.

    >>> speaks = np.array([0, 0, 1])
    >>> of = Grouping(question=np.array([0, 1, 2]), questions=3, dimension=speaks, dimensions=2, by_dimension=True)
    >>> headline_weights(of).tolist()
    [0.25, 0.25, 0.5]
    """
    spoken = grouping.dimension >= 0
    if not grouping.by_dimension:
        _, place, size = np.unique(grouping.question, return_inverse=True, return_counts=True)
        return np.asarray(1 / size[place] / len(size), dtype=np.float64)
    size = np.bincount(grouping.dimension[spoken], minlength=grouping.dimensions)
    weights = np.zeros(len(spoken))
    weights[spoken] = 1 / size[grouping.dimension[spoken]] / (size > 0).sum()
    return weights


def enough(counts: Floats, items: ItemTable, reference: ReferenceTable) -> float:
    """Share of the headline's questions with a reference to which a cell has enough valid answers; nan without any."""
    return _share(counts, items, ~np.isnan(reference.n) & items.grouping.headline)


def _share(counts: Floats, items: ItemTable, known: Bools) -> float:
    asked = np.unique(items.question[known])
    if asked.size == 0:
        return float("nan")
    answered = np.unique(items.question[known & (counts.sum(axis=-1) >= COMPARABLE)])
    return len(answered) / len(asked)


def comparable(counts: Floats, items: ItemTable, reference: ReferenceTable) -> bool:
    """Whether a cell has enough valid answers to half of the headline's questions; else it is compared with none.

    Others do not count, however many were answered: they are no part of the figure that is compared.
    """
    return enough(counts, items, reference) >= 0.5


def answered(counts: Floats, items: ItemTable, reference: ReferenceTable) -> bool:
    """Whether a cell has enough valid answers to half of all questions with a reference, for what is of them all."""
    return _share(counts, items, ~np.isnan(reference.n)) >= 0.5


def compare(counts: Mapping[str, Floats], items: ItemTable, reference: ReferenceTable) -> Compared | None:
    """Bring cells to the same questions and the same number of answers.

    Args:
        counts: cell -> valid answers per item and category, shape (I, K).
        items: the run's items.
        reference: the culture's.

    Returns:
        None where no question of the headline has ``COMPARABLE`` valid answers in every cell.
    """
    totals = np.stack([given.sum(axis=-1) for given in counts.values()])
    common = np.asarray((totals.min(axis=0) >= COMPARABLE) & ~np.isnan(reference.n) & items.grouping.headline)
    if not common.any():
        return None
    known, people, offered = reference.shares[common], reference.n[common], items.offered[common]
    values = np.stack(
        [rarefied_smoothed_kl(given[common], known, people, offered, COMPARABLE) for given in counts.values()]
    )
    return Compared(names=tuple(counts), common=common, values=values, grouping=items.grouping.of(common), n=COMPARABLE)


def pairwise(compared: Compared) -> Floats:
    """Holm-adjusted p of every pair, shape (M, M); 1 on the diagonal."""
    by_question = compared.by_question
    first, second = np.triu_indices(len(by_question), k=1)
    differences = (by_question[first] - by_question[second]).T
    adjusted = holm(sign_flip(differences, np.random.default_rng(SIGNS_SEED)))
    p = np.ones((len(by_question), len(by_question)))
    p[first, second] = p[second, first] = adjusted
    return p


#: Name of a group, its cells, name of another group, its cells.
Plan = tuple[str, Sequence[str], str, Sequence[str]]


def contrasts(compared: Compared, planned: Sequence[Plan]) -> tuple[Contrast, ...]:
    """Test planned contrasts of groups of cells, Holm over all of them.

    Args:
        compared: the cells.
        planned: which groups; cells that were not compared are left out, and so is a contrast of which a group is
            left empty.
    """
    by_question = compared.by_question
    place = {name: at for at, name in enumerate(compared.names)}
    known, columns = [], []
    for first, mine, second, theirs in planned:
        groups = [[place[name] for name in group if name in place] for group in (mine, theirs)]
        if all(groups):
            known.append((first, second))
            columns.append(by_question[groups[0]].mean(axis=0) - by_question[groups[1]].mean(axis=0))
    if not columns:
        return ()
    differences = np.stack(columns, axis=1)
    p = sign_flip(differences, np.random.default_rng(SIGNS_SEED))
    adjusted = holm(p)
    return tuple(
        Contrast(
            first=first,
            second=second,
            difference=float(differences[:, at].sum()),
            p=float(p[at]),
            p_holm=float(adjusted[at]),
            questions=compared.questions,
            n=compared.n,
        )
        for at, (first, second) in enumerate(known)
    )
