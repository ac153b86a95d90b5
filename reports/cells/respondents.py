"""Simple respondents to put beside a model: what would they score?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from defsurvey.reports.cells.items import Floats, ItemTable, ReferenceTable
from defsurvey.reports.metrics.aggregate import headline_mean
from defsurvey.reports.metrics.floor import respondents


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What n simple respondents would score on average against one culture, smoothed KL in nats."""

    name: str
    n: int
    mean: float  #: the headline mean; nan where the culture has no reference


def uniform_shares(items: ItemTable) -> Floats:
    """Uniform answers: every option alike; of a list of k options, 1 to the maximum, each number alike.

    Returns:
        Shape (I, K).
    """
    shares = items.offered / items.offered.sum(axis=-1, keepdims=True)
    for item in np.flatnonzero(~items.whole):
        question = items.questions[items.question[item]]
        chosen = (1 + min(question.max_choices, len(question.options))) / 2 / len(question.options)
        shares[item, :2] = 1 - chosen, chosen
    return np.asarray(shares, dtype=np.float64)


def mode_shares(reference: ReferenceTable) -> Floats:
    """Always gives the commonest answer (of a list: the options that more than half chose); ties are split."""
    highest = reference.shares == np.nanmax(reference.shares, axis=-1, keepdims=True, initial=-1.0)
    shares = highest / np.maximum(highest.sum(axis=-1, keepdims=True), 1)
    return np.where(np.isnan(reference.shares), np.nan, shares)


def control(name: str, source: Floats, items: ItemTable, reference: ReferenceTable, n: int) -> Control:
    """What n respondents who answer by ``source`` (I, K) score against a reference."""
    values = respondents(source, reference.shares, reference.n, items.offered, n).smoothed_kl
    return Control(name=name, n=n, mean=float(headline_mean(values, items.grouping)))


def controls(
    items: ItemTable,
    reference: ReferenceTable,
    others: dict[str, ReferenceTable],
    *,
    people: str,
    n: int,
) -> tuple[Control, ...]:
    """All respondents for one culture: n of its own people, uniform answers, its mode, and people of other cultures.

    Args:
        items: the run's items.
        reference: the culture's own.
        others: name of another culture -> what its people answered.
        people: name of this culture.
        n: respondents, as many as the cells of this culture have answers to a question.
    """
    sources = [
        (f"{n} people of {people}" if n > 1 else f"1 person of {people}", reference.shares),
        ("uniform answers", uniform_shares(items)),
        ("always the commonest answer", mode_shares(reference)),
        *((f"people of {name}", other.shares) for name, other in others.items()),
    ]
    return tuple(control(name, source, items, reference, n) for name, source in sources)
