"""What there is to choose from, as it is printed and as a program reads it."""

from __future__ import annotations

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
from defsurvey.storage.surveys.write import exclude_questions, write_survey
from defsurvey.workers.engines.opening import Checked
from defsurvey.workers.models import read_cards
from tests.storage.test_survey_folder import Change, write_tiny


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


def show(*words: str) -> Result:
    """A call of the verb."""
    return CliRunner().invoke(main, ["survey", "show", *words])


def test_counts_are_those_of_the_survey() -> None:
    """Every question is in a topic; every item, options of lists counted one by one, has a dimension or none."""
    counted = json.loads(show("wvs7", "--topics", "--dimensions", "--json").stdout)
    survey = find_survey("wvs7")
    assert sum(row["questions"] for row in counted["topics"]) == counted["questions"] == 89
    assert sum(row["items"] for row in counted["dimensions"]) == counted["items"]
    assert [row["dimension"] for row in counted["dimensions"]] == [*survey.dimensions, ""]
    with_value = {row["dimension"]: row["items"] for row in counted["dimensions"]}
    assert sum(number for code, number in with_value.items() if code) == 100
    lists = sum(len(question.options) - 1 for question in survey.questions if question.max_choices > 1)
    assert counted["items"] == 89 + lists
    assert sum(row["share"] for row in counted["topics"]) == pytest.approx(1)


def test_bars_are_as_long_as_the_counts() -> None:
    """The largest count has the longest bar, and half of it half the length."""
    shown = show("wvs7", "--topics").stdout
    counted = json.loads(show("wvs7", "--topics", "--json").stdout)["topics"]
    lines = [line for line in shown.splitlines() if "█" in line]
    assert len(lines) == len(counted)
    most = max(row["questions"] for row in counted)
    for line, row in zip(lines, counted, strict=True):
        assert line.startswith(row["topic"])
        assert line.count("█") == max(1, round(40 * row["questions"] / most))
    assert "Items by value dimension" not in shown
    assert "EVI Emancipative values" in show("wvs7", "--dimensions").stdout


def test_excluded_questions_are_not_counted(tmp_path: Path) -> None:
    """They are told as a number."""
    write_survey(find_survey("wvs7"), tmp_path / "own")
    exclude_questions(tmp_path / "own", {"Q1": "unclear", "Q2": "unclear"})
    assert "(87 questions, 105 items, 2 excluded)" in show(str(tmp_path / "own"), "--topics").stdout


def test_one_question_has_no_spread() -> None:
    """Options that contradict each other are refused."""
    assert show("wvs7", "--question", "Q1", "--topics").exit_code == 2


NO_PROMPT = "there is no prompt in ja, only in en, zh, and a folder cannot add one (docs/importing.md)"
UNREAD = "a label in Q3 cannot be read (it has no letter, or differs from another in signs alone)"
Q = "questions.yaml"


def run(*words: str) -> Result:
    """A call of the command line."""
    return CliRunner().invoke(main, ["survey", *words])


def test_nothing_is_told_of_the_bundled_survey() -> None:
    """It can be asked in its languages, and every label is read as its own option."""
    assert validation_notes(find_survey("wvs7")) == []


def test_a_language_without_a_prompt_is_told(tmp_path: Path) -> None:
    """A folder that is worded in the people's own language is sound, and no study can ask in it."""
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


@pytest.mark.parametrize(
    "changes",
    [
        [(Q, "en: Manners", 'en: "Faith."')],
        [(Q, "en: Manners", 'en: "Cafe\\u0301"'), (Q, "en: Faith", "en: Café")],
        [(Q, "en: Manners", 'en: "No\\u00a0faith"'), (Q, "en: Faith", "en: No faith")],
        [(Q, "en: Manners", "en: 🙂")],
        [(Q, "en: Manners", 'en: "++"'), (Q, "en: Faith", 'en: "--"')],
    ],
    ids=["full stop", "accents", "blanks", "emoji", "signs"],
)
def test_labels_that_cannot_be_read_are_told(tmp_path: Path, changes: list[Change]) -> None:
    """A model that answers with one of them, and without its number, has said nothing."""
    (note,) = validation_notes(read_survey(write_tiny(tmp_path, *changes)))
    assert note == f"{UNREAD}: a reply of that label without its number is unparsable"


def test_a_label_that_is_another_options_number_is_told(tmp_path: Path) -> None:
    """As importers tell it."""
    folder = write_tiny(tmp_path, (Q, "en: Manners", 'en: "8"'))
    told = "- a label in Q3 is the number of another option: a reply of that number alone is read as that option\n"
    assert run("validate", str(folder)).stdout == f"{folder} is a valid survey\n{told}"


def test_an_import_tells_labels_that_cannot_be_read(tmp_path: Path) -> None:
    """To programs as well."""
    (tmp_path / "t.csv").write_text(
        "question,type,text_en,code,label_en,culture,n,percent\n"
        "Q3,single,Is it?,1,Yes,USA,500,40\nQ3,,,2,Yes.,USA,500,60\n",
        encoding="utf-8",
    )
    made = run("import", "table", str(tmp_path / "t.csv"), "-o", str(tmp_path / "mine"), "--json")
    assert [note for note in json.loads(made.stdout)["notes"] if note.startswith(UNREAD)]
