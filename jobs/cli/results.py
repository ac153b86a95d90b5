"""Verbs about what came out, and those that keep it: report, export, bundle, backup."""

from __future__ import annotations

import io
import sys
from functools import partial
from pathlib import Path

import click

from defsurvey.jobs.cli.options import FILE, FOLDER, RUN, looked_up, opened
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import written_to
from defsurvey.storage.files import open_already, write_whole
from defsurvey.storage.text import visible


@click.command()
@click.argument("run_ids", type=looked_up, metavar="[RUN]...", nargs=-1)
@click.option("--output", type=FOLDER, metavar="DIR", help="Write it there.")
@click.option("--readings", is_flag=True, help="Count answers that people have read (defsurvey review) as they did.")
@click.pass_obj
def report(settings: Settings, run_ids: tuple[str, ...], output: Path | None, readings: bool) -> None:
    """The paths of a run's report, built now if the ledger has moved on since; the newest run where none is named.

    Several runs of one preset make one report together if they asked the same questions of one survey, or have neither
    a culture nor a question in common.
    """
    from defsurvey.jobs import results
    from defsurvey.jobs.progress import named_or_newest
    from defsurvey.reports.merge import CannotMerge

    if readings and len(run_ids) > 1:
        raise click.UsageError("--readings is for the report of one run")
    with opened(settings) as database, written_to("--output", output):
        if len(run_ids) > 1:
            try:
                joint = results.joint_report(settings, database, run_ids, output)
            except CannotMerge as error:
                raise click.UsageError(str(error)) from error
            click.echo(f"{joint.html}\n{joint.markdown}")
        else:
            named = named_or_newest(database, run_ids[0] if run_ids else None)
            built = results.current_report(settings, database, named, output, readings=readings)
            click.echo(f"{built.html}\n{built.markdown}")


@click.command()
@RUN
@click.option("--format", "kind", type=click.Choice(["csv", "jsonl", "parquet"]), default="csv", show_default=True)
@click.option("--output", type=FILE, metavar="FILE", help="stdout if not given.")
@click.option("--metrics", is_flag=True, help="Every figure of the report, in place of the answers.")
@click.option("--probabilities", is_flag=True, help="What condition first-token found, in place of the answers.")
@click.option("--telemetry", is_flag=True, help="Add worker, time and attempt of every answer.")
@click.pass_obj
def export(
    settings: Settings, run_id: str, kind: str, output: Path | None, metrics: bool, probabilities: bool, telemetry: bool
) -> None:
    """A run's answers, one row each, ordered by key, or its metrics; equal runs export equal bytes."""
    from defsurvey.jobs import results

    if output is None and kind == "parquet":
        raise click.UsageError("--format parquet is binary: name a file by --output")
    if metrics and probabilities:
        raise click.UsageError("--metrics and --probabilities: expected one of them, a file holds one kind of row")
    if telemetry and (metrics or probabilities):
        raise click.UsageError("--telemetry is of answers: a metric or a probability has no worker and no time")
    with opened(settings) as database:
        of = "metrics" if metrics else "probabilities" if probabilities else "answers"
        write = partial(results.export, database, run_id, kind, of=of, telemetry=telemetry)
        if output is not None:
            with written_to("--output", output):
                write_whole(output, write)
            click.echo(output, err=open_already(output) is not None)  # not after what was written
        elif sys.stdout.isatty():  # replies of models, which could write on a terminal what they like
            shown = io.BytesIO()
            write(shown)
            click.echo(visible(shown.getvalue().decode()), nl=False)
        else:
            write(sys.stdout.buffer)


@click.group()
def bundle() -> None:
    """Move a run between machines: export, import."""


@bundle.command("export")
@RUN
@click.argument("file", type=FILE, metavar="FILE")
@click.pass_obj
def bundle_export(settings: Settings, run_id: str, file: Path) -> None:
    """Write a run, with its survey and every answer, to one file."""
    from defsurvey.storage.runs.archive import export_bundle

    with opened(settings) as database, written_to("FILE", file):
        answers = export_bundle(database, run_id, file)
    click.echo(f"{file}: {run_id} with {answers:,} answers", err=open_already(file) is not None)


@bundle.command("import")
@click.argument("file", type=FILE, metavar="FILE")
@click.pass_obj
def bundle_import(settings: Settings, file: Path) -> None:
    """Read a run from such a file; prints its id."""
    from defsurvey.jobs.results import import_bundle

    with opened(settings, make=True) as database:
        click.echo(import_bundle(database, file))


@click.command()
@click.argument("file", type=FILE, metavar="FILE")
@click.pass_obj
def backup(settings: Settings, file: Path) -> None:
    """Copy the SQLite database to FILE, also while workers write to it; put in its place, the copy restores it."""
    with opened(settings) as database, written_to("FILE", file):
        write_whole(file, database.backup)
    click.echo(file)


VERBS = (report, export, bundle, backup)
