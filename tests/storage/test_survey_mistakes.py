"""Survey folders: every mistake is told where it stands, all of them in one go, and no character that nobody sees."""

import re
from pathlib import Path

import pytest
import yaml

from defsurvey.storage.surveys.folder import check_survey, is_culture, is_dimension, read_survey
from defsurvey.storage.surveys.problem import InvalidSurvey, SurveyError
from tests.storage.test_survey_folder import TINY, Write, write_tiny

S, Q, R, P = "survey.yaml", "questions.yaml", "references.csv", "regions.csv"
CULTURES = TINY[S][TINY[S].index("cultures:") : TINY[S].index("sources:")]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the tiny survey with changes and returns its folder."""
    return lambda *changes: write_tiny(tmp_path, *changes)


#: name -> file, old text, new text, what the message must contain
MISTAKES = {
    "yaml does not parse": (Q, "zh: 同意}}", "zh: 同意}", "questions.yaml, line 4, column 5: expected YAML, got"),
    "tab in yaml": (S, "  EVI", "\tEVI", "survey.yaml, line 8, column 1: expected YAML, got"),
    "control character": (S, "tiny survey", "tiny\x00survey", "survey.yaml, line 2: expected YAML, got a control"),
    "unknown key in the survey": (S, "title:", "titel:", "line 2, titel: expected one of the keys id, title, "),
    "missing key in the survey": (S, "terms: Free\n", "", "survey.yaml, line 1: expected a key 'terms', got none"),
    "empty title": (S, "A tiny survey", "", "survey.yaml, line 2, title: expected a text, got nothing"),
    "id that is no name": (S, "id: tiny", "id: ../tiny", "line 1, id: expected a name of letters, digits, '_', '.'"),
    "language that is none": (S, "[en, zh]", "[en, zh, native]", "languages[3]: expected a language code such as"),
    "language twice": (S, "[en, zh]", "[en, zh, en]", "languages[3]: expected every language once, got 'en' again"),
    "languages no list": (S, "[en, zh]", "en", "line 6, languages: expected a list, got 'en'"),
    "native language not declared": (S, "language: zh", "language: ja", "cultures.cn.language: expected one of en, zh"),
    "culture twice": (S, "  cn:", "  us:", "line 11, cultures: expected every key once, got 'us' again, first on line"),
    "no cultures": (S, CULTURES, "cultures: {}\n", "line 9, cultures: expected at least 1 of them, got an empty mappi"),
    "list as key": (S, "id: tiny", "[a]: tiny", "survey.yaml, line 1: expected a word as key, got a list"),
    "duplicate question": (Q, "id: Q2", "id: Q1", "line 12, questions[2].id: expected an id of its own, got 'Q1', fir"),
    "unknown type": (Q, "type: scale", "type: scales", "Q2.type: expected one of single, ordinal, scale, multiple"),
    "missing translation": (
        Q,
        "{en: Children matter., zh: 孩子很重要。}",
        "{en: Children matter.}",
        "line 9, Q1.text: expected a text in every language (en, zh), got none in 'zh'",
    ),
    "undeclared language": (Q, "{en: Manners, zh: 礼貌}", "{en: Manners, zh: 礼貌, fr: M}", "keys en, zh, got 'fr'"),
    "duplicate option code": (Q, "code: 8", "code: 7", "line 24, Q3.options[2].code: expected a code of its own, got"),
    "duplicate label": (
        Q,
        "{en: Faith, zh: 信仰}",
        "{en: manners, zh: 信仰}",
        "Q3.options[2].label: expected a label of",
    ),
    "code that is no number": (Q, "code: 7", "code: seven", "Q3.options[1].code: expected a whole number, got 'seven'"),
    "negative code": (Q, "code: 7", "code: -7", "options[1].code: expected a number of at least 0, got '-7'"),
    "one option": (
        Q,
        "    - {code: 2, label: {en: Disagree, zh: \u4e0d\u540c\u610f}}\n",
        "",
        "line 3, answers.agreement: expected at least two options that are not residual, got 1 option(s) in all",
    ),
    "answers no mapping": (Q, "answers:\n  agreement:\n", "answers:\n", "answers: expected a mapping, got a list"),
    "scale upside down": (Q, "from: 1, to: 4", "from: 4, to: 1", "Q2.options: expected a scale of at most 63 points"),
    "scale too long with what stands beside it": (
        Q,
        "to: 4, low: {en: Not at all, zh: 完全不自由}",
        "to: 63, residual: [{code: 0, label: {en: None, zh: 无}}], low: {en: Not at all, zh: 完全不自由}",
        "line 16, Q2.options: expected at most 63 options, got 64",
    ),
    "max_choices too large": (Q, "max_choices: 2", "max_choices: 4", "line 19, Q3.max_choices: expected a whole numbe"),
    "max_choices missing": (Q, "    max_choices: 2\n", "", "line 17, Q3: expected a key 'max_choices', a whole number"),
    "max_choices where one is chosen": (
        Q,
        "type: scale",
        "type: scale\n    max_choices: 2",
        "line 14, Q2.max_choices: expected max_choices only for a multiple question, got '2'",
    ),
    "direction 0": (Q, "direction: -1, basis", "direction: 0, basis", "Q1.value.direction: expected 1 or -1, got '0'"),
    "basis unknown": (Q, "basis: A", "basis: Z", "line 11, Q1.value.basis: expected one of A, A2, A3, B, got 'Z'"),
    "core no truth value": (Q, "core: true", "core: perhaps", "Q1.value.core: expected true or false, got 'perhaps'"),
    "value at a list": (
        Q,
        "max_choices: 2",
        "max_choices: 2\n    value: {dimension: EVI, direction: 1}",
        "Q3.value: expected the value of a multiple question at its options",
    ),
    "value at an option of a scale": (
        Q,
        "{code: 2, label: {en: Disagree, zh: 不同意}}",
        "{code: 2, label: {en: Disagree, zh: 不同意}, value: {dimension: EVI, direction: 1}}",
        "line 10, Q1.options: expected a value at options only in a multiple question",
    ),
    "unknown column": (R, "low_n,source", "low_n,sorce", "line 1, header: expected one of the columns question, "),
    "column twice": (R, "low_n,source", "low_n,low_n", "line 1, header: expected every column once, got 'low_n'"),
    "too few cells": (R, "900,no,,", "900,", "references.csv, line 4: expected 7 cells, got 5"),
    "open quote": (R, "900,no", '"900,no', "references.csv, line 4: expected comma-separated values, got"),
    "reference to an unknown question": (R, "Q2,us", "Q22,us", "line 4, question: expected a question of the survey:"),
    "reference to an unknown option": (R, "4:40", "5:40", "line 4, percent: expected an option of question Q2: one of"),
    "reference to an unknown group": (R, "male", "males", "line 3, group: expected one of all, male, female"),
    "reference to an unknown source": (R, "census", "cencus", "line 2, source: expected a source of survey.yaml: one"),
    "reference twice": (R, "Q1,cn,male", "Q1,us,all", "line 3, group: expected one row for each question, culture, gr"),
    "sum too large": (R, "4:40", "4:41.1", "percentages that sum to 100 within 1 for question Q2, got 101.1"),
    "option left out": (R, "|4:40", "", "line 4, percent: expected every option of question Q2, got none for 4"),
    "no pairs": (R, "1:10|2:20|3:30|4:40", "10 20 30 40", "expected code:percent|code:percent|... for question Q"),
    "percent above 100": (R, "7:60", "7:160", "expected a percentage from 0 to 100 for question Q3, got '160'"),
    "n zero": (R, "900", "0", "line 4, n: expected a whole number of respondents, 1 or more, got '0'"),
    "low_n unclear": (R, "900,no", "900,maybe", "line 4, low_n: expected yes, no or nothing, got 'maybe'"),
    "region shares do not sum": (P, "70", "68", "line 3, share: expected percentages that sum to 100 within 1 over th"),
    "region column of a language missing": (P, "name_zh,", "", "header: expected a column 'name_zh', got none"),
    "escape in a title": (S, "A tiny survey", '"A \\e[2Jtiny"', "line 2, title: expected a text without control chara"),
    "direction turned round": (S, "A tiny survey", "A \u202eyevrus", "title: expected a text without control characte"),
    "control in a key": (S, "census: The", '"cen\\x07sus": The', "sources: expected a key without control characters"),
    "culture that is no code": (S, "  cn:", "  中国 人:", "cultures.中国 人: expected a code of letters and digits of"),
    "culture that is a path": (S, "  cn:", "  ../cn:", "cultures.../cn: expected a code of letters and digits of any"),
    "dimension that is no code": (S, "  EVI:", "  E  V:", "dimensions.E  V: expected a code of letters and digits of"),
    "control in a question": (Q, "Children matter.", '"Children\\x9b"', "line 9, Q1.text.en: expected a text without"),
    "control in a label": (Q, "{en: Manners,", '{en: "Man\\bners",', "Q3.options[1].label.en: expected a text without"),
    "control in a table": (R, "Q2,us", "Q2\x1b,us", "line 4, question: expected a text without control characters, go"),
    "direction in a region": (P, "Texas", "Tex\u2066as", "line 3, name_en: expected a text without control characters"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_where_it_stands(write: Write, mistake: str) -> None:
    """One mistake gives one error that names file, line, field, expected and got, and can be printed."""
    file, old, new, told = MISTAKES[mistake]
    with pytest.raises(SurveyError) as caught:
        read_survey(write((file, old, new)))
    assert told in str(caught.value)
    assert re.search(r"(survey|questions|references|regions)\.(yaml|csv), line [0-9]+", str(caught.value))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("file", [S, Q, R])
def test_a_missing_file_is_named(write: Write, file: str) -> None:
    """Three of the files must be there."""
    folder = write()
    (folder / file).unlink()
    with pytest.raises(SurveyError, match=rf"{file}: expected a file in .*, got no such file"):
        read_survey(folder)
    (folder / f"{file[:4]}{file[5:]}").touch()
    with pytest.raises(SurveyError, match=rf"got no such file \(did you mean '{file[:4]}{file[5:]}'\?\)"):
        read_survey(folder)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    """Where there is no folder, that is what is said first."""
    with pytest.raises(SurveyError, match=r"survey\.yaml: expected a file in .*nowhere, got no such folder"):
        read_survey(tmp_path / "nowhere")


def test_an_empty_table_lacks_its_columns(write: Write) -> None:
    """A table without a header lacks its first column."""
    folder = write()
    (folder / R).write_text("\n\n")
    with pytest.raises(SurveyError, match=r"references.csv, line 1, header: expected a column 'question', got none"):
        read_survey(folder)


@pytest.mark.parametrize("file", [S, R])
def test_a_file_in_another_encoding_is_told(write: Write, file: str) -> None:
    """Text in GBK is named with the line and byte that is not UTF-8."""
    folder = write()
    (folder / file).write_bytes(b"# one line\n" + "中".encode("gbk"))
    with pytest.raises(SurveyError, match=f"{file}, line 2: expected text in UTF-8, got byte 0xd6"):
        read_survey(folder)


@pytest.mark.parametrize("file", [Q, P])
def test_a_file_that_leaves_the_folder_is_refused(
    write: Write, tmp_path_factory: pytest.TempPathFactory, file: str
) -> None:
    """A link to a file elsewhere is not followed."""
    folder = write()
    outside = tmp_path_factory.mktemp("elsewhere") / file
    (folder / file).rename(outside)
    (folder / file).symlink_to(outside)
    with pytest.raises(SurveyError, match=f"{file}: expected a file within the folder, got a link to "):
        read_survey(folder)


@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
def test_deep_nesting_is_an_error_not_a_crash(
    write: Write, monkeypatch: pytest.MonkeyPatch, loader: type[yaml.SafeLoader]
) -> None:
    """Hostile YAML ends in the usual error, with the parser in C and with the one in Python."""
    monkeypatch.setattr("defsurvey.storage.surveys.yaml_models._LOADER", loader)
    folder = write()
    (folder / Q).write_text("[" * 5000)
    with pytest.raises(SurveyError, match=r"questions\.yaml.*expected YAML, got"):
        read_survey(folder)


def test_no_tag_runs_code(write: Write) -> None:
    """A tag that asks for a call is not obeyed."""
    folder = write((S, "title: A tiny survey", "title: !!python/object/apply:os.getcwd []"))
    with pytest.raises(SurveyError, match=r"line 2, title: expected a text, got an empty list"):
        read_survey(folder)


def test_all_problems_are_found_in_one_go(write: Write) -> None:
    """check_survey tells every problem in the order of files and lines; read_survey the first and how many others."""
    folder = write(
        (P, "70", "68"),
        (R, "900", "0"),
        (Q, "code: 8", "code: 7"),
        (Q, "direction: -1, basis", "direction: 2, basis"),
    )
    problems = check_survey(folder)
    assert [(problem.file, problem.line) for problem in problems] == [(Q, 11), (Q, 24), (R, 4), (P, 3)]
    with pytest.raises(InvalidSurvey, match=r"questions.yaml, line 11, .* \(and 3 more problems\)$") as caught:
        read_survey(folder)
    assert list(caught.value.problems) == problems


def test_every_option_at_fault_is_told(write: Write) -> None:
    """Two options of one question give two problems, and the question's references none of their own."""
    folder = write((Q, "label: {en: Manners, zh: 礼貌}", "label: {en: Manners}"), (Q, "zh: 信仰", "fr: 信仰"))
    assert [(problem.line, problem.field) for problem in check_survey(folder)] == [
        (23, "Q3.options[1].label"),
        (24, "Q3.options[2].label.fr"),
    ]


