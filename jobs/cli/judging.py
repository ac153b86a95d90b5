"""Verbs about what is said of answers: judge and its audit, review by a person, contamination."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from defsurvey.jobs.cli.options import DEVICE, FILE, JSON, RUN, console, listing, opened, print_result, share, text
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import INCOMPLETE, written_to
from defsurvey.storage.files import open_already, path_under

if TYPE_CHECKING:
    from defsurvey.jobs.judging.steps import Watch

_TABLE = partial(click.option, type=FILE, metavar="FILE.csv")


@click.command()
@RUN
@click.option("--model", type=text, metavar="M", help="Who judges; the study's judge, or claude-haiku-5-5.")
@click.option("--sample", "share", type=share, metavar="S", help="all, or a share such as 0.05; the study's, or 0.01.")
@click.option("--rubric", type=click.Choice(["own", "code"]), help="By which words; the study's, or our own.")
@click.option("--batch", is_flag=True, help="In batches, at half the price; takes minutes to a day. Anthropic only.")
@DEVICE
@_TABLE("--template", help="Write judged answers to a table in which people judge them too, and ask nobody.")
@_TABLE("--audit", help="Read such a table, and ask nobody: the report says how far judge and people agree.")
@JSON
@click.pass_obj
def judge(
    settings: Settings, /, run_id: str, template: Path | None, audit: Path | None, as_json: bool, **options: Any
) -> None:
    """Have a model say where answers fail. Typed again, it goes on; no answer is paid for twice."""
    from defsurvey.jobs.judging import judge as judging
    from defsurvey.jobs.judging.people import read_labels, write_template
    from defsurvey.jobs.results import current_report
    from defsurvey.storage.runs.judgement import Rubric

    given = click.get_current_context().get_parameter_source
    asks = any(given(name) is ParameterSource.COMMANDLINE for name in options)
    if (template is not None) + (audit is not None) + asks > 1:
        raise click.UsageError("--template and --audit stand alone: they ask no judge")
    with opened(settings) as database:
        if template is not None:
            with written_to("--template", template):
                rows = write_template(database, run_id, template)
            line = f"{template}: {rows} judged answers of {run_id}"
            if open_already(template) is None:
                print_result({"run": run_id, "answers": rows}, [line], as_json=as_json)
            else:  # not after what was written
                click.echo(line, err=True)
            return
        body: dict[str, Any]
        if audit is not None:
            labels = read_labels(database, run_id, audit)
            body, line, complete = {"run": run_id, "labels": labels}, f"{audit}: {labels} verdicts read", True
        else:
            with _progress() as watch:
                options["rubric"] = options["rubric"] and Rubric(options["rubric"])
                done = judging.judge_run(settings, database, run_id, watch=watch, **options)
            body, line, complete = asdict(done), judging.in_words(done), done.ended is judging.Ended.DONE
        report = current_report(settings, database, run_id, None).html
    print_result({**body, "report": report}, [line, f"report: {report}"], as_json=as_json)
    if not complete:
        sys.exit(INCOMPLETE)


@contextmanager
def _progress() -> Iterator[Watch]:
    """A bar on a terminal; nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = console(stderr=True)
    with Progress(*columns, console=shown, disable=not shown.is_terminal) as bars:
        task_of = cache(bars.add_task)
        yield lambda what, done, total: bars.update(task_of(what), completed=done, total=total)


@click.command()
@RUN
@click.option("--reader", type=text, metavar="NAME", help="Under which name readings are kept; yours on this machine.")
@click.pass_obj
def review(settings: Settings, run_id: str, reader: str | None) -> None:
    """Read the answers that the program could not read; kept beside them, and in a report only by --readings."""
    from defsurvey.jobs.daemons.reports import write_report
    from defsurvey.jobs.judging.people import review as read_answers

    if not sys.stdin.isatty():
        raise click.UsageError("review is for a person at a terminal: stdin is none")
    reader = reader or getpass.getuser()
    with opened(settings) as database:
        done = read_answers(database, run_id, reader=reader, key=click.getchar, console=console())
        if done.read:  # the report says how many answers people have read
            write_report(database, run_id, path_under(settings.reports, run_id))
    click.echo(f"{run_id}: {done.read} read, {done.skipped} skipped, {done.left} left to read")
    if done.read:
        click.echo(f"with them: defsurvey report {run_id} --readings")


@click.command()
@RUN
@listing("--models", metavar="A,B", help="Only these of the run; all by default.")
@DEVICE
@JSON
@click.pass_obj
def contamination(settings: Settings, run_id: str, models: tuple[str, ...], device: str, as_json: bool) -> None:
    """Ask a run's models what they know of its survey; the report then says it. Typed again, it goes on.

    Exit code 3: some questions could not be asked.
    """
    from defsurvey.jobs.daemons.reports import write_report
    from defsurvey.jobs.judging.contamination import check_contamination

    shown = console(stderr=True)
    with opened(settings) as database:
        done = check_contamination(settings, database, run_id, models=models, device=device, console=shown)
        report = write_report(database, run_id, path_under(settings.reports, run_id)).html
    lines = [f"failed: {failure}" for failure in done.failures]
    lines += [f"{run_id}: {done.there} of {done.wanted} probes, {done.asked} of them new", f"report: {report}"]
    print_result({"run": run_id, **asdict(done), "report": str(report)}, lines, as_json=as_json)
    if done.there < done.wanted:
        sys.exit(INCOMPLETE)


VERBS = (judge, review, contamination)
