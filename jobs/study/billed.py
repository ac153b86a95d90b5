"""Which models cost money, and whether it is known how much."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from defsurvey.jobs.study.file import StudyError
from defsurvey.workers.models import ModelCard

#: How names end that only a machine's own network knows.
_OF_THE_NETWORK = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


def is_billed(card: ModelCard) -> bool:
    """Whether a model may cost money: its server is the provider's, or anybody's beyond this machine and its network.

    A server of one's own may ask for a key, so that a key says nothing.
    """
    if card.api is None:
        return False
    return card.api.base_url is None or not _is_near((urlsplit(card.api.base_url).hostname or "").rstrip("."))


def _is_near(host: str) -> bool:
    """Whether a host is this machine, or has a private address or a name without a domain, as containers do."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(_OF_THE_NETWORK)


def unpriced_of(models: Iterable[str], cards: Mapping[str, ModelCard]) -> str | None:
    """The first model that is billed and whose card has no prices."""
    for model in models:
        api = cards[model].api
        if api is not None and is_billed(cards[model]) and api.prices is None:
            return model
    return None


def check_prices(budget: float | None, models: Iterable[str], cards: Mapping[str, ModelCard]) -> None:
    """Refuse a budget, None for none, that one of the models could not be held to.

    Raises:
        StudyError: it is billed and its card has no prices.
    """
    if budget is not None and (unpriced := unpriced_of(models, cards)):
        raise StudyError(f"budget: expected models with prices on their cards: {unpriced} has none, got {budget:g}")
