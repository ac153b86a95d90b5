"""Verbs about models: list, show, check, template."""

from __future__ import annotations

from dataclasses import asdict

import click

from defsurvey.jobs.cli.options import DEVICE, JSON, looked_up, print_result
from defsurvey.jobs.settings import Settings

_MODEL = click.argument("name", type=looked_up, metavar="MODEL")


@click.group()
def models() -> None:
    """Models: list, show, check, template."""


@models.command("list")
@JSON
@click.pass_obj
def models_list(settings: Settings, as_json: bool) -> None:
    """The models that a study can name."""
    from defsurvey.jobs.study.catalogue import card_fields
    from defsurvey.workers.models import read_cards

    cards = [card_fields(card) for card in read_cards(settings.models).values()]
    width = max(len(str(card["name"])) for card in cards)
    lines = (f"{c['name']:{width}}  {c['engine']:12}  {c['stage'] or c['respondent'] or ''}" for c in cards)
    print_result(cards, lines, as_json=as_json)


@models.command("show")
@_MODEL
@JSON
@click.pass_obj
def models_show(settings: Settings, name: str, as_json: bool) -> None:
    """One model's card."""
    from defsurvey.jobs.study import catalogue
    from defsurvey.workers.models import find_card, read_cards

    card = catalogue.card_fields(find_card(name, read_cards(settings.models)))
    print_result(card, catalogue.card_lines(card), as_json=as_json)


@models.command("check")
@_MODEL
@click.option("--weights", is_flag=True, help="Load the weights too, or ask the server, and begin one reply.")
@DEVICE
@JSON
@click.pass_obj
def models_check(settings: Settings, name: str, weights: bool, device: str, as_json: bool) -> None:
    """Load a model's configuration and tokenizer and show one prompt as it would read it."""
    from defsurvey.jobs.study import catalogue

    checked = catalogue.check(settings.models, name, cache=settings.cache, weights=weights, device=device)
    print_result(asdict(checked), catalogue.checked_lines(checked), as_json=as_json)


@models.command("template")
@click.argument("name", type=looked_up, metavar="TEMPLATE|MODEL")
@click.pass_obj
def models_template(settings: Settings, name: str) -> None:
    """A chat template of defsurvey's own, in Jinja, to start a server with."""
    from defsurvey.jobs.study import catalogue

    click.echo(catalogue.template(settings.models, name), nl=False)


VERBS = (models,)
