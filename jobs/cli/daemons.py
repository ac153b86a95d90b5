"""The command line's verbs that serve until they are told to stop: worker, reporter, reconciler, flower."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from defsurvey.jobs.cli.device import DEVICE
from defsurvey.jobs.cli.options import NAMES, TEXT
from defsurvey.jobs.settings import Settings

PARENT = click.option("--parent", type=int, hidden=True)
ONLY = click.option("--only", type=TEXT, metavar="RUN", hidden=True)
CONCURRENCY = click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    help="Participants at once in each worker; where not given, as many as the model leaves memory for.",
)
TASKS = click.option(
    "--tasks",
    type=click.Choice(["reports", "judging"]),
    help="Only build reports, or only judge; both where not given.",
)
EVENTS = click.option("--events", is_flag=True, help="Send Celery's events, which `defsurvey flower` shows.")


def _address(_ctx: click.Context, _option: click.Parameter, text: str | None) -> tuple[str, int] | None:
    """``[HOST:]PORT`` as host and port; on this machine alone where no host is given."""
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise click.BadParameter(f"expected [HOST:]PORT with a port from 1 to 65535, got {text!r}")
    return host.strip("[]") or "127.0.0.1", int(port)


@click.command()
@DEVICE
@click.option("--models", type=NAMES, metavar="A,B", help="Only these models; all where not given.")
@CONCURRENCY
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of a model; all where not given.")
@click.option("--profile", is_flag=True, help="Log where a model's time went, when it is given up.")
@click.option(
    "--metrics",
    callback=_address,
    metavar="[HOST:]PORT",
    help="Show metrics to Prometheus there; on this machine alone without HOST.",
)
@EVENTS
@click.option("--stay", is_flag=True, help="Where starting again would mend nothing, stay idle and unhealthy.")
@ONLY
@PARENT
@click.pass_obj
def worker(
    settings: Settings,
    device: str,
    models: tuple[str, ...] | None,
    concurrency: int | None,
    threads: int | None,
    profile: bool,
    metrics: tuple[str, int] | None,
    events: bool,
    stay: bool,
    only: str | None,
    parent: int | None,
) -> NoReturn:
    """Simulate participants until told to stop (SIGTERM)."""
    from defsurvey.jobs.cli import crash_loop_guard as staying
    from defsurvey.jobs.daemons import serving

    def work() -> int:
        return serving.worker(
            settings,
            device=device,
            models=models or (),
            concurrency=concurrency,
            threads=threads,
            profiled=profile,
            metrics=metrics,
            events=events,
            only=only,
            parent=parent,
        )

    sys.exit(staying.stay(work) if stay else work())


@click.command()
@DEVICE
@TASKS
@EVENTS
@ONLY
@PARENT
@click.pass_obj
def reporter(
    settings: Settings, device: str, tasks: str | None, events: bool, only: str | None, parent: int | None
) -> NoReturn:
    """Build the reports of finished runs, and judge those that name a judge, until told to stop."""
    from defsurvey.jobs.daemons import serving

    sys.exit(serving.reporter(settings, device=device, tasks=tasks, events=events, only=only, parent=parent))


@click.command()
@click.pass_obj
def reconciler(settings: Settings) -> NoReturn:
    """Publish again what the broker lost, until told to stop."""
    from defsurvey.jobs.daemons import serving

    sys.exit(serving.reconciler(settings))


@click.command()
@click.option("--address", callback=_address, metavar="[HOST:]PORT", default="5555", show_default=True)
@click.pass_obj
def flower(settings: Settings, address: tuple[str, int]) -> None:
    """Show workers and tasks in a browser, until told to stop; needs the extra `monitoring`."""
    from defsurvey.jobs.daemons import serving

    serving.flower(settings, address=address)


VERBS = (worker, reporter, reconciler, flower)
