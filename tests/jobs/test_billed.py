"""Which models cost money, so that a budget needs their prices."""

from __future__ import annotations

import pytest

from defsurvey.jobs.study.study import StudyError, check_prices, is_billed
from defsurvey.workers.models import ModelCard


def card(base_url: str | None = None, **fields: object) -> ModelCard:
    """A model behind a server."""
    return ModelCard(name="m", engine="openai", model="m", base_url=base_url, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("base_url", "billed"),
    [
        (None, True),
        ("https://openrouter.ai/api/v1", True),
        ("https://api.anthropic.com", True),
        ("http://8.8.8.8:8000/v1", True),
        ("http://[2606:4700::1111]/v1", True),
        ("http://localhost:8000/v1", False),
        ("http://127.0.0.1:8000/v1", False),
        ("http://[::1]:8000/v1", False),
        ("http://10.1.2.3/v1", False),
        ("http://192.168.0.7:8000/v1", False),
        ("http://100.64.0.9:8000/v1", False),
        ("http://vllm:8000/v1", False),
        ("http://host.docker.internal:8000/v1", False),
        ("http://GPU.local:8000/v1", False),
        ("http://box.lan/v1", False),
        ("http://localhost.:8000/v1", False),
    ],
)
@pytest.mark.parametrize("key", [None, "SOME_KEY"])
def test_whoever_is_asked_beyond_the_own_network_sends_a_bill(
    base_url: str | None, key: str | None, billed: bool
) -> None:
    """A server of one's own may ask for a key as well."""
    assert is_billed(card(base_url, key=key)) == billed


def test_a_model_that_runs_here_is_never_billed() -> None:
    """Weights and rules have no server."""
    assert not is_billed(ModelCard(name="m", hub="org/m"))


def test_a_server_that_is_billed_needs_prices_where_there_is_a_budget() -> None:
    """One that asks for no money elsewhere is given prices of 0."""
    cards = {"m": card("https://openrouter.ai/api/v1", key="SOME_KEY")}
    with pytest.raises(StudyError, match="budget: expected models with prices on their cards: m has none, got 5"):
        check_prices(5.0, ["m"], cards)
    check_prices(None, ["m"], cards)
    check_prices(5.0, ["m"], {"m": card("https://gpu.example.org/v1", input_price=0.0, output_price=0.0)})
