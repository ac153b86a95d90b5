"""Which cell of a culture comes closest to its people, compared so that few valid answers do not pay.

Knows counts by item. Deliberately makes no test: a rank is the order of the figures, and whether a
gap is more than chance is for the reader to see in the intervals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reports.items import Floats, ItemTable, ReferenceTable
from reports.metrics.aggregate import headline_mean
from reports.metrics.floor import rarefied_smoothed_kl, respondents
from reports.respondents import uniform_shares

#: Fewest valid answers to a question with which it enters a comparison.
COMPARABLE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Cells of one culture, closest first; empty where ``reason`` says why."""

    order: tuple[tuple[str, float], ...] = ()  #: name, rarefied smoothed KL in nats
    questions: int = 0  #: questions compared
    n: int = 0  #: valid answers per question that every cell was brought down to
    people: float = np.nan  #: what n real people would score on those questions
    random: float = np.nan  #: what n respondents who answer at random would score
    reason: str = ""


def rank(counts: Mapping[str, Floats], items: ItemTable, reference: ReferenceTable) -> Ranking:
    """Order cells by smoothed KL over the questions where all have enough valid answers, at equal n.

    Args:
        counts: cell -> valid answers per item and category, shape (I, K).
        items: the run's items.
        reference: the culture's.
    """
    if len(counts) < 2:
        return Ranking(reason="there is one cell: nothing to compare")
    totals = np.stack([given.sum(axis=-1) for given in counts.values()])
    common = (totals.min(axis=0) >= COMPARABLE) & ~np.isnan(reference.n)
    if not common.any():
        return Ranking(reason=f"no question has {COMPARABLE} valid answers in every cell compared")
    n = int(totals[:, common].min())
    grouping = items.grouping.of(common)

    def expected(source: Floats) -> float:
        values = respondents(source[common], reference.shares[common], reference.n[common], items.offered[common], n)
        return float(headline_mean(values.smoothed_kl, grouping))

    def rarefied(given: Floats) -> float:
        values = rarefied_smoothed_kl(
            given[common], reference.shares[common], reference.n[common], items.offered[common], n
        )
        return float(headline_mean(values, grouping))

    found = {name: rarefied(given) for name, given in counts.items()}
    return Ranking(
        order=tuple(sorted(found.items(), key=lambda pair: (pair[1], pair[0]))),
        questions=len(set(items.question[common].tolist())),
        n=n,
        people=expected(reference.shares),
        random=expected(uniform_shares(items)),
    )
