"""Cards of models behind a server."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import anthropic.types.model
import pytest

from defsurvey.workers.models import ModelCard, ModelError, find_card, read_cards


def read(folder: Path, text: str) -> ModelCard:
    """The one card in a file."""
    file = folder / "own.toml"
    file.write_text(text, encoding="utf-8")
    return read_cards(file)["m"]


def test_the_bundled_models_are_known_to_the_providers_client() -> None:
    """Their ids are those of the client; prices are there, and what they cost is computed from them."""
    known = {name for part in get_args(anthropic.types.model.Model) for name in get_args(part)}
    served = [card for card in read_cards().values() if card.engine == "anthropic" and not card.retired]
    assert len(served) == 3
    assert {card.model for card in served} <= known
    haiku = find_card("claude-haiku-4-5", read_cards())
    assert haiku.takes == ("temperature",)
    assert haiku.cost(1_000_000, 200_000) == pytest.approx(2.0)
    assert (haiku.prices, haiku.costs) == ((1.0, 5.0), True)
    assert not haiku.model_copy(update={"input_price": 0.0, "output_price": 0.0}).costs
    assert haiku.model_copy(update={"input_price": 0.0}).costs


def test_a_model_id_is_enough(tmp_path: Path) -> None:
    """What is not said is as usual for the engine; without prices nothing is known about costs."""
    anthropic = read(tmp_path, '[m]\nengine = "anthropic"\nmodel = "x"\n')
    assert (anthropic.takes, anthropic.concurrency, anthropic.attempts, anthropic.timeout_seconds) == ((), 16, 10, 300)
    openai = read(tmp_path, '[m]\nengine = "openai"\nmodel = "x"\n')
    assert openai == ModelCard(name="m", engine="openai", model="x", takes=("temperature", "top_p", "seed"))
    assert (openai.cost(1, 1), openai.prices, openai.costs) == (None, None, False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "field model: expected the name by which the server knows the model, got nothing"),
        ('model = "x"\nhub = "a/b"', "field engine: expected transformers, since the card has weights, got openai"),
        ('model = "x"\nrespondent = "human"', "field engine: expected scripted.*, got openai"),
        (
            'model = "x"\nbase_url = "localhost:8000"',
            "field base_url: expected an http or https URL without a password",
        ),
        ('model = "x"\nbase_url = "http://me:secret@there/v1"', "field base_url: expected an http or https URL"),
        ('model = "x"\nbase_url = "http://[::1:8000/v1"', "field base_url: expected an http or https URL"),
        ('model = "x"\nbase_url = "http://there:80000/v1"', "field base_url: expected an http or https URL"),
        ('model = "x"\nbase_url = "https://:443/v1"', "field base_url: expected an http or https URL"),
        ('model = "x"\nkey = "sk-123"', "field key: expected the name of an environment variable"),
        ('model = "x"\ntakes = ["top_n"]', "field takes: expected a list of any of temperature, top_p, top_k, seed"),
        ('model = "x"\ntakes = ["top_k"]\nbody = {top_k = 9}', "field body: expected none of model.*, got 'top_k'"),
        ('model = "x"\nbody = {seed = 1}', "field body: expected none of model, messages.*, got 'seed'"),
        ('model = "x"\nbody = 3', "field body: expected a table of fields, got 3"),
        ('model = "x"\nconcurrency = 0', "field concurrency: expected a whole number from 1 to 256, got 0"),
        ('model = "x"\nattempts = true', "field attempts: expected a whole number from 1 to 100, got True"),
        (
            'model = "x"\ninput_price = -1',
            "field input_price: expected a finite number of US dollars per million tokens",
        ),
        (
            'model = "x"\npriced = "last week"',
            "field priced: expected a month or day such as 2026-10-05, got 'last week'",
        ),
    ],
)
def test_a_card_that_is_not_well_formed_is_refused(tmp_path: Path, fields: str, message: str) -> None:
    """Before anything is asked or paid."""
    with pytest.raises(ModelError, match=message):
        read(tmp_path, f'[m]\nengine = "openai"\n{fields}\n')


def test_fields_of_a_server_belong_to_its_engines(tmp_path: Path) -> None:
    """A price on weights of one's own is a mistake; so are beams for a provider that has none."""
    with pytest.raises(ModelError, match="expected anthropic or openai, since the card has the field input_price"):
        read(tmp_path, '[m]\nhub = "a/b"\ninput_price = 1\n')
    with pytest.raises(ModelError, match="field takes: expected a list of any of temperature, top_p, top_k, got"):
        read(tmp_path, '[m]\nengine = "anthropic"\nmodel = "x"\ntakes = ["beams"]\n')
