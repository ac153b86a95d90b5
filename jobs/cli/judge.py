"""The command line's verb about judging: judge, and the audit of judges."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from defsurvey.jobs.cli.device import DEVICE
from defsurvey.jobs.cli.options import FILE, JSON, RUN, TEXT, print_json
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import INCOMPLETE

if TYPE_CHECKING:
    from defsurvey.jobs.judging.steps import Watch


class Share(click.ParamType[float]):
    """``all``, or a number above 0 and at most 1."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """From what was typed to a share."""
        try:
            share = 1.0 if value == "all" else float(value)
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            self.fail(f"expected all, or a number above 0 and at most 1, got {value!r}", param, ctx)
        return share


@click.command()
@RUN
@click.option("--model", type=TEXT, metavar="M", help="Who judges; the study's judge, or claude-haiku-5-5.")
@click.option("--sample", type=Share(), metavar="S", help="all, or a share such as 0.05; the study's, or 0.01.")
@click.option("--rubric", type=click.Choice(["own", "code"]), help="By which words; the study's, or our own.")
@click.option("--batch", is_flag=True, help="In batches, at half the price; takes minutes to a day. Anthropic only.")
@DEVICE
@click.option("--template", type=FILE, metavar="FILE.csv",
              help="Write judged answers to a table in which people judge them too, and ask nobody.")  # fmt: skip
@click.option("--audit", type=FILE, metavar="FILE.csv",
              help="Read such a table, and ask nobody: the report says how far judge and people agree.")  # fmt: skip
@JSON
@click.pass_obj
def judge(
    settings: Settings,
    run_id: str,
    model: str | None,
    sample: float | None,
    rubric: str | None,
    batch: bool,
    device: str,
    template: Path | None,
    audit: Path | None,
    as_json: bool,
) -> None:
    """Have a model say where answers fail. Typed again, it goes on; no answer is paid for twice."""
    from defsurvey.jobs.daemons.startup import open_existing
    from defsurvey.jobs.judging import judge as judging
    from defsurvey.jobs.judging.people import read_labels, write_template
    from defsurvey.jobs.results import current_report, open_already
    from defsurvey.jobs.system import written_to
    from defsurvey.storage.runs.judgement import Rubric

    placed = click.get_current_context().get_parameter_source("device") is ParameterSource.COMMANDLINE
    if (template is not None) + (audit is not None) + bool(model or sample or rubric or batch or placed) > 1:
        raise click.UsageError("--template and --audit stand alone: they ask no judge")
    with open_existing(settings) as database:
        if template is not None:
            with written_to("--template", template):
                rows = write_template(database, run_id, template)
            told = f"{template}: {rows} judged answers of {run_id}"
            if open_already(template) is None:
                _say({"run": run_id, "answers": rows}, told, as_json=as_json)
            else:  # not behind what was written
                click.echo(told, err=True)
            return
        if audit is not None:
            labels = read_labels(database, run_id, audit)
            report = current_report(settings, database, run_id, None).html
            told = f"{audit}: {labels} verdicts read\nreport: {report}"
            _say({"run": run_id, "labels": labels, "report": report}, told, as_json=as_json)
            return
        with _progress() as watch:
            done = judging.judge_run(
                settings,
                database,
                run_id,
                model=model,
                share=sample,
                rubric=None if rubric is None else Rubric(rubric),
                batch=batch,
                device=device,
                watch=watch,
            )
        report = current_report(settings, database, run_id, None).html
    _say({**done.to_json(), "report": report}, f"{judging.in_words(done)}\nreport: {report}", as_json=as_json)
    if done.ended is not judging.Ended.DONE:
        sys.exit(INCOMPLETE)


def _say(body: dict[str, Any], words: str, *, as_json: bool) -> None:
    if as_json:
        print_json(body)
    else:
        click.echo(words)


@contextmanager
def _progress() -> Iterator[Watch]:
    """A bar on a terminal; nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from defsurvey.jobs.cli.verbs import console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = console(stderr=True)
    with Progress(*columns, console=shown, disable=not shown.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def watch(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        yield watch


VERBS = (judge,)
