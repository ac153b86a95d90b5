"""DEF, the Diversity-Enhanced Framework (paper, section 4.3): drawn places, decodings and memories."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.random import Generator

from defsurvey.storage.runs.run import Condition, MemoryOrder
from defsurvey.workers.engines.base import Message
from defsurvey.workers.simulation.draws import PRESETS, substream
from defsurvey.workers.simulation.methods.method import Found, Method, Posed, Remembered, remembered
from defsurvey.workers.simulation.prompts import conversation


class Def(Method):
    """The model answers as a citizen, with the axes that the condition switches on."""

    name = "def"
    draws_decoding = True

    def conditions(self) -> tuple[Condition, ...]:
        """DEF, DEF without any of its axes, and the paper's three ablations."""
        return (
            Condition(name="def"),
            Condition(name="none", prompt=False, config=False, memory=False, option_order=False),
            Condition(name="def-without-prompt", prompt=False),
            Condition(name="def-without-config", config=False),
            Condition(name="def-without-memory", memory=False),
        )

    def messages(self, posed: Posed) -> tuple[Message, ...]:
        """The remembered requests and answers, then the prompt."""
        turns = [turn for entry in posed.memory for turn in (entry.request, entry.answer)]
        return conversation(*turns, self.text(posed))

    def remember(self, posed: Posed, found: Found) -> tuple[Remembered, ...]:
        """What was remembered and the new answer, if it is valid; above the capacity, as many of them as it holds."""
        if posed.draws.memory_capacity == 0:
            return ()
        (answer,) = found.answers
        entries = {entry.item: entry for entry in posed.memory}
        if answer.remembered is not None:
            entries[posed.item] = remembered(posed, answer.remembered)
        kept = remember(
            answer.memory,
            None if answer.remembered is None else posed.item,
            capacity=posed.draws.memory_capacity,
            with_replacement=PRESETS[posed.protocol.preset].with_replacement,
            order=posed.protocol.memory_order,
            rng=substream(posed.protocol.seed, "memory", posed.index, posed.question.id),
        )
        return tuple(entries[item] for item in kept)


def remember(
    memory: tuple[int, ...],
    item: int | None,
    *,
    capacity: int,
    with_replacement: bool,
    order: MemoryOrder,
    rng: Generator,
) -> tuple[int, ...]:
    """The memory after an item, at most ``capacity`` entries (paper, Algorithm 1, memory modification).

    ``item`` is None where it got no valid answer and is not remembered. Entries above capacity are drawn without
    replacement, as the paper says, or with it, as the published code does, so that one can stay twice.

    >>> import numpy as np
    >>> remember((0, 2), 3, capacity=5, with_replacement=False, order=MemoryOrder.DRAWN, rng=np.random.default_rng(1))
    (0, 2, 3)
    """
    kept: Sequence[int] = memory if item is None else (*memory, item)
    if len(kept) > capacity:
        count = len(kept)
        drawn = rng.integers(count, size=capacity) if with_replacement else rng.permutation(count)[:capacity]
        kept = [kept[position] for position in drawn]
    return tuple(sorted(kept) if order is MemoryOrder.CHRONOLOGICAL else kept)
