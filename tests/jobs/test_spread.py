"""How a survey's questions spread over topics and dimensions, as the paper's Figure 3 shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from defsurvey.jobs.cli.main import main
from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.write import exclude_questions, write_survey


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
