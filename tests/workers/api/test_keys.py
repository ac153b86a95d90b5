"""Where keys come from, and that a card is refused in time where there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines import keys
from defsurvey.workers.engines.base import Engine, EngineUnavailable
from defsurvey.workers.engines.keys import find_key, redacted
from defsurvey.workers.engines.opening import check_card, open_engine
from defsurvey.workers.models import ModelCard, find_card, read_cards
from tests.workers.api.conftest import KEY

USUAL = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
ENGINES = tuple(USUAL)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever this machine has, these tests begin without."""
    for name in USUAL.values():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(keys, "SECRETS", tmp_path)


def card(engine: str, **fields: str) -> ModelCard:
    """A card of the provider itself, unless it has an address."""
    return ModelCard.model_validate({"name": "some", "engine": engine, "model": "m"} | fields)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_environment_goes_before_a_secret_file(engine: str, tmp_path: Path) -> None:
    """The file is named like the variable, in the way of secret files; blanks around a key are not part of it."""
    (tmp_path / USUAL[engine].lower().replace("_", "-")).write_text("from-file\n")
    given = card(engine)
    assert find_key(given, environment={USUAL[engine]: f" {KEY}\n"}, secrets=tmp_path) == KEY
    assert find_key(given, environment={}, secrets=tmp_path) == "from-file"
    assert find_key(given, environment={USUAL[engine]: ""}, secrets=tmp_path) == "from-file"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_key_goes_only_to_its_provider_or_where_the_card_names_it(engine: str, tmp_path: Path) -> None:
    """A server of one's own must not collect the provider's keys."""
    environment = {USUAL[engine]: KEY, "MY_KEY": "mine"}
    address = "http://there:8000/v1"
    assert find_key(card(engine, base_url=address), environment=environment, secrets=tmp_path) is None
    mine = card(engine, base_url=address, key="MY_KEY")
    assert find_key(mine, environment=environment, secrets=tmp_path) == "mine"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_key_is_named_before_anything_is_enqueued(
    engine: str, tmp_path: Path, small_survey: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check says what to set and where else it may lie; with the key there, the engine opens."""
    file = tmp_path / USUAL[engine].lower().replace("_", "-")
    message = re.escape(f"model some: there is no key: set {USUAL[engine]}, or put it into {file}")
    with pytest.raises(EngineUnavailable, match=message):
        check_card(card(engine), cache=tmp_path)
    with pytest.raises(EngineUnavailable, match=message):
        open_engine(card(engine), survey=small_survey, cache=tmp_path)
    monkeypatch.setenv(USUAL[engine], KEY)
    check_card(card(engine), cache=tmp_path)
    opened = open_engine(card(engine), survey=small_survey, cache=tmp_path)
    assert isinstance(opened, Engine)
    assert opened.describe()["engine"] == engine
    opened.close()


def test_what_cannot_be_a_key_is_refused_without_being_shown(tmp_path: Path) -> None:
    """A key with a blank, a file that is no text, a file that is a folder: named by its place alone."""
    given = card("openai")
    for wrong in ("sk-abc def", "schlüssel"):
        with pytest.raises(EngineUnavailable, match="environment variable OPENAI_API_KEY: expected a key") as refused:
            find_key(given, environment={"OPENAI_API_KEY": wrong}, secrets=tmp_path)
        assert wrong not in str(refused.value)
    file = tmp_path / "openai-api-key"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(EngineUnavailable, match="openai-api-key cannot be read: it is no text"):
        find_key(given, environment={}, secrets=tmp_path)
    file.write_text("")
    with pytest.raises(EngineUnavailable, match=r"file .*openai-api-key: expected a key"):
        find_key(given, environment={}, secrets=tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(EngineUnavailable, match="openai-api-key cannot be read: Is a directory"):
        find_key(given, environment={}, secrets=tmp_path)


@pytest.mark.parametrize(
    "secret",
    [
        "sk-ant-api03-abcDEF_123-xyz",
        "sk-proj-abcdef123456",
        "sk-a****************xyz",
        "AIzaSyA1234567890abcdef",
        "hf_abcdefghijklmnop",
        "gsk_abcdef123456",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.abc",
    ],
)
def test_whatever_looks_like_a_key_is_not_repeated(secret: str) -> None:
    """Providers repeat the key that they refuse, not always in full."""
    assert redacted(f"Incorrect API key provided: {secret}. Look it up.", None).startswith(
        "Incorrect API key provided: [key]"
    )


def test_other_words_are_repeated_and_long_ones_cut() -> None:
    """A message is to be understood; a page of HTML is not a message."""
    said = "risk-averse tasks: max_tokens is too large (sky-high, hf, pk) for claude-haiku-5-5"
    assert redacted(said, KEY) == said
    assert redacted(f"key {KEY}x", KEY) == "key [key]x"
    assert len(redacted("x" * 600, None)) == 500


def test_a_message_is_one_line_that_a_terminal_does_not_obey() -> None:
    """It goes into logs and onto terminals; nothing in it can look like a line of the log or move the cursor."""
    said = "bad\x1b]0;owned\x07\n2026-01-01 00:00:00,000 INFO defsurvey:\u2028run\u202e finished"
    written = "bad⟨U+001B⟩]0;owned⟨U+0007⟩ 2026-01-01 00:00:00,000 INFO defsurvey: run⟨U+202E⟩ finished"
    assert redacted(said, None) == written
    assert len(redacted("\x1b" * 600, None)) == 500


def test_a_retired_model_is_refused_with_its_successor(tmp_path: Path) -> None:
    """The paper's model cannot be asked any more; its successor has a card and is not retired."""
    cards = read_cards()
    retired = find_card("claude-3-5-sonnet", cards)
    message = "model claude-3-5-sonnet is no longer served by its provider: take claude-sonnet-5-5 instead"
    with pytest.raises(EngineUnavailable, match=message):
        check_card(retired, cache=tmp_path)
    assert not find_card(retired.retired, cards).retired
