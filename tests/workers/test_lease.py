"""Leases: held as long as somebody works, lost when they are taken, and told to the world."""

import threading
from contextlib import ExitStack

import pytest

from defsurvey.storage.database import Database
from defsurvey.storage.runs import store
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.run import Participant
from defsurvey.workers.runner.lease import Leases
from tests.workers.working import add_run, change, rows


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def run(database: Database) -> None:
    add_run(database)


def until(database: Database, who: int) -> float:
    return float(rows(database, f"SELECT lease_until FROM participant WHERE id = {who}")[0][0])


def claimed(database: Database, ttl: float = 90.0) -> tuple[Leases, Participant]:
    """The leases of a process, and a participant that it has claimed and does not hold yet."""
    leases = Leases(Ledger(database, owner="here:1:a", ttl=ttl))
    held = leases.ledger.claim(1)
    assert held is not None
    return leases, held


def test_a_lease_is_renewed_while_it_is_held_and_not_afterwards(database: Database) -> None:
    leases, held = claimed(database)
    change(database, "UPDATE participant SET lease_until = lease_until - 60")
    before = until(database, 1)
    with leases.hold(held):
        assert (len(leases.holding()), leases.holding()) == (1, [held])
        leases.renew()
        assert until(database, 1) > before + 50
    after = until(database, 1)
    leases.renew()
    assert (len(leases.holding()), until(database, 1)) == (0, after)


def test_a_cancelled_run_loses_its_leases_and_a_new_claim_forgets_it(database: Database) -> None:
    leases, held = claimed(database)
    store.cancel(database, "r")
    with leases.hold(held):
        leases.renew()
        assert leases.lost(held)
    with leases.hold(held):
        assert not leases.lost(held)


def test_a_participant_that_is_taken_up_again_is_held_though_the_claim_before_ends(database: Database) -> None:
    """A rewind frees it while it is asked, and the same process claims it: each claim is held and lost by itself."""
    leases, before = claimed(database)
    with ExitStack() as afterwards:
        with leases.hold(before):
            change(database, "UPDATE participant SET lease_until = 1, lease_epoch = lease_epoch + 1")  # as rewinds do
            now = leases.ledger.claim(1)
            assert now is not None
            afterwards.enter_context(leases.hold(now))
            leases.renew()
            assert (leases.lost(before), leases.lost(now), len(leases.holding())) == (True, False, 2)
        assert leases.holding() == [now]
        change(database, "UPDATE participant SET lease_until = lease_until - 60")
        nearly_over = until(database, 1)
        leases.renew()
        assert until(database, 1) > nearly_over + 50
    assert len(leases.holding()) == 0


def test_a_beat_tells_the_model_and_how_fast_it_goes(database: Database) -> None:
    """Answers of the last minute are counted, per run, from when the run could be asked: not while a model loads."""
    clock = Clock()
    leases = Leases(Ledger(database, owner="here:1:a"), clock=clock)
    leases.model = "quick"
    told: list[str] = []

    def beat_after(seconds: float) -> None:
        clock.now += seconds
        leases.beat()
        told.extend(rates for (rates,) in rows(database, "SELECT rates FROM worker"))

    for run in ("r", "r", "r", "other"):
        leases.count(run)
    for seconds in (2.0, 4.0, 60.0):
        beat_after(seconds)
    leases.begin("r")
    for run in ("r", "r"):
        leases.begin(run)
        leases.count(run)
    beat_after(4.0)
    assert told == ['{"r": 1.5, "other": 0.5}', '{"r": 0.5, "other": 0.16666666666666666}', "{}", '{"r": 0.5}']
    assert rows(database, "SELECT owner, model FROM worker") == [("here:1:a", "quick")]


def test_the_thread_beats_renews_and_leaves(database: Database) -> None:
    leases, held = claimed(database, ttl=2.0)
    first = until(database, 1)
    with leases.hold(held):
        leases.start()
        waited = threading.Event()
        while until(database, 1) <= first + 0.5:
            assert not waited.wait(0.05)
        assert Ledger(database, owner="there:2:b").claim(1) is None
        assert rows(database, "SELECT owner FROM worker") == [("here:1:a",)]
    leases.stop()
    assert rows(database, "SELECT owner FROM worker") == []
