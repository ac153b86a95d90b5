"""Means side by side: of other cultures, and the paper's way beside the sound one; each marked by what it is of."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest

from defsurvey.reports.analysis import Analysis, analyse
from defsurvey.reports.contents import page
from defsurvey.reports.figures.ablation import ablation_section, language_section
from defsurvey.reports.figures.dimensions import mean_section, spread_section
from defsurvey.reports.figures.frameworks import closest_dimension, framework_section, model_section, model_table
from defsurvey.reports.figures.series import training_section
from defsurvey.reports.markdown import render_markdown
from defsurvey.reports.merge import merge
from defsurvey.reports.number_format import fixed
from defsurvey.reports.page import Section, Table
from defsurvey.storage.runs.results import Results
from defsurvey.storage.runs.run import Condition
from defsurvey.storage.surveys.survey import Survey
from tests.reports.planted import planted, wide_survey
from tests.reports.synthetic import human, last, one_question, rare, refusing, repeated, results, survey, uniform


def sections(made: Results) -> dict[str, Section]:
    found, makers = analyse(made), (framework_section, model_section, ablation_section)
    return {section.anchor: section for section in (make(found) for make in makers)}


def joint() -> Results:
    """A run of one model in one culture and a run of another in both, as one report."""
    other = results([("b", "us", "def", human), ("b", "cn", "def", last)], seed=2)
    return merge([results([("a", "us", "def", human)]), replace(other, run=replace(other.run, id="run-2"))])


def keeping(made: Results, kept: Collection[int]) -> Results:
    of = made.answers
    here = np.isin(of.cell, list(kept))
    place = np.cumsum(np.isin(np.arange(len(made.run.cells)), list(kept))) - 1
    columns = {name: getattr(of, name)[here] for name in of.__dataclass_fields__}
    answers = replace(of, **(columns | {"cell": place[columns["cell"]].astype(np.int32)}))
    cells = tuple(cell for number, cell in enumerate(made.run.cells) if number in kept)
    return replace(made, run=replace(made.run, cells=cells), answers=answers)


def column(table: Table, name: str) -> dict[tuple[str, str], str]:
    """Group and head of each row -> what stands in that column."""
    at = [each.text for each in table.columns].index(name) - 1
    return {(row.group, row.head.text): row.entries[at].text for row in table.rows}


def test_a_mean_of_fewer_cultures_is_compared_with_none() -> None:
    rows = analyse(joint()).figure(model_table)
    assert [(row.sound.cultures, row.sound.lacks(each.sound for each in rows)) for row in rows] == [
        (("us",), True),
        (("us", "cn"), False),
    ]
    for table in sections(joint())["table-2"].tables[:2]:
        assert column(table, "Cultures") == {("", "a"): "United States", ("", "b"): "United States, China"}
        assert [bool(said) for said in why(table, "Mean")] == [True, False]
        assert any("compared with none" in note for note in table.notes)
    assert "nan" not in render_markdown(page(analyse(joint())))


def test_a_dimension_lost_in_one_culture_is_lost() -> None:
    made = results([(m, c, "def", human) for m in "ab" for c in ("us", "cn")])
    of, gone = made.answers, (made.answers.cell == 1) & (made.answers.question == 1)
    rows = analyse(replace(made, answers=replace(of, state=np.where(gone, 1, of.state)))).figure(model_table)
    assert [row.sound.lacks(each.sound for each in rows) for row in rows] == [True, False]


def test_the_dimensions_named_are_of_rows_with_every_culture() -> None:
    cells = [("b", "us", "def", rare), ("b", "cn", "def", rare), ("a", "us", "def", last)]
    cells += [("b", "us", f"other-{n}", last) for n in range(4)]
    alone, both = (analyse(results(each, tiny=repeated(4))) for each in (cells[:2], cells))
    assert closest_dimension(both) == closest_dimension(alone) != ""


def test_a_framework_is_closest_in_the_cultures_of_its_own_model() -> None:
    frames = (("def", human), ("none", last))
    one = [("a", "us", *frame) for frame in frames]
    both = [("b", culture, *frame) for culture in ("us", "cn") for frame in frames]
    made = results([*one, *both], tiny=repeated(4))
    assert sections(made)["table-1"].title == "Framework def comes closest for 2 of 2 models"
    assert sections(keeping(made, {0, 1, 2, 4}))["table-1"].title == "Framework def comes closest for a"
    assert sections(keeping(made, {0, 1}))["table-1"].title == "Framework def comes closest for the model"


def test_closest_in_every_culture_is_closest_in_more_than_one() -> None:
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


def entries_of(table: Table, name: str) -> list[str]:
    at = [each.text for each in table.columns].index(name) - 1
    return [row.entries[at].text for row in table.rows]


def why(table: Table, name: str) -> list[str]:
    """What is said of each figure of a column."""
    at = [each.text for each in table.columns].index(name) - 1
    return [row.entries[at].why for row in table.rows]


def test_a_culture_lost_to_infinite_values_is_lost_in_the_papers_way_alone() -> None:
    """One model always chose in China what nobody there did: it has no finite value."""
    cells = [("a", "us", "def", human), ("a", "cn", "def", last), ("b", "us", "def", human), ("b", "cn", "def", human)]
    rows = analyse(results(cells, tiny=one_question())).figure(model_table)
    assert [row.sound.cultures for row in rows] == [("us", "cn")] * 2
    assert [row.paper.cultures for row in rows] == [("us",), ("us", "cn")]
    assert [row.sound.lacks(each.sound for each in rows) for row in rows] == [False, False]
    assert [row.paper.lacks(each.paper for each in rows) for row in rows] == [True, False]


def test_table_4_marks_what_the_papers_way_lost() -> None:
    cells = [("a", c, name, how) for c in ("us", "cn") for name, how in (("def", human), ("none", last))]
    (table,) = ablation_section(analyse(results(cells, tiny=one_question()))).tables
    assert "Cultures" not in [each.text for each in table.columns]
    assert entries_of(table, "Cultures, plug-in") == ["United States, China", "United States"]
    assert [bool(said) for said in why(table, "Plug-in KL")] == [False, True]
    assert why(table, "Smoothed KL") == ["", ""]
    assert entries_of(table, "Infinite") == ["0%", "50.0%"]
    (table,) = ablation_section(analyse(results(cells, tiny=repeated(3)))).tables
    first, second = entries_of(table, "Difference, United States")
    assert (first, second[0]) == ("–", "+")


def test_differences_say_what_they_are_of() -> None:
    made = results([("a", "us", "def", human), ("a", "us", "none", uniform)], tiny=repeated(3), participants=40)
    ablation = ablation_section(analyse(made)).tables[0]
    said = (
        "Differences are by the corrected KL, of the questions behind the mean to which all that are compared have at "
        "least 10 valid answers, all brought down to 10, and need not be those of the means: 12 questions in the "
        "United States."
    )
    assert said in ablation.notes
    first, second = made.run.cells
    spoken = replace(made.run, cells=(first, replace(second, condition=first.condition, language="zh")))
    found = analyse(replace(made, run=spoken))
    languages = language_section(found)
    assert said in languages.tables[0].notes
    assert entries_of(languages.folds[0].tables[0], "Mean") == [fixed(cell.paper.headline) for cell in found.cells]


def staged() -> Analysis:
    """Two models of one stage, of which one answered nothing, and one of another."""
    made = results([("a", "us", "def", human), ("b", "us", "def", uniform), ("c", "us", "def", last)], tiny=repeated(3))
    facts = {model: {"stage": "base" if model == "c" else "chat", "series": "S"} for model in "abc"}
    return analyse(replace(refusing(made, made.answers.cell == 1), model_facts=facts))


def test_stages_count_models_that_have_a_figure() -> None:
    table, contrasts, *_ = training_section(staged()).tables
    assert (entries_of(contrasts, "Questions"), entries_of(contrasts, "n")) == (["12"], ["10"])
    rows = [(row.head.text, row.entries[0].text, row.entries[0].why) for row in table.rows]
    assert rows == [("base", "1", "c"), ("chat", "1", "a")]


def test_a_stage_of_a_model_without_a_finite_value_has_no_mean_the_papers_way() -> None:
    made = results([("a", "cn", "def", human), ("b", "cn", "def", last)], tiny=one_question())
    found = analyse(replace(made, model_facts={"a": {"stage": "chat"}, "b": {"stage": "chat"}}))
    table = training_section(found).tables[0]
    assert [entries_of(table, name) for name in ("Models", "Plug-in KL", "Infinite")] == [["2"], ["–"], ["50.0%"]]
    assert why(table, "Plug-in KL") == ["all values of one of the models are infinite"]


# A survey whose questions speak to no value dimension: what it has is on the page, what it lacks says so.


def without_dimensions() -> Survey:
    """The survey whose questions and options speak to no dimension."""
    known = survey()
    questions = tuple(
        replace(each, value=None, options=tuple(replace(option, value=None) for option in each.options))
        for each in known.questions
    )
    return replace(known, dimensions={}, questions=questions)


@pytest.fixture(scope="module")
def plain() -> Analysis:
    cells = [(m, c, "def", how) for c, b in (("us", uniform), ("cn", last)) for m, how in (("a", human), ("b", b))]
    return analyse(results(cells, tiny=without_dimensions()))


def test_without_dimensions_means_of_each_model_and_culture_are_there(plain: Analysis) -> None:
    section = mean_section(plain)
    assert (section.not_run, section.charts) == ("", ())
    assert section.paragraphs == ("By dimension it is not run: no question of this run speaks to a value dimension.",)
    sound, plug_in = section.tables[0], section.folds[0].tables[0]
    assert [column.text for column in sound.columns[1:]] == ["Mean", "95% interval", "Excess"]
    assert [column.text for column in plug_in.columns[1:]] == ["Mean", "Infinite"]
    for table, way in ((sound, "sound"), (plug_in, "paper")):
        assert "by value dimension" not in table.caption
        for cell, row in zip(plain.cells, table.rows, strict=True):
            mean, floor = getattr(cell, way).question_mean, getattr(cell, f"{way}_floor").question_mean
            assert (row.head.text, row.entries[0].text, row.entries[0].beneath) == (
                cell.name,
                fixed(mean),
                fixed(floor),
            )
    assert "each culture by itself stands with Fig. 5" in model_section(plain).paragraphs[0]
    assert spread_section(plain).not_run == "no question of this run speaks to a value dimension"


def test_without_dimensions_no_answer_has_a_reason() -> None:
    table = mean_section(analyse(results(states=(0, 1, 0, 0), tiny=without_dimensions()))).tables[0]
    assert {(row.entries[0].text, row.entries[0].why) for row in table.rows} == {("–", "no item has a value")}
