"""Figures that ask for something of their own: probes, paraphrases, prices, groups of people, the paper's tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from defsurvey.reports.analysis import Analysis, analyse
from defsurvey.reports.cards import sample_cards
from defsurvey.reports.contents import page
from defsurvey.reports.figures.profiles import Profiles, heatmap_section, profiles
from defsurvey.reports.figures.provenance import download_section, throughput
from defsurvey.reports.figures.quality import ProbedRow, contamination, quality_section
from defsurvey.reports.figures.words import TABLES, meanings, published, replicates
from defsurvey.reports.merge import merge
from defsurvey.reports.page import Fold, Section
from defsurvey.storage.runs.probes import Probe, ProbeKind
from defsurvey.storage.runs.results import Results, TokenCount
from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.importers.def_dataset import CITATION
from defsurvey.storage.surveys.survey import Paraphrase
from tests.reports.planted import planted, wide_survey
from tests.reports.synthetic import human, results, sample, survey

PRICED = {"input_price": "2", "output_price": "10", "priced": "2026-10"}


def two_models() -> Results:
    """A priced model that counted the tokens of all its answers but one, and one of which nothing is known."""
    made = results([("api", "us", "def", human), ("own", "us", "def", human)])
    ended = made.progress.done // 2
    return replace(
        made,
        tokens={"api": TokenCount(answers=ended - 1, prompt=1_500_000, completion=200_000, seconds=100.0)},
        model_facts={"api": PRICED},
    )


def ended_with_tokens() -> int:
    """How many answers of the priced model carry a count."""
    return two_models().tokens["api"].answers


def section(made: Results) -> Section:
    """The section of throughput."""
    return next(found for found in page(analyse(made)).sections if found.anchor == "throughput")


def test_tokens_speed_and_cost_are_worked_out() -> None:
    """1.5 million prompt tokens at 2 dollars and 0.2 million of completions at 10 make 5 dollars."""
    api, own = analyse(two_models()).figure(throughput)
    assert api.cost == pytest.approx(5.0)
    assert api.tokens_per_second == 2000.0
    assert own.cost != own.cost
    assert own.tokens_per_second != own.tokens_per_second


def test_the_section_says_what_is_known_and_why_the_rest_is_not() -> None:
    """Costs with the prices they rest on; a model without a price says so."""
    found = section(two_models())
    api, own = found.tables[0].rows
    assert found.title == "The models with a price cost $5.00"
    assert [entry.text for entry in api.entries[4:]] == ["1,500,000", "200,000", "2,000.0", "$5.00"]
    assert api.entries[4].beneath == f"with {ended_with_tokens():,} answers"
    assert [entry.text for entry in own.entries[4:]] == ["–", "–", "–", "no price"]
    (note,) = found.tables[0].notes
    assert "$2 per million prompt tokens" in note
    assert "as of 2026-10" in note


def test_a_price_without_a_count_is_no_cost() -> None:
    """An engine that counts nothing costs an unknown amount, not nothing."""
    found = section(replace(two_models(), tokens={}))
    assert found.tables[0].rows[0].entries[-1].text == "–"
    assert found.title == "Throughput and cost"


#: The labels of Q3 are the numbers from 1 to 10.
SAID = {"Q1": "bananas are yellow", "Q2": "I do not know at all", "Q3": "hello there", "Q4": "zzz"}


def probed(**said: str) -> Analysis:
    """A run whose model made that of these questions, asked for their options."""
    made = results()
    probes = tuple(
        Probe(model="human", kind=ProbeKind.OPTIONS, culture="", language="en", question=name, prompt="?", completion=x)
        for name, x in said.items()
    )
    return analyse(replace(made, probes=probes))


def row(analysis: Analysis) -> ProbedRow:
    """What the one model recalls."""
    part = analysis.figure(contamination)
    (found,) = part.recalled
    return found


def test_a_scale_of_numbers_proves_nothing() -> None:
    """A question whose options are all numbers is left out: with it and without it the figures are the same."""
    found = probed(**SAID)
    assert row(found).questions == ("Q1", "Q2", "Q4")
    without = row(probed(**{name: text for name, text in SAID.items() if name != "Q3"})).test
    assert row(found).test.p_all == without.p_all > 0.05
    np.testing.assert_array_equal(row(found).test.p, without.p)
    assert np.isfinite(row(found).test.mean_others)
    options = quality_section(found).tables[-1]
    assert [entry.text for entry in options.rows[0].entries][-1] == "0 of 3"


def test_a_survey_of_numbers_alone_cannot_be_recalled() -> None:
    """Where no option has words there is no test, and the reason is given."""
    found = row(probed(Q3=SAID["Q3"]))
    assert found.questions == ()
    assert np.isnan(found.test.p_all)
    assert found.test.reason == "no two questions with different options"


def test_every_run_of_a_report_is_asked_by_itself() -> None:
    """One command a run: no run is called by two names at once."""
    made = results()
    joint = merge([replace(made, run=replace(made.run, id=name)) for name in ("spring", "autumn")])
    told = [
        " ".join(section.paragraphs)
        for found in map(analyse, (made, joint))
        for section in (quality_section(found), download_section(found))
    ]
    assert "nobody asked; defsurvey contamination run-1 does." in told[0]
    assert "defsurvey export run-1 --format parquet --output answers.parquet" in told[1]
    assert "nobody asked; defsurvey contamination spring and defsurvey contamination autumn do." in told[2]
    assert told[3].endswith(
        "defsurvey export spring --format parquet --output spring.parquet; "
        "defsurvey export autumn --format parquet --output autumn.parquet"
    )


@pytest.mark.parametrize(("name", "rows"), [("table1", 8), ("table2", 11), ("table3", 4), ("table4", 5)])
def test_tables_are_complete(name: str, rows: int) -> None:
    """Every row has every column; every table says what its columns and slips are."""
    table = published(name)
    assert name in TABLES
    assert len(table.rows) == rows
    assert all(set(row) == set(table.columns) and all(row.values()) for row in table.rows)
    assert table.title
    assert table.meaning
    assert table.notes


def test_slips_of_the_source_are_kept_and_noted() -> None:
    """Printed averages that their rows do not give: the value stays, the footnote says it."""
    row = published("table1").rows[0]
    values = [float(row[code]) for code in ("EVI", "IDV", "IVR", "LTO", "MAS", "PDI", "TDI", "UAI", "USI")]
    assert float(row["average"]) == 6.36
    assert round(sum(values) / 9, 2) == 6.23
    assert any("6.36" in note and "6.23" in note for note in published("table1").notes)
    mistral = next(row for row in published("table2").rows if row["model"] == "Mistral-7B-Instruct")
    assert (mistral["EVI"], mistral["average"]) == ("0.58", "0.81")
    assert any(".58" in note for note in published("table2").notes)


def test_every_dimension_has_both_meanings() -> None:
    """High and low, for the nine dimensions of Table 2."""
    codes = set(published("table2").columns) - {"model", "average"}
    assert set(meanings()) == codes
    assert all(each["high"] and each["low"] and each["high"] != each["low"] for each in meanings().values())


def test_only_the_authors_own_survey_is_a_replication() -> None:
    """Published values stand beside ours only where the questions are the paper's."""
    assert replicates(CITATION)
    assert not replicates(find_survey("wvs7").citation)


