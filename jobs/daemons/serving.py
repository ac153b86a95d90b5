"""What the daemons are made of: a worker, a reporter, a reconciler, from settings to a running process."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError

from defsurvey.jobs.daemons.signals import when_told_to_end
from defsurvey.jobs.locks import HomeInUse, exclusive
from defsurvey.jobs.logs import LOG_FORMAT
from defsurvey.jobs.openmp import wait_shortly
from defsurvey.jobs.queue.broker import EmbeddedBroker, check_reachable, client_of
from defsurvey.jobs.queue.celery_app import IDLE_QUEUE, JUDGE_QUEUE, REPORTS_QUEUE, make_app, simulate_queue
from defsurvey.jobs.settings import BadSetting, Settings
from defsurvey.storage.address import in_words, shown
from defsurvey.storage.database import BadDatabaseUrl, Database
from defsurvey.storage.runs.ledger import lease_owner
from defsurvey.storage.schema import HEAD, is_empty, migrate

if TYPE_CHECKING:
    from defsurvey.workers.engines.base import Engine

log = logging.getLogger(__name__)

#: Seconds between two looks at a database that does not answer yet.
LOOK_SECONDS = 1.0
#: Connections of a worker that has as many threads as its engine has room for: each is used for a moment only.
CONNECTIONS = 48


#: What a person can do about what SQLite says.
_REMEDIES = {
    "not a database": "move the file away and put a copy by defsurvey backup in its place",
    "malformed": "move the file away and put a copy by defsurvey backup in its place",
    "readonly": "make the file and its folder writable for this account, or set DEFSURVEY_HOME to a folder that is",
    "unable to open": "make its folder writable for this account, or set DEFSURVEY_HOME to a folder that is",
}


class DatabaseUnavailable(RuntimeError):
    """The database cannot be opened; the message says which and why."""


class NothingHere(LookupError):
    """A verb needs a run, and there is no database yet; the message says where it looked and what to do."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            f"there is no run in {settings.home} (database {shown(settings.database_url)}): begin one with "
            "defsurvey run STUDY, or go to the folder where yours are, or name it by DEFSURVEY_HOME"
        )


def open_existing(settings: Settings) -> Database:
    """The same for a verb that needs a run: where there is no database yet, none is made.

    Raises:
        NothingHere: there is none; besides, what ``open_database`` raises.
    """
    return open_database(settings, make=False)


def open_database(settings: Settings, *, threads: int = 4, make: bool = True, without_log: bool = False) -> Database:
    """The database that the settings name, brought up to date.

    Args:
        settings: where it is.
        threads: connections kept ready.
        make: whether it is made where there is none.
        without_log: whether a SQLite file may have lost its log, see ``Database.check_log``.

    Raises:
        LogMissing: it has.
        NothingHere: there is none, and none is to be made.
        DatabaseUnavailable: it cannot be reached, or is no database.
        jobs.settings.BadSetting: its URL, or the folder that it is kept in, cannot be used.
    """
    try:
        database = Database(settings.database_url, threads=threads, synchronous=settings.synchronous)
    except BadDatabaseUrl as error:
        raise BadSetting(f"environment variable DEFSURVEY_DATABASE_URL: {error.told}") from None
    try:
        if database.file is not None and not database.file.exists():
            if not make:
                raise NothingHere(settings)
            settings.make_home()
        if not without_log:
            database.check_log()
        if not make and is_empty(database):
            database.close()
            raise NothingHere(settings)
        migrate(database)
    except DBAPIError as error:
        database.close()
        if type(error) not in (OperationalError, DatabaseError):
            raise  # the schema's own fault, not the place's
        raise unavailable(settings, error) from None
    return database


def unavailable(settings: Settings, error: BaseException) -> DatabaseUnavailable:
    """An error of the database, as one line that names it without its password."""
    where = shown(settings.database_url)  # by which it is known whether the driver's words can be, too
    said = in_words(where, getattr(error, "orig", None) or error)
    remedy = next((f"; {remedy}" for sign, remedy in _REMEDIES.items() if sign in said), "")
    return DatabaseUnavailable(f"database {where}: {said}{remedy}")


