"""The command line's verb that asks whether models know a survey: contamination."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from jobs.cli_device import DEVICE
from jobs.settings import Settings


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--models", default="", metavar="A,B", help="Only these of the run; all by default.")
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.pass_obj
def contamination(settings: Settings, run_id: str, models: str, device: str, as_json: bool) -> None:
    """Ask a run's models what they know of its survey; the report then says it. Typed again, it goes on.

    Exit code 3: some questions could not be asked.
    """
    from jobs import verbs
    from jobs.contamination import check_contamination
    from jobs.serving import open_database
    from jobs.tasks import write_report

    chosen = [name.strip() for name in models.split(",") if name.strip()]
    console = verbs.console(stderr=True)
    with open_database(settings) as database:
        done = check_contamination(settings, database, run_id, models=chosen, device=device, console=console)
        built = write_report(database, run_id, settings.reports / run_id)
    if as_json:
        click.echo(json.dumps({"run": run_id, **asdict(done), "report": str(built.html)}, ensure_ascii=False, indent=2))
    else:
        for failure in done.failures:
            click.echo(f"failed: {failure}")
        click.echo(f"{run_id}: {done.there} of {done.wanted} probes, {done.asked} of them new")
        click.echo(f"report: {built.html}")
    if done.there < done.wanted:
        sys.exit(3)


VERBS = (contamination,)
