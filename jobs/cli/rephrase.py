"""The command line's verbs that work on a survey folder with a model, or make one to work on: rephrase, copy."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from defsurvey.jobs.cli.device import DEVICE
from defsurvey.jobs.cli.options import JSON, NAMES, PATH, TEXT, print_json
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import INCOMPLETE


@click.command("rephrase")
@click.argument("folder", type=PATH, metavar="DIR")
@click.option(
    "--model",
    "--engine",
    "model",
    type=TEXT,
    required=True,
    metavar="MODEL",
    help="Card of the model that writes them.",
)
@click.option("-n", "count", type=click.IntRange(1, 99), default=3, show_default=True, help="Paraphrases per question.")
@click.option("--languages", type=NAMES, metavar="en,zh", help="Only these; all with a prompt by default.")
@click.option("--questions", type=NAMES, metavar="Q1,Q2", help="Only these; all by default.")
@click.option(
    "--attempts", type=click.IntRange(min=1), default=3, show_default=True, help="Tries for each, earlier ones counted."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@DEVICE
@JSON
@click.pass_obj
def rephrase(
    settings: Settings,
    folder: Path,
    model: str,
    count: int,
    languages: tuple[str, ...] | None,
    questions: tuple[str, ...] | None,
    attempts: int,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Have paraphrases of a survey's questions written and checked; typed again, it goes on.

    Exit code 3: some are missing, since every attempt at them was rejected or failed.
    """
    from defsurvey.jobs.cli import verbs
    from defsurvey.jobs.study.rephrasing import rephrase_folder

    done = rephrase_folder(
        settings,
        folder,
        model=model,
        count=count,
        attempts=attempts,
        languages=languages or (),
        questions=questions or (),
        seed=seed,
        device=device,
        console=verbs.console(stderr=True),
    )
    if as_json:
        print_json(done.to_json())
    else:
        for one in done.rejected:
            told = one.paraphrase
            click.echo(f"rejected: {told.question}, {told.language}, paraphrase {told.number}: {one.rejected}")
        for failure in done.failures:
            click.echo(f"failed: {failure}")
        click.echo(f"{folder}: {done.there} of {done.wanted} paraphrases, {done.written} of them new")
    if done.there < done.wanted:
        sys.exit(INCOMPLETE)


@click.command("copy")
@click.argument("name", metavar="SURVEY")
@click.option("-o", "--output", type=PATH, required=True, metavar="DIR", help="The survey folder to make.")
def copy(name: str, output: Path) -> None:
    """Copy a survey as a folder of your own, to exclude, rephrase or edit questions in."""
    from defsurvey.jobs.system import written_to
    from defsurvey.storage.surveys.catalogue import find_folder
    from defsurvey.storage.surveys.write import copy_survey

    source = find_folder(name)
    with written_to("--output", output):
        copy_survey(source, output)
    click.echo(f"{output}: use it in a study by its path, relative to the study file")


VERBS = (rephrase, copy)
