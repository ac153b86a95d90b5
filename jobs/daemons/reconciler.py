"""SQL is the truth: publishes again what the broker lost, and asks for reports that are due.

Everything it does may be done twice, or by two at once: claims decide who works, and a report is keyed by its revision.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from defsurvey.jobs.broker import JUDGE, JUDGE_QUEUE, REPORT, REPORTS_QUEUE, BrokerUnavailable, simulate_queue
from defsurvey.jobs.study.producer import notice_lost_broker, publish
from defsurvey.storage.database import Database
from defsurvey.storage.hosts import is_dead
from defsurvey.storage.runs import outbox
from defsurvey.storage.runs.judgements import judging_due
from defsurvey.storage.runs.ledger import backlogs, owners
from defsurvey.storage.runs.recovery import QUARANTINE_AFTER, Freed, free_expired, free_owned, reopen_asked_again

log = logging.getLogger(__name__)

PASS_SECONDS = 2.0  #: seconds between two passes
LOST_SECONDS = 15.0  #: seconds for which a queue has to be empty until messages that nobody claimed are sent again
#: After so many seconds between two passes leases are given time to be renewed before they count as run out: the
#: database was away, or the machine asleep, for the workers as well. Nobody knows what was before the first pass.
LATE_SECONDS, RENEWAL_SECONDS = 10.0, 7.0
REPORT_AGAIN_SECONDS = 60.0  #: seconds between two requests for the same report


@dataclass(kw_only=True)
class Reconciler:
    """One pass after the other."""

    database: Database  #: the truth
    app: Celery  #: publishes
    broker: redis.Redis  #: a client of the same broker, to see whether it still has what it was given
    clock: Callable[[], float] = time.time  #: seconds that go on while the machine sleeps
    #: The one run whose messages are sent, and which is reported and judged; None: every run. Those of others may lie
    #: with another broker, and their reports in another home.
    only: str | None = None
    revive: Callable[[], None] = lambda: None  #: starts the broker again where it is one of our own
    on_pass: Callable[[], None] = lambda: None  #: called after each pass that went through broker and database

    _sentinel: object = field(default=None, init=False)  #: as it was at the last pass
    _passes: int = field(default=0, init=False)
    _asked: dict[tuple[object, ...], int] = field(default_factory=dict, init=False)  #: report or judging -> last pass
    _empty_since: dict[str, float] = field(default_factory=dict, init=False)  #: model with unclaimed participants

    def __post_init__(self) -> None:
        self._passed_at = self.clock()
        self._renewing_until = self._passed_at + RENEWAL_SECONDS  # it may have been away, and its database with it

    def run(self, stop: threading.Event) -> None:
        """Reconcile until told to stop; outages of broker or database are waited out."""
        while not stop.is_set():
            try:
                self.reconcile()
            except (redis.RedisError, OperationalError) as error:
                log.warning("reconciler: broker: %s", error)
                try:
                    self.revive()
                except (BrokerUnavailable, redis.RedisError, OSError) as trouble:  # OSError: its disk is full
                    log.warning("reconciler: %s", trouble)
            except SQLAlchemyError as error:
                log.warning("reconciler: database: %s", error)
            stop.wait(PASS_SECONDS)

    def reconcile(self) -> None:
        """One pass."""
        self._passes += 1
        self._sentinel = notice_lost_broker(self.database, self.broker, before=self._sentinel, run=self.only)
        release_dead(self.database)
        self._free_expired()
        reopen_asked_again(self.database)
        self._notice_lost_messages()
        publish(self.database, self.app, run=self.only)
        for report in outbox.reports_due(self.database):
            self._ask(REPORT, REPORTS_QUEUE, *report)
        for run in judging_due(self.database):
            self._ask(JUDGE, JUDGE_QUEUE, run)
        self.on_pass()

    def _ask(self, task: str, queue: str, run: str, *revisions: int) -> None:
        """Ask for a run's report or judging, unless that was asked for a moment ago."""
        wait, key = REPORT_AGAIN_SECONDS / PASS_SECONDS, (task, run, *revisions)
        if self.only in (None, run) and self._passes - self._asked.get(key, -math.inf) >= wait:
            self.app.send_task(task, args=[run, *revisions], queue=queue, retry=False)
            self._asked[key] = self._passes

    def _free_expired(self) -> None:
        now = self.clock()
        if now - self._passed_at > LATE_SECONDS:
            self._renewing_until = now + RENEWAL_SECONDS
        self._passed_at = now
        if now < self._renewing_until:
            return
        expired = free_expired(self.database)
        if expired.participants:
            log.warning("%d leases ran out; their participants are published again", expired.participants)
        _warn(expired)

    def _notice_lost_messages(self) -> None:
        now, models = self.clock(), [backlog.model for backlog in backlogs(self.database, run=self.only)]
        empty = [model for model in models if self.broker.llen(simulate_queue(model)) == 0]
        self._empty_since = {model: self._empty_since.get(model, now) for model in empty}
        for model in (model for model, since in self._empty_since.items() if now - since >= LOST_SECONDS):
            if again := outbox.publish_again(self.database, run=self.only, model=model, older_than=LOST_SECONDS):
                log.info("%s: %d messages were in no queue any more", model, again)


def ask_for_report(app: Celery, database: Database, run: str) -> None:
    """Ask for a finished run's report."""
    try:
        app.send_task(REPORT, args=[run, *outbox.revisions(database, run)], queue=REPORTS_QUEUE, retry=False)
    except (OperationalError, redis.RedisError) as error:
        log.warning("report of %s not asked for, the reconciler will: %s", run, error)


def release_dead(database: Database) -> int:
    """Let go of what processes of this host held that are no more. Returns how many participants were freed.

    The epoch fences whoever is alive after all, so that a mistaken release costs work, never data.
    """
    freed = [free_owned(database, owner) for owner in owners(database) if is_dead(owner)]
    for done in freed:
        _warn(done)
    return sum(done.participants for done in freed)


def _warn(freed: Freed) -> None:
    for who in freed.quarantined:
        log.error("participant %d is set aside: %d workers died while it was asked alone", who, QUARANTINE_AFTER)
