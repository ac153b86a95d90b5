"""Surveys as JSON: nothing is lost, and what is not a survey is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defsurvey.storage.surveys.as_json import fingerprint, survey_from_json, survey_to_json
from defsurvey.storage.surveys.folder import FILES, check_survey, find_survey, read_survey
from defsurvey.storage.surveys.importers.files import DATA, read_header, read_rows
from defsurvey.storage.surveys.importers.table import import_table
from defsurvey.storage.surveys.importers.wvs import import_wvs, wvs_questions
from defsurvey.storage.surveys.problem import Fault, SurveyError
from defsurvey.storage.surveys.questions import PARAPHRASES_FILE, Tried, read_tried, used, write_tried
from defsurvey.storage.surveys.survey import (
    Culture,
    Paraphrase,
    QuestionType,
    ReferenceDistribution,
    Region,
    Survey,
    Value,
)
from defsurvey.storage.surveys.write import exclude_questions, write_survey
from tests.storage.test_survey_folder import write_tiny

_shares = st.floats(0, 1)
_references = st.builds(
    ReferenceDistribution,
    shares=st.dictionaries(st.integers(0, 99), _shares, max_size=4),
    n_eff=st.none() | st.floats(0.5, 10**6),
)
_cultures = st.builds(Culture, regions=st.lists(st.builds(Region, share=_shares), max_size=2).map(tuple))
#: The other fields are filled by their types.
_surveys = st.builds(
    Survey,
    cultures=st.lists(_cultures, max_size=2).map(tuple),
    references=st.lists(_references, max_size=2).map(tuple),
    excluded=st.dictionaries(st.text(), st.text(), max_size=2),
    paraphrases=st.lists(st.builds(Paraphrase, prompt=st.text()), max_size=2).map(tuple),
    fingerprint=st.text(),
)


def _through_text(survey: Survey) -> Survey:
    return survey_from_json(json.loads(json.dumps(survey_to_json(survey), sort_keys=True)))


@settings(max_examples=60, deadline=None)
@given(_surveys)
def test_any_survey_comes_back_as_it_was(survey: Survey) -> None:
    back = _through_text(survey)
    assert back == survey
    assert back.fingerprint == survey.fingerprint
    assert list(back.dimensions) == list(survey.dimensions)
    assert [list(r.shares) for r in back.references] == [list(r.shares) for r in survey.references]


def test_wvs7_comes_back_as_it_was() -> None:
    survey = find_survey("wvs7")
    back = _through_text(survey)
    assert back == survey
    assert back.fingerprint == survey.fingerprint == fingerprint(back)


@pytest.mark.parametrize("body", [[], {}, {"form": 2}, None])
def test_another_form_is_refused(body: Any) -> None:
    with pytest.raises(SurveyError, match="stored survey: expected form 1, got"):
        survey_from_json(body)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("questions", [{"id": "Q1"}], r"expected form 1, got another value at questions\[1\].type \(Field required"),
        ("references", [{"question": "Q1", "culture": "us", "group": "nobody"}], "expected a key 'shares', got none"),
        (
            "references",
            [{"question": "Q1", "culture": "us", "group": "nobody", "shares": []}],
            r"another value at references\[1\].group .* 'all'",
        ),
    ],
)
def test_a_damaged_body_is_refused(tmp_path: Path, key: str, value: object, told: str) -> None:
    body = survey_to_json(read_survey(write_tiny(tmp_path))) | {key: value}
    with pytest.raises(SurveyError, match=told):
        survey_from_json(body)


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


FILE = """\
prompts:
  mine: |
    Say it anew: [QUESTION]
paraphrases:
  Q1:
    - {number: 2, language: zh, text: 孩子要紧。, model: someone}
    - {number: 1, language: en, text: Children count., model: m, prompt: mine}
    - {number: 2, language: en, text: "", model: m, prompt: mine, rejected: it is empty}
    - {number: 2, language: en, text: No to them?, model: m, prompt: mine, attempt: 1}
"""


def _folder(tmp_path: Path, text: str = FILE) -> Path:
    write_tiny(tmp_path)
    (tmp_path / PARAPHRASES_FILE).write_text(text, encoding="utf-8")
    return tmp_path


def test_what_is_not_rejected_is_part_of_the_survey(tmp_path: Path) -> None:
    plain = read_survey(write_tiny(tmp_path))
    survey = read_survey(_folder(tmp_path))
    first = {"question": "Q1", "number": 1, "language": "en", "model": "m", "prompt": "Say it anew: [QUESTION]"}
    assert survey.paraphrases == (
        Paraphrase(**first, text="Children count."),
        Paraphrase(**{**first, "number": 2}, text="No to them?"),
        Paraphrase(question="Q1", number=2, language="zh", text="孩子要紧。", model="someone"),
    )
    assert survey.most_paraphrases == 2
    assert survey.worded("Q1", 2).text == {"en": "No to them?", "zh": "孩子要紧。"}
    assert survey.fingerprint != plain.fingerprint
    assert survey_from_json(survey_to_json(survey)) == survey


def test_all_that_was_tried_comes_back_as_it_was(tmp_path: Path) -> None:
    assert read_tried(write_tiny(tmp_path), ids=[], languages=[]) == ()
    folder = _folder(tmp_path)
    tried = read_tried(folder, ids=["Q1"], languages=["en", "zh"])
    assert [(one.attempt, one.rejected) for one in tried] == [(0, ""), (0, ""), (0, "it is empty"), (1, "")]
    odd = ["yes", "null", "a: b # c", "two\nlines", "\x07 \u2028 'q' \"q\" {x}", "- 1"]
    more = tuple(
        Tried(
            paraphrase=Paraphrase(question="Q1", number=3, language="en", text=text, model="m", prompt="p"),
            attempt=attempt,
            rejected="why: not",
        )
        for attempt, text in enumerate(odd)
    )
    write_tried(folder, [*tried, *more])
    assert read_tried(folder, ids=["Q1"], languages=["en", "zh"]) == (*tried, *more)
    assert used([*tried, *more]) == read_survey(folder).paraphrases
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def test_a_written_survey_keeps_its_paraphrases(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    survey = read_survey(_folder(tmp_path / "a"))
    copy = write_survey(survey, tmp_path / "b")
    assert copy.paraphrases == survey.paraphrases
    assert exclude_questions(tmp_path / "b", {"Q1": "unclear"}).paraphrases == ()
    assert exclude_questions(tmp_path / "b", {}, restore=["Q1"]).paraphrases == survey.paraphrases


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  Q1:", "  Q11:", "line 6, paraphrases.Q11: expected a question of the survey, got 'Q11'"),
        ("number: 1", "number: 0", "expected a number of at least 1, got '0'"),
        ("number: 1", "number: 2", "expected one paraphrase of a number and language that is not rejected"),
        ("language: zh", "language: fr", "expected one of en, zh, got 'fr'"),
        ("Children count.", "", "Q1.paraphrase.text: expected a text, got nothing"),
        ("prompt: mine, attempt", "prompt: yours, attempt", "expected one of mine, got 'yours'"),
        ("paraphrases:", "paraphrasis:", "expected one of the keys"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, old: str, new: str, told: str) -> None:
    problems = check_survey(_folder(tmp_path, FILE.replace(old, new, 1)))
    assert problems[0].file == PARAPHRASES_FILE
    assert told in str(problems[0])
    with pytest.raises(Fault):
        read_tried(tmp_path, ids=["Q1"], languages=["en", "zh"])
