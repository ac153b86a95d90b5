"""Survey folders: characters that nobody sees stand in no text, and codes are names."""

from pathlib import Path

import pytest
import yaml

from defsurvey.storage.surveys.folder import check_survey, is_culture, is_dimension, read_survey
from defsurvey.storage.surveys.problem import SurveyError
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
    "culture that is no code": (S, "  cn:", "  中国 人:", "cultures.中国 人: expected a code of letters and digits of"),
    "culture that is a path": (S, "  cn:", "  ../cn:", "cultures.../cn: expected a code of letters and digits of any"),
    "dimension that is no code": (
        S,
        "  EVI:",
        "  E  V:",
        "dimensions.E  V: expected a code of letters and digits of any",
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
    assert "sources.a⟨U+000A⟩b: expected a text, got an empty list" in str(check_survey(folder)[0])


def test_line_breaks_and_tabs_may_stand_in_a_text(write: Write) -> None:
    """And what joins letters or emoji; codes may be in any script, those of dimensions."""
    text = '"Children\\n\\tmatter \U0001f468\u200d\U0001f469."'
    folder = write((Q, "Children matter.", text), (S, "  EVI:", "  解放:"), (Q, "dimension: EVI", "dimension: 解放"))
    (folder / Q).write_text((folder / Q).read_text("utf-8").replace("EVI", "解放"), encoding="utf-8")
    assert read_survey(folder).question("Q1").text["en"] == "Children\n\tmatter \U0001f468\u200d\U0001f469."


DIMENSIONS = [
    "Self expression",
    "I/R",
    "E&V",
    "A:b",
    "A+",
    "l'aube",
    "मूल्य",
    "คุณค่า",
    "می\u200cشود",
    "_x",
    "½",
    "a_.-b",
    "价值",
]


@pytest.mark.parametrize("code", DIMENSIONS)
def test_a_dimension_is_called_in_any_script(write: Write, code: str) -> None:
    """With the marks and the joiners by which words are spelt, and with signs and spaces between words."""
    folder = write((S, "  EVI:", f'  "{code}":'))
    (folder / Q).write_text((folder / Q).read_text("utf-8").replace("EVI", f'"{code}"'), encoding="utf-8")
    assert read_survey(folder).question("Q1").dimensions == (code,)


@pytest.mark.parametrize(
    "code", ["", " a", "a ", "a  b", "=1", "-a", "\u0301a", "a\u200cb", "a\u00a0b", "a|b", "a\nb", "🙂"]
)
def test_what_is_no_code_of_a_dimension(code: str) -> None:
    """What is not seen, what a table or a formula would be made of, and pictures."""
    assert not is_dimension(code)


@pytest.mark.parametrize(("code", "fits"), [
    ("us", True), ("中国", True), ("us:north", True), ("us_NE.1-a", True), ("भारत", True), ("_us", True),
    ("", False), ("us north", False), ("us/north", False), ("..", False), ("-us", False), (":us", False),
    ("u|s", False),
])  # fmt: skip
def test_a_culture_is_called_in_any_script(code: str, fits: bool) -> None:
    """By what can be part of a name in a report's page: no space, and nothing that leads elsewhere."""
    assert is_culture(code) is fits


def test_a_culture_of_any_script_is_read(write: Write) -> None:
    """In all files alike."""
    folder = write((S, "  cn:", "  中国:"), (S, "  us:", "  us:north:"))
    for file in (R, P):
        text = (folder / file).read_text("utf-8")
        for old, new in ((",cn,", ",中国,"), (",us,", ",us:north,"), ("\nus,", "\nus:north,")):
            text = text.replace(old, new)
        (folder / file).write_text(text, encoding="utf-8")
    assert {culture.code for culture in read_survey(folder).cultures} == {"us:north", "中国"}


def test_a_lone_surrogate_is_told(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the parser in Python, which takes one; that in C refuses it itself."""
    monkeypatch.setattr("defsurvey.storage.surveys.yaml_models._LOADER", yaml.SafeLoader)
    with pytest.raises(SurveyError, match=r"line 2, title: expected a text without control .*'A \\ud800' with U\+D800"):
        read_survey(write((S, "A tiny survey", '"A \\ud800"')))
