"""Survey folders: every mistake is told where it stands, all of them in one go, and no character that nobody sees."""

import re
from pathlib import Path
from typing import Annotated

import pytest
import yaml
from pydantic import Field

from defsurvey.storage.surveys.folder import check_survey, is_culture, is_dimension, read_survey
from defsurvey.storage.surveys.problem import Fault, InvalidSurvey, SurveyError
from defsurvey.storage.surveys.yaml_models import Flag, Number, YamlFile, YamlModel
from tests.storage.test_survey_folder import TINY, Write, write_tiny

S, Q, R, P = "survey.yaml", "questions.yaml", "references.csv", "regions.csv"
CULTURES = TINY[S][TINY[S].index("cultures:") : TINY[S].index("sources:")]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return lambda *changes: write_tiny(tmp_path, *changes)


#: name -> file, old text, new text, what the message must contain
MISTAKES = {
    "yaml does not parse": (Q, "zh: 同意}}", "zh: 同意}", "questions.yaml, line 4, column 5: expected YAML, got"),
    "control character": (S, "tiny survey", "tiny\x00survey", "survey.yaml, line 2: expected YAML, got a control"),
    "unknown key in the survey": (S, "title:", "titel:", "line 2, titel: expected one of the keys id, title, "),
    "id that is no name": (S, "id: tiny", "id: ../tiny", "line 1, id: expected a name of letters, digits, '_', '.'"),
    "language that is none": (S, "[en, zh]", "[en, zh, native]", "languages[3]: expected a language code such as"),
    "native language not declared": (S, "language: zh", "language: ja", "cultures.cn.language: expected one of en, zh"),
    "list as key": (S, "id: tiny", "[a]: tiny", "survey.yaml, line 1: expected a word as key, got a list"),
    "duplicate question": (Q, "id: Q2", "id: Q1", "line 12, questions[2].id: expected an id of its own, got 'Q1', fir"),
    "unknown type": (Q, "type: scale", "type: scales", "Q2.type: expected one of single, ordinal, scale, multiple"),
    "missing translation": (Q, "matter., zh: 孩子很重要。}", "matter.}", "Q1.text: expected a text in every"),
    "undeclared language": (Q, "{en: Manners, zh: 礼貌}", "{en: Manners, zh: 礼貌, fr: M}", "keys en, zh, got 'fr'"),
    "number with a mark": (Q, "code: 7", "code: 1_0", "Q3.options[1].code: expected a whole number, got '1_0'"),
    "alias of itself": (S, "sources:\n  census: The", "sources: &a\n  b: *a\n  c: The", "sources.b: expected a te"),
    "duplicate label": (Q, "en: Faith,", "en: manners,", "Q3.options[2].label: expected a label of"),
    "one option": (Q, "    - {code: 2, label: {en: Disagree, zh: 不同意}}\n", "", "answers.agreement: expected at"),
    "scale upside down": (Q, "from: 1, to: 4", "from: 4, to: 1", "Q2.options: expected a scale of at most 63 points"),
    "max_choices too large": (Q, "max_choices: 2", "max_choices: 4", "line 19, Q3.max_choices: expected a whole numbe"),
    "max_choices missing": (Q, "    max_choices: 2\n", "", "line 17, Q3: expected a key 'max_choices', a whole number"),
    "max_choices for one choice": (Q, "type: scale", "type: scale\n    max_choices: 2", "line 14, Q2.max_choices"),
    "basis unknown": (Q, "basis: A", "basis: Z", "line 11, Q1.value.basis: expected one of A, A2, A3, B, got 'Z'"),
    "direction 0": (Q, "direction: -1, basis", "direction: 0, basis", "Q1.value.direction: expected 1 or -1, got '0'"),
    "value at a scale's option": (Q, "不同意}}", "不同意}, value: {dimension: EVI, direction: 1}}", "line 10, Q1.opt"),
    "unknown column": (R, "low_n,source", "low_n,sorce", "line 1, header: expected one of the columns question, "),
    "column twice": (R, "low_n,source", "low_n,low_n", "line 1, header: expected every column once, got 'low_n'"),
    "open quote": (R, "900,no", '"900,no', "references.csv, line 4: expected comma-separated values, got"),
    "reference to an unknown question": (R, "Q2,us", "Q22,us", "line 4, question: expected a question of the survey:"),
    "reference to an unknown option": (R, "4:40", "5:40", "line 4, percent: expected an option of question Q2: one of"),
    "reference to an unknown source": (R, "census", "cencus", "line 2, source: expected a source of survey.yaml: one"),
    "reference twice": (R, "Q1,cn,male", "Q1,us,all", "line 3, group: expected one row for each question, culture, gr"),
    "sum too large": (R, "4:40", "4:41.1", "percentages that sum to 100 within 1 for question Q2, got 101.1"),
    "option left out": (R, "|4:40", "", "line 4, percent: expected every option of question Q2, got none for 4"),
    "percent above 100": (R, "7:60", "7:160", "expected a percentage from 0 to 100 for question Q3, got '160'"),
    "n zero": (R, "900", "0", "line 4, n: expected a whole number of respondents, 1 or more, got '0'"),
    "low_n unclear": (R, "900,no", "900,maybe", "line 4, low_n: expected yes, no or nothing, got 'maybe'"),
    "region shares do not sum": (P, "70", "68", "line 3, share: expected percentages that sum to 100 within 1 over th"),
    "region column of a language missing": (P, "name_zh,", "", "header: expected a column 'name_zh', got none"),
    "escape in a title": (S, "A tiny survey", '"A \\e[2Jtiny"', "line 2, title: expected a text without control chara"),
    "control in a key": (S, "census: The", '"cen\\x07sus": The', "sources: expected a key without control characters"),
    "culture that is a path": (S, "  cn:", "  ../cn:", "cultures.../cn: expected a code of letters and digits of any"),
    "dimension that is no code": (S, "  EVI:", "  E  V:", "dimensions.E  V: expected a code of letters and digits of"),
    "control in a table": (R, "Q2,us", "Q2\x1b,us", "line 4, question: expected a text without control characters, go"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_where_it_stands(write: Write, mistake: str) -> None:
    file, old, new, told = MISTAKES[mistake]
    with pytest.raises(SurveyError) as caught:
        read_survey(write((file, old, new)))
    assert told in str(caught.value)
    assert re.search(r"(survey|questions|references|regions)\.(yaml|csv), line [0-9]+", str(caught.value))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("file", [Q])
def test_a_missing_file_is_named(write: Write, file: str) -> None:
    folder = write()
    (folder / file).unlink()
    with pytest.raises(SurveyError, match=rf"{file}: expected a file in .*, got no such file"):
        read_survey(folder)
    (folder / f"{file[:4]}{file[5:]}").touch()
    with pytest.raises(SurveyError, match=rf"got no such file \(did you mean '{file[:4]}{file[5:]}'\?\)"):
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
    monkeypatch.setattr("defsurvey.storage.surveys.yaml_models._LOADER", loader)
    folder = write()
    (folder / Q).write_text("[" * 5000)
    with pytest.raises(SurveyError, match=r"questions\.yaml.*expected YAML, got"):
        read_survey(folder)


def test_no_tag_runs_code(write: Write) -> None:
    folder = write((S, "title: A tiny survey", "title: !!python/object/apply:os.getcwd []"))
    with pytest.raises(SurveyError, match=r"line 2, title: expected a text, got an empty list"):
        read_survey(folder)


def test_all_problems_are_found_in_one_go(write: Write) -> None:
    folder = write(
        (P, "70", "68"), (R, "900", "0"), (Q, "code: 8", "code: 7"), (Q, "direction: -1, basis", "direction: 2, basis")
    )
    problems = check_survey(folder)
    assert [(problem.file, problem.line) for problem in problems] == [(Q, 11), (Q, 24), (R, 4), (P, 3)]
    with pytest.raises(InvalidSurvey, match=r"questions.yaml, line 11, .* \(and 3 more problems\)$") as caught:
        read_survey(folder)
    assert list(caught.value.problems) == problems


def test_a_scale_at_fault_is_told_once(write: Write) -> None:
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
        assert reference.shares[1] == share


def test_a_mistake_is_told_without_what_nobody_sees(write: Write) -> None:
    folder = write((S, "census: The", '"a\\nb\\e[2J\u202ec": The'), (P, "name_zh", "name\u202e_zh"))
    told = [str(problem) for problem in check_survey(folder)]
    assert "\\x1b[2J\\u202ec' with U+001B" in told[0]
    assert all(text.isprintable() for text in told)
    (folder / S).write_text(
        TINY[S].replace("census:", '"a\\nb":').replace("The census of 2025", "[]"), encoding="utf-8"
    )
    assert "sources.a⟨U+000A⟩b: expected a text, got an empty list" in str(check_survey(folder)[0])


def test_line_breaks_and_tabs_may_stand_in_a_text(write: Write) -> None:
    text = '"Children\\n\\tmatter \U0001f468\u200d\U0001f469."'
    folder = write((Q, "Children matter.", text), (S, "  EVI:", "  解放:"), (Q, "dimension: EVI", "dimension: 解放"))
    (folder / Q).write_text((folder / Q).read_text("utf-8").replace("EVI", "解放"), encoding="utf-8")
    assert read_survey(folder).question("Q1").text["en"] == "Children\n\tmatter \U0001f468\u200d\U0001f469."


@pytest.mark.parametrize("code", ["Self expression", "I/R", "मूल्य", "می\u200cशود"])
def test_a_dimension_is_called_in_any_script(write: Write, code: str) -> None:
    folder = write((S, "  EVI:", f'  "{code}":'))
    (folder / Q).write_text((folder / Q).read_text("utf-8").replace("EVI", f'"{code}"'), encoding="utf-8")
    assert read_survey(folder).question("Q1").dimensions == (code,)


@pytest.mark.parametrize(
    "code", ["", " a", "a ", "a  b", "=1", "-a", "\u0301a", "a\u200cb", "a\u00a0b", "a|b", "a\nb", "🙂"]
)
def test_what_is_no_code_of_a_dimension(code: str) -> None:
    assert not is_dimension(code)


@pytest.mark.parametrize(("code", "fits"), [
    ("us", True), ("中国", True), ("us:north", True), ("us_NE.1-a", True), ("भारत", True), ("_us", True),
    ("", False), ("us north", False), ("us/north", False), ("..", False), ("-us", False), (":us", False),
    ("u|s", False),
])  # fmt: skip
def test_a_culture_is_called_in_any_script(code: str, fits: bool) -> None:
    assert is_culture(code) is fits


class _Menu(YamlModel):
    price: Annotated[Number, Field(allow_inf_nan=False)]
    open: Flag


def test_mistakes_of_a_model_are_told_in_the_order_of_the_file() -> None:
    with pytest.raises(Fault) as caught:
        YamlFile("menu.yaml", "open: maybe\nprice: 1e999").read(_Menu)
    told = ["menu.yaml, line 1, open: expected true or false", "menu.yaml, line 2, price: expected a number"]
    assert [str(problem).partition(", got")[0] for problem in caught.value.problems] == told
    assert not YamlFile("menu.yaml", "open: no\nprice: 2.5").read(_Menu).open