def test_a_scale_at_fault_is_told_once(write: Write) -> None:
    """A shared answer scale that is wrong is one problem however many questions use it."""
    folder = write((Q, "{en: Agree, zh: 同意}", "{en: Agree}"))
    assert [problem.field for problem in check_survey(folder)] == ["answers.agreement[1].label"]


@pytest.mark.parametrize(("percent", "share"), [("1:33.3|2:33.3", None), ("1:49.5|2:49.5", 0.5), ("1:100|2:0", 1.0)])
def test_the_rounding_allowed_is_one_point(write: Write, percent: str, share: float | None) -> None:
    """A sum of 99 passes, one further off does not."""
    folder = write((R, "1:70.2|2:29.9", percent))
    if share is None:
        assert [problem.got for problem in check_survey(folder)] == ["66.6"]
    else:
        reference = read_survey(folder).reference("Q1", "us")
        assert reference is not None
        assert reference.shares[1] == share


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


@pytest.mark.parametrize("code", ["Self expression", "I/R", "l'aube", "मूल्य", "می\u200cشود", "_x", "a_.-b", "价值"])
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


def test_a_lone_surrogate_is_told(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the parser in Python, which takes one; that in C refuses it itself."""
    monkeypatch.setattr("defsurvey.storage.surveys.yaml_models._LOADER", yaml.SafeLoader)
    with pytest.raises(SurveyError, match=r"line 2, title: expected a text without control .*'A \\ud800' with U\+D800"):
        read_survey(write((S, "A tiny survey", '"A \\ud800"')))
