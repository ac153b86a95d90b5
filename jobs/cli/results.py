"""The command line's verbs about what came out: report, export."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import IO

import click

from defsurvey.jobs.cli.options import FILE, FOLDER, RUN, Text
from defsurvey.jobs.settings import Settings


@click.command()
@click.argument("run_ids", type=Text(empty=True), metavar="[RUN]...", nargs=-1)
@click.option("--output", type=FOLDER, metavar="DIR", help="Write it there.")
@click.option("--readings", is_flag=True, help="Count answers that people have read (defsurvey review) as they did.")
@click.pass_obj
def report(settings: Settings, run_ids: tuple[str, ...], output: Path | None, readings: bool) -> None:
    """The paths of a run's report, built now if the ledger has moved on since; the newest run where none is named.

    Several runs of one preset make one report together if they asked the same questions of one survey, or have neither
    a culture nor a question in common.
    """
    from defsurvey.jobs import results
    from defsurvey.jobs.cli import verbs
    from defsurvey.jobs.daemons.startup import open_existing
    from defsurvey.jobs.system import written_to
    from defsurvey.reports.merge import CannotMerge

    if readings and len(run_ids) > 1:
        raise click.UsageError("--readings is for the report of one run")
    with open_existing(settings) as database, written_to("--output", output):
        if len(run_ids) > 1:
            try:
                paths = results.joint_report(settings, database, run_ids, output)
            except CannotMerge as error:
                raise click.UsageError(str(error)) from error
            click.echo(paths.html)
            click.echo(paths.markdown)
            return
        named = verbs.named_or_newest(database, run_ids[0] if run_ids else None)
        built = results.current_report(settings, database, named, output, readings=readings)
    click.echo(built.html)
    click.echo(built.markdown)


@click.command()
@RUN
@click.option("--format", "kind", type=click.Choice(["csv", "jsonl", "parquet"]), default="csv", show_default=True)
@click.option("--output", type=FILE, metavar="FILE", help="stdout if not given.")
@click.option("--metrics", is_flag=True, help="Every figure of the report, in place of the answers.")
@click.option("--probabilities", is_flag=True, help="What condition first-token found, in place of the answers.")
@click.option("--telemetry", is_flag=True, help="Add worker, time and attempt of every answer.")
@click.pass_obj
def export(
    settings: Settings,
    run_id: str,
    kind: str,
    output: Path | None,
    metrics: bool,
    probabilities: bool,
    telemetry: bool,
) -> None:
    """A run's answers, one row each, ordered by key, or its metrics; equal runs export equal bytes."""
    from defsurvey.jobs import results
    from defsurvey.jobs.daemons.startup import open_existing
    from defsurvey.jobs.system import written_to
    from defsurvey.storage.visible import visible

    if output is None and kind == "parquet":
        raise click.UsageError("--format parquet is binary: name a file by --output")
    if metrics and probabilities:
        raise click.UsageError("--metrics and --probabilities: expected one of them, a file holds one kind of row")
    if telemetry and (metrics or probabilities):
        raise click.UsageError("--telemetry is of answers: a metric or a probability has no worker and no time")
    with open_existing(settings) as database:

        def write(target: IO[bytes]) -> None:
            if metrics:
                results.export_metrics(database, run_id, kind, target)
            elif probabilities:
                results.export_probabilities(database, run_id, kind, target)
            else:
                results.export(database, run_id, kind, target, telemetry=telemetry)

        if output is None and sys.stdout.isatty():  # replies of models, which could write on a terminal what they like
            shown = io.BytesIO()
            write(shown)
            click.echo(visible(shown.getvalue().decode()), nl=False)
        elif output is None:
            write(sys.stdout.buffer)
        else:
            with written_to("--output", output):
                results.write_whole(output, write)
            click.echo(output, err=results.open_already(output) is not None)  # not behind what was written


VERBS = (report, export)
