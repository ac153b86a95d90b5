"""What there is to choose from, as it is printed and as a program reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from defsurvey.jobs.cli.main import main
from defsurvey.jobs.study import catalogue
from defsurvey.storage.surveys.problem import SurveyError
from defsurvey.workers.engines.opening import Checked
from defsurvey.workers.models import read_cards


def typed(*words: str) -> str:
    """What a verb prints."""
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_bundled_surveys_are_listed() -> None:
    """The World Values Survey is there with its hundred items in 89 questions, with citation and terms."""
    (wvs7,) = [entry for entry in json.loads(typed("survey", "list", "--json")) if entry["id"] == "wvs7"]
    assert (wvs7["questions"], wvs7["core"], wvs7["languages"]) == (89, 55, ["en", "zh"])
    assert {"us", "cn"} <= set(wvs7["cultures"])
    assert wvs7["citation"]
    assert wvs7["terms"]
    assert "wvs7  " in typed("survey", "list")


def test_a_survey_is_shown_line_by_line() -> None:
    """Every question with its type, dimensions and wording; counts by dimension."""
    shown = json.loads(typed("survey", "show", "wvs7", "--json"))
    assert len(shown["lines"]) == 89
    assert shown["lines"][0]["id"] == "Q1"
    assert set(shown["dimensions"]) == {"EVI", "IDV", "IVR", "LTO", "MAS", "PDI", "TDI", "UAI", "USI"}
    printed = typed("survey", "show", "wvs7")
    assert "89 questions, 55 core" in printed
    assert "Q164" in printed


def test_a_question_is_shown_with_what_people_answered() -> None:
    """Options with labels in every language and percentages that add up."""
    shown = json.loads(typed("survey", "show", "wvs7", "--question", "Q57", "--json"))["question"]
    assert [option["code"] for option in shown["options"]] == [1, 2]
    assert set(shown["options"][0]["label"]) == {"en", "zh"}
    for who in ("us all", "cn all"):
        assert sum(shown["references"][who]["percent"].values()) == pytest.approx(100, abs=0.05)
        assert shown["references"][who]["n"] > 1000
    printed = typed("survey", "show", "wvs7", "--question", "Q57")
    assert "Q57: " in printed
    assert "%" in printed


def printed(shown: dict[str, Any]) -> str:
    """A survey as it is printed."""
    console = Console(width=300)
    with console.capture() as capture:
        console.print(catalogue.render_survey(shown))
    return capture.get()


def test_what_a_survey_says_is_no_markup_and_cannot_write_on_the_terminal() -> None:
    """Names, codes and texts of a folder from elsewhere are shown as they are, invisible signs by their numbers."""
    odd, written = "[/red]\x1b[2J", "[/red]⟨U+001B⟩[2J"
    whole = catalogue.show_survey("wvs7", None)
    line = {**whole["lines"][0], "id": odd, "type": odd, "dimensions": [odd], "text": {"en": odd}}
    text = printed({**whole, "title": odd, "lines": [line]})
    assert (text.count(written), "\x1b" in text) == (5, False)
    one = catalogue.show_survey("wvs7", "Q57")["question"]
    options = [{"code": 1, "label": {"en": odd}}, {"code": 2, "label": {"en": "no"}}]
    paraphrases = [{"number": 1, "language": odd, "text": odd, "model": odd}]
    people = {odd: one["references"]["us all"]}
    told = {**one, "id": odd, "text": {"en": odd}, "options": options, "references": people, "paraphrases": paraphrases}
    text = printed({"survey": "s", "question": told})
    assert (text.count(written), "\x1b" in text) == (7, False)


def test_what_a_server_says_cannot_write_on_the_terminal() -> None:
    """Neither facts of a model that is checked nor its reply, nor what a card says; a prompt keeps its lines."""
    odd = "a\x1b[2J\u202e"
    checked = Checked(
        name="m", facts={"architecture": odd}, prompt=f"one\n{odd}", prompt_tokens=3, served={"version": odd}, reply=odd
    )
    for lines in (catalogue.checked_lines(checked), catalogue.card_lines({"name": odd, "api": {"body": {"x": odd}}})):
        text = "\n".join(lines)
        assert not {"\x1b", "\u202e"} & set(text)
        assert "⟨U+001B⟩[2J⟨U+202E⟩" in text


def test_models_are_listed_and_shown() -> None:
    """Cards by name, with engine and respondent."""
    cards = {card["name"]: card for card in json.loads(typed("models", "list", "--json"))}
    assert cards["human"]["respondent"] == "human"
    assert cards["smollm2-135m-instruct"]["hub"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert "smollm2-135m-instruct" in typed("models", "list")
    assert json.loads(typed("models", "show", "human", "--json"))["engine"] == "scripted"
    assert "respondent: human\n" in typed("models", "show", "human")


def test_cards_of_the_users_own_are_there_too(tmp_path: Path) -> None:
    """A path in a card is printed as text."""
    own = tmp_path / "cards.toml"
    own.write_text('[mine]\npath = "weights"\n')
    cards = {name: catalogue.card_fields(card) for name, card in read_cards(own).items()}
    assert cards["mine"]["path"] == str(tmp_path / "weights")
    assert "human" in cards
    json.dumps(cards)


def test_a_name_that_does_not_exist_is_refused_with_the_nearest() -> None:
    """Both catalogues help with a misspelling."""
    with pytest.raises(SurveyError, match="wvs7"):
        catalogue.show_survey("wvs8", None)
    with pytest.raises(SurveyError, match=r"there is no question Q999 \(did you mean 'Q199'\?\)"):
        catalogue.show_survey("wvs7", "Q999")
    refused = CliRunner().invoke(main, ("models", "show", "humann"))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("defsurvey: there is no model 'humann' (did you mean 'human'?)")
