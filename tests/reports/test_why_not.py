"""A dash has its reason on hover, and figures are written alike wherever they stand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from defsurvey.reports.analysis import analyse
from defsurvey.reports.contents import page
from defsurvey.reports.figures.ablation import language_section
from defsurvey.reports.figures.landscape import near_section
from defsurvey.reports.figures.matching import matching_section
from defsurvey.reports.figures.provenance import provenance_section
from defsurvey.reports.figures.questions import PlacementRow, distinguish, placement, position_section, question_cards
from defsurvey.reports.html import render_html
from defsurvey.reports.metrics.position import PositionBias
from defsurvey.reports.number_format import NONE
from defsurvey.reports.page import Entry, Table
from defsurvey.storage.runs.results import Results
from tests.reports.reading import read
from tests.reports.synthetic import human, last, refusing, results, sample, without_reference


def dashes(table: Table) -> list[Entry]:
    """Entries of a table that have no figure."""
    return [entry for row in table.rows for entry in row.entries if entry.text == NONE]


def gaps() -> Results:
    """Two cultures; the first was not asked Q1, and nobody of the second gave a valid answer to Q3."""
    made = results([("m", "us", "def", human), ("m", "cn", "def", human)], tiny=without_reference("us", "Q1"))
    return refusing(made, (made.answers.cell == 1) & (made.answers.question == 2))


def test_every_dash_of_a_question_says_why() -> None:
    """No reference, or no valid answer: of shares, divergences, floors, distances and p."""
    first, _, third, _ = question_cards(analyse(gaps()))
    rows = {(row.group, row.head.text): row for row in first.table.rows}
    assert {entry.why for entry in dashes(first.table)} == {"no reference"}
    assert [entry.text for entry in rows["United States", "m"].entries][-4:] == [NONE] * 4
    assert len(dashes(first.table)) == 4 + 1 + 4
    assert {entry.why for entry in dashes(third.table)} == {"no valid answer"}
    assert len(dashes(third.table)) > 4
    assert 'title="no reference">–' in render_html(page(analyse(gaps())))


def test_figures_4_and_8_say_why_too() -> None:
    """People who were not asked, and a dimension without an answer."""
    only = results([("m", "us", "def", human)], tiny=without_reference("us", "Q1"))
    near = near_section(analyse(refusing(only, only.answers.question > 0))).tables[0]
    assert {entry.why for entry in dashes(near)} == {"no reference"}
    assert len(dashes(near)) == 4
    gone = refusing(only, only.answers.question == 2)
    lost = dashes(matching_section(analyse(gone)).tables[0])
    assert {entry.why for entry in lost} == {"no valid answer meets a reference distribution in this dimension"}


def test_p_of_a_question_shows_on_which_side_it_lies() -> None:
    """Three digits: one that counts as told apart does not look as if it were 0.05."""
    found = analyse(results([("m", "us", "def", human)]))
    cells = tuple(replace(cell, adjusted=np.full_like(cell.adjusted, 0.0457)) for cell in found.figure(distinguish))
    figures = {distinguish: cells}
    row = question_cards(replace(found, figures=figures))[0].table.rows[-1]
    assert row.entries[-1].text == "0.046"


@pytest.mark.parametrize(("moved", "said"), [(1.0, "100%"), (-0.25, "−25.0%"), (0.0, "0%"), (-0.0002, ">−0.1%")])
def test_shares_are_written_alike(moved: float, said: str) -> None:
    """What order moved is written as the other shares of its table, below 0 too."""
    bias = PositionBias(answers=200, questions=5, first=1.0, expected=0.25, excess=0.75, moved=moved, z=-0.01, p=0.5)
    found = analyse(results([("m", "us", "def", human)]))
    part = (PlacementRow(cell=found.cells[0], bias=bias, p_holm=0.5),)
    (row,) = position_section(replace(found, figures={placement: part})).tables[0].rows
    assert [entry.text for entry in row.entries][:4] == ["100%", "25.0%", said, "0.0"]


def test_the_map_is_pointed_to_where_there_is_one() -> None:
    """One culture asked in two languages has no map."""
    made = results([("a", "us", "def", human), ("a", "us", "def", last), ("a", "cn", "def", human)])
    first, second, third = made.run.cells
    both = replace(made, run=replace(made.run, cells=(first, replace(second, language="zh"), third)))
    alone = results([("a", "us", "def", human), ("a", "us", "def", last)])
    alone = replace(alone, run=replace(alone.run, cells=(first, replace(second, language="zh"))))
    assert language_section(analyse(both)).chart_note.endswith("Fig. 7 maps the languages.")
    assert "Fig. 7" not in language_section(analyse(alone)).chart_note


def test_without_a_judge_provenance_says_so() -> None:
    """None was asked."""
    terms = {term.name: term.value for term in provenance_section(analyse(results())).terms}
    assert terms["Judge"] == "none was asked"


def test_texts_run_the_way_their_letters_do() -> None:
    """Question, options and reply of a sample and the question of a card, whatever their script."""
    root = read(render_html(page(analyse(replace(results(), samples=(sample("می‌خواهم بگویم: 1"),))))))
    marked = [
        part for tag in ("p", "ul", "pre", "span") for part in root.find(tag) if part.attributes.get("dir") == "auto"
    ]
    kinds = {part.attributes.get("class", part.tag) for part in marked}
    assert kinds == {"asked", "options", "reply", "span"}
