"""What there is to choose from, as it is printed and as a program reads it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from defsurvey.jobs.cli.main import main
from defsurvey.jobs.study import catalogue
from defsurvey.jobs.study.catalogue import validation_notes
from defsurvey.storage.surveys.folder import find_survey, read_survey
from defsurvey.storage.surveys.problem import SurveyError
from defsurvey.workers.engines.opening import Checked
from tests.storage.test_survey_folder import Change, write_tiny


def typed(*words: str) -> str:
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
    shown = json.loads(typed("survey", "show", "wvs7", "--json"))
    assert len(shown["lines"]) == 89
    assert shown["lines"][0]["id"] == "Q1"
    assert set(shown["dimensions"]) == {"EVI", "IDV", "IVR", "LTO", "MAS", "PDI", "TDI", "UAI", "USI"}
    printed = typed("survey", "show", "wvs7")
    assert "89 questions, 55 core" in printed
    assert "Q164" in printed


def test_a_question_is_shown_with_what_people_answered() -> None:
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
    console = Console(width=300)
    with console.capture() as capture:
        console.print(catalogue.render_survey(shown))
    return capture.get()


def test_what_a_survey_says_is_no_markup_and_cannot_write_on_the_terminal() -> None:
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
    odd = "a\x1b[2J\u202e"
    checked = Checked(
        name="m", facts={"architecture": odd}, prompt=f"one\n{odd}", prompt_tokens=3, served={"version": odd}, reply=odd
    )
    for lines in (catalogue.checked_lines(checked), catalogue.card_lines({"name": odd, "api": {"body": {"x": odd}}})):
        text = "\n".join(lines)
        assert not {"\x1b", "\u202e"} & set(text)
        assert "⟨U+001B⟩[2J⟨U+202E⟩" in text


def test_a_name_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(SurveyError, match="wvs7"):
        catalogue.show_survey("wvs8", None)
    with pytest.raises(SurveyError, match=r"there is no question Q999 \(did you mean 'Q199'\?\)"):
        catalogue.show_survey("wvs7", "Q999")
    refused = CliRunner().invoke(main, ("models", "show", "humann"))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("defsurvey: there is no model 'humann' (did you mean 'human'?)")


def test_counts_are_those_of_the_survey() -> None:
    counted = json.loads(typed("survey", "show", "wvs7", "--topics", "--dimensions", "--json"))
    survey = find_survey("wvs7")
    assert sum(row["questions"] for row in counted["topics"]) == counted["questions"] == 89
    assert sum(row["items"] for row in counted["dimensions"]) == counted["items"]
    assert [row["dimension"] for row in counted["dimensions"]] == [*survey.dimensions, ""]
    with_value = {row["dimension"]: row["items"] for row in counted["dimensions"]}
    assert sum(number for code, number in with_value.items() if code) == 100
    lists = sum(len(question.options) - 1 for question in survey.questions if question.max_choices > 1)
    assert counted["items"] == 89 + lists
    assert sum(row["share"] for row in counted["topics"]) == pytest.approx(1)


NO_PROMPT = "there is no prompt in ja, only in en, zh, and a folder cannot add one (docs/importing.md)"
UNREAD = "a label in Q3 cannot be read (it has no letter, or differs from another in signs alone)"
Q = "questions.yaml"


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["survey", *words])


def test_a_language_without_a_prompt_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "question,type,text_ja,code,label_ja,culture,n,percent\n"
        "A,single,はい?,1,はい,JPN,500,40\nA,,,2,いいえ,JPN,500,60\n",
        encoding="utf-8",
    )
    made = run("import", "table", str(tmp_path / "t.csv"), "-o", str(tmp_path / "mine"))
    assert f"- {NO_PROMPT}: a study that asks in it is refused\n" in made.stdout
    checked = run("validate", str(tmp_path / "mine"))
    assert (checked.exit_code, checked.stdout) == (
        0,
        f"{tmp_path / 'mine'} is a valid survey\n- {NO_PROMPT}: a study that asks in it is refused\n",
    )


@pytest.mark.parametrize("changes", [[(Q, "en: Manners", 'en: "Faith."')], [(Q, "en: Manners", "en: 🙂")]])
def test_labels_that_cannot_be_read_are_told(tmp_path: Path, changes: list[Change]) -> None:
    (note,) = validation_notes(read_survey(write_tiny(tmp_path, *changes)))
    assert note == f"{UNREAD}: a reply of that label without its number is unparsable"


def test_a_label_that_is_another_options_number_is_told(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path, (Q, "en: Manners", 'en: "8"'))
    told = "- a label in Q3 is the number of another option: a reply of that number alone is read as that option\n"
    assert run("validate", str(folder)).stdout == f"{folder} is a valid survey\n{told}"
