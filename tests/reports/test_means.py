"""Means side by side: of other cultures, and the paper's way beside the sound one; each marked by what it is of."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from defsurvey.reports.analysis import Analysis, analyse
from defsurvey.reports.contents import page
from defsurvey.reports.figures.ablation import ablation_section, language_section
from defsurvey.reports.figures.dimensions import spread_section
from defsurvey.reports.figures.frameworks import closest_dimension, framework_section, model_section, model_table
from defsurvey.reports.figures.series import series_section, training_section
from defsurvey.reports.markdown import render_markdown
from defsurvey.reports.merge import merge
from defsurvey.reports.number_format import fixed, percent
from defsurvey.reports.page import Section, Table
from defsurvey.storage.runs.results import Results
from defsurvey.storage.runs.run import Condition
from tests.reports.planted import planted, wide_survey
from tests.reports.synthetic import human, last, one_question, rare, refusing, repeated, results, uniform


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


def test_a_dimension_lost_in_one_culture_is_lost() -> None:
    """A mean over cultures of which one has no figure in a dimension is no mean of both."""
    made = results([(m, c, "def", human) for m in "ab" for c in ("us", "cn")])
    of, gone = made.answers, (made.answers.cell == 1) & (made.answers.question == 1)
    rows = analyse(replace(made, answers=replace(of, state=np.where(gone, 1, of.state)))).figure(model_table)
    assert [row.sound.lacks(each.sound for each in rows) for row in rows] == [True, False]


def test_the_dimensions_named_are_of_rows_with_every_culture() -> None:
    """Neither a model asked in one culture only nor other conditions move the title of the table."""
    cells = [("b", "us", "def", rare), ("b", "cn", "def", rare), ("a", "us", "def", last)]
    cells += [("b", "us", f"other-{n}", last) for n in range(4)]
    alone, both = (analyse(results(each, tiny=repeated(4))) for each in (cells[:2], cells))
    assert closest_dimension(both) == closest_dimension(alone) != ""


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


DIFFERENCE = "Difference, United States"
SECTIONS = {
    "table-2": model_section,
    "table-3": series_section,
    "table-4": ablation_section,
    "figure-6": spread_section,
    "figure-10": language_section,
    "appendix-i": training_section,
}


def section(analysis: Analysis, anchor: str) -> Section:
    """One section of the report."""
    return SECTIONS[anchor](analysis)


def entries_of(table: Table, name: str) -> list[str]:
    """What stands in a column, row by row."""
    at = [each.text for each in table.columns].index(name) - 1
    return [row.entries[at].text for row in table.rows]


def why(table: Table, name: str) -> list[str]:
    """What is said of each figure of a column."""
    at = [each.text for each in table.columns].index(name) - 1
    return [row.entries[at].why for row in table.rows]


def infinite() -> Results:
    """Two models in two cultures, one of which always chose in China what nobody there did: it has no finite value."""
    cells = [("a", "us", "def", human), ("a", "cn", "def", last), ("b", "us", "def", human), ("b", "cn", "def", human)]
    return results(cells, tiny=one_question())


def test_a_culture_lost_to_infinite_values_is_lost_in_the_papers_way_alone() -> None:
    """The mean of the other culture looks closer: it is marked, and compared with none; the sound mean is of both."""
    rows = analyse(infinite()).figure(model_table)
    assert [row.sound.cultures for row in rows] == [("us", "cn")] * 2
    assert [row.paper.cultures for row in rows] == [("us",), ("us", "cn")]
    assert [row.sound.lacks(each.sound for each in rows) for row in rows] == [False, False]
    assert [row.paper.lacks(each.paper for each in rows) for row in rows] == [True, False]


def test_table_2_marks_what_the_papers_way_lost() -> None:
    """The plug-in table names the cultures of each row and says what compares with none; the smoothed one does not."""
    smoothed, plug_in = section(analyse(infinite()), "table-2").tables[:2]
    assert entries_of(plug_in, "Cultures") == ["United States", "United States, China"]
    assert [bool(said) for said in why(plug_in, "Mean")] == [True, False]
    assert any("all of whose values are infinite" in note for note in plug_in.notes)
    assert "Cultures" not in [each.text for each in smoothed.columns]
    assert why(smoothed, "Mean") == ["", ""]


def test_table_4_marks_what_the_papers_way_lost() -> None:
    """The plug-in mean of a condition names its own cultures beside those of the smoothed one."""
    cells = [("a", c, name, how) for c in ("us", "cn") for name, how in (("def", human), ("none", last))]
    (table,) = section(analyse(results(cells, tiny=one_question())), "table-4").tables
    assert "Cultures" not in [each.text for each in table.columns]
    assert entries_of(table, "Cultures, plug-in") == ["United States, China", "United States"]
    assert [bool(said) for said in why(table, "Plug-in KL")] == [False, True]
    assert why(table, "Smoothed KL") == ["", ""]
    assert entries_of(table, "Infinite") == ["0%", "50.0%"]
    first, second = entries_of(section(analyse(results(cells, tiny=repeated(3))), "table-4").tables[0], DIFFERENCE)
    assert (first, second[0]) == ("–", "+")


def test_differences_say_what_they_are_of() -> None:
    """Table 4 and Figure 10 test fewer answers than their means are of: the note says how many, on which questions."""
    made = results([("a", "us", "def", human), ("a", "us", "none", uniform)], tiny=repeated(3), participants=40)
    ablation = section(analyse(made), "table-4").tables[0]
    said = (
        "Differences are by the corrected KL, of the questions behind the mean to which all that are compared have at "
        "least 10 valid answers, all brought down to 10, and need not be those of the means: 12 questions in the "
        "United States."
    )
    assert said in ablation.notes
    first, second = made.run.cells
    spoken = replace(made.run, cells=(first, replace(second, condition=first.condition, language="zh")))
    found = analyse(replace(made, run=spoken))
    languages = section(found, "figure-10")
    assert said in languages.tables[0].notes
    assert entries_of(languages.folds[0].tables[0], "Mean") == [fixed(cell.paper.headline) for cell in found.cells]


def test_series_give_the_share_of_infinite_items() -> None:
    """Table 3: beside the mean that the paper's rule makes, how much of it the rule makes."""
    made = results([(m, "us", "def", last if m in "cd" else human) for m in "abcd"], tiny=repeated(3))
    shares = {"Q1": [0.9, 0.07, 0.03, 0.0]}
    known = tuple(
        replace(r, shares=dict(zip(r.shares, shares["Q1"], strict=True))) if r.question.startswith("Q1") else r
        for r in made.survey.references
    )
    made = replace(made, survey=replace(made.survey, references=known))
    facts = {model: {"series": "near" if model in "ab" else "far"} for model in "abcd"}
    found = analyse(replace(made, model_facts=facts))
    table = section(found, "table-3").tables[3]
    expected = {"near": 0.0, "far": found.cells[2].paper_values.infinite_share}
    assert expected["far"] > 0
    assert entries_of(table, "Infinite") == [percent(expected[row.head.text]) for row in table.rows]


