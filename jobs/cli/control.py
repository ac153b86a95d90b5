"""The command line's verbs that steer a run, or keep it: cancel, retry, backup, bundle."""

from __future__ import annotations

from pathlib import Path

import click

from defsurvey.jobs.cli.options import FILE, NAMES, RUN
from defsurvey.jobs.settings import Settings

#: What can be asked again: states of answers, and answers that are missing.
RETRIABLE = ("failed", "unparsable", "refused", "missing")


@click.command()
@RUN
@click.pass_obj
def cancel(settings: Settings, run_id: str) -> None:
    """Stop a run where it stands; resume takes it up again."""
    from defsurvey.jobs.cli import verbs
    from defsurvey.jobs.daemons.startup import open_existing

    with open_existing(settings) as database:
        done = verbs.cancel(database, run_id)
    if done:
        said = f"is cancelled; workers let go of it within half a minute; go on: defsurvey resume {run_id}"
    else:
        said = "is finished: nothing was cancelled"
    click.echo(f"{run_id} {said}")


@click.command()
@RUN
@click.option(
    "--state", type=NAMES, default="failed", show_default=True, metavar="A,B", help=f"Of {', '.join(RETRIABLE)}."
)
@click.option("--rewind", is_flag=True, help="Take back everything from the first such answer on, and ask it anew.")
@click.pass_obj
def retry(settings: Settings, run_id: str, state: tuple[str, ...], rewind: bool) -> None:
    """Ask answers again that ended in a state; each from the memory it was shown, or by --rewind in sequence."""
    from defsurvey.jobs.cli import verbs
    from defsurvey.jobs.daemons.startup import open_existing

    unknown = [name for name in state if name not in RETRIABLE]
    if unknown:
        raise click.UsageError(f"--state: expected one or more of {', '.join(RETRIABLE)}, got {', '.join(unknown)}")
    with open_existing(settings) as database:
        done = verbs.retry(settings, database, run_id, states=state, rewind=rewind)
        waiting = verbs.unpublished(settings, database, run_id)
    if done:
        click.echo(f"{run_id}: {done} to be asked again; work on them here: defsurvey resume {run_id} --wait")
    else:
        click.echo(f"{run_id}: nothing to ask again, no answer of it is {' or '.join(state)}")
    if waiting and settings.broker_url is not None:  # a broker of our own is started by the command just named
        click.echo(waiting, err=True)


@click.group()
def bundle() -> None:
    """Move a run between machines: export, import."""


@bundle.command("export")
@RUN
@click.argument("file", type=FILE, metavar="FILE")
@click.pass_obj
def bundle_export(settings: Settings, run_id: str, file: Path) -> None:
    """Write a run, with its survey and every answer, to one file."""
    from defsurvey.jobs.daemons.startup import open_existing
    from defsurvey.jobs.system import written_to
    from defsurvey.storage.runs.bundle import export_bundle
    from defsurvey.storage.whole_file import open_already

    with open_existing(settings) as database, written_to("FILE", file):
        answers = export_bundle(database, run_id, file)
    said = f"{file}: {run_id} with {answers:,} answers"
    click.echo(said, err=open_already(file) is not None)  # not behind what was written


@bundle.command("import")
@click.argument("file", type=FILE, metavar="FILE")
@click.pass_obj
def bundle_import(settings: Settings, file: Path) -> None:
    """Read a run from such a file; prints its id."""
    from defsurvey.jobs.daemons.startup import open_database
    from defsurvey.storage.runs.bundle import import_bundle

    with open_database(settings) as database:
        click.echo(import_bundle(database, file))


@click.command()
@click.argument("file", type=FILE, metavar="FILE")
@click.pass_obj
def backup(settings: Settings, file: Path) -> None:
    """Copy the SQLite database to FILE, also while workers write to it; put in its place, the copy restores it."""
    from defsurvey.jobs.daemons.startup import open_existing
    from defsurvey.jobs.system import written_to
    from defsurvey.storage.whole_file import write_whole

    with open_existing(settings) as database, written_to("FILE", file):
        write_whole(file, database.backup)
    click.echo(file)


VERBS = (cancel, retry, backup, bundle)
