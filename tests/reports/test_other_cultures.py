"""Rows of a table that were asked in different cultures: which ones is said, and their means are not compared."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from defsurvey.reports.analysis import analyse
from defsurvey.reports.contents import page
from defsurvey.reports.figures.ablation import ablation_section
from defsurvey.reports.figures.frameworks import closest_dimension, framework_section, model_section, model_table
from defsurvey.reports.markdown import render_markdown
from defsurvey.reports.merge import merge
from defsurvey.reports.page import Section, Table
from defsurvey.storage.runs.results import Results
from defsurvey.storage.runs.run import Condition
from tests.reports.planted import planted, wide_survey
from tests.reports.synthetic import human, last, rare, repeated, results


def sections(made: Results) -> dict[str, Section]:
    """Anchor -> section, Tables 1, 2 and 4."""
    found = analyse(made)
    return {
        section.anchor: section
        for section in (make(found) for make in (framework_section, model_section, ablation_section))
    }


def joint() -> Results:
    """A run of one model in one culture and a run of another in both, as one report."""
    other = results([("b", "us", "def", human), ("b", "cn", "def", last)], seed=2)
    return merge([results([("a", "us", "def", human)]), replace(other, run=replace(other.run, id="run-2"))])


def keeping(made: Results, kept: Collection[int]) -> Results:
    """The run with these of its cells only."""
    of = made.answers
    here = np.isin(of.cell, list(kept))
    place = np.cumsum(np.isin(np.arange(len(made.run.cells)), list(kept))) - 1
    columns = {name: getattr(of, name)[here] for name in of.__dataclass_fields__}
    answers = replace(of, **(columns | {"cell": place[columns["cell"]].astype(np.int32)}))
    cells = tuple(cell for number, cell in enumerate(made.run.cells) if number in kept)
    return replace(made, run=replace(made.run, cells=cells), answers=answers)


def framed(*asked: tuple[str, str]) -> Results:
    """Models in cultures, each with one goal in def and always the last option in none; people of China are unknown."""
    tiny, frames = repeated(4), (("def", rare), ("none", last))
    only = replace(tiny, references=tuple(known for known in tiny.references if known.culture == "us"))
    return results([(*each, *frame) for each in asked for frame in frames], tiny=only)


def column(table: Table, name: str) -> dict[tuple[str, str], str]:
    """Group and head of each row -> what stands in that column."""
    at = [each.text for each in table.columns].index(name) - 1
    return {(row.group, row.head.text): row.entries[at].text for row in table.rows}


def test_a_mean_of_fewer_cultures_is_compared_with_none() -> None:
    """Both tables name the cultures of each row; the mean of one culture is marked, and a note says why."""
    found = analyse(joint())
    rows = found.figure(model_table)
    assert [(row.model, row.sound.cultures, row.sound.lacks(each.sound for each in rows)) for row in rows] == [
        ("a", ("us",), True),
        ("b", ("us", "cn"), False),
    ]
    section = sections(joint())["table-2"]
    for table in section.tables[:2]:
        assert column(table, "Cultures") == {("", "a"): "United States", ("", "b"): "United States, China"}
        mean = [each.text for each in table.columns].index("Mean") - 1
        assert [bool(row.entries[mean].why) for row in table.rows] == [True, False]
        assert any("compared with none" in note for note in table.notes)
    assert "nan" not in render_markdown(page(found))


def test_the_dimensions_named_are_of_rows_with_every_culture() -> None:
    """A model asked in one culture only does not move the title of the table."""
    cells = [("b", "us", "def", rare), ("b", "cn", "def", rare), ("a", "us", "def", last)]
    alone, both = (analyse(results(each, tiny=repeated(4))) for each in (cells[:2], cells))
    assert closest_dimension(both) == closest_dimension(alone) != "By value dimension"


def test_a_culture_whose_people_are_not_known_takes_no_title() -> None:
    """Where no row has a figure there is nothing to lose by: the dimensions named are those of the other culture."""
    made = framed(*((model, culture) for model in "ab" for culture in ("us", "cn")))
    known = {place for place, cell in enumerate(made.run.cells) if cell.culture == "us"}
    named = sections(keeping(made, known))["table-2"].title
    section = sections(made)["table-2"]
    assert section.title == named != "By value dimension"
    for table in section.tables[:2]:
        assert set(column(table, "Cultures").values()) == {"United States"}


def test_a_culture_whose_people_are_not_known_takes_no_framework() -> None:
    """Nobody is closest nor not closest where no row has a figure."""
    found = sections(framed(*((model, culture) for model in "ab" for culture in ("us", "cn"))))
    assert found["table-1"].title == "Framework def comes closest for 2 of 2 models"


def test_a_framework_is_closest_in_the_cultures_of_its_own_model() -> None:
    """Another model that was asked in one more culture takes no claim away."""
    frames = (("def", human), ("none", last))
    one = [("a", "us", *frame) for frame in frames]
    both = [("b", culture, *frame) for culture in ("us", "cn") for frame in frames]
    made = results([*one, *both], tiny=repeated(4))
    assert sections(made)["table-1"].title == "Framework def comes closest for 2 of 2 models"
    assert sections(keeping(made, {0, 1, 2, 4}))["table-1"].title == "Framework def comes closest for a"
    assert sections(keeping(made, {0, 1}))["table-1"].title == "Framework def comes closest for the model"


def test_closest_in_every_culture_is_closest_in_more_than_one() -> None:
    """A framework that ran in one of two cultures is not closest in every culture."""
    made = planted(wide_survey(60), models=("beta-base", "honest")).results
    named = {"honest": "def", "beta-base": "none"}
    cells = tuple(
        replace(cell, model="m", condition=Condition(name=named[cell.model], memory=cell.model == "honest"))
        for cell in made.run.cells
    )
    whole = replace(made, run=replace(made.run, cells=cells))
    gone = [(cell.culture, cell.condition.name) for cell in cells].index(("cn", "none"))
    assert sections(whole)["table-1"].title == "Framework def comes closest for the model"
    found = sections(keeping(whole, {0, 1, 2, 3} - {gone}))
    assert found["table-1"].title == "Probing frameworks"
    ablation = found["table-4"].tables[0]
    assert column(ablation, "Cultures") == {("m", "none"): "United States", ("m", "def"): "United States, China"}
    why = {row.head.text: [bool(row.entries[at].why) for at in (2, 4)] for row in ablation.rows}
    assert why == {"none": [True, True], "def": [False, False]}
    assert any("compared with none" in note for note in ablation.notes)
