"""The command line's verb for a person: review."""

from __future__ import annotations

import getpass
import sys

import click

from defsurvey.jobs.cli.options import RUN, TEXT
from defsurvey.jobs.settings import Settings


@click.command()
@RUN
@click.option("--reader", type=TEXT, metavar="NAME", help="Under which name readings are kept; yours on this machine.")
@click.pass_obj
def review(settings: Settings, run_id: str, reader: str | None) -> None:
    """Read the answers that the program could not read; kept beside them, and in a report only by --readings."""
    from defsurvey.jobs.cli.verbs import console
    from defsurvey.jobs.daemons.reports import write_report
    from defsurvey.jobs.daemons.startup import open_existing
    from defsurvey.jobs.judging import people as reviewing
    from defsurvey.storage.paths import path_under

    if not sys.stdin.isatty():
        raise click.UsageError("review is for a person at a terminal: stdin is none")
    with open_existing(settings) as database:
        done = reviewing.review(
            database, run_id, reader=reader or getpass.getuser(), key=click.getchar, console=console()
        )
        if done.read:  # the report says how many answers people have read
            write_report(database, run_id, path_under(settings.reports, run_id))
    click.echo(f"{run_id}: {done.read} read, {done.skipped} skipped, {done.left} left to read")
    if done.read:
        click.echo(f"with them: defsurvey report {run_id} --readings")


VERBS = (review,)
