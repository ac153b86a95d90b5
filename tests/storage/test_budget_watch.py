"""What may still be spent: known in time, and not summed up for every answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from defsurvey.storage.runs.budget import BudgetWatch


class Money:
    """A budget of which every sum is counted; time stands still unless it is told to pass."""

    def __init__(self, left: float | None) -> None:
        self.left = left
        self.sums = 0
        self.now = 0.0
        self.watch = BudgetWatch(self._sum, lambda: self.now)

    def _sum(self) -> float | None:
        self.sums += 1
        return self.left

    def spend(self, answers: int, cost: Callable[[int], float] = lambda _: 1.0) -> int:
        """Pay for one answer after the other as long as there is money. Returns how many it was."""
        for number in range(answers):
            if self.watch.is_spent():
                return number
            if self.left is not None:
                self.left -= cost(number)
        return answers


@pytest.mark.parametrize("budget", [0.5, 1.0, 7.0, 10_000.0])
def test_a_budget_is_spent_to_the_last_answer_and_summed_up_rarely(budget: float) -> None:
    """No answer is asked for that nothing is left for; ten thousand take no more sums than a few dozen."""
    money = Money(budget)
    assert money.spend(20_000) == max(1, int(budget))
    assert money.sums < 60


def test_answers_that_become_dearer_are_noticed_in_time() -> None:
    """Four times as dear from one to the next."""
    money = Money(10_000.0)
    money.spend(20_000, lambda number: 1.0 if number < 5_000 else 4.0)
    assert money.left is not None
    assert -4.0 < money.left <= 0


def test_what_others_spend_is_seen_within_a_second() -> None:
    """And so is a budget that is raised, or given."""
    money = Money(10_000.0)
    assert money.spend(100) == 100
    money.left = -1.0
    assert not money.watch.is_spent()
    money.now += 1.0
    assert money.watch.is_spent()
    money.left = 5.0
    assert not money.watch.is_spent()
    money.left = None
    assert not money.watch.is_spent()
    sums = money.sums
    assert money.spend(1_000) == 1_000
    assert money.sums == sums
    money.left, money.now = 0.0, money.now + 1.0
    assert money.watch.is_spent()
