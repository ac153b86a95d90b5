"""How many requests are let through, as the server bears more or less."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager

import pytest

from defsurvey.workers.engines.api import Pace
from defsurvey.workers.engines.http import Retryable, wait_asked


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def overload(pace: Pace, clock: Clock, wait: float | None = None) -> None:
    """One turn, later than all before, that meets an overloaded server."""
    clock.now += 1.0
    with pytest.raises(Retryable), pace.turn():
        raise Retryable("too much", overloaded=True, wait=wait)


def end_overloaded(turn: AbstractContextManager[None], wait: float | None = None) -> None:
    """End a turn that was begun earlier; what it met is not swallowed."""
    failure = Retryable("too much", overloaded=True, wait=wait)
    assert not turn.__exit__(Retryable, failure, None)


def held_at_most(pace: Pace) -> int:
    """How many of a hundred that want a turn at once get one."""
    done = threading.Event()
    holding = threading.Semaphore(0)

    def hold() -> None:
        try:
            with pace.turn():
                holding.release()
                done.wait(10)
        except CancelledError:
            return

    threads = [threading.Thread(target=hold, daemon=True) for _ in range(100)]
    for thread in threads:
        thread.start()
    count = 0
    while holding.acquire(timeout=0.2):
        count += 1
    pace.close()
    done.set()
    for thread in threads:
        thread.join(10)
    return count


@pytest.mark.parametrize(("overloads", "held"), [(0, 12), (1, 6), (2, 3), (3, 1), (9, 1)])
def test_each_overload_halves_what_is_let_through(overloads: int, held: int) -> None:
    """Down to one at a time, never to none."""
    clock = Clock()
    pace = Pace(12, clock=clock)
    for _ in range(overloads):
        overload(pace, clock)
    assert pace.limit == held
    assert held_at_most(pace) == held


def test_a_burst_of_refusals_counts_once() -> None:
    """Twelve that were under way together tell one thing."""
    clock = Clock()
    pace = Pace(12, clock=clock)
    turns = [pace.turn() for _ in range(12)]
    for turn in turns:
        turn.__enter__()
    clock.now += 1.0
    for turn in turns:
        end_overloaded(turn)
    assert pace.limit == 6


def test_what_goes_well_lets_one_more_through_per_round() -> None:
    """From 6, six good ends make 7; back at the most it stays there."""
    clock = Clock()
    pace = Pace(12, clock=clock)
    overload(pace, clock)
    for _ in range(7):
        with pace.turn():
            pass
    assert pace.limit == 7
    for _ in range(200):
        with pace.turn():
            pass
    assert pace.limit == 12


def test_the_longest_wait_holds_for_all_and_closing_ends_it() -> None:
    """A later, shorter one does not shorten it."""
    pace = Pace(4)
    long, short = pace.turn(), pace.turn()
    long.__enter__()
    short.__enter__()
    end_overloaded(long, wait=30.0)
    end_overloaded(short, wait=0.01)
    refused = threading.Event()

    def want() -> None:
        try:
            with pace.turn():
                return
        except CancelledError:
            refused.set()

    thread = threading.Thread(target=want, daemon=True)
    thread.start()
    assert not refused.wait(0.2)
    assert thread.is_alive()
    pace.close()
    assert refused.wait(1.0)
    with pytest.raises(CancelledError), pace.turn():
        pass


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "60", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Mon, 01 Jan 2024 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_what_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    """Milliseconds go first; what cannot be read or is past asks for nothing."""
    assert wait_asked(headers) == seconds
