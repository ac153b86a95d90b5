"""The command line's verbs about surveys and models: list, show, validate; those that make surveys join them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from defsurvey.jobs.cli.device import DEVICE
from defsurvey.jobs.cli.importing import VERBS as IMPORT_VERBS
from defsurvey.jobs.cli.options import JSON, PATH, TEXT, Text, print_json
from defsurvey.jobs.cli.rephrase import VERBS as REPHRASE_VERBS
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import USAGE

_MODEL = click.argument("name", type=Text(empty=True), metavar="MODEL")


@click.group()
def survey() -> None:
    """Surveys: list, show, validate, import, template, copy, exclude, rephrase."""


for _verb in (*IMPORT_VERBS, *REPHRASE_VERBS):
    survey.add_command(_verb)


@survey.command("list")
@JSON
def survey_list(as_json: bool) -> None:
    """The bundled surveys."""
    from defsurvey.jobs.study import catalogue

    found = catalogue.surveys()
    if as_json:
        print_json(found)
        return
    for entry in found:
        click.echo(f"{entry['id']}  {entry['title']} ({entry['questions']} questions; {', '.join(entry['cultures'])})")


@survey.command("show")
@click.argument("name", metavar="SURVEY")
@click.option("--question", type=TEXT, metavar="Q", help="One question with its options and what people answered.")
@click.option("--topics", is_flag=True, help="How many questions each topic has.")
@click.option("--dimensions", is_flag=True, help="How many items each value dimension has.")
@JSON
def survey_show(name: str, question: str | None, topics: bool, dimensions: bool, as_json: bool) -> None:
    """A survey's questions, one of them with its reference distributions, or how they spread over topics."""
    from defsurvey.jobs.cli import verbs
    from defsurvey.jobs.study import catalogue

    if topics or dimensions:
        from defsurvey.jobs.study.catalogue import render_spread, spread

        if question is not None:
            raise click.UsageError("--question shows one question; --topics and --dimensions count them all")
        counted = spread(name, topics=topics, dimensions=dimensions)
        if as_json:
            print_json(counted)
        else:
            verbs.console().print(render_spread(counted))
        return
    shown = catalogue.show_survey(name, question)
    if as_json:
        print_json(shown)
    else:
        verbs.console().print(catalogue.render_survey(shown))


@survey.command("validate")
@click.argument("folder", type=PATH, metavar="DIR")
def survey_validate(folder: Path) -> None:
    """Check a survey folder and name everything that is wrong with it, and what cannot be asked or read as it is."""
    from defsurvey.jobs.study.catalogue import validation_notes
    from defsurvey.storage.surveys.folder import check_survey, read_survey

    problems = check_survey(folder)
    for problem in problems:
        click.echo(str(problem), err=True)
    if problems:
        sys.exit(USAGE)
    click.echo(f"{folder} is a valid survey")
    for note in validation_notes(read_survey(folder)):
        click.echo(f"- {note}")


@click.group()
def models() -> None:
    """Models: list, show, check, template."""


@models.command("list")
@JSON
@click.pass_obj
def models_list(settings: Settings, as_json: bool) -> None:
    """The models that a study can name."""
    from defsurvey.jobs.study import catalogue

    cards = catalogue.models(settings.models)
    if as_json:
        print_json(cards)
        return
    width = max(len(str(card["name"])) for card in cards)
    for card in cards:
        click.echo(f"{card['name']:{width}}  {card['engine']:12}  {card['stage'] or card['respondent'] or ''}")


@models.command("show")
@_MODEL
@JSON
@click.pass_obj
def models_show(settings: Settings, name: str, as_json: bool) -> None:
    """One model's card."""
    from defsurvey.jobs.study import catalogue

    card = catalogue.model(settings.models, name)
    if as_json:
        print_json(card)
        return
    for line in catalogue.card_lines(card):
        click.echo(line)


@models.command("check")
@_MODEL
@click.option("--weights", is_flag=True, help="Load the weights too, or ask the server, and begin one reply.")
@DEVICE
@JSON
@click.pass_obj
def models_check(settings: Settings, name: str, weights: bool, device: str, as_json: bool) -> None:
    """Load a model's configuration and tokenizer and show one prompt as it would read it."""
    from dataclasses import asdict

    from defsurvey.jobs.study import catalogue

    checked = catalogue.check(settings.models, name, cache=settings.cache, weights=weights, device=device)
    if as_json:
        print_json(asdict(checked))
        return
    for line in catalogue.checked_lines(checked):
        click.echo(line)


@models.command("template")
@click.argument("name", type=Text(empty=True), metavar="TEMPLATE|MODEL")
@click.pass_obj
def models_template(settings: Settings, name: str) -> None:
    """A chat template of defsurvey's own, in Jinja, to start a server with."""
    from defsurvey.jobs.study import catalogue

    click.echo(catalogue.template(settings.models, name), nl=False)


VERBS = (survey, models)
