"""The command line's verbs that look ahead: plan, preview. Neither enqueues anything."""

from __future__ import annotations

from pathlib import Path

import click

from defsurvey.jobs.cli.options import JSON, NAME, PATH, STUDY, TEXT, print_json
from defsurvey.jobs.settings import Settings


@click.command()
@STUDY
@NAME
@JSON
@click.pass_obj
def plan(settings: Settings, study: Path, name: str | None, as_json: bool) -> None:
    """What would run: cells, answers, tokens, time, cost, what could be found. Enqueues nothing."""
    from defsurvey.jobs.cli import verbs
    from defsurvey.jobs.study import plan as plan_told
    from defsurvey.jobs.study.plan import plan as planning
    from defsurvey.workers.models import read_cards

    settings = settings.for_study(study)
    wanted = verbs.read(settings, study, name=name)
    verbs.check_retired(settings, wanted)
    planned = planning(wanted, cards=read_cards(settings.models), earlier=verbs.earlier(settings, wanted))
    if as_json:
        print_json(plan_told.to_json(planned))
    else:
        verbs.console().print(plan_told.render(planned))


@click.command()
@STUDY
@click.option("--model", type=TEXT, help="Which model; the study's first where none is named.")
@click.option("--participant", type=click.IntRange(min=0), default=0, show_default=True, metavar="I")
@click.option("--question", type=TEXT, metavar="Q", help="Which question; the participant's first where none is named.")
@JSON
@click.pass_obj
def preview(
    settings: Settings, study: Path, model: str | None, participant: int, question: str | None, as_json: bool
) -> None:
    """The exact prompts, as the model would see them."""
    from defsurvey.jobs.cli import verbs
    from defsurvey.jobs.study import preview as previewing
    from defsurvey.workers.models import read_cards

    settings = settings.for_study(study)
    shown = previewing.preview(
        verbs.read(settings, study),
        model=model,
        participant=participant,
        question=question,
        cards=read_cards(settings.models),
    )
    if as_json:
        print_json(previewing.to_json(shown))
    else:
        verbs.console().print(previewing.render(shown))


@click.command()
@click.argument("folder", type=PATH, metavar="[FOLDER]", default=".")
def init(folder: Path) -> None:
    """Write files to start from: a demo study, a survey of your own, cards of your own models."""
    from defsurvey.jobs.study.starters import write_starters
    from defsurvey.jobs.system import written_to

    with written_to("FOLDER", folder):
        for line in write_starters(folder):
            click.echo(line)


VERBS = (init, plan, preview)
