"""The command line: verbs only, no logic.

Each verb reads its options, calls one function and prints. Everything heavier than click is
imported by the verb that needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from defsurvey.jobs.cli.daemons import CONCURRENCY
from defsurvey.jobs.cli.device import DEVICE
from defsurvey.jobs.cli.options import JSON, NAME, NAMES, RUN, STUDY, Dollars, Text, print_json
from defsurvey.jobs.cli.terminal import open_closed, write_whatever
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import DONE, INCOMPLETE, INTERRUPTED

if TYPE_CHECKING:
    from defsurvey.jobs.progress.snapshot import Snapshot
    from defsurvey.storage.database import Database


class Verbs(click.Group):
    """The verbs, and the one place where an error becomes a line and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Begin with three streams, whoever closed one of them before."""
        open_closed()
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; expected errors become one line on stderr."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted; what was committed is kept: defsurvey resume goes on", err=True)
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from defsurvey.jobs.cli.exits import exit_code, in_words

            code = exit_code(error)
            if code is None:
                raise
            click.echo(f"defsurvey: {in_words(error, ctx.obj)}", err=True)
            ctx.exit(code)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="defsurvey")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Language models answer surveys as simulated citizens; a report compares them with what people answered."""
    # The interpreter's last search for cycles finds nothing that matters: half a second where a report was built.
    atexit.register(gc.freeze)
    write_whatever()
    ctx.obj = Settings.from_environment(os.environ)


@main.command()
@STUDY
@NAME
@click.option("--pilot", type=click.IntRange(min=1), metavar="N", help="Only the first N participants of each cell.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Worker processes.")
@CONCURRENCY
@DEVICE
@JSON
@click.pass_obj
def run(
    settings: Settings,
    study: Path,
    name: str | None,
    pilot: int | None,
    workers: int,
    concurrency: int | None,
    device: str,
    as_json: bool,
) -> NoReturn:
    """Enqueue, work and report on this machine. The same command continues a run that was interrupted or piloted."""
    from defsurvey.jobs.cli import verbs

    settings = settings.for_study(study)
    wanted = verbs.read(settings, study, name=name, pilot=pilot)
    options = _worker_options(concurrency, device)
    with _database(settings) as database:
        ended = verbs.run_here(settings, database, wanted, workers=workers, worker_options=options)
    _finish(ended, as_json=as_json)


@main.command()
@STUDY
@NAME
@JSON
@click.pass_obj
def enqueue(settings: Settings, study: Path, name: str | None, as_json: bool) -> None:
    """Write a run and publish its messages; prints the run's id."""
    from defsurvey.jobs.cli import verbs

    settings = settings.for_study(study)
    wanted = verbs.read(settings, study, name=name)
    with _database(settings) as database:
        done = verbs.enqueue(settings, database, wanted)
        notes = [verbs.keyless(settings, wanted), verbs.unpublished(settings, database, done.run)]
    if as_json:
        print_json({"run": done.run, "added": done.added, "published": done.published, "waiting": done.waiting})
        return
    click.echo(done.run)
    for note in filter(None, notes):
        click.echo(note, err=True)


@main.command()
@RUN
@click.option(
    "--participants", type=click.IntRange(min=1), metavar="N", help="Participants per cell, old ones counted."
)
@click.option("--models", type=NAMES, metavar="A,B", help="Further models.")
@JSON
@click.pass_obj
def extend(
    settings: Settings, run_id: str, participants: int | None, models: tuple[str, ...] | None, as_json: bool
) -> None:
    """Add participants or models to a run under the same seed, then publish their messages."""
    from defsurvey.jobs.cli import verbs

    if participants is None and not models:
        raise click.UsageError("extend needs --participants or --models")
    with _existing(settings) as database:
        wanted = verbs.extended(settings, database, run_id, participants=participants, models=models or ())
        done = verbs.enqueue(settings, database, wanted, extend=True)
        waiting = verbs.unpublished(settings, database, run_id)
    if as_json:
        print_json({"run": done.run, "added": done.added, "published": done.published, "waiting": done.waiting})
    elif done.added:
        click.echo(f"{done.run}: {done.added} participants added; work on them: defsurvey resume {done.run} --wait")
    else:
        click.echo(f"{done.run}: nothing added, it has these participants and models already")
    if waiting and settings.broker_url is not None:  # a broker of our own is started by the command just named
        click.echo(waiting, err=True)


