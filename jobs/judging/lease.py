"""One process at a time judges a run, wherever it runs: nobody pays for what another is asking for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from defsurvey.storage.database import Database
from defsurvey.storage.hosts import is_dead
from defsurvey.storage.runs import judge_leases
from defsurvey.storage.runs.ledger import LEASE_SECONDS, lease_owner
from defsurvey.workers.runner.lease import BEATS_PER_LEASE
from defsurvey.workers.runner.patience import OUTAGE

log = logging.getLogger(__name__)


class BeingJudged(RuntimeError):
    """Another process judges the run; the message names both."""


class JudgingLeft(RuntimeError):
    """This process was told to end while it judged: what was judged is kept, and whoever comes next goes on."""


@contextmanager
def judging(database: Database, run: str, *, ttl: float = LEASE_SECONDS) -> Iterator[Callable[[], bool]]:
    """Hold the lease on a run's judging for as long as the block runs.

    Args:
        database: where the run is.
        run: which run.
        ttl: seconds after which another process may judge it where this one has died, or slept.

    Yields:
        A function that tells whether the lease is still this process's: to be asked before every call to a judge.

    Raises:
        BeingJudged: another process holds it.
    """
    owner = lease_owner()
    holder = judge_leases.take(database, run, owner, ttl=ttl)
    if holder != owner and is_dead(holder):
        judge_leases.release(database, run, holder)
        holder = judge_leases.take(database, run, owner, ttl=ttl)
    if holder != owner:
        raise BeingJudged(f"run {run} is being judged by another process ({holder})")
    over = threading.Event()

    def keep() -> None:
        while not over.wait(ttl / BEATS_PER_LEASE):
            with _outage_survived(run):
                judge_leases.renew(database, run, owner, ttl=ttl)

    thread = threading.Thread(target=keep, name="judging", daemon=True)
    thread.start()
    try:
        yield partial(judge_leases.is_held, database, run, owner)
    finally:
        over.set()
        thread.join()
        with _outage_survived(run):
            judge_leases.release(database, run, owner)


@contextmanager
def _outage_survived(run: str) -> Iterator[None]:
    """While the database is away nobody else can take the lease, which runs out by itself."""
    try:
        yield
    except OUTAGE as error:
        log.warning("lease on judging %s: %s", run, getattr(error, "orig", None) or error)
