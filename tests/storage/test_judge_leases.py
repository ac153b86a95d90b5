"""One process at a time may judge a run, by the database's clock."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from defsurvey.storage.database import Database
from defsurvey.storage.runs.judgements import holds_lease, release_lease, renew_lease, take_lease
from tests.storage.small_run import started

RUN = "first"


@pytest.fixture
def database(database: Database) -> Database:
    """With a run to judge."""
    started(database)
    return database


def test_the_first_holds_it_until_it_lets_go(database: Database) -> None:
    """Whoever comes meanwhile is told who holds it, and cannot let it go in its place."""
    assert take_lease(database, RUN, "a", ttl=60.0) == "a"
    assert take_lease(database, RUN, "b", ttl=60.0) == "a"
    release_lease(database, RUN, "b")
    assert (holds_lease(database, RUN, "a"), holds_lease(database, RUN, "b")) == (True, False)
    release_lease(database, RUN, "a")
    assert take_lease(database, RUN, "b", ttl=60.0) == "b"


def test_a_lease_that_ran_out_is_taken_by_the_next(database: Database) -> None:
    """The former holder notices, and renews nothing that is not its own any more."""
    take_lease(database, RUN, "a", ttl=-1.0)
    assert holds_lease(database, RUN, "a")  # nobody else has come
    assert take_lease(database, RUN, "b", ttl=-1.0) == "b"
    assert not holds_lease(database, RUN, "a")
    renew_lease(database, RUN, "a", ttl=60.0)
    assert take_lease(database, RUN, "c", ttl=60.0) == "c"


def test_a_lease_that_ran_out_is_renewed_where_nobody_took_it(database: Database) -> None:
    """After an outage of the database, say."""
    take_lease(database, RUN, "a", ttl=-1.0)
    renew_lease(database, RUN, "a", ttl=60.0)
    assert take_lease(database, RUN, "b", ttl=60.0) == "a"


@pytest.mark.parametrize("before", [False, True], ids=["never held", "run out"])
def test_of_many_at_the_same_instant_one_has_it(database: Database, before: bool) -> None:
    """And everybody is told the same name."""
    if before:
        take_lease(database, RUN, "before", ttl=-1.0)
    start = threading.Barrier(8)

    def come(name: str) -> str:
        start.wait(10)
        return take_lease(database, RUN, name, ttl=60.0)

    with ThreadPoolExecutor(8) as pool:
        told = set(pool.map(come, "abcdefgh"))
    assert len(told) == 1
    assert told < set("abcdefgh")