@main.command()
@RUN
@click.option("--wait", is_flag=True, help="Work on it on this machine until it is done.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Worker processes.")
@CONCURRENCY
@DEVICE
@click.option("--budget", type=Dollars(), metavar="USD", help="In place of the old one.")
@JSON
@click.pass_obj
def resume(
    settings: Settings,
    run_id: str,
    wait: bool,
    workers: int,
    concurrency: int | None,
    device: str,
    budget: float | None,
    as_json: bool,
) -> None:
    """Go on with a run: publish again what is unfinished. A finished run says so."""
    given = click.get_current_context().get_parameter_source
    for option in ("workers", "concurrency", "device") if not wait else ():
        if given(option) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{option} is for workers of this command: it needs --wait")
    from defsurvey.jobs.cli import verbs
    from defsurvey.jobs.progress.progress import set_aside, snapshot

    with _existing(settings) as database:
        if budget is not None:
            verbs.set_budget(settings, database, run_id, budget)
        now = snapshot(database, run_id)
        if now.state == "finished" and now.reported:
            verbs.uncancel(database, run_id)  # so that workers take what extend or retry add to it
            click.echo(f"{run_id} is finished; {set_aside(now) or 'nothing to do'}", err=True)
            _finish(verbs.with_report(settings, database, now), as_json=as_json)
        if wait:
            options = _worker_options(concurrency, device)
            ended = verbs.resume_here(settings, database, run_id, workers=workers, worker_options=options)
            _finish(ended, as_json=as_json)
        again = verbs.resume(settings, database, run_id)
        idle = not verbs.has_worker(settings, database)
        waiting = verbs.unpublished(settings, database, run_id)
    if as_json:
        print_json({"run": run_id, "published": again})
    else:
        click.echo(f"{run_id}: {again} messages published")
    if waiting and settings.broker_url is not None:
        click.echo(waiting, err=True)
    elif idle:
        click.echo(f"nothing is working on it; work on it here: defsurvey resume {run_id} --wait", err=True)


@main.command()
@click.argument("run_id", type=Text(empty=True), metavar="[RUN]", required=False)
@click.option("--watch", is_flag=True, help="Show progress until the run is finished.")
@JSON
@click.pass_obj
def status(settings: Settings, run_id: str | None, watch: bool, as_json: bool) -> None:
    """How far a run has come; the newest where none is named."""
    from defsurvey.jobs.cli import verbs
    from defsurvey.jobs.progress import progress

    with _existing(settings) as database:
        chosen = verbs.named_or_newest(database, run_id)
        if watch:
            now = verbs.watch_run(database, chosen, verbs.console(stderr=as_json))
        else:
            now = progress.snapshot(database, chosen)
        before = verbs.waits_behind(settings, database, now)
    dead = verbs.dead_letters(settings)
    if as_json:
        print_json({**now.to_json(), "behind": before, "dead_letters": dead})
    elif not watch:
        verbs.console().print(progress.render(now, now.rate_per_second))
        if before:
            click.echo(progress.behind_line(now.run, before))
        if dead:
            click.echo(progress.dead_letters_line(dead))
        click.echo(progress.report_line(now))


def _database(settings: Settings) -> Database:
    from defsurvey.jobs.daemons.startup import open_database

    return open_database(settings)


def _existing(settings: Settings) -> Database:
    from defsurvey.jobs.daemons.startup import open_existing

    return open_existing(settings)


def _worker_options(concurrency: int | None, device: str) -> list[str]:
    """What ``defsurvey worker`` is given by the verbs that start it."""
    return ["--device", device, *(["--concurrency", str(concurrency)] if concurrency else [])]


def _finish(ended: Snapshot, *, as_json: bool) -> NoReturn:
    from defsurvey.jobs.progress.progress import report_line

    if as_json:
        print_json(ended.to_json())
    else:
        click.echo(report_line(ended))
    if ended.state == "budget reached":
        told = f"{ended.spent:.2f} of {ended.budget:.2f} US dollars are spent"
        click.echo(f"{ended.run}: {told}; go on with: defsurvey resume {ended.run} --wait --budget USD", err=True)
    sys.exit(DONE if ended.complete else INCOMPLETE)


def _register() -> None:
    from defsurvey.jobs.cli import (
        catalogue as cli_catalogue,
    )
    from defsurvey.jobs.cli import (
        containers as cli_containers,
    )
    from defsurvey.jobs.cli import (
        contamination as cli_contamination,
    )
    from defsurvey.jobs.cli import (
        control as cli_control,
    )
    from defsurvey.jobs.cli import (
        daemons as cli_daemons,
    )
    from defsurvey.jobs.cli import (
        doctor as cli_doctor,
    )
    from defsurvey.jobs.cli import (
        judge as cli_judge,
    )
    from defsurvey.jobs.cli import (
        plan as cli_plan,
    )
    from defsurvey.jobs.cli import (
        results as cli_results,
    )
    from defsurvey.jobs.cli import (
        review as cli_review,
    )

    for module in (
        cli_catalogue,
        cli_contamination,
        cli_containers,
        cli_control,
        cli_daemons,
        cli_doctor,
        cli_judge,
        cli_plan,
        cli_results,
        cli_review,
    ):
        for command in module.VERBS:
            main.add_command(command)


_register()

if __name__ == "__main__":
    main()
