"""docs/surveys.md and docs/importing.md: their examples are surveys, and what they tell is so."""

import re
from pathlib import Path

import pytest

from defsurvey.storage.surveys.folder import FILES, check_survey, find_survey, read_survey
from defsurvey.storage.surveys.importers.files import DATA, read_header, read_rows
from defsurvey.storage.surveys.importers.table import import_table
from defsurvey.storage.surveys.importers.wvs import import_wvs, wvs_questions
from defsurvey.storage.surveys.problem import SurveyError
from defsurvey.storage.surveys.survey import QuestionType, Value

DOCUMENT = (Path(__file__).parents[2] / "docs" / "surveys.md").read_text(encoding="utf-8")
IMPORTING = (Path(__file__).parents[2] / "docs" / "importing.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"^`([a-z]+\.(?:yaml|csv))`\n\n```(?:yaml|csv)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    files = dict(EXAMPLE.findall(DOCUMENT))
    assert tuple(files) == FILES
    for file, text in files.items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_example_is_a_sound_survey(example: Path) -> None:
    assert check_survey(example) == []
    survey = read_survey(example)
    assert survey.id == "coffee"
    assert {question.type for question in survey.questions} == set(QuestionType)
    reference = survey.reference("C4", "cn")
    assert reference.shares == {1: 0.31, 2: 0.38, 3: 0.55}


def test_the_error_shown_is_the_error_given(example: Path) -> None:
    path = example / "questions.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("dimension: IVR", "dimension: IVE", 1), encoding="utf-8")
    [problem] = check_survey(example)
    shown = re.search(r"^survey folder coffee: .*$", DOCUMENT, re.MULTILINE)
    assert shown.group() == f"survey folder coffee: {problem} (and 2 more problems)"


def test_the_table_of_directions_is_complete() -> None:
    values: dict[str, Value] = {}
    for question in find_survey("wvs7").questions:
        if question.value is not None:
            values[question.id] = question.value
        values |= {f"Q{option.code}": option.value for option in question.options if option.value is not None}
    told: dict[str, tuple[str, int]] = {}
    for row in re.findall(r"^\| ([A-Z]{3}) [^|]*\|[^|]*\|([^|]*)\|([^|]*)\|$", DOCUMENT, re.MULTILINE):
        for direction, cell in ((1, row[1]), (-1, row[2])):
            for name in re.findall(r"Q[0-9]+", cell):
                assert name not in told, name
                told[name] = (row[0], direction)
    assert told == {name: (value.dimension, value.direction) for name, value in values.items()}
    assert len(told) == 100


def test_the_example_table_is_a_survey(tmp_path: Path) -> None:
    [example] = re.findall(r"^```csv\n(.*?)^```$", IMPORTING, re.MULTILINE | re.DOTALL)
    (tmp_path / "t.csv").write_text(example, encoding="utf-8")
    survey = import_table(tmp_path / "t.csv", id="t").write(tmp_path / "t")
    assert [(r.culture, r.n, r.source) for r in survey.references] == [
        ("us", 1204, "Someone (2024)"),
        ("cn", 1377, "Someone (2024)"),
    ]


def test_the_error_of_an_import_is_the_one_given(tmp_path: Path) -> None:
    shown = re.search(r"^wvs\.csv, line .*$", IMPORTING, re.MULTILINE)
    names = ["B_COUNTRY_ALPHA", "W_WEIGHT", *(f"V{number}" for number in range(85)), "Q57"]
    row = ["USA", "1", *["0"] * 85]
    lines = [names, *([*row, "1"] for _ in range(4015)), [*row, "maybe"]]
    (tmp_path / "wvs.csv").write_text("\n".join(map(",".join, lines)), encoding="utf-8")
    with pytest.raises(SurveyError) as error:
        import_wvs(tmp_path / "wvs.csv", id="x")
    assert str(error.value) == shown.group()


def test_the_numbers_told_are_so() -> None:
    questions = wvs_questions()
    items = sum(len(question.options) if question.max_choices > 1 else 1 for question in questions)
    countries = len(list(read_rows(read_header(DATA / "cultures.csv"))))
    assert f"{len(questions)}, which hold {items} items" in IMPORTING
    assert f"{countries} in all" in IMPORTING
