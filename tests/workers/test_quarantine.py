"""Quarantine: side by side, or one suspect alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from defsurvey.workers.runner.faults import Quarantine

#: Seconds that something may take which is to happen.
PATIENCE = 10.0
#: Seconds for which is watched that something does not happen.
MOMENT = 0.1


class Taker(threading.Thread):
    """A thread that takes a turn and keeps it until it is told to end it."""

    def __init__(self, turns: Quarantine, *, alone: bool, before: Callable[[], None] = lambda: None) -> None:
        super().__init__(daemon=True)
        self._turns, self._alone, self._before = turns, alone, before
        self.began, self.end = threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        """Take the turn."""
        self._before()
        with self._turns.turn(alone=self._alone):
            self.began.set()
            assert self.end.wait(PATIENCE)

    def finish(self) -> None:
        """End the turn."""
        self.end.set()
        self.join(PATIENCE)
        assert not self.is_alive()


def test_shared_turns_run_side_by_side() -> None:
    """Any number of them."""
    turns = Quarantine()
    takers = [Taker(turns, alone=False) for _ in range(8)]
    assert all(taker.began.wait(PATIENCE) for taker in takers)
    for taker in takers:
        taker.finish()


def test_a_turn_alone_waits_for_those_that_run() -> None:
    """It begins when the last of them has ended, not before."""
    turns = Quarantine()
    first, second = Taker(turns, alone=False), Taker(turns, alone=False)
    assert first.began.wait(PATIENCE)
    assert second.began.wait(PATIENCE)
    alone = Taker(turns, alone=True)
    first.finish()
    assert not alone.began.wait(MOMENT)
    second.finish()
    assert alone.began.wait(PATIENCE)
    alone.finish()


def test_nobody_begins_beside_a_turn_alone() -> None:
    """Neither a shared turn nor another one alone; both come when it has ended."""
    turns = Quarantine()
    alone = Taker(turns, alone=True)
    assert alone.began.wait(PATIENCE)
    others = [Taker(turns, alone=True), Taker(turns, alone=False)]
    assert not any(other.began.wait(MOMENT) for other in others)
    alone.finish()
    for other in others:
        other.end.set()
        assert other.began.wait(PATIENCE)
        other.finish()


def test_a_turn_alone_that_waits_is_not_starved() -> None:
    """No new shared turn begins before it, however many want one."""
    turns = Quarantine()
    running = Taker(turns, alone=False)
    assert running.began.wait(PATIENCE)
    alone = Taker(turns, alone=True)
    while not turns._waiting:
        assert alone.is_alive()
    late = [Taker(turns, alone=False) for _ in range(4)]
    assert not any(taker.began.wait(MOMENT) for taker in late)
    running.finish()
    assert alone.began.wait(PATIENCE)
    assert not any(taker.began.is_set() for taker in late)
    alone.finish()
    for taker in late:
        assert taker.began.wait(PATIENCE)
        taker.finish()


@pytest.mark.parametrize("alone", [False, True])
def test_a_turn_that_fails_is_over(alone: bool) -> None:
    """Whoever waited for it goes on."""
    turns = Quarantine()
    with pytest.raises(LookupError), turns.turn(alone=alone):
        raise LookupError
    with turns.turn(alone=True):
        pass
    with turns.turn(alone=False):
        pass


def test_who_is_alone_is_alone_whatever_the_order() -> None:
    """Sixteen threads take 400 turns, a quarter of them alone: never is anybody beside one of those."""
    turns, present, most = Quarantine(), set[int](), []
    lock = threading.Lock()

    def take(number: int) -> bool:
        alone = number % 4 == 0
        with turns.turn(alone=alone):
            with lock:
                present.add(number)
            together = len(present)
            threading.Event().wait(0.001)
            together = max(together, len(present))
            with lock:
                present.remove(number)
                most.append(together)
        return not alone or together == 1

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(take, range(400)))
    assert max(most) > 1
