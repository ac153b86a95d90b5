"""Leases: held as long as somebody works, lost when they are taken, and told to the world."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from defsurvey.storage.database import Database
from defsurvey.storage.runs import store
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.workers.runner.lease import Leases
from tests.workers.working import add_run, change, rows


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The present second."""
        return self.now


@pytest.fixture(autouse=True)
def run(database: Database) -> None:
    """A run of two participants."""
    add_run(database)


def until(database: Database, who: int) -> float:
    """When a participant's lease runs out."""
    return float(rows(database, f"SELECT lease_until FROM participant WHERE id = {who}")[0][0])


def test_a_lease_is_renewed_while_it_is_held_and_not_afterwards(database: Database) -> None:
    """The block's end ends the heartbeat, whatever became of the participant."""
    ledger = Ledger(database, owner="here:1:a")
    leases = Leases(ledger)
    held = ledger.claim(1)
    assert held is not None
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
    """What is held again is not lost any more."""
    ledger = Ledger(database, owner="here:1:a")
    leases = Leases(ledger)
    held = ledger.claim(2)
    assert held is not None
    store.cancel(database, "r")
    with leases.hold(held):
        leases.renew()
        assert leases.lost(held)
    with leases.hold(held):
        assert not leases.lost(held)


def test_a_participant_that_is_taken_up_again_is_held_though_the_claim_before_ends(database: Database) -> None:
    """A rewind frees it while it is asked, and the same process claims it: each claim is held and lost by itself."""
    ledger = Ledger(database, owner="here:1:a")
    leases = Leases(ledger)
    before = ledger.claim(1)
    assert before is not None
    with ExitStack() as afterwards:
        with leases.hold(before):
            change(database, "UPDATE participant SET lease_until = 1, lease_epoch = lease_epoch + 1")  # as rewinds do
            now = ledger.claim(1)
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
    """Answers of the last minute are counted, per run; before there was a minute, those since the beginning."""
    clock = Clock()
    leases = Leases(Ledger(database, owner="here:1:a"), clock=clock)
    leases.model = "quick"
    for run in ("r", "r", "r", "other"):
        leases.count(run)
    clock.now += 2.0
    leases.beat()
    assert rows(database, "SELECT owner, model, rates FROM worker") == [
        ("here:1:a", "quick", '{"r": 1.5, "other": 0.5}')
    ]
    clock.now += 4.0
    leases.beat()
    assert rows(database, "SELECT rates FROM worker") == [('{"r": 0.5, "other": 0.16666666666666666}',)]
    clock.now += 60.0
    leases.beat()
    assert rows(database, "SELECT rates FROM worker") == [("{}",)]


def test_a_model_that_takes_long_for_an_answer_has_one_rate(database: Database) -> None:
    """Four answers every ten seconds, a beat every other: four tenths of an answer a second, whenever one looks."""
    clock = Clock()
    leases = Leases(Ledger(database, owner="here:1:a"), clock=clock)
    seen = set()
    for second in range(2, 200, 2):
        clock.now += 2.0
        for _ in range(4 if second % 10 == 0 else 0):
            leases.count("r")
        leases.beat()
        if second >= 60:
            seen.add(rows(database, "SELECT rates FROM worker")[0][0])
    assert seen == {'{"r": 0.4}'}


def test_a_rate_begins_when_its_run_can_be_asked(database: Database) -> None:
    """The minutes for which a model loads, or an earlier run had the worker, do not slow it down."""
    clock = Clock()
    leases = Leases(Ledger(database, owner="here:1:a"), clock=clock)
    clock.now += 30.0
    for _ in range(2):
        leases.begin("r")
        clock.now += 2.0
        leases.count("r")
    leases.beat()
    assert rows(database, "SELECT rates FROM worker") == [('{"r": 0.5}',)]
    clock.now += 3600.0
    leases.beat()
    leases.begin("r")
    clock.now += 4.0
    leases.count("r")
    leases.beat()
    assert rows(database, "SELECT rates FROM worker") == [('{"r": 0.25}',)]


def test_the_thread_beats_renews_and_leaves(database: Database) -> None:
    """A process with a short lease renews it in time; when it stops, it is on no list any more."""
    ledger = Ledger(database, owner="here:1:a", ttl=2.0)
    leases = Leases(ledger)
    held = ledger.claim(1)
    assert held is not None
    first = until(database, 1)
    with leases.hold(held):
        leases.start()
        waited = threading.Event()
        for _ in range(200):
            if until(database, 1) > first + 0.5:
                break
            waited.wait(0.05)
        assert until(database, 1) > first + 0.5
        assert Ledger(database, owner="there:2:b").claim(1) is None
        assert rows(database, "SELECT owner FROM worker") == [("here:1:a",)]
    leases.stop()
    assert rows(database, "SELECT owner FROM worker") == []
