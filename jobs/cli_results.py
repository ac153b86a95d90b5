"""The command line's verbs about what came out: report, export."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from jobs.settings import Settings


@click.command()
@click.argument("run_id", metavar="RUN", required=False)
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write it there.")
@click.pass_obj
def report(settings: Settings, run_id: str | None, output: Path | None) -> None:
    """The paths of a run's report, built now if the ledger has moved on since; the newest run where none is named."""
    from jobs import results, verbs
    from jobs.serving import open_database

    with open_database(settings) as database:
        built = results.current_report(settings, database, verbs.named_or_newest(database, run_id), output)
    click.echo(built.html)
    click.echo(built.markdown)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--format", "kind", type=click.Choice(["csv", "jsonl", "parquet"]), default="csv", show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="stdout if not given.")
@click.option("--telemetry", is_flag=True, help="Add worker, time and attempt of every answer.")
@click.pass_obj
def export(settings: Settings, run_id: str, kind: str, output: Path | None, telemetry: bool) -> None:
    """A run's answers, one row each, ordered by key; equal runs export equal bytes."""
    from jobs import results
    from jobs.serving import open_database

    if output is None and kind == "parquet":
        raise click.UsageError("--format parquet is binary: name a file by --output")
    with open_database(settings) as database:
        if output is None:
            results.export(database, run_id, kind, sys.stdout.buffer, telemetry=telemetry)
        else:
            results.export_to(database, run_id, kind, output, telemetry=telemetry)
            click.echo(output)


VERBS = (report, export)
