"""Which leases a reconciler frees at once, and which it gives time to be renewed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import redis
from celery import Celery

from defsurvey.jobs.daemons.reconciler import RENEWAL_SECONDS, Reconciler, release_dead
from defsurvey.jobs.study.producer import enqueue
from defsurvey.storage.database import Database
from defsurvey.storage.hosts import host
from defsurvey.storage.runs.ledger import Ledger
from tests.jobs.ledger_rows import rows
from tests.jobs.small_study import study
from tests.jobs.test_reconciler import Clock, enqueue_small

HELD = "SELECT lease_owner, suspect FROM participant WHERE id = 1"


def begun(database: Database, app: Celery, client: redis.Redis, owner: str, clock: Clock) -> Reconciler:
    """A new reconciler, beside a participant whose lease ran out meanwhile."""
    enqueue(database, None, study(models="[human]", participants="1"))
    assert Ledger(database, owner=owner, ttl=-300.0).claim(1) is not None
    return Reconciler(database=database, app=app, broker=client, clock=clock)


def test_leases_are_given_time_when_a_reconciler_starts(database: Database, app: Celery, client: redis.Redis) -> None:
    """Its database and it were restarted: a worker elsewhere lives and is about to renew; else it is suspected."""
    clock = Clock()
    reconciler = begun(database, app, client, "elsewhere:1:token", clock)
    for _ in range(2):
        reconciler.reconcile()
        assert rows(database, HELD) == [("elsewhere:1:token", 0)]
        clock.seconds += RENEWAL_SECONDS / 2
    reconciler.reconcile()
    assert rows(database, HELD) == [(None, 1)]


def test_what_a_dead_process_of_this_host_held_is_given_none(
    database: Database, app: Celery, client: redis.Redis
) -> None:
    """It can be seen that nobody will renew it."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as dead:
        dead.wait()
    begun(database, app, client, f"{host()}:{dead.pid}:token", Clock()).reconcile()
    assert rows(database, HELD) == [(None, 1)]


def test_a_dead_process_of_this_host_is_noticed_at_once(database: Database) -> None:
    """Nobody has to wait for the lease of a process that can be seen to be gone."""
    enqueue_small(database, None)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    owners = {1: f"{host()}:{child.pid}:a", 2: f"{host()}:{os.getpid()}:b", 3: f"another-{host()}:{child.pid}:c"}
    for who, owner in owners.items():
        ledger = Ledger(database, owner=owner)
        ledger.beat("human", {})
        assert ledger.claim(who) is not None
    assert release_dead(database) == 1
    held = rows(database, "SELECT id FROM participant WHERE lease_owner IS NOT NULL ORDER BY id")
    assert held == [(2,), (3,)]
    assert [owner for (owner,) in rows(database, "SELECT owner FROM worker ORDER BY owner")] == sorted(
        [owners[2], owners[3]]
    )
    assert release_dead(database) == 0


@pytest.mark.parametrize("other", ["node:00000002", "node"])
def test_of_another_host_with_this_ones_name_nothing_is_known(
    database: Database, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """A clone's worker is not taken for dead because its number is unknown here; nor is one that told no mark yet."""
    enqueue_small(database, None)
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as child:
        child.wait()
    monkeypatch.setattr("defsurvey.storage.hosts.host", lambda: "node:00000001")
    there = Ledger(database, owner=f"{other}:{child.pid}:a")
    held = there.claim(1)
    assert held is not None
    assert release_dead(database) == 0
    assert there.heartbeat([held]) == set()
    assert Ledger(database, owner=f"node:00000001:{child.pid}:a").claim(2) is not None
    assert release_dead(database) == 1


def test_a_process_of_another_user_is_alive(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may not be signalled is there."""
    enqueue_small(database, None)
    assert Ledger(database, owner=f"{host()}:1:a").claim(1) is not None

    def forbidden(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert release_dead(database) == 0
