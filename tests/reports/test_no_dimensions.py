"""A survey whose questions speak to no value dimension: what it has is on the page, what it lacks says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from defsurvey.reports.analysis import Analysis, analyse
from defsurvey.reports.figures.dimensions import mean_section, spread_section
from defsurvey.reports.figures.frameworks import model_section
from defsurvey.reports.number_format import fixed
from defsurvey.reports.page import Table
from defsurvey.storage.surveys.survey import Survey
from tests.reports.synthetic import human, last, results, survey, uniform


def without_dimensions() -> Survey:
    """The survey whose questions and options speak to no dimension."""
    known = survey()
    questions = tuple(
        replace(each, value=None, options=tuple(replace(option, value=None) for option in each.options))
        for each in known.questions
    )
    return replace(known, dimensions={}, questions=questions)


@pytest.fixture(scope="module")
def found() -> Analysis:
    """Two models in two cultures."""
    cells = [
        ("a", "us", "def", human),
        ("b", "us", "def", uniform),
        ("a", "cn", "def", human),
        ("b", "cn", "def", last),
    ]
    return analyse(results(cells, tiny=without_dimensions()))


def by_cell(table: Table) -> dict[tuple[str, str], dict[str, tuple[str, str]]]:
    """Culture and model -> column -> its figure and the one beneath."""
    heads = [column.text for column in table.columns[1:]]
    return {
        (row.group, row.head.text): {
            head: (entry.text, entry.beneath) for head, entry in zip(heads, row.entries, strict=True)
        }
        for row in table.rows
    }


def test_means_of_each_model_and_culture_are_there(found: Analysis) -> None:
    """Mean, floor, interval and excess, and the paper's way: of all questions, without charts."""
    section = mean_section(found)
    assert not section.not_run
    assert section.charts == ()
    assert section.paragraphs == ("By dimension it is not run: no question of this run speaks to a value dimension.",)
    sound, plug_in = by_cell(section.tables[0]), by_cell(section.folds[0].tables[0])
    assert [section.tables[0].anchor, section.folds[0].tables[0].anchor] == ["table-smoothed", "table-plug-in"]
    for culture in found.cultures:
        for cell in culture.cells:
            mine = sound[culture.name, cell.name]
            assert list(mine) == ["Mean", "95% interval", "Excess"]
            assert mine["Mean"] == (fixed(cell.sound.question_mean), fixed(cell.sound_floor.question_mean))
            assert " to " in mine["95% interval"][0]
            paper = plug_in[culture.name, cell.name]
            assert list(paper) == ["Mean", "Infinite"]
            assert paper["Mean"] == (fixed(cell.paper.question_mean), fixed(cell.paper_floor.question_mean))
    assert "by value dimension" not in section.tables[0].caption + section.folds[0].tables[0].caption


def test_what_points_to_the_table_is_right(found: Analysis) -> None:
    """Table 2 sends its readers to the table that is there; the spread by dimension is not run."""
    assert "each culture by itself stands with Fig. 5" in model_section(found).paragraphs[0]
    assert spread_section(found).not_run == "no question of this run speaks to a value dimension"


def test_no_answer_has_a_reason() -> None:
    """A dash says why, though there is no dimension to lack."""
    table = mean_section(analyse(results(states=(0, 1, 0, 0), tiny=without_dimensions()))).tables[0]
    assert {row.entries[0].text for row in table.rows} == {"–"}
    assert {row.entries[0].why for row in table.rows} == {"no item has a value"}