def test_the_spread_is_given_the_papers_way_too() -> None:
    """Figure 6: medians of the plug-in KL by the paper's rule, in a table of their own."""
    found = analyse(results([("a", "us", "def", human)], tiny=repeated(4)))
    smoothed, plug_in = section(found, "figure-6").folds[-1].tables
    of_tdi = found.items.grouping.dimension == list(found.results.survey.dimensions).index("TDI")
    (cell,) = found.cells
    assert entries_of(smoothed, "TDI") == [fixed(float(np.median(cell.divergences.smoothed_kl[of_tdi])))]
    assert entries_of(plug_in, "TDI") == [fixed(float(np.median(cell.paper_values.values[of_tdi])))]
    assert [each.text for each in plug_in.columns][-1] == "Infinite"


def staged() -> Analysis:
    """Two models of one stage, of which one answered nothing, and one of another."""
    made = results([("a", "us", "def", human), ("b", "us", "def", uniform), ("c", "us", "def", last)], tiny=repeated(3))
    facts = {model: {"stage": "base" if model == "c" else "chat", "series": "S"} for model in "abc"}
    return analyse(replace(refusing(made, made.answers.cell == 1), model_facts=facts))


def test_stages_count_models_that_have_a_figure() -> None:
    """Appendix I: a model that answered nothing is no part of the mean, nor of the number of models it is of."""
    table, contrasts, *_ = section(staged(), "appendix-i").tables
    assert (entries_of(contrasts, "Questions"), entries_of(contrasts, "n")) == (["12"], ["10"])
    assert [(row.head.text, row.entries[0].text, row.entries[0].why) for row in table.rows] == [
        ("base", "1", "c"),
        ("chat", "1", "a"),
    ]


def test_a_stage_of_a_model_without_a_finite_value_has_no_mean_the_papers_way() -> None:
    """Appendix I: the mean of the others would look closer, beside a number of models that it is not of."""
    made = results([("a", "cn", "def", human), ("b", "cn", "def", last)], tiny=one_question())
    found = analyse(replace(made, model_facts={"a": {"stage": "chat"}, "b": {"stage": "chat"}}))
    table = section(found, "appendix-i").tables[0]
    assert (entries_of(table, "Models"), entries_of(table, "Plug-in KL"), entries_of(table, "Infinite")) == (
        ["2"],
        ["–"],
        ["50.0%"],
    )
    assert why(table, "Plug-in KL") == ["all values of one of the models are infinite"]
