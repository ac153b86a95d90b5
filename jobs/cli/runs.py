"""Verbs about runs: look ahead (init, plan, preview), begin them (run, enqueue), steer them, see how far they are."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from defsurvey.jobs.cli import options
from defsurvey.jobs.cli.options import CREW, JSON, NAME, RUN, SETTINGS, STUDY, console, opened, print_result, taking
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import DONE, INCOMPLETE, written_to

if TYPE_CHECKING:
    from defsurvey.jobs.progress import Snapshot
    from defsurvey.storage.database import Database

#: What can be asked again: states of answers, and answers that are missing.
_RETRIABLE = ("failed", "unparsable", "refused", "missing")
_STATES = f"Of {', '.join(_RETRIABLE)}."


@click.command()
@click.argument("folder", type=options.PATH, metavar="[FOLDER]", default=".")
def init(folder: Path) -> None:
    """Write files to start from: a demo study, a survey of your own, cards of your own models."""
    from defsurvey.jobs.study.catalogue import write_starters

    with written_to("FOLDER", folder):
        for line in write_starters(folder):
            click.echo(line)


@click.command()
@taking(STUDY, NAME, JSON, SETTINGS)
def plan(settings: Settings, study: Path, name: str | None, as_json: bool) -> None:
    """What would run: cells, answers, tokens, time, cost, what could be found. Enqueues nothing."""
    from defsurvey.jobs import runs
    from defsurvey.jobs.study import plan as planning
    from defsurvey.workers.models import read_cards

    settings = settings.for_study(study)
    wanted = runs.read(settings, study, name=name)
    runs.check_models(settings, wanted, here=False)
    earlier = planning.read_earlier(settings, wanted)
    planned = planning.plan(wanted, cards=read_cards(settings.models), earlier=earlier)
    options.print_rendered(planning.to_json(planned), lambda: planning.render(planned), as_json=as_json)


@click.command()
@STUDY
@click.option("--model", type=options.text, help="Which model; the study's first where none is named.")
@click.option("--participant", type=click.IntRange(min=0), default=0, show_default=True, metavar="I")
@click.option(
    "--question", type=options.text, metavar="Q", help="Which question; the participant's first where none is named."
)
@taking(JSON, SETTINGS)
def preview(settings: Settings, /, study: Path, as_json: bool, **chosen: Any) -> None:
    """The exact prompts, as the model would see them."""
    from defsurvey.jobs import runs
    from defsurvey.jobs.study import preview as previewing
    from defsurvey.workers.models import read_cards

    settings = settings.for_study(study)
    wanted = runs.read(settings, study)
    prompts = previewing.preview(wanted, cards=read_cards(settings.models), **chosen)
    body = {"study": wanted.name, "prompts": [previewing.to_json(prompt) for prompt in prompts]}
    options.print_rendered(body, lambda: previewing.render(prompts), as_json=as_json)


@click.command()
@taking(STUDY, NAME)
@options.counting("--pilot", metavar="N", help="Only the first N participants of each cell.")
@taking(*CREW, JSON, SETTINGS)
def run(
    settings: Settings, /, study: Path, name: str | None, pilot: int | None, as_json: bool, **crew: Any
) -> NoReturn:
    """Enqueue, work and report on this machine. The same command continues a run that was interrupted or piloted."""
    from defsurvey.jobs import runs

    settings = settings.for_study(study)
    wanted = runs.read(settings, study, name=name, pilot=pilot)
    with opened(settings, make=True) as database:
        ended = runs.run_here(settings, database, wanted, console=console(stderr=True), **crew)
    _finish(ended, as_json=as_json)


@click.command()
@taking(STUDY, NAME, JSON, SETTINGS)
def enqueue(settings: Settings, study: Path, name: str | None, as_json: bool) -> None:
    """Write a run and publish its messages; prints the run's id."""
    from defsurvey.jobs import runs
    from defsurvey.jobs.progress import unpublished

    settings = settings.for_study(study)
    wanted = runs.read(settings, study, name=name)
    with opened(settings, make=True) as database:
        done = runs.enqueue(settings, database, wanted)
        notes = [runs.keyless(settings, wanted), unpublished(settings, database, done.run)]
    print_result(asdict(done), [done.run], as_json=as_json)
    if not as_json:
        for note in filter(None, notes):
            click.echo(note, err=True)


@click.command()
@RUN
@options.counting("--participants", metavar="N", help="Participants per cell, old ones counted.")
@options.listing("--models", metavar="A,B", help="Further models.")
@taking(JSON, SETTINGS)
def extend(settings: Settings, run_id: str, participants: int | None, models: tuple[str, ...], as_json: bool) -> None:
    """Add participants or models to a run under the same seed, then publish their messages."""
    from defsurvey.jobs import runs

    if participants is None and not models:
        raise click.UsageError("extend needs --participants or --models")
    with opened(settings) as database:
        wanted = runs.extended(settings, database, run_id, participants=participants, models=models)
        done = runs.enqueue(settings, database, wanted, extend=True)
        added = f"{done.added} participants added; work on them: defsurvey resume {run_id} --wait"
        line = added if done.added else "nothing added, it has these participants and models already"
        print_result(asdict(done), [f"{run_id}: {line}"], as_json=as_json)
        _warn(settings, database, run_id)


