"""Cards of models behind a server, and the keys with which these are asked."""

import re
from pathlib import Path
from typing import get_args

import anthropic.types.model
import pytest

from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines import keys
from defsurvey.workers.engines.base import Engine, EngineUnavailable
from defsurvey.workers.engines.keys import find_key, redacted
from defsurvey.workers.engines.opening import check_card, open_engine
from defsurvey.workers.models import ModelCard, ModelError, find_card, read_cards
from tests.workers.api.conftest import KEY

USUAL = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
engines = pytest.mark.parametrize("engine", USUAL)


def read(folder: Path, text: str) -> ModelCard:
    file = folder / "own.toml"
    file.write_text(text, encoding="utf-8")
    return read_cards(file)["m"]


def test_the_bundled_models_are_known_to_the_providers_client_and_have_prices() -> None:
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
    retired = find_card("claude-3-5-sonnet", read_cards())
    assert not find_card(retired.retired, read_cards()).retired


def test_a_model_id_is_enough(tmp_path: Path) -> None:
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
        ('model = "x"\nbase_url = "localhost:8000"', "field base_url: expected an http or https URL without a"),
        ('model = "x"\nbase_url = "http://me:secret@there/v1"', "field base_url: expected an http or https URL"),
        ('model = "x"\nbase_url = "http://[::1:8000/v1"', "field base_url: expected an http or https URL"),
        ('model = "x"\nkey = "sk-123"', "field key: expected the name of an environment variable"),
        ('model = "x"\ntakes = ["top_n"]', "field takes: expected a list of any of temperature, top_p, top_k, seed"),
        ('model = "x"\ntakes = ["top_k"]\nbody = {top_k = 9}', "field body: expected none of model.*, got 'top_k'"),
        ('model = "x"\nbody = 3', "field body: expected a table of fields, got 3"),
        ('model = "x"\nstructured = "json"', "field structured: expected one of json_schema, structured_outputs, guid"),
        ('model = "x"\nconcurrency = 0', "field concurrency: expected a whole number from 1 to 256, got 0"),
        ('model = "x"\nattempts = true', "field attempts: expected a whole number from 1 to 100, got True"),
        ('model = "x"\ninput_price = -1', "field input_price: expected a finite number of US dollars per million"),
        ('model = "x"\npriced = "last week"', "field priced: expected a month or day such as 2026-10-05, got 'last"),
    ],
)
def test_a_card_that_is_not_well_formed_is_refused(tmp_path: Path, fields: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read(tmp_path, f'[m]\nengine = "openai"\n{fields}\n')


def test_fields_of_a_server_belong_to_its_engines(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected anthropic or openai, since the card has the field input_price"):
        read(tmp_path, '[m]\nhub = "a/b"\ninput_price = 1\n')
    with pytest.raises(ModelError, match="field takes: expected a list of any of temperature, top_p, top_k, got"):
        read(tmp_path, '[m]\nengine = "anthropic"\nmodel = "x"\ntakes = ["beams"]\n')
    with pytest.raises(ModelError, match="field structured: expected one of json_schema, none, got 'guided_choice'"):
        read(tmp_path, '[m]\nengine = "anthropic"\nmodel = "x"\nstructured = "guided_choice"\n')


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder of secret files, on a machine without keys."""
    for name in USUAL.values():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(keys, "SECRETS", tmp_path)
    return tmp_path


def card(engine: str, **fields: str) -> ModelCard:
    """A card of the provider itself, unless it has an address."""
    return ModelCard.model_validate({"name": "some", "engine": engine, "model": "m"} | fields)


@engines
def test_the_environment_goes_before_a_secret_file(engine: str, secrets: Path) -> None:
    (secrets / USUAL[engine].lower().replace("_", "-")).write_text("from-file\n")
    given = card(engine)
    assert find_key(given, environment={USUAL[engine]: f" {KEY}\n"}) == KEY
    assert find_key(given, environment={}) == "from-file"
    assert find_key(given, environment={USUAL[engine]: ""}) == "from-file"


@engines
def test_a_key_goes_only_to_its_provider_or_where_the_card_names_it(engine: str, secrets: Path) -> None:
    environment, address = {USUAL[engine]: KEY, "MY_KEY": "mine"}, "http://there:8000/v1"
    assert find_key(card(engine, base_url=address), environment=environment) is None
    assert find_key(card(engine, base_url=address, key="MY_KEY"), environment=environment) == "mine"


@engines
def test_a_missing_key_is_named_before_anything_is_enqueued(
    engine: str, secrets: Path, small_survey: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = secrets / USUAL[engine].lower().replace("_", "-")
    message = re.escape(f"model some: there is no key: set {USUAL[engine]}, or put it into {file}")
    with pytest.raises(EngineUnavailable, match=message):
        check_card(card(engine), cache=secrets)
    with pytest.raises(EngineUnavailable, match=message):
        open_engine(card(engine), survey=small_survey, cache=secrets)
    monkeypatch.setenv(USUAL[engine], KEY)
    opened = open_engine(card(engine), survey=small_survey, cache=secrets)
    assert isinstance(opened, Engine)
    assert opened.describe()["engine"] == engine
    opened.close()


def test_what_cannot_be_a_key_is_refused_without_being_shown(secrets: Path) -> None:
    given = card("openai")
    for wrong in ("sk-abc def", "schlüssel"):
        with pytest.raises(EngineUnavailable, match="environment variable OPENAI_API_KEY: expected a key") as refused:
            find_key(given, environment={"OPENAI_API_KEY": wrong})
        assert wrong not in str(refused.value)
    file = secrets / "openai-api-key"
    for content, message in ((b"\xff\xfe", "cannot be read: it is no text"), (b"", ": expected a key")):
        file.write_bytes(content)
        with pytest.raises(EngineUnavailable, match=f"openai-api-key{message}|openai-api-key {message}"):
            find_key(given, environment={})
    file.unlink()
    file.mkdir()
    with pytest.raises(EngineUnavailable, match="openai-api-key cannot be read: Is a directory"):
        find_key(given, environment={})


@pytest.mark.parametrize(
    "secret",
    [
        "sk-ant-api03-abcDEF_123-xyz",
        "sk-a****************xyz",
        "AIzaSyA1234567890abcdef",
        "eyJhbGciOiJIUzI1NiJ9.eyJz.abc",
    ],
)
def test_whatever_looks_like_a_key_is_not_repeated(secret: str) -> None:
    assert redacted(f"Incorrect API key: {secret}. Look it up.", None).startswith("Incorrect API key: [key]")


def test_other_words_are_repeated_in_one_short_line_that_a_terminal_does_not_obey() -> None:
    said = "risk-averse tasks: max_tokens is too large (sky-high, hf, pk) for claude-haiku-5-5"
    assert redacted(said, KEY) == said
    assert redacted(f"key {KEY}x", KEY) == "key [key]x"
    said = "bad\x1b]0;owned\x07\n2026-01-01 00:00:00,000 INFO defsurvey:\u2028run\u202e finished"
    written = "bad⟨U+001B⟩]0;owned⟨U+0007⟩ 2026-01-01 00:00:00,000 INFO defsurvey: run⟨U+202E⟩ finished"
    assert redacted(said, None) == written
    assert len(redacted("x" * 600, None)) == len(redacted("\x1b" * 600, None)) == 500
