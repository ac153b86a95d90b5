"""Which cell of a culture comes closest to its people, compared so that few valid answers do not pay.

Every two cells are compared on the questions where both have enough valid answers, at one number of answers. They share
a place where their difference may be due to these questions or these participants. A cell with too few answers for that
is not ranked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from defsurvey.reports.cells.comparing import COMPARABLE, LEVEL, Pairs, Sample, enough, pairwise
from defsurvey.reports.cells.items import Floats, Ints, ItemTable, ReferenceTable
from defsurvey.reports.cells.respondents import uniform_shares
from defsurvey.reports.metrics.aggregate import headline_mean
from defsurvey.reports.metrics.comparisons import Place, places
from defsurvey.reports.metrics.corrected import expected_corrected_kl

__all__ = ["COMPARABLE", "LEVEL", "Ranking", "rank"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Cells of one culture, closest first; empty where ``reason`` says why."""

    order: tuple[tuple[str, float], ...] = ()  #: name, corrected KL in nats
    places: tuple[Place, ...] = ()  #: of each, ties shared
    p: Floats = field(default_factory=lambda: np.zeros((0, 0)))  #: Holm-adjusted, pairs in the order of ``order``
    unranked: tuple[tuple[str, float], ...] = ()  #: name, share of the headline's questions with enough valid answers
    questions: int = 0  #: that at least two cells share
    shared: Ints = field(default_factory=lambda: np.zeros((0, 0), np.int64))  #: questions that a pair is compared on
    n: int = 0  #: valid answers per question that every cell was brought down to
    people: float = np.nan  #: what n real people would score on those questions
    random: float = np.nan  #: what n respondents who answer at random would score
    reason: str = ""

    @property
    def winner(self) -> str:
        """The cell that holds the first place alone; empty where there is none."""
        return self.order[0][0] if self.order and self.places[0].last == 1 else ""

    @property
    def apart(self) -> NDArray[np.bool_]:
        """Which pairs are told apart, shape (M, M)."""
        return np.asarray(self.p < LEVEL)


def rank(samples: Mapping[str, Sample], items: ItemTable, reference: ReferenceTable) -> Ranking:
    """Order cells by corrected KL over the headline's questions, every two on those that they share, at equal n.

    Args:
        samples: by cell.
        items: the run's items.
        reference: the culture's.
    """
    if len(samples) < 2:
        return Ranking(reason="there is one cell: nothing to compare")
    if np.isnan(reference.n).all():
        return Ranking(reason="no question has a reference")
    if np.isnan(reference.n[items.grouping.headline]).all():
        return Ranking(reason="no question of a value dimension has a reference")
    covered = {name: enough(sample.counts, items, reference) for name, sample in samples.items()}
    eligible = {name: samples[name] for name, share in covered.items() if share >= 0.5}
    unranked = tuple((name, share) for name, share in covered.items() if name not in eligible)
    if not eligible:
        return Ranking(
            unranked=unranked,
            reason=f"no cell has {COMPARABLE} valid answers to at least half of the questions behind the mean",
        )
    if len(eligible) < 2:
        return Ranking(
            unranked=unranked,
            reason=f"only one cell has {COMPARABLE} valid answers to at least half of the questions behind the mean",
        )
    pairs = pairwise(eligible, items, reference)
    if pairs is None:
        return Ranking(unranked=unranked, reason=f"no question has {COMPARABLE} valid answers in any two cells")
    return _ranked(pairs, items, reference, unranked)


def _ranked(
    pairs: Pairs, items: ItemTable, reference: ReferenceTable, unranked: tuple[tuple[str, float], ...]
) -> Ranking:
    figures, compared = pairs.figures, pairs.items
    order = sorted(range(len(figures)), key=lambda place: (figures[place], pairs.names[place]))
    p = pairs.p[np.ix_(order, order)]
    grouping = items.grouping.of(compared)

    def expected(source: Floats) -> float:
        people = reference.shares[compared], reference.n[compared]
        values = expected_corrected_kl(source[compared], *people, items.offered[compared], pairs.n)
        return float(headline_mean(values, grouping))

    return Ranking(
        order=tuple((pairs.names[place], float(figures[place])) for place in order),
        places=places([float(figures[place]) for place in order], p < LEVEL),
        p=p,
        unranked=unranked,
        questions=len(np.unique(grouping.question)),
        shared=pairs.questions[np.ix_(order, order)],
        n=pairs.n,
        people=expected(reference.shares),
        random=expected(uniform_shares(items)),
    )