FOUND = analyse(planted(wide_survey(60), models=("men", "random")).results)


def folds(analysis: Analysis) -> tuple[Fold, ...]:
    """One for each culture."""
    return heatmap_section(analysis).folds


def profiles_of(analysis: Analysis) -> Profiles:
    """The tensors behind them."""
    assert isinstance(analysis.figure(profiles), Profiles)
    return analysis.figure(profiles)


def test_the_papers_way_stands_beside_the_sound_one() -> None:
    """A table of its own per culture, with the figures of raw counts: they name other groups."""
    for fold, code in zip(folds(FOUND), ("us", "cn"), strict=True):
        sound, paper = fold.tables
        assert (sound.anchor, paper.anchor) == (f"appendix-g-table-{code}", f"appendix-g-paper-table-{code}")
        assert paper.caption.startswith("The paper's way: mismatching items, ")
        for table, rows in ((sound, profiles_of(FOUND).sound), (paper, profiles_of(FOUND).paper)):
            shown = [float(entry.text or 0) for row in table.rows for entry in row.entries]
            tensors = np.concatenate([row.tensor.ravel() for row in rows if row.culture == code])
            assert shown == [round(value, 1) for value in tensors.tolist()]
        assert sound.rows != paper.rows


def test_the_papers_way_is_left_out_where_it_is_the_same() -> None:
    """Groups of equal size have the same figures both ways."""
    part = profiles_of(FOUND)
    same = replace(FOUND, figures={profiles: replace(part, paper=part.sound)})
    assert [len(fold.tables) for fold in folds(same)] == [1, 1]


def test_a_sample_is_shown_in_the_wording_that_was_drawn() -> None:
    """Question and number of the paraphrase; one in the question's own words says nothing of it."""
    other = Paraphrase(question="Q1", number=2, language="en", text="Does family matter?", model="m")
    asked = sample("Answer: 2: Rather")
    drawn = replace(asked, answer=replace(asked.answer, draws=replace(asked.answer.draws, paraphrase=2)))
    known = replace(survey(), paraphrases=(other,))
    analysis = analyse(results(tiny=known, samples=(asked, drawn)))
    plain, paraphrased = sample_cards(analysis, [0, 1])
    assert (plain.question, paraphrased.question) == ("How important is family in your life?", "Does family matter?")
    assert paraphrased.chips == (*plain.chips, "paraphrase 2")
