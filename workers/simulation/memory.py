"""What a participant remembers of the questions it has answered.

A memory is a tuple of positions in the participant's own question order, in the order in which they are shown; the
words of an entry are built elsewhere (``workers.simulation.prompts`` and ``workers.simulation.answer_parser``).
"""

from __future__ import annotations

from numpy.random import Generator

from defsurvey.storage.runs.run import MemoryOrder


def remember(
    memory: tuple[int, ...],
    item: int | None,
    *,
    capacity: int,
    with_replacement: bool,
    order: MemoryOrder,
    rng: Generator,
) -> tuple[int, ...]:
    """The memory after an item (paper, Algorithm 1, memory modification).

    Args:
        memory: items remembered when the question was asked.
        item: its position, or None where it got no valid answer and is not remembered.
        capacity: most entries that may stay, 0 or more.
        with_replacement: entries above capacity are drawn with replacement, as the
            published code does, so that one can stay twice; else as the paper says, each at most once.
        order: ``drawn`` leaves the entries as they fell; ``chronological`` sorts them.
        rng: drawn from only where something must be forgotten.

    Returns:
        At most ``capacity`` items in the order in which they will be shown.

    >>> import numpy as np
    >>> remember((0, 2), 3, capacity=5, with_replacement=False, order=MemoryOrder.DRAWN, rng=np.random.default_rng(1))
    (0, 2, 3)
    """
    kept = memory if item is None else (*memory, item)
    if len(kept) > capacity:
        count = len(kept)
        drawn = rng.integers(count, size=capacity) if with_replacement else rng.permutation(count)[:capacity]
        kept = tuple(kept[position] for position in drawn)
    if order is MemoryOrder.CHRONOLOGICAL:
        kept = tuple(sorted(kept))
    return kept
