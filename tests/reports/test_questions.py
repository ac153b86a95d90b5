"""Questions one by one, and dashes: where there is no figure, its reason is there on hover."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from defsurvey.reports.analysis import analyse
from defsurvey.reports.contents import page
from defsurvey.reports.figures.ablation import language_section
from defsurvey.reports.figures.landscape import near_section
from defsurvey.reports.figures.matching import matching_section
from defsurvey.reports.figures.questions import PlacementRow, distinguish, placement, position_section, question_cards
from defsurvey.reports.html import render_html
from defsurvey.reports.metrics.position import PositionBias
from defsurvey.reports.number_format import NONE
from defsurvey.reports.page import Entry, Table
from defsurvey.storage.runs.results import Results
from defsurvey.storage.surveys.survey import Survey
from tests.reports.reading import read
from tests.reports.synthetic import (
    QUESTIONS,
    human,
    last,
    refusing,
    results,
    sample,
    survey,
    uniform,
    without_reference,
)


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


def test_texts_run_the_way_their_letters_do() -> None:
    """Question, options and reply of a sample and the question of a card, whatever their script."""
    root = read(render_html(page(analyse(replace(results(), samples=(sample("می‌خواهم بگویم: 1"),))))))
    marked = [
        part for tag in ("p", "ul", "pre", "span") for part in root.find(tag) if part.attributes.get("dir") == "auto"
    ]
    kinds = {part.attributes.get("class", part.tag) for part in marked}
    assert kinds == {"asked", "options", "reply", "span"}


def published(*codes: int) -> Survey:
    """The survey with the shares of only these options of its list, for the United States."""
    known = survey()
    return replace(
        known,
        references=tuple(
            replace(r, shares={code: share for code, share in r.shares.items() if code in codes}, low_n=1 not in codes)
            if (r.question, r.culture) == ("Q4", "us")
            else r
            for r in known.references
        ),
    )


def card(tiny: Survey) -> Table:
    """The table of the list."""
    return next(card.table for card in question_cards(analyse(results(tiny=tiny))) if card.id == "Q4")


@pytest.mark.parametrize("codes", [(2, 3), (1, 3), (3,)], ids=str)
def test_a_list_has_a_reference_where_any_option_has(codes: tuple[int, ...]) -> None:
    """Which option has no share does not matter: people are counted, and only the gap is named."""
    table = card(published(*codes))
    people = [entry.text for entry in table.rows[0].entries]
    assert [text != "–" for text in people[:3]] == [code in codes for code in (1, 2, 3)]
    assert people[3] == "2,593"
    assert not any("no reference" in note for note in table.notes)
    assert any(note.startswith("United States: not published for every option") for note in table.notes)
    assert any("too few people" in note for note in table.notes) == (1 not in codes)


def test_a_whole_list_has_no_note() -> None:
    """Nothing is missing where every option has a share."""
    assert card(survey()).notes == ()


def shown_in_turn(made: Results) -> Results:
    """The run where participants were shown the options of a question in turn."""
    answers, questions = made.answers, made.survey.questions
    pairs = zip(answers.question.tolist(), answers.participant.tolist(), strict=True)
    shown = [questions[place].codes[person % len(questions[place].codes)] for place, person in pairs]
    return replace(made, answers=replace(answers, shown=np.array(shown)))


@pytest.mark.parametrize("codes", [(1, 2, 3), (999_999_999, 7, 12)])
def test_a_code_may_be_as_large_as_it_likes(codes: tuple[int, ...]) -> None:
    """Nine digits are valid: no table is as large as a code, and positions are those of small ones, in any order."""
    options = tuple(replace(known, code=code) for known, code in zip(QUESTIONS[1].options, codes, strict=True))
    tiny = survey(questions=(QUESTIONS[0], replace(QUESTIONS[1], options=options), QUESTIONS[2]))
    made = shown_in_turn(results([("a", "us", "def", uniform)], tiny=tiny))
    analysis = analyse(made)
    tracemalloc.start()
    found, (_, peak) = placement(analysis), tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
    (row,) = found
    of = made.answers
    rows = zip(of.question.tolist(), of.choices.tolist(), of.shown.tolist(), strict=True)
    met = [tiny.questions[place].codes.index(code) == choices.bit_length() - 1 for place, choices, code in rows]
    assert (row.bias.answers, row.bias.questions) == (60, 3)
    assert row.bias.first == pytest.approx(sum(met) / 60, abs=1e-12)
