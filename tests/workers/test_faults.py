"""What a worker does with faults: it counts them against who was asked, waits out outages, asks suspects alone."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox
from defsurvey.storage.runs.recovery import QUARANTINE_AFTER
from defsurvey.storage.runs.store import OtherEngine
from defsurvey.workers.models import ModelError
from defsurvey.workers.runner import faults as patience
from defsurvey.workers.runner import participant_runner as stages
from defsurvey.workers.runner.faults import GaveUp, Quarantine, patiently
from defsurvey.workers.runner.participant_runner import Outcome, ParticipantRunner
from tests.workers.working import add_run, make_stage, respondent, rows

STANDING = "SELECT status, deaths, lease_owner, published_at FROM participant ORDER BY id"


@pytest.fixture(autouse=True)
def run(database: Database) -> None:
    add_run(database)


@pytest.fixture
def failing(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Exception], ParticipantRunner]]:
    """Makes a stage that fails whenever it is to ask the first participant."""
    made = make_stage(database, {"quick": respondent("quick")}, [])
    interview = stages.interview

    def failing_with(error: Exception) -> ParticipantRunner:
        def asked(asking: Any, **options: Any) -> Any:
            if asking.participant.id == 1:
                raise error
            return interview(asking, **options)

        monkeypatch.setattr(stages, "interview", asked)
        return made

    yield failing_with
    made.close()


@pytest.mark.parametrize("error", [ValueError("too many digits"), DataError("", {}, ValueError("out of range"))])
def test_who_cannot_be_asked_is_set_aside_and_the_run_goes_on(
    database: Database,
    failing: Callable[[Exception], ParticipantRunner],
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """Each attempt tells the error; the last one also that the participant is set aside."""
    stage = failing(error)
    for attempt in range(QUARANTINE_AFTER):
        assert rows(database, STANDING)[0] == ("open", attempt, None, None)
        with pytest.raises(type(error)):
            stage.simulate(1)
    assert rows(database, STANDING)[0] == ("quarantined", QUARANTINE_AFTER, None, None)
    assert f"participant 1 is set aside, 3 attempts to ask it failed: {type(error).__name__}: " in caplog.text
    assert stage.simulate(1) is Outcome.NOT_CLAIMED
    assert stage.simulate(2) is Outcome.FINISHED
    assert outbox.unfinished(database, "r") == 0


@pytest.mark.parametrize(
    "error",
    [OtherEngine("others"), ModelError("no card"), ProgrammingError("", {}, ValueError()), OSError(), MemoryError()],
)
def test_an_error_that_says_nothing_of_the_participant_is_not_counted(
    database: Database, failing: Callable[[Exception], ParticipantRunner], error: Exception
) -> None:
    """However often it comes: weights, cards, schema and machine are put right by hand; everybody is asked then."""
    stage = failing(error)
    for _ in range(QUARANTINE_AFTER + 1):
        with pytest.raises(type(error)):
            stage.simulate(1)
    assert rows(database, STANDING)[0] == ("open", 0, None, None)


# Outages are waited out with what is in hand; anything else is told at once.


class Waits:
    """Stands for the event that tells to stop, and notes how long each wait would have been."""

    def __init__(self, *, stop_at: int | None = None) -> None:
        self.seconds: list[float] = []
        self._stop_at = stop_at

    def wait(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        return len(self.seconds) == self._stop_at


def outage(times: int, error: Exception) -> Callable[[], str]:
    left = [times]

    def work() -> str:
        if left[0]:
            left[0] -= 1
            raise error
        return "done"

    return work


OUTAGES = [
    OperationalError("UPDATE", {}, psycopg.errors.AdminShutdown("terminating connection")),
    InterfaceError("UPDATE", {}, sqlite3.InterfaceError("the connection is closed")),
    PoolTimeout("QueuePool limit reached"),
]


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: str(getattr(error, "orig", error)))
def test_work_is_done_as_soon_as_the_outage_is_over(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.001)
    assert patiently(outage(3, error), stopping=threading.Event()) == "done"


def test_pauses_grow_to_a_limit() -> None:
    waits = Waits()
    patiently(outage(10, OUTAGES[0]), stopping=waits)  # type: ignore[arg-type]  # only ever waited on
    assert waits.seconds == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 15.0]


def test_what_does_not_pass_by_itself_is_told_at_once() -> None:
    waits = Waits()
    with pytest.raises(IntegrityError):
        patiently(outage(1, IntegrityError("INSERT", {}, ValueError("UNIQUE"))), stopping=waits)  # type: ignore[arg-type]
    assert waits.seconds == []


def test_whoever_is_told_to_stop_gives_up_and_saves_what_can_be_saved() -> None:
    """The wait is interrupted, and the outage is named as the cause; only an outage keeps work from being done."""
    with pytest.raises(GaveUp) as caught:
        patiently(outage(9, OUTAGES[0]), stopping=Waits(stop_at=2))  # type: ignore[arg-type]
    assert caught.value.__cause__ is OUTAGES[0]
    assert patiently(outage(0, OUTAGES[0]), stopping=Waits(stop_at=1)) == "done"  # type: ignore[arg-type]


# Quarantine: side by side, or one suspect alone.


#: Seconds that something may take which is to happen.
PATIENCE = 10.0
#: Seconds for which is watched that something does not happen.
MOMENT = 0.1


def test_a_turn_alone_that_waits_is_not_starved() -> None:
    turns, begun, let_go = Quarantine(), list[str](), threading.Event()

    def take(name: str) -> None:
        with turns.turn(alone=name == "alone"):
            begun.append(name)
            assert let_go.wait(PATIENCE)

    with ThreadPoolExecutor(5) as pool:
        taken = [pool.submit(take, "shared")]
        while not begun:
            assert not taken[0].done()
        taken.append(pool.submit(take, "alone"))
        while not turns._waiting:
            assert not taken[1].done()
        taken += [pool.submit(take, "late") for _ in range(3)]
        assert not let_go.wait(MOMENT)
        let_go.set()
        assert [each.result(PATIENCE) for each in taken] == 5 * [None]
    assert begun == ["shared", "alone", "late", "late", "late"]


def test_who_is_alone_is_alone_whatever_the_order() -> None:
    """Sixteen threads take 400 turns, a quarter of them alone: never is anybody beside one of those.

    A turn that fails is over as any other.
    """
    turns, present, most = Quarantine(), set[int](), []
    lock = threading.Lock()

    def take(number: int) -> bool:
        alone = number % 4 == 0
        with suppress(LookupError), turns.turn(alone=alone):
            with lock:
                present.add(number)
            together = len(present)
            threading.Event().wait(0.001)
            together = max(together, len(present))
            with lock:
                present.remove(number)
                most.append(together)
            raise LookupError
        return not alone or together == 1

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(take, range(400)))
    assert max(most) > 1
