"""Memory: what stays, what is forgotten, and in which order it is shown."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from defsurvey.storage.runs.run import MemoryOrder
from defsurvey.workers.simulation.methods.def_ import remember

DRAWN, CHRONOLOGICAL = MemoryOrder.DRAWN, MemoryOrder.CHRONOLOGICAL


def _remember(
    memory: tuple[int, ...],
    item: int | None,
    capacity: int,
    *,
    with_replacement: bool = False,
    order: MemoryOrder = DRAWN,
    seed: int = 0,
) -> tuple[int, ...]:
    rng = np.random.default_rng(seed)
    return remember(memory, item, capacity=capacity, with_replacement=with_replacement, order=order, rng=rng)


@pytest.mark.parametrize("with_replacement", [False, True])
def test_below_capacity_everything_stays(with_replacement: bool) -> None:
    """An answer is put behind the others; nothing is drawn, so the generator is not touched."""
    rng = np.random.default_rng(3)
    kept = remember((4, 1), 6, capacity=3, with_replacement=with_replacement, order=DRAWN, rng=rng)
    assert kept == (4, 1, 6)
    assert rng.integers(2**62) == np.random.default_rng(3).integers(2**62)


def test_what_was_not_answered_is_not_remembered() -> None:
    """Without a valid answer the memory stays as it was."""
    assert _remember((4, 1), None, 15) == (4, 1)


@pytest.mark.parametrize("with_replacement", [False, True])
def test_no_capacity_no_memory(with_replacement: bool) -> None:
    """Capacity 0 keeps nothing, whatever was there."""
    assert _remember((), 0, 0, with_replacement=with_replacement) == ()
    assert _remember((1, 2, 3), None, 0, with_replacement=with_replacement) == ()


def test_above_capacity_the_paper_keeps_each_entry_at_most_once_and_all_alike() -> None:
    """Without replacement, in drawn order: each of the 24 ordered selections of 3 of 4 is as likely."""
    kept = Counter(_remember((0, 1, 2), 3, 3, seed=seed) for seed in range(4800))
    assert len(kept) == 24
    assert all(len(set(memory)) == 3 for memory in kept)
    assert chisquare(list(kept.values())).pvalue > 0.001


def test_above_capacity_the_published_code_can_keep_an_entry_twice() -> None:
    """With replacement: each of the 64 sequences of 3 of 4 is as likely, those with repetitions included."""
    kept = Counter(_remember((0, 1, 2), 3, 3, with_replacement=True, seed=seed) for seed in range(6400))
    assert len(kept) == 64
    assert chisquare(list(kept.values())).pvalue > 0.001


def test_a_smaller_capacity_forgets_even_without_a_new_answer() -> None:
    """Where the capacity is drawn per question it can fall below what is remembered."""
    kept = _remember((5, 6, 7, 8), None, 2)
    assert len(kept) == 2
    assert set(kept) <= {5, 6, 7, 8}


@given(
    st.lists(st.integers(0, 50), unique=True, max_size=20),
    st.integers(0, 20),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_chronological_memory_is_the_drawn_one_sorted(
    memory: list[int], capacity: int, with_replacement: bool, seed: int
) -> None:
    """The order of showing changes nothing about what is kept; no more than the capacity stays."""
    drawn = _remember(tuple(memory), 51, capacity, with_replacement=with_replacement, seed=seed)
    shown = _remember(tuple(memory), 51, capacity, with_replacement=with_replacement, seed=seed, order=CHRONOLOGICAL)
    assert list(shown) == sorted(drawn)
    assert len(drawn) == min(capacity, len(memory) + 1)
    assert set(drawn) <= {*memory, 51}
