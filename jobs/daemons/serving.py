"""The processes that serve until they are told to stop: a worker, a reporter, a reconciler, and Flower beside them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from celery import Celery

from defsurvey.jobs import broker
from defsurvey.jobs.broker import EmbeddedBroker, client_of
from defsurvey.jobs.daemons import startup
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import HomeInUse, exclusive, wait_shortly
from defsurvey.storage.errors import Failure
from defsurvey.storage.runs.ledger import lease_owner

if TYPE_CHECKING:
    from defsurvey.workers.engines.base import Engine

log = logging.getLogger(__name__)

#: Connections of a worker that has as many threads as its engine has room for: each is used for a moment only.
CONNECTIONS = 48


class FlowerMissing(Failure, RuntimeError):
    """Flower, of the extra ``monitoring``, is not installed."""


def _app(settings: Settings) -> Celery:
    return broker.make_app(startup.broker_url(settings), visibility_timeout=settings.visibility_timeout)


def _stop_orphaned_broker(settings: Settings) -> None:
    """The run that started this process is gone: stop its broker, unless another run has taken it over."""
    if settings.broker_url is None:
        with suppress(HomeInUse), exclusive(settings.home / "run.lock", "defsurvey run"):
            EmbeddedBroker(settings.home).stop()


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
    """Simulate participants until told to stop, of every model that has a card where none is named.

    Returns the exit status. ``only`` is the one run to work on, ``parent`` the process without which it is to end.
    """
    wait_shortly()
    from defsurvey.jobs.daemons.reconciler import ask_for_report
    from defsurvey.jobs.daemons.tasks import register_simulation
    from defsurvey.workers.engines.keys import missing_key
    from defsurvey.workers.models import find_card, read_cards
    from defsurvey.workers.runner.daemon import end_with_parent, serve
    from defsurvey.workers.runner.participant_runner import ParticipantRunner
    from defsurvey.workers.runner.queue_affinity import MOST, affinity_step
    from defsurvey.workers.runner.telemetry import CountedLedger, Gauges, new_registry, profile, show
    from defsurvey.workers.runner.watchdog import STOP_SECONDS, end_after

    startup.log_to_stderr()
    registry = new_registry()

    def log_profile(model: str, engine: Engine) -> None:
        for line in profile(model, engine) if profiled else ():
            log.info("%s", line)

    hide = show(registry, metrics) if metrics is not None else None
    cards = read_cards(settings.models)
    for model in models:
        find_card(model, cards)
    database = startup.open_database(settings, threads=concurrency or CONNECTIONS)
    app = _app(settings)
    pulse = startup.Pulse(settings, "worker")
    stage = ParticipantRunner(
        database=database,
        ledger=CountedLedger(database, owner=lease_owner(), ttl=settings.lease_seconds, registry=registry),
        cards=cards,
        cache=settings.cache,
        device=device,
        threads=threads,
        hang_seconds=settings.hang_seconds,
        on_close=log_profile,
        on_run_finished=partial(ask_for_report, app, database),
        on_beat=pulse.beat,
    )
    registry.register(
        Gauges(stage.leases, stage.resident, database=database, device=device, broker=client_of(app.conf.broker_url))
    )
    register_simulation(app, stage, only=only)
    if parent is not None:
        end_with_parent(parent, lambda: _stop_orphaned_broker(settings))
    stage.leases.start()
    stage.watchdog.start()
    # a model without a card here, or without its key, is for workers that have one
    keyless = [] if models else [name for name, card in cards.items() if missing_key(card)]
    if keyless:
        log.info("left to workers that have a key for them: %s", ", ".join(keyless))
    known = models or tuple(name for name in cards if name not in keyless)
    affinity = affinity_step(
        stage.leases,
        stage.resident,
        database=database,
        models=known,
        queue_of=broker.simulate_queue,
        run=only,
        by_room=concurrency is None,
    )

    def stop() -> None:
        end_after(STOP_SECONDS, first=stage.let_go)
        stage.stop()

    try:
        return serve(
            app,
            queues=[broker.IDLE_QUEUE],
            concurrency=concurrency or MOST,
            name=stage.ledger.owner.replace(":", "-"),
            on_stop=stop,
            steps=[affinity],
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
    """Build reports, and judge what studies want judged, until told to stop. Returns the exit status.

    ``tasks`` is ``reports`` or ``judging`` where it is to do that alone; the others are as for a worker.
    """
    from defsurvey.jobs.daemons.reports import warm
    from defsurvey.jobs.daemons.tasks import register_judging, register_reports
    from defsurvey.workers.runner.daemon import end_with_parent, serve
    from defsurvey.workers.runner.watchdog import STOP_SECONDS, end_after

    startup.log_to_stderr()
    database, app = startup.open_database(settings), _app(settings)
    register_reports(app, database, settings.reports, client_of(app.conf.broker_url))
    leaving = threading.Event()
    register_judging(app, settings, database, only=only, device=device, leaving=leaving.is_set)

    def stop() -> None:
        end_after(STOP_SECONDS, first=lambda: None)
        leaving.set()

    if parent is not None:
        end_with_parent(parent, lambda: None)
        # A run's own reporter will have a report to build, and nothing to do until then.
        threading.Thread(target=warm, name="warm", daemon=True).start()
    role = "judge" if tasks == "judging" else "reporter"
    queues = {"reports": [broker.REPORTS_QUEUE], "judging": [broker.JUDGE_QUEUE]}
    try:
        return serve(
            app,
            queues=queues[tasks] if tasks else [*queues["reports"], *queues["judging"]],
            concurrency=2,  # one run at a time is judged, so that a report never waits for a judge
            name=f"{role}-{lease_owner().replace(':', '-')}",
            on_stop=stop,
            steps=[startup.beating_step(startup.Pulse(settings, role))],
            events=events,
        )
    finally:
        database.close()


def reconciler(settings: Settings) -> int:
    """Reconcile until told to stop. Returns the exit status."""
    from defsurvey.jobs.daemons.reconciler import Reconciler

    startup.log_to_stderr()
    stop = threading.Event()
    with startup.open_database(settings) as database:
        app = _app(settings)
        startup.when_told_to_end(lambda *_: stop.set())
        beat = startup.Pulse(settings, "reconciler").beat
        reconciling = Reconciler(database=database, app=app, broker=client_of(app.conf.broker_url), on_pass=beat)
        if settings.broker_url is None:
            reconciling.revive = EmbeddedBroker(settings.home).ensure
        reconciling.run(stop)
    return 0


def flower(settings: Settings, *, address: tuple[str, int]) -> None:
    """Show the queue in a browser, at a host and port, until told to stop; raises FlowerMissing."""
    if find_spec("flower") is None:
        raise FlowerMissing("Flower is not installed: .venv/bin/pip install -e '.[monitoring]', in the clone")
    startup.log_to_stderr()
    logging.getLogger("flower.inspector").setLevel(logging.ERROR)  # workers take no remote control, questions included
    host, port = address
    forget = "--purge_offline_workers=3600"  # each start of a worker has a name, and series, of its own
    _app(settings).start(["flower", f"--address={host}", f"--port={port}", forget, "--conf=/dev/null"])