def migrate_when_up(settings: Settings, *, patience: float) -> str:
    """Bring the database up to date as soon as it answers. Returns the schema's revision.

    Args:
        settings: which database.
        patience: seconds to wait for one that does not answer yet, or not to us.

    Raises:
        DatabaseUnavailable: it still does not.
    """
    log_to_stderr()
    deadline = time.monotonic() + patience
    said = ""
    while True:
        try:
            open_database(settings, without_log=True).close()
        except DatabaseUnavailable as error:
            if time.monotonic() >= deadline:
                raise
            if str(error) != said:
                said = str(error)
                log.warning("waiting up to %.0f s: %s", patience, said)
            time.sleep(LOOK_SECONDS)
        else:
            return HEAD


def broker_url(settings: Settings) -> str:
    """The broker's URL; the embedded one is started, or attached to, where none is named.

    Raises:
        jobs.queue.broker.BrokerUnavailable: there is none, or it does not answer.
    """
    if settings.broker_url is not None:
        check_reachable(settings.broker_url)
        return settings.broker_url
    settings.make_home()
    broker = EmbeddedBroker(settings.home)
    broker.ensure()
    return broker.url


def log_to_stderr() -> None:
    """Log lines of a daemon: time, level, logger, message."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT)
    logging.getLogger("kombu").setLevel(logging.WARNING)
    logging.getLogger("celery").setLevel(logging.WARNING)
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)  # a message given back is no news
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)


def _orphaned(settings: Settings) -> None:
    """The run that started this process is gone: stop its broker, unless another run has taken it over."""
    if settings.broker_url is not None:
        return
    try:
        with exclusive(settings.home / "run.lock", "defsurvey run"):
            EmbeddedBroker(settings.home).stop()
    except HomeInUse:
        pass


def worker(
    settings: Settings,
    *,
    device: str,
    models: Sequence[str],
    concurrency: int | None,
    threads: int | None,
    profiled: bool,
    metrics: tuple[str, int] | None,
    events: bool,
    only: str | None,
    parent: int | None,
) -> int:
    """Simulate participants until told to stop. Returns the exit status.

    Args:
        settings: database, broker, model cards and cache.
        device: see ``workers.engines.device.resolved``.
        models: only these; all that have a card now where none is named.
        concurrency: participants in flight at once; None: as many as the engine has room for.
        threads: CPU threads of a model; None: all.
        profiled: whether the log says of every model, when it is given up, where its time went.
        metrics: host and port at which Prometheus may ask; None: nowhere.
        events: whether Celery's events are sent.
        only: the one run to work on; None: every run.
        parent: process id of the ``defsurvey run`` without which it is to end.

    Raises:
        MetricsUnavailable: nothing can be shown at ``metrics``.
    """
    wait_shortly()
    from defsurvey.jobs.daemons.health import Pulse
    from defsurvey.jobs.daemons.tasks import register_simulation, report_sender
    from defsurvey.workers.engines.keys import missing_key
    from defsurvey.workers.models import find_card, read_cards
    from defsurvey.workers.runner.affinity import affinity_step
    from defsurvey.workers.runner.daemon import end_with_parent, serve
    from defsurvey.workers.runner.profile import profile
    from defsurvey.workers.runner.room import MOST, room_step
    from defsurvey.workers.runner.stage import Stage
    from defsurvey.workers.runner.telemetry import CountedLedger, Gauges, new_registry, show
    from defsurvey.workers.runner.watchdog import STOP_SECONDS, end_after

    log_to_stderr()
    registry = new_registry()

    def tell(model: str, engine: Engine) -> None:
        for line in profile(model, engine) if profiled else ():
            log.info("%s", line)

    hide = show(registry, metrics) if metrics is not None else None
    cards = read_cards(settings.models)
    for model in models:
        find_card(model, cards)
    database = open_database(settings, threads=concurrency or CONNECTIONS)
    url = broker_url(settings)
    app = make_app(url, visibility_timeout=settings.visibility_timeout)
    pulse = Pulse(settings, "worker")
    stage = Stage(
        database=database,
        ledger=CountedLedger(database, owner=lease_owner(), ttl=settings.lease_seconds, registry=registry),
        cards=cards,
        cache=settings.cache,
        device=device,
        threads=threads,
        hang_seconds=settings.hang_seconds,
        on_close=tell,
        on_run_finished=report_sender(app, database),
        on_beat=pulse.beat,
    )
    registry.register(Gauges(stage, database=database, device=device, broker=client_of(url)))
    register_simulation(app, stage, only=only)
    if parent is not None:
        end_with_parent(parent, lambda: _orphaned(settings))
    stage.leases.start()
    stage.watchdog.start()
    # a model without a card here, or without its key, is for workers that have one
    keyless = [] if models else [name for name, card in cards.items() if missing_key(card)]
    if keyless:
        log.info("left to workers that have a key for them: %s", ", ".join(keyless))
    known = models or tuple(name for name in cards if name not in keyless)
    steps = [affinity_step(stage, database=database, models=known, queue_of=simulate_queue, run=only)]
    if concurrency is None:
        steps.append(room_step(stage))

    def stop() -> None:
        end_after(STOP_SECONDS, first=stage.let_go)
        stage.stop()

    try:
        return serve(
            app,
            queues=[IDLE_QUEUE],
            concurrency=concurrency or MOST,
            name=stage.ledger.owner.replace(":", "-"),
            on_stop=stop,
            steps=steps,
            events=events,
        )
    finally:
        if hide is not None:
            hide()
        stage.leases.stop()
        pulse.end()
        stage.close()
        database.close()


def reporter(
    settings: Settings, *, device: str, tasks: str | None = None, events: bool, only: str | None, parent: int | None
) -> int:
    """Build reports, and judge what studies (or the only run's) want judged, until told to stop. Returns its status.

    Args:
        settings: database, broker, model cards and cache.
        device: where a judge runs whose weights are here.
        tasks: ``reports`` or ``judging``, to do that alone; None: both.
        events: whether Celery's events are sent.
        only: the one run to work on; None: every run.
        parent: process id of the ``defsurvey run`` without which it is to end.
    """
    from defsurvey.jobs.daemons.health import Pulse, beating_step
    from defsurvey.jobs.daemons.tasks import register_judging, register_reports, warm
    from defsurvey.workers.runner.daemon import end_with_parent, serve
    from defsurvey.workers.runner.watchdog import STOP_SECONDS, end_after

    log_to_stderr()
    database = open_database(settings)
    url = broker_url(settings)
    app = make_app(url, visibility_timeout=settings.visibility_timeout)
    register_reports(app, database, settings.reports, client_of(url))
    leaving = threading.Event()
    register_judging(app, settings, database, only=only, device=device, leaving=leaving.is_set)

    def stop() -> None:
        end_after(STOP_SECONDS, first=lambda: None)
        leaving.set()

    if parent is not None:
        end_with_parent(parent, lambda: None)
        # A run's own reporter will have a report to build, and nothing to do until then.
        threading.Thread(target=warm, name="warm", daemon=True).start()
    queues = {"reports": [REPORTS_QUEUE], "judging": [JUDGE_QUEUE], None: [REPORTS_QUEUE, JUDGE_QUEUE]}
    role = "judge" if tasks == "judging" else "reporter"
    try:
        return serve(
            app,
            queues=queues[tasks],
            concurrency=2,  # one run at a time is judged, so that a report never waits for a judge
            name=f"{role}-{lease_owner().replace(':', '-')}",
            on_stop=stop,
            steps=[beating_step(Pulse(settings, role))],
            events=events,
        )
    finally:
        database.close()


def reconciler(settings: Settings) -> int:
    """Reconcile until told to stop. Returns the exit status."""
    from defsurvey.jobs.daemons.health import BeatingReconciler, Pulse

    log_to_stderr()
    database = open_database(settings)
    url = broker_url(settings)
    stop = threading.Event()
    when_told_to_end(lambda *_: stop.set())
    app = make_app(url, visibility_timeout=settings.visibility_timeout)
    pulse = Pulse(settings, "reconciler")
    reconciling = BeatingReconciler(database=database, app=app, broker=client_of(url), pulse=pulse)
    if settings.broker_url is None:
        reconciling.revive = EmbeddedBroker(settings.home).ensure
    reconciling.run(stop)
    database.close()
    return 0
