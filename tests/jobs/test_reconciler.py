"""The reconciler: what the broker lost is published again, leases are freed, and doing it twice does no harm."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis
from celery import Celery
from sqlalchemy.exc import OperationalError

from defsurvey.jobs.broker import REPORTS_QUEUE, BrokerUnavailable, EmbeddedBroker, client_of, make_app, simulate_queue
from defsurvey.jobs.daemons.reconciler import (
    LATE_SECONDS,
    LOST_SECONDS,
    PASS_SECONDS,
    RENEWAL_SECONDS,
    REPORT_AGAIN_SECONDS,
    Reconciler,
    release_dead,
)
from defsurvey.jobs.study.producer import enqueue
from defsurvey.storage.database import Database
from defsurvey.storage.hosts import host
from defsurvey.storage.runs import outbox
from defsurvey.storage.runs.ledger import Ledger
from tests.jobs.small_study import change, finish, queued, rows, study

EVERYONE = [1, 2, 3, 4, 5, 6]


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reconciler(database: Database, app: Celery, client: redis.Redis, clock: Clock) -> Reconciler:
    made = Reconciler(database=database, app=app, broker=client, clock=clock)
    made.reconcile()
    clock.seconds += RENEWAL_SECONDS
    return made


def enqueue_small(database: Database, app: Celery | None) -> None:
    enqueue(database, app, study(models="[human]", participants="3"))


def age_messages(database: Database, seconds: float) -> None:
    change(database, f"UPDATE participant SET published_at = published_at - {seconds}")


@pytest.mark.parametrize(
    "why", [None, OSError(28, "No space left on device"), redis.ResponseError("MISCONF"), BrokerUnavailable("none")]
)
def test_a_broker_of_our_own_is_started_again(
    reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, why: Exception | None
) -> None:
    """As soon as it does not answer; where that fails it is tried again, and never where the database is away."""
    stop, revived = threading.Event(), []
    errors = [
        redis.ResponseError("MISCONF"),
        OperationalError("", {}, Exception("gone")),
        redis.ConnectionError("away"),
    ]

    def fail() -> None:
        if not errors:
            stop.set()
            return
        raise errors.pop(0)

    def revive() -> None:
        revived.append(len(errors))
        if why is not None:
            raise why

    reconciler.revive = revive
    monkeypatch.setattr("defsurvey.jobs.daemons.reconciler.PASS_SECONDS", 0.0)
    monkeypatch.setattr(reconciler, "reconcile", fail)
    reconciler.run(stop)
    assert revived == [2, 0]
    assert why is None or str(why) in caplog.text


@pytest.mark.parametrize("flushed", [False, True])
def test_the_first_reconciler_of_a_broker_sends_again_only_what_was_lost(
    database: Database, app: Celery, client: redis.Redis, flushed: bool
) -> None:
    """Whoever publishes marks the broker: a fresh one has lost nothing, and one that is flushed afterwards has."""
    enqueue_small(database, app)
    if flushed:
        client.flushall()
    Reconciler(database=database, app=app, broker=client).reconcile()
    assert queued(client) == EVERYONE


def test_a_flush_is_noticed_by_whoever_publishes_next(database: Database, app: Celery, client: redis.Redis) -> None:
    """Another run is enqueued after a flush that no reconciler has seen: the first run is sent again as well."""
    enqueue_small(database, app)
    client.flushall()
    enqueue(database, app, study(name="second", models="[human]", participants="1"))
    Reconciler(database=database, app=app, broker=client).reconcile()
    assert sorted(queued(client)) == [*EVERYONE, 7, 8]


def test_what_is_held_or_finished_is_not_published_again(
    database: Database, app: Celery, client: redis.Redis, reconciler: Reconciler
) -> None:
    enqueue_small(database, app)
    held = Ledger(database, owner="elsewhere:1:token").claim(2)
    assert held is not None
    change(database, "UPDATE participant SET status = 'finished' WHERE id = 5")
    client.flushall()
    reconciler.reconcile()
    assert queued(client) == [1, 3, 4, 6]


def test_messages_that_have_just_left_their_queue_are_not_doubled_however_long_they_were_in_it(
    database: Database, app: Celery, client: redis.Redis, reconciler: Reconciler, clock: Clock
) -> None:
    """The last of a long queue, on their way to a worker; only once it has been empty all the time they are lost."""
    enqueue_small(database, app)
    age_messages(database, 3600)
    clock.seconds += 3600
    reconciler.reconcile()
    client.delete(simulate_queue("human"))
    reconciler.reconcile()
    clock.seconds += LOST_SECONDS - 1
    reconciler.reconcile()
    assert queued(client) == []
    clock.seconds += 1
    reconciler.reconcile()
    assert queued(client) == EVERYONE


def test_two_reconcilers_at_once_publish_one_message_each_or_two_but_none_less(
    database: Database, app: Celery, client: redis.Redis
) -> None:
    enqueue_small(database, None)
    both = [Reconciler(database=database, app=app, broker=client) for _ in range(2)]
    threads = [threading.Thread(target=each.reconcile) for each in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(queued(client)) == set(EVERYONE)
    assert len(queued(client)) <= 12
    assert outbox.waiting(database, "first") == 0
    ledger = Ledger(database, owner="a:1:x")
    claims = [ledger.claim(who) for who in queued(client)]
    assert sum(claim is not None for claim in claims) == 6


def test_a_report_is_asked_for_once_a_minute_until_it_is_there(
    database: Database, client: redis.Redis, reconciler: Reconciler
) -> None:
    enqueue_small(database, None)
    finish(database)
    minute = round(REPORT_AGAIN_SECONDS / PASS_SECONDS)
    for _ in range(minute):
        reconciler.reconcile()
    assert client.llen(REPORTS_QUEUE) == 1
    reconciler.reconcile()
    assert client.llen(REPORTS_QUEUE) == 2
    revision = outbox.revision(database, "first")
    outbox.record_report(database, outbox.BuiltReport(run="first", revision=revision, html="x", markdown="y"))
    for _ in range(minute + 1):
        reconciler.reconcile()
    assert client.llen(REPORTS_QUEUE) == 2


def test_an_outage_of_the_broker_is_waited_out(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("defsurvey.jobs.daemons.reconciler.PASS_SECONDS", 0.05)
    enqueue_small(database, None)
    broker = EmbeddedBroker(tmp_path)
    app = make_app(broker.url)
    stop = threading.Event()
    with client_of(broker.url) as client:
        loop = threading.Thread(target=Reconciler(database=database, app=app, broker=client).run, args=(stop,))
        loop.start()
        try:
            with broker:
                for _ in range(400):
                    if queued(client) == EVERYONE:
                        break
                    stop.wait(0.05)
                assert queued(client) == EVERYONE
        finally:
            stop.set()
            loop.join()
    app.close()


def test_leases_are_given_time_when_a_reconciler_starts_and_after_an_outage(
    database: Database, app: Celery, client: redis.Redis, clock: Clock
) -> None:
    held = "SELECT lease_owner, suspect FROM participant WHERE id = 1"
    enqueue_small(database, None)
    reconciler = Reconciler(database=database, app=app, broker=client, clock=clock)
    for outage, suspicions in ((0.0, 1), (LATE_SECONDS + 1, 2)):
        assert Ledger(database, owner="elsewhere:1:token", ttl=-300.0).claim(1) is not None
        clock.seconds += outage
        for _ in range(2):
            reconciler.reconcile()
            assert rows(database, held) == [("elsewhere:1:token", suspicions - 1)]
            clock.seconds += RENEWAL_SECONDS / 2
        reconciler.reconcile()
        assert rows(database, held) == [(None, 1)]


def test_a_dead_process_of_this_host_is_noticed_at_once(database: Database) -> None:
    enqueue_small(database, None)
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as child:
        child.wait()
    owners = {1: f"{host()}:{child.pid}:a", 2: f"{host()}:{os.getpid()}:b", 3: f"another-{host()}:{child.pid}:c"}
    for who, owner in owners.items():
        ledger = Ledger(database, owner=owner)
        ledger.beat("human", {})
        assert ledger.claim(who) is not None
    assert release_dead(database) == 1
    held = rows(database, "SELECT id FROM participant WHERE lease_owner IS NOT NULL ORDER BY id")
    assert held == [(2,), (3,)]
    assert {owner for (owner,) in rows(database, "SELECT owner FROM worker")} == {owners[2], owners[3]}
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
