"""The paper's way beside the sound way: given wherever they differ, and each mean marked by what it is itself of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from defsurvey.reports.analysis import Analysis, analyse
from defsurvey.reports.figures.ablation import ablation_section, language_section
from defsurvey.reports.figures.dimensions import spread_section
from defsurvey.reports.figures.frameworks import model_section, model_table
from defsurvey.reports.figures.series import series_section, training_section
from defsurvey.reports.number_format import fixed, percent
from defsurvey.reports.page import Section, Table
from defsurvey.storage.runs.results import Results
from tests.reports.synthetic import human, last, one_question, refusing, repeated, results, uniform

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


def column(table: Table, name: str) -> list[str]:
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
    assert column(plug_in, "Cultures") == ["United States", "United States, China"]
    assert [bool(said) for said in why(plug_in, "Mean")] == [True, False]
    assert any("all of whose values are infinite" in note for note in plug_in.notes)
    assert "Cultures" not in [each.text for each in smoothed.columns]
    assert why(smoothed, "Mean") == ["", ""]


def test_table_4_marks_what_the_papers_way_lost() -> None:
    """The plug-in mean of a condition names its own cultures beside those of the smoothed one."""
    cells = [("a", c, name, how) for c in ("us", "cn") for name, how in (("def", human), ("none", last))]
    (table,) = section(analyse(results(cells, tiny=one_question())), "table-4").tables
    assert "Cultures" not in [each.text for each in table.columns]
    assert column(table, "Cultures, plug-in") == ["United States, China", "United States"]
    assert [bool(said) for said in why(table, "Plug-in KL")] == [False, True]
    assert why(table, "Smoothed KL") == ["", ""]
    assert column(table, "Infinite") == ["0%", "50.0%"]


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
    languages = section(analyse(replace(made, run=spoken)), "figure-10").tables[0]
    assert said in languages.notes


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
    assert column(table, "Infinite") == [percent(expected[row.head.text]) for row in table.rows]


def test_the_spread_is_given_the_papers_way_too() -> None:
    """Figure 6: medians of the plug-in KL by the paper's rule, in a table of their own."""
    found = analyse(results([("a", "us", "def", human)], tiny=repeated(4)))
    smoothed, plug_in = section(found, "figure-6").folds[-1].tables
    of_tdi = found.items.grouping.dimension == list(found.results.survey.dimensions).index("TDI")
    (cell,) = found.cells
    assert column(smoothed, "TDI") == [fixed(float(np.median(cell.divergences.smoothed_kl[of_tdi])))]
    assert column(plug_in, "TDI") == [fixed(float(np.median(cell.paper_values.values[of_tdi])))]
    assert [each.text for each in plug_in.columns][-1] == "Infinite"


def staged() -> Analysis:
    """Two models of one stage, of which one answered nothing, and one of another."""
    made = results([("a", "us", "def", human), ("b", "us", "def", uniform), ("c", "us", "def", last)], tiny=repeated(3))
    facts = {model: {"stage": "base" if model == "c" else "chat", "series": "S"} for model in "abc"}
    return analyse(replace(refusing(made, made.answers.cell == 1), model_facts=facts))


def test_stages_count_models_that_have_a_figure() -> None:
    """Appendix I: a model that answered nothing is no part of the mean, nor of the number of models it is of."""
    table = section(staged(), "appendix-i").tables[0]
    assert [(row.head.text, row.entries[0].text, row.entries[0].why) for row in table.rows] == [
        ("base", "1", "c"),
        ("chat", "1", "a"),
    ]


def test_stages_are_given_the_papers_way_too() -> None:
    """Appendix I: means of the plug-in KL in a column of their own, with the share of infinite items."""
    found = staged()
    table = section(found, "appendix-i").tables[0]
    chat, base = found.cells[0], found.cells[2]
    assert column(table, "Plug-in KL") == [fixed(cell.paper.headline) for cell in (base, chat)]
    assert column(table, "Infinite") == [percent(cell.paper_values.infinite_share) for cell in (base, chat)]


def test_a_stage_of_a_model_without_a_finite_value_has_no_mean_the_papers_way() -> None:
    """Appendix I: the mean of the others would look closer, beside a number of models that it is not of."""
    made = results([("a", "cn", "def", human), ("b", "cn", "def", last)], tiny=one_question())
    found = analyse(replace(made, model_facts={"a": {"stage": "chat"}, "b": {"stage": "chat"}}))
    table = section(found, "appendix-i").tables[0]
    assert (column(table, "Models"), column(table, "Plug-in KL"), column(table, "Infinite")) == (
        ["2"],
        ["–"],
        ["50.0%"],
    )
    assert why(table, "Plug-in KL") == ["all values of one of the models are infinite"]
