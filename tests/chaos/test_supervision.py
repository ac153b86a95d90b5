"""What watches over a run: it gives up neither too early nor too late, and outlives what it watches."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy.exc import OperationalError

from defsurvey.jobs.broker import BrokerUnavailable, make_app
from defsurvey.jobs.daemons import reconciler
from defsurvey.jobs.daemons.reconciler import Reconciler
from defsurvey.jobs.local import DEATHS_WITHOUT_PROGRESS, Crew, RunFailed, outages_survived
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import UNAVAILABLE
from defsurvey.storage.database import Database
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.recovery import QUARANTINE_AFTER
from defsurvey.storage.schema import migrate
from tests.chaos.stages import started


class Ending(Crew):
    """A crew whose processes end at once with a status of the test's choice."""

    status = 1

    def _launch(self, process: Any) -> None:
        process.popen = subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({self.status})"])
        process.popen.wait()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Everything under a folder of the test's own."""
    return Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)})


def test_deaths_without_progress_end_a_run(settings: Settings) -> None:
    """One more than it takes to find a poisoned participant and to set it aside."""
    assert DEATHS_WITHOUT_PROGRESS > QUARANTINE_AFTER + 1
    crew = Ending(settings, workers=1)
    crew.start()
    for _ in range(DEATHS_WITHOUT_PROGRESS - 1):
        crew.look(7)
    with pytest.raises(RunFailed, match=f"died {DEATHS_WITHOUT_PROGRESS} times without progress; see "):
        crew.look(7)


def test_deaths_with_progress_between_them_are_survived(settings: Settings) -> None:
    """However many, and whichever of two workers dies between two answers."""
    crew = Ending(settings, workers=2)
    crew.start()
    for done in range(4 * DEATHS_WITHOUT_PROGRESS):
        crew.look(done)
        if done % 2:
            crew.look(done)  # the other one died before any progress: not this one's doing


def test_a_worker_that_cannot_serve_ends_a_run_at_once(settings: Settings) -> None:
    """With the reason that it logged."""
    crew = Ending(settings, workers=1)
    crew.status = UNAVAILABLE
    crew.start()
    log = "2026-01-01 00:00:00,000 ERROR jobs.daemons.tasks: model m: no weights\n"
    (settings.logs / "worker-1.log").write_text(log)
    (settings.logs / "reporter.log").write_text(log)
    with pytest.raises(RunFailed, match=r"^model m: no weights$"):
        crew.look(0)


@pytest.mark.parametrize(
    "outage", [OperationalError("", {}, Exception("the server is gone")), redis.ConnectionError("refused")]
)
def test_whoever_watches_outlives_an_outage(outage: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """It is noted, and the next look comes."""
    with outages_survived("progress"):
        raise outage
    assert "progress: " in caplog.text
    with pytest.raises(LookupError), outages_survived("progress"):
        raise LookupError


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """What it shows."""
        return self.now


@pytest.fixture
def reconciling(tmp_path: Path) -> Any:
    """A reconciler of a database with one participant, and its clock; its broker is not asked."""
    clock = Time()
    with Database(f"sqlite:///{tmp_path / 'defsurvey.db'}") as database:
        migrate(database)
        app = make_app("redis://nowhere")
        yield (
            Reconciler(database=database, app=app, broker=redis.Redis(socket_connect_timeout=0.1), clock=clock),
            clock,
        )


def test_leases_are_given_time_after_an_outage(reconciling: tuple[Reconciler, Time]) -> None:
    """Whoever lives could not renew them either: only what is still not renewed some beats later counts as lost."""
    watching, clock = reconciling
    (who,) = started(watching.database)
    assert Ledger(watching.database, owner="elsewhere:1:slow", ttl=-1.0).claim(who) is not None

    def free() -> bool:
        watching._free_expired()
        with watching.database.read() as connection:
            owner = connection.exec_driver_sql("SELECT lease_owner FROM participant").scalar_one()
        return owner is None

    clock.now += reconciler.LATE_SECONDS + 1
    assert not free()
    clock.now += reconciler.RENEWAL_SECONDS - 1
    assert not free()
    clock.now += reconciler.PASS_SECONDS
    assert free()


@pytest.mark.parametrize("starts", [True, False])
def test_a_broker_of_our_own_is_started_again(
    reconciling: tuple[Reconciler, Time], caplog: pytest.LogCaptureFixture, starts: bool
) -> None:
    """As soon as it does not answer; where that fails it is tried again, and never where the database is away."""
    watching, _ = reconciling
    stop, revived = threading.Event(), []
    errors: list[Exception] = [redis.ConnectionError("refused"), OperationalError("", {}, Exception("gone"))]

    def fail() -> None:
        if errors:
            raise errors.pop(0)
        stop.set()

    def revive() -> None:
        revived.append(len(errors))
        if not starts:
            raise BrokerUnavailable("no broker: no server")

    patched: dict[str, Callable[[], None]] = {"reconcile": fail, "revive": revive}
    for name, function in patched.items():
        setattr(watching, name, function)
    with caplog.at_level(logging.WARNING), pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconciler, "PASS_SECONDS", 0.01)
        watching.run(stop)
    assert revived == [1]
    assert ("no server" in caplog.text) == (not starts)
