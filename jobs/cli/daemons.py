"""Verbs that serve until they are told to stop, and those that look after an installation."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, NoReturn

import click

from defsurvey.jobs.cli import options
from defsurvey.jobs.cli.options import CONCURRENCY, DEVICE, JSON, SETTINGS, taking, text
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import DONE, ERROR, UNAVAILABLE, USAGE

log = logging.getLogger(__name__)

_SECONDS = click.FloatRange(min=0)
_PATIENCE = "How long to wait for a database that does not answer yet."
_PARENT = click.option("--parent", type=int, hidden=True)
_ONLY = click.option("--only", type=text, metavar="RUN", hidden=True)
_EVENTS = click.option("--events", is_flag=True, help="Send Celery's events, which `defsurvey flower` shows.")


@click.command()
@DEVICE
@options.listing("--models", metavar="A,B", help="Only these models; all where not given.")
@CONCURRENCY
@options.counting("--threads", help="CPU threads of a model; all where not given.")
@click.option("--profile", "profiled", is_flag=True, help="Log where a model's time went, when it is given up.")
@click.option(
    "--metrics",
    type=options.address,
    metavar="[HOST:]PORT",
    help="Show metrics to Prometheus there; on this machine alone without HOST.",
)
@_EVENTS
@click.option("--stay", is_flag=True, help="Where starting again would mend nothing, stay idle and unhealthy.")
@taking(_ONLY, _PARENT, SETTINGS)
def worker(settings: Settings, /, stay: bool, **options: Any) -> NoReturn:
    """Simulate participants until told to stop (SIGTERM)."""
    from defsurvey.jobs.daemons import serving

    work = partial(serving.worker, settings, **options)
    sys.exit(stay_idle(work) if stay else work())


def stay_idle(work: Callable[[], int]) -> int:
    """Do a daemon's work; where it ends for a reason that starting again cannot mend, wait to be told to end."""
    from defsurvey.jobs.daemons.startup import when_told_to_end
    from defsurvey.storage.errors import BadInput
    from defsurvey.storage.schema import OtherSchema

    try:
        status = work()
        if status not in (USAGE, UNAVAILABLE):
            return status
    except (BadInput, OtherSchema) as error:
        log.error("%s", error)
        status = USAGE if isinstance(error, BadInput) else ERROR
    stopped = threading.Event()
    when_told_to_end(lambda *_: stopped.set())
    log.critical(
        "to be started again would not mend this: it stays idle and unhealthy until it is stopped or restarted"
    )
    stopped.wait()
    return status


@click.command()
@DEVICE
@click.option(
    "--tasks",
    type=click.Choice(["reports", "judging"]),
    help="Only build reports, or only judge; both where not given.",
)
@taking(_EVENTS, _ONLY, _PARENT, SETTINGS)
def reporter(settings: Settings, /, **options: Any) -> NoReturn:
    """Build the reports of finished runs, and judge those that name a judge, until told to stop."""
    from defsurvey.jobs.daemons import serving

    sys.exit(serving.reporter(settings, **options))


@click.command()
@click.pass_obj
def reconciler(settings: Settings) -> NoReturn:
    """Publish again what the broker lost, until told to stop."""
    from defsurvey.jobs.daemons import serving

    sys.exit(serving.reconciler(settings))


@click.command()
@click.option("--address", type=options.address, metavar="[HOST:]PORT", default="5555", show_default=True)
@click.pass_obj
def flower(settings: Settings, address: tuple[str, int]) -> None:
    """Show workers and tasks in a browser, until told to stop; needs the extra `monitoring`."""
    from defsurvey.jobs.daemons import serving

    serving.flower(settings, address=address)


@click.command()
@click.option("--patience", type=_SECONDS, metavar="SECONDS", default=60.0, show_default=True, help=_PATIENCE)
@click.pass_obj
def migrate(settings: Settings, patience: float) -> None:
    """Bring the database to the schema of this version; harmless where it is there already."""
    from defsurvey.jobs.daemons.startup import migrate_when_up

    click.echo(f"database schema: {migrate_when_up(settings, patience=patience)}")


@click.command()
@click.argument("role", type=click.Choice(["worker", "reporter", "judge", "reconciler"]))
@click.pass_obj
def healthy(settings: Settings, role: str) -> None:
    """Whether this host's daemon of that role lives and works: 0 or 1.

    It looks at the age of a file that the daemon touches, as the health checks of compose.yaml do without Python.
    """
    from defsurvey.jobs.daemons.startup import Pulse

    pulse = Pulse(settings, role)
    well = pulse.is_well()
    click.echo(pulse, err=not well)
    sys.exit(DONE if well else ERROR)


@click.command()
@JSON
@click.pass_obj
def doctor(settings: Settings, as_json: bool) -> None:
    """Whether this machine has what runs need, and what to do where it has not; 1 where none can go on."""
    from defsurvey.jobs.doctor import BAD, examine

    found = []
    for finding in examine(settings):  # each is printed as soon as it is there
        found.append(asdict(finding))
        if not as_json:
            click.echo(str(finding))
    well = all(finding["state"] != BAD for finding in found)
    if as_json:
        options.print_json({"well": well, "findings": found})
    sys.exit(DONE if well else ERROR)


VERBS = (worker, reporter, reconciler, flower, migrate, healthy, doctor)
