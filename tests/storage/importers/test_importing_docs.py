"""docs/importing.md: its example is a survey, its error is the one given, its numbers are so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from defsurvey.storage.surveys.importers.files import DATA, read_header, read_rows
from defsurvey.storage.surveys.importers.table import import_table
from defsurvey.storage.surveys.importers.wvs import import_wvs, wvs_questions
from defsurvey.storage.surveys.problem import SurveyError

DOCUMENT = (Path(__file__).parents[3] / "docs" / "importing.md").read_text(encoding="utf-8")


def test_the_example_table_is_a_survey(tmp_path: Path) -> None:
    """A reader who copies the table has a question with figures for two countries."""
    [example] = re.findall(r"^```csv\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    (tmp_path / "t.csv").write_text(example, encoding="utf-8")
    survey = import_table(tmp_path / "t.csv", id="t").write(tmp_path / "t")
    assert [(r.culture, r.n, r.source) for r in survey.references] == [
        ("us", 1204, "Someone (2024)"),
        ("cn", 1377, "Someone (2024)"),
    ]


def test_the_error_shown_is_the_error_given(tmp_path: Path) -> None:
    """The document's message is what such a cell gives."""
    shown = re.search(r"^wvs\.csv, line .*$", DOCUMENT, re.MULTILINE)
    assert shown is not None
    names = ["B_COUNTRY_ALPHA", "W_WEIGHT", *(f"V{number}" for number in range(85)), "Q57"]
    row = ["USA", "1", *["0"] * 85]
    lines = [names, *([*row, "1"] for _ in range(4015)), [*row, "maybe"]]
    (tmp_path / "wvs.csv").write_text("\n".join(map(",".join, lines)), encoding="utf-8")
    with pytest.raises(SurveyError) as error:
        import_wvs(tmp_path / "wvs.csv", id="x")
    assert str(error.value) == shown.group()


def test_the_numbers_told_are_so() -> None:
    """How many questions and countries there are."""
    questions = wvs_questions()
    items = sum(len(question.options) if question.max_choices > 1 else 1 for question in questions)
    countries = len(list(read_rows(read_header(DATA / "cultures.csv"))))
    assert f"{len(questions)}, which hold {items} items" in DOCUMENT
    assert f"{countries} in all" in DOCUMENT