@click.command()
@RUN
@click.option("--wait", is_flag=True, help="Work on it on this machine until it is done.")
@taking(*CREW)
@click.option("--budget", type=options.dollars, metavar="USD", help="In place of the old one.")
@taking(JSON, SETTINGS)
def resume(settings: Settings, /, run_id: str, wait: bool, budget: float | None, as_json: bool, **crew: Any) -> None:
    """Go on with a run: publish again what is unfinished. A finished run says so."""
    given = click.get_current_context().get_parameter_source
    for option in ("workers", "concurrency", "device") if not wait else ():
        if given(option) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{option} is for workers of this command: it needs --wait")
    from defsurvey.jobs import runs
    from defsurvey.jobs.progress import set_aside, snapshot
    from defsurvey.storage.runs import recovery, store

    with opened(settings) as database:
        if budget is not None:
            runs.set_budget(settings, database, run_id, budget)
        now = snapshot(database, run_id)
        if now.state == "finished" and now.reported:
            store.cancel(database, run_id, cancelled=False)  # so that workers take what extend or retry add to it
            click.echo(f"{run_id} is finished; {set_aside(now) or 'nothing to do'}", err=True)
            _finish(runs.with_report(settings, database, now), as_json=as_json)
        if wait:
            ended = runs.resume_here(settings, database, run_id, console=console(stderr=True), **crew)
            _finish(ended, as_json=as_json)
        again = runs.resume(settings, database, run_id)
        age = recovery.last_heartbeat(database)
        print_result({"run": run_id, "published": again}, [f"{run_id}: {again} messages published"], as_json=as_json)
        if not _warn(settings, database, run_id) and (age is None or age >= settings.lease_seconds):
            click.echo(f"nothing is working on it; work on it here: defsurvey resume {run_id} --wait", err=True)


def _finish(ended: Snapshot, *, as_json: bool) -> NoReturn:
    from defsurvey.jobs.progress import report_line

    print_result(ended.to_json(), [report_line(ended)], as_json=as_json)
    if ended.state == "budget reached":
        spent = f"{ended.spent:.2f} of {ended.budget:.2f} US dollars are spent"
        click.echo(f"{ended.run}: {spent}; go on with: defsurvey resume {ended.run} --wait --budget USD", err=True)
    sys.exit(DONE if ended.complete else INCOMPLETE)


def _warn(settings: Settings, database: Database, run_id: str) -> bool:
    """Say why messages wait; not of a broker of our own, which is started by ``resume --wait``."""
    from defsurvey.jobs.progress import unpublished

    waiting = "" if settings.broker_url is None else unpublished(settings, database, run_id)
    if waiting:
        click.echo(waiting, err=True)
    return bool(waiting)


@click.command()
@taking(RUN, SETTINGS)
def cancel(settings: Settings, run_id: str) -> None:
    """Stop a run where it stands; resume takes it up again."""
    from defsurvey.jobs import runs

    with opened(settings) as database:
        done = runs.cancel(database, run_id)
    let_go = f"is cancelled; workers let go of it within half a minute; go on: defsurvey resume {run_id}"
    click.echo(f"{run_id} {let_go if done else 'is finished: nothing was cancelled'}")


@click.command()
@RUN
@click.option("--state", type=options.names, default="failed", metavar="A,B", show_default=True, help=_STATES)
@click.option("--rewind", is_flag=True, help="Take back everything from the first such answer on, and ask it anew.")
@click.pass_obj
def retry(settings: Settings, run_id: str, state: tuple[str, ...], rewind: bool) -> None:
    """Ask answers again that ended in a state; each from the memory it was shown, or by --rewind in sequence."""
    from defsurvey.jobs import runs

    unknown = [name for name in state if name not in _RETRIABLE]
    if unknown:
        raise click.UsageError(f"--state: expected one or more of {', '.join(_RETRIABLE)}, got {', '.join(unknown)}")
    with opened(settings) as database:
        done = runs.ask_again(settings, database, run_id, states=state, rewind=rewind)
        asked = f"{done} to be asked again; work on them here: defsurvey resume {run_id} --wait"
        click.echo(f"{run_id}: {asked if done else 'nothing to ask again, no answer of it is ' + ' or '.join(state)}")
        _warn(settings, database, run_id)


@click.command()
@click.argument("run_id", type=options.looked_up, metavar="[RUN]", required=False)
@click.option("--watch", is_flag=True, help="Show progress until the run is finished.")
@taking(JSON, SETTINGS)
def status(settings: Settings, run_id: str | None, watch: bool, as_json: bool) -> None:
    """How far a run has come; the newest where none is named."""
    from defsurvey.jobs import progress

    with opened(settings) as database:
        chosen = progress.named_or_newest(database, run_id)
        shown = console(stderr=as_json)
        now = progress.watch_run(database, chosen, shown) if watch else progress.snapshot(database, chosen)
        before = progress.waits_behind(settings, database, now)
    dead = progress.dead_letters(settings)
    if as_json:
        options.print_json({**now.to_json(), "behind": before, "dead_letters": dead})
    elif not watch:
        console().print(progress.render(now, now.rate_per_second))
        for line in (*progress.notes(now.run, before, dead), progress.report_line(now)):
            click.echo(line)


VERBS = (init, plan, preview, run, enqueue, extend, resume, status, cancel, retry)
