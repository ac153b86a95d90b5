"""Two ``defsurvey run`` on one database, each with a broker of its own: neither takes care of the other's run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from celery import Celery

from defsurvey.jobs.broker import REPORTS_QUEUE, EmbeddedBroker, make_app
from defsurvey.jobs.daemons.reconciler import LOST_SECONDS, Reconciler
from defsurvey.jobs.study.producer import enqueue
from defsurvey.storage.database import Database
from tests.jobs.ledger_rows import change, finish, queued
from tests.jobs.small_study import study


@pytest.fixture(scope="module")
def second_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """That of another home."""
    with EmbeddedBroker(tmp_path_factory.mktemp("other")) as broker:
        yield broker


@pytest.fixture
def both(database: Database) -> Database:
    """Two unfinished runs of the same model: one has participants 1 to 4, the other 5 and 6."""
    enqueue(database, None, study(models="[human]", participants="2"))
    enqueue(database, None, study(name="second", models="[human]", cultures="[us]", participants="2"))
    return database


class Clock:
    """Stands still until it is moved."""

    seconds = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.seconds


def test_messages_that_lie_with_another_broker_are_not_lost(
    both: Database, app: Celery, client: redis.Redis, second_broker: EmbeddedBroker
) -> None:
    """Its queue here is empty, however long: sent again each time, they would fill the other one without end."""
    clock, other = Clock(), second_broker.client()
    here = Reconciler(database=both, app=app, broker=client, clock=clock, only="first")
    there = Reconciler(database=both, app=make_app(second_broker.url), broker=other, clock=clock, only="second")
    for _ in range(3):
        for reconciler in (here, there):
            reconciler.reconcile()
        assert (queued(client), queued(other)) == ([1, 2, 3, 4], [5, 6])
        change(both, f"UPDATE participant SET published_at = published_at - {LOST_SECONDS}")
        clock.seconds += LOST_SECONDS


def test_a_new_broker_is_sent_what_it_had_of_one_run(
    both: Database, app: Celery, client: redis.Redis, second_broker: EmbeddedBroker
) -> None:
    """Those of the other run are where they were."""
    other = second_broker.client()
    other.flushall()
    here = Reconciler(database=both, app=app, broker=client, only="first")
    there = Reconciler(database=both, app=make_app(second_broker.url), broker=other, only="second")
    here.reconcile()
    there.reconcile()
    other.flushall()
    there.reconcile()
    here.reconcile()
    assert (queued(client), queued(other)) == ([1, 2, 3, 4], [5, 6])


def test_a_broker_that_both_have_is_seen_to_be_new_by_both(both: Database, app: Celery, client: redis.Redis) -> None:
    """Whoever notices first sends what is its own, and the other the rest."""
    reconcilers = [Reconciler(database=both, app=app, broker=client, only=run) for run in ("first", "second")]
    for _ in range(2):
        for reconciler in reconcilers:
            reconciler.reconcile()
        assert queued(client) == [1, 2, 3, 4, 5, 6]
        client.flushall()


def test_a_report_is_asked_for_where_its_run_is_worked_on(both: Database, app: Celery, client: redis.Redis) -> None:
    """Another's would be written into this home, and the one that belongs there be held for current."""
    finish(both, "second")
    Reconciler(database=both, app=app, broker=client, only="first").reconcile()
    assert client.llen(REPORTS_QUEUE) == 0
    Reconciler(database=both, app=app, broker=client, only="second").reconcile()
    assert client.llen(REPORTS_QUEUE) == 1
