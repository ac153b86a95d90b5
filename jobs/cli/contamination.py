"""The command line's verb that asks whether models know a survey: contamination."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from defsurvey.jobs.cli.device import DEVICE
from defsurvey.jobs.cli.options import JSON, NAMES, RUN, print_json
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import INCOMPLETE


@click.command()
@RUN
@click.option("--models", type=NAMES, metavar="A,B", help="Only these of the run; all by default.")
@DEVICE
@JSON
@click.pass_obj
def contamination(settings: Settings, run_id: str, models: tuple[str, ...] | None, device: str, as_json: bool) -> None:
    """Ask a run's models what they know of its survey; the report then says it. Typed again, it goes on.

    Exit code 3: some questions could not be asked.
    """
    from defsurvey.jobs.cli import verbs
    from defsurvey.jobs.daemons.reports import write_report
    from defsurvey.jobs.daemons.startup import open_existing
    from defsurvey.jobs.judging.contamination import check_contamination
    from defsurvey.storage.paths import path_under

    console = verbs.console(stderr=True)
    with open_existing(settings) as database:
        done = check_contamination(settings, database, run_id, models=models or (), device=device, console=console)
        built = write_report(database, run_id, path_under(settings.reports, run_id))
    if as_json:
        print_json({"run": run_id, **asdict(done), "report": str(built.html)})
    else:
        for failure in done.failures:
            click.echo(f"failed: {failure}")
        click.echo(f"{run_id}: {done.there} of {done.wanted} probes, {done.asked} of them new")
        click.echo(f"report: {built.html}")
    if done.there < done.wanted:
        sys.exit(INCOMPLETE)


VERBS = (contamination,)
