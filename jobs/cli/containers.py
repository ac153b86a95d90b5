"""The command line's verbs that containers need: migrate, healthy."""

from __future__ import annotations

import sys

import click

from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import DONE, ERROR


@click.command()
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a database that does not answer yet.",
)
@click.pass_obj
def migrate(settings: Settings, patience: float) -> None:
    """Bring the database to the schema of this version; harmless where it is there already."""
    from defsurvey.jobs.daemons import startup

    click.echo(f"database schema: {startup.migrate_when_up(settings, patience=patience)}")


@click.command()
@click.argument("role", type=click.Choice(["worker", "reporter", "judge", "reconciler"]))
@click.pass_obj
def healthy(settings: Settings, role: str) -> None:
    """Whether this host's daemon of that role lives and works: 0 or 1.

    It looks at the age of a file that the daemon touches, as the health checks of compose.yaml do without Python.
    """
    from defsurvey.jobs.daemons.health import look

    health = look(settings, role)
    click.echo(health, err=not health.well)
    sys.exit(DONE if health.well else ERROR)


VERBS = (migrate, healthy)
