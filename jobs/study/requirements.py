"""What a study asks of its models: that their engines can do its conditions, and that what they cost is known.

A condition that differs from another by what no request can carry would be asked, and paid for, twice as the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from ipaddress import ip_address
from itertools import combinations, product
from urllib.parse import urlsplit

from defsurvey.storage.errors import BadInput
from defsurvey.storage.runs.run import Condition, Preset, Protocol
from defsurvey.workers.models import WITHOUT_PROBABILITIES, ModelCard
from defsurvey.workers.simulation.draws import PRESETS


class StudyError(BadInput, ValueError):
    """A study cannot be run as it is written; the message says where, what was expected and what was found."""


def check_conditions(
    conditions: Collection[Condition], models: Collection[str], cards: Mapping[str, ModelCard], protocol: Protocol
) -> None:
    """Raise StudyError where probabilities are to be read of a model that gives none, or where two conditions differ in
    the decoding alone, of which a model takes nothing.
    """
    for condition, name in product(conditions, models):
        if condition.slots == 0 and not cards[name].gives_probabilities:
            scripted = f"scripted respondents other than {' and '.join(WITHOUT_PROBABILITIES)}"
            expected = f"models that give probabilities (engine transformers, or {scripted})"
            got = f"{name!r}, served by engine {cards[name].engine}"
            raise StudyError(f"condition {condition.name}: expected {expected}, got {got}")
    drawn = {"beams"} if protocol.do_sample is not None else {"temperature", "beams"}
    by = "beams" if protocol.do_sample is not None else "a temperature or beams"
    for (first, second), name in product(combinations(conditions, 2), models):
        alone = first.config != second.config and len({_prompts(one, protocol.preset) for one in (first, second)}) == 1
        # Drawn beams or sampling reach a model that is not hosted; a server's switch for sampling is the temperature.
        if alone and cards[name].hosted and drawn.isdisjoint(cards[name].takes):
            ablated, other = (first, second) if second.config else (second, first)
            expected = f"models that take {by}, by which it differs from {other.name}"
            got = f"{name!r}, which would be asked the same in both"
            raise StudyError(f"condition {ablated.name}: expected {expected}, got {got}")


def _prompts(condition: Condition, preset: Preset) -> tuple[object, ...]:
    """All of a condition that comes into its prompts."""
    order = condition.option_order
    if order is None and not PRESETS[preset].options_shuffled:
        order = False
    return condition.method, condition.prompt, condition.memory, order, condition.paraphrase


#: How names end that only a machine's own network knows.
_OF_THE_NETWORK = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


def is_billed(card: ModelCard) -> bool:
    """Whether a model may cost money: its server is the provider's, or anybody's beyond this machine and its network.

    A server of one's own may ask for a key, so that a key says nothing.
    """
    if card.base_url is None:
        return card.hosted
    host = (urlsplit(card.base_url).hostname or "").rstrip(".")
    try:
        return ip_address(host).is_global
    except ValueError:  # a name; containers have some without a domain
        return "." in host and not host.endswith(_OF_THE_NETWORK)


def unpriced_of(models: Iterable[str], cards: Mapping[str, ModelCard]) -> str | None:
    """The first model that is billed and whose card has no prices."""
    return next((model for model in models if is_billed(cards[model]) and cards[model].prices is None), None)


def check_prices(budget: float | None, models: Iterable[str], cards: Mapping[str, ModelCard]) -> None:
    """Raise StudyError where there is a budget that one of the models could not be held to."""
    if budget is not None and (unpriced := unpriced_of(models, cards)):
        raise StudyError(f"budget: expected models with prices on their cards: {unpriced} has none, got {budget:g}")
