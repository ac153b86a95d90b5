"""Outages are waited out with what is in hand; anything else is told at once."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from defsurvey.workers.runner import faults as patience
from defsurvey.workers.runner.faults import GaveUp, patiently


class Waits:
    """Stands for the event that tells to stop, and notes how long each wait would have been."""

    def __init__(self, *, stop_at: int | None = None) -> None:
        self.seconds: list[float] = []
        self._stop_at = stop_at

    def wait(self, seconds: float) -> bool:
        """Note a wait; True at the one that is to be interrupted."""
        self.seconds.append(seconds)
        return len(self.seconds) == self._stop_at


def failing(times: int, error: Exception) -> Callable[[], str]:
    """Work that fails so many times and then is done."""
    left = [times]

    def work() -> str:
        if left[0]:
            left[0] -= 1
            raise error
        return "done"

    return work


OUTAGES = [
    OperationalError("UPDATE", {}, psycopg.OperationalError("the connection is lost")),
    OperationalError("UPDATE", {}, psycopg.errors.AdminShutdown("terminating connection")),
    OperationalError("UPDATE", {}, sqlite3.OperationalError("database or disk is full")),
    OperationalError("UPDATE", {}, sqlite3.OperationalError("database is locked")),
    InterfaceError("UPDATE", {}, sqlite3.InterfaceError("the connection is closed")),
    PoolTimeout("QueuePool limit reached"),
]


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: str(getattr(error, "orig", error)))
def test_work_is_done_as_soon_as_the_outage_is_over(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Server gone, stopping, disk full, file locked, no connection left: it is tried until it is done."""
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.001)
    assert patiently(failing(3, error), stopping=threading.Event()) == "done"


def test_pauses_grow_to_a_limit() -> None:
    """A quarter of a second first, then twice as long each time, never longer than the last pause."""
    waits = Waits()
    patiently(failing(10, OUTAGES[0]), stopping=waits)  # type: ignore[arg-type]  # only ever waited on
    assert waits.seconds == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 15.0]


@pytest.mark.parametrize(
    "error",
    [
        IntegrityError("INSERT", {}, sqlite3.IntegrityError("UNIQUE constraint failed")),
        ProgrammingError("SELECT", {}, psycopg.errors.UndefinedTable("no such table")),
        LookupError("something else"),
    ],
    ids=["integrity", "programming", "lookup"],
)
def test_what_does_not_pass_by_itself_is_told_at_once(error: Exception) -> None:
    """A defect is no outage."""
    waits = Waits()
    with pytest.raises(type(error)):
        patiently(failing(1, error), stopping=waits)  # type: ignore[arg-type]
    assert waits.seconds == []


def test_whoever_is_told_to_stop_gives_up() -> None:
    """The wait is interrupted, and the outage is named as the cause."""
    with pytest.raises(GaveUp) as caught:
        patiently(failing(9, OUTAGES[0]), stopping=Waits(stop_at=2))  # type: ignore[arg-type]
    assert caught.value.__cause__ is OUTAGES[0]


def test_giving_up_takes_no_longer_than_the_attempt_in_hand() -> None:
    """In the middle of a long pause, the word to stop is heard at once."""
    stopping = threading.Event()
    threading.Timer(0.1, stopping.set).start()
    began = time.monotonic()
    with pytest.raises(GaveUp):
        patiently(failing(100, OUTAGES[0]), stopping=stopping)
    assert time.monotonic() - began < patience.FIRST_PAUSE


def test_what_can_be_done_is_done_even_when_told_to_stop() -> None:
    """The completion in hand is saved: only an outage keeps it from being so."""
    stopping = threading.Event()
    stopping.set()
    assert patiently(failing(0, OUTAGES[0]), stopping=stopping) == "done"
