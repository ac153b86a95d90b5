"""Survey folders: characters that nobody sees stand in no text, and codes are names."""

from pathlib import Path

import pytest
import yaml

from storage.survey import SurveyError
from storage.survey_folder import check_survey, read_survey
from tests.storage.test_survey_folder import TINY, Write, write_tiny

S, Q, R, P = "survey.yaml", "questions.yaml", "references.csv", "regions.csv"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the tiny survey with changes and returns its folder."""
    return lambda *changes: write_tiny(tmp_path, *changes)


#: name -> file, old text, new text, what the message must contain
MISTAKES = {
    "escape in a title": (
        S,
        "A tiny survey",
        '"A \\e[2Jtiny"',
        "line 2, title: expected a text without control characters",
    ),
    "direction turned round": (
        S,
        "A tiny survey",
        "A \u202eyevrus",
        "title: expected a text without control characters",
    ),
    "control in a key": (S, "census: The", '"cen\\x07sus": The', "sources: expected a key without control characters"),
    "culture that is no name": (S, "  cn:", "  中国 人:", "cultures.中国 人: expected a name of letters, digits, '_'"),
    "dimension that is no code": (
        S,
        "  EVI:",
        "  E V:",
        "dimensions.E V: expected a code of letters and digits of any",
    ),
    "control in a question": (Q, "Children matter.", '"Children\\x9b"', "line 9, Q1.text.en: expected a text without"),
    "control in a label": (Q, "{en: Manners,", '{en: "Man\\bners",', "Q3.options[1].label.en: expected a text without"),
    "control in a table": (
        R,
        "Q2,us",
        "Q2\x1b,us",
        "line 4, question: expected a text without control characters, got one",
    ),
    "direction in a region": (
        P,
        "Texas",
        "Tex\u2066as",
        "line 3, name_en: expected a text without control characters, got",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_where_it_stands(write: Write, mistake: str) -> None:
    """One error that names file, line and field, and can be printed."""
    file, old, new, told = MISTAKES[mistake]
    with pytest.raises(SurveyError) as caught:
        read_survey(write((file, old, new)))
    assert told in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_mistake_is_told_without_what_nobody_sees(write: Write) -> None:
    """An error is one line, whatever stands in the key or the cell that it is about."""
    folder = write((S, "census: The", '"a\\nb\\e[2J\u202ec": The'), (P, "name_zh", "name\u202e_zh"))
    told = [str(problem) for problem in check_survey(folder)]
    assert "\\x1b[2J\\u202ec' with U+001B" in told[0]
    assert all(text.isprintable() for text in told)
    (folder / S).write_text(
        TINY[S].replace("census:", '"a\\nb":').replace("The census of 2025", "[]"), encoding="utf-8"
    )
    assert "sources.a⟨U+000A⟩b: expected a text, got a list" in str(check_survey(folder)[0])


def test_line_breaks_and_tabs_may_stand_in_a_text(write: Write) -> None:
    """And what joins letters or emoji; codes may be in any script, those of dimensions."""
    text = '"Children\\n\\tmatter \U0001f468\u200d\U0001f469."'
    folder = write((Q, "Children matter.", text), (S, "  EVI:", "  解放:"), (Q, "dimension: EVI", "dimension: 解放"))
    (folder / Q).write_text((folder / Q).read_text("utf-8").replace("EVI", "解放"), encoding="utf-8")
    assert read_survey(folder).question("Q1").text["en"] == "Children\n\tmatter \U0001f468\u200d\U0001f469."


def test_a_lone_surrogate_is_told(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the parser in Python, which takes one; that in C refuses it itself."""
    monkeypatch.setattr("storage.survey_yaml._LOADER", yaml.SafeLoader)
    with pytest.raises(SurveyError, match=r"line 2, title: expected a text without control .*'A \\ud800' with U\+D800"):
        read_survey(write((S, "A tiny survey", '"A \\ud800"')))
