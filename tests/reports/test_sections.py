"""The sections of a report: each says what was found, and shows what a run covers."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from defsurvey.reports.analysis import Analysis, NotRun, analyse
from defsurvey.reports.contents import page
from defsurvey.reports.figures.ablation import ablation
from defsurvey.reports.figures.frameworks import framework_section, frameworks, model_table
from defsurvey.reports.figures.projection import cultural_map, paper_map
from defsurvey.reports.figures.shared import matching_figure
from defsurvey.reports.html import render_html
from defsurvey.reports.markdown import render_markdown
from defsurvey.reports.metrics.judges import FAIL, PASS, UNSURE, Audit, JudgeNotes, Verdicts, agreement, mcnemar
from defsurvey.reports.page import Section, Table
from defsurvey.storage.runs.results import Results
from defsurvey.storage.runs.run import Condition
from tests.reports.planted import Planted, planted, wide_survey, without
from tests.reports.reading import read
from tests.reports.synthetic import answering, human, last, one_question, refusing, results, sample, uniform

EVIL = '<script>alert(1)</script>"|`\x00'


def sections(analysis: Analysis) -> dict[str, Section]:
    return {section.anchor: section for section in page(analysis).sections}


def shown(analysis: Analysis) -> str:
    """The whole page as HTML and as Markdown, both of which have to be sound."""
    whole = page(analysis)
    read(render_html(whole))
    return render_markdown(whole)


def rows(table: Table) -> list[list[str]]:
    return [[row.group, row.head.text, *(entry.text for entry in row.entries)] for row in table.rows]


@pytest.fixture(scope="module")
def made() -> Planted:
    """Eleven models whose effects are known, on 90 questions."""
    return planted(wide_survey(90))


@pytest.fixture(scope="module")
def full(made: Planted) -> dict[str, Section]:
    return sections(analyse(made.results, draws=made.draws))


def test_planted_effects_are_said(full: dict[str, Section]) -> None:
    assert "first" in full["position"].title
    assert "honest" not in full["position"].title
    assert full["figure-11"].title.startswith("Furthest from even: men, ")
    assert "most typical of men" in full["figure-11"].title
    assert "Alpha than Beta" in full["table-3"].title
    assert "Gamma than Alpha" not in full["table-3"].title
    assert full["questions"].title.startswith("honest is not told from people on")
    assert "Training stages differ in" in full["appendix-i"].title


def test_order_of_closeness_shares_places(full: dict[str, Section]) -> None:
    order = rows(full["closeness"].tables[0])
    assert (order[0][1], order[-1][1:3], len(order)) == ("honest", ["men", "11"], 11)
    assert order[0][2] in ("1", "1–2")
    assert any("–" in row[2] for row in order)


def test_one_without_answers_is_named_and_not_ranked(made: Planted) -> None:
    found = sections(analyse(without(made, "random").results))["closeness"].tables[0]
    assert len(found.rows) == 10
    assert any("random is not ranked" in note for note in found.notes)


def test_the_map_numbers_many_models(full: dict[str, Section]) -> None:
    table = full["figure-7"].tables[0]
    assert [row[2] for row in rows(table)] == [str(n) for n in range(1, 12)]
    assert ">11</text>" in full["figure-7"].charts[0].svg
    assert "models clearly move between cultures as people do" in full["figure-7"].title


def test_the_papers_map_stands_alone_where_the_sound_one_is_not_run(made: Planted) -> None:
    found = analyse(made.results)
    figures = {cultural_map: NotRun("no question in common")}
    section = sections(replace(found, figures=figures))["figure-7"]
    assert section.not_run == ""
    assert section.paragraphs[0].startswith("The sound way is not run: no question in common.")
    assert [chart.name for chart in section.charts] == ["map-paper"]
    assert section.title == "Cultural variation map, the paper's way"
    assert section.legend == ("United States", "China")
    assert section.chart_note.startswith("Large marks and the thick line: people.")
    neither = figures | {paper_map: NotRun("no")}
    assert sections(replace(found, figures=neither))["figure-7"].not_run == "no question in common"


def conditions(made: Planted, **of: tuple[str, str]) -> Results:
    """The same answers, planted models as conditions of others: its name, dashes low -> model, condition."""
    cells = []
    for cell in made.results.run.cells:
        model, name = of[cell.model.replace("-", "_")]
        cells.append(replace(cell, model=model, condition=Condition(name=name)))
    return replace(made.results, run=replace(made.results.run, cells=tuple(cells)))


def test_an_ablation_that_does_nothing_is_not_found_and_the_main_condition_alone_is_in_figures_of_models() -> None:
    three = planted(wide_survey(90), models=("alpha-instruct", "beta-base", "gamma-instruct"))
    made = conditions(three, alpha_instruct=("m", "def"), beta_base=("m", "none"), gamma_instruct=("m", "idle"))
    analysis = analyse(made)
    found = {part.row.condition: part.contrasts for part in analysis.figure(ablation)}
    assert found["def"] == {}
    for culture in ("us", "cn"):
        assert found["none"][culture].difference > 0
        assert found["none"][culture].p_holm < 0.05 < found["idle"][culture].p_holm
    assert [row.model for row in analysis.figure(model_table)] == ["m"]
    assert {row.name for row in analysis.figure(matching_figure)} == {"m · def"}


def test_the_closest_framework_is_named_for_whom_it_is_told_from_the_others() -> None:
    pair = planted(wide_survey(60), models=("alpha-base", "alpha-instruct", "beta-base", "gamma-base", "honest", "men"))
    made = conditions(
        pair, honest=("a", "def"), beta_base=("a", "none"), alpha_instruct=("b", "def"), men=("b", "none"),
        alpha_base=("c", "def"), gamma_base=("c", "none"),
    )  # fmt: skip
    section = sections(analyse(made))["table-1"]
    assert section.title == "Framework def comes closest for 2 of 3 models"
    assert "told from each of the model's others" in section.paragraphs[1]


def test_few_answers_name_no_framework() -> None:
    analysis = analyse(answering(results([("a", "us", "def", last), ("a", "us", "none", last)]), 1, 1))
    part = analysis.figure(frameworks)
    assert part.rows[1].sound.mean < part.rows[0].sound.mean / 2
    assert framework_section(analysis).title == "Probing frameworks"


def test_a_mean_of_fewer_dimensions_is_compared_with_none() -> None:
    three = planted(wide_survey(240), models=("alpha-instruct", "beta-base", "honest"))
    made = conditions(three, alpha_instruct=("a", "def"), honest=("a", "none"), beta_base=("a", "cao2023"))
    whole = analyse(made)
    assert framework_section(whole).title == "Framework none comes closest for the model"
    assert len(framework_section(whole).tables[0].notes) == 1
    unread = whole.items.question[whole.items.grouping.dimension == 0]
    honest = [place for place, cell in enumerate(made.run.cells) if cell.condition.name == "none"]
    section = framework_section(
        analyse(refusing(made, np.isin(made.answers.cell, honest) & np.isin(made.answers.question, unread)))
    )
    assert section.title == "Framework def comes closest for the model"
    assert "compared with none" in section.tables[0].notes[-1]
    mean = {row.head.text: row.entries[9].why for row in section.tables[0].rows}
    assert [condition for condition, why in mean.items() if why] == ["none"]


def judged(made: Results, verdicts: Sequence[int], judge: str = "strict 1", *, others: int = 0) -> Verdicts:
    """That judge's verdicts on the first answers of the first cell: question capture, and others pass role-play."""
    count = len(verdicts)
    return Verdicts(
        judge=judge,
        cell=np.zeros(count + others, dtype=np.int32),
        answer=np.concatenate([np.arange(count), np.arange(others)]),
        dimension=np.repeat([0, 1], [count, others]).astype(np.int8),
        verdict=np.array([*verdicts, *[PASS] * others], dtype=np.int8),
        weight=np.ones(count + others),
    )


def test_judges_stand_apart() -> None:
    made = results()
    said_nothing = judged(made, [], "silent 1")
    verdicts = [judged(made, [FAIL, PASS, PASS, UNSURE] * 10, others=30), judged(made, [PASS], EVIL), said_nothing]
    found = analyse(made, verdicts=verdicts)
    section = sections(found)["figure-9"]
    assert section.title == "Judged by strict 1, answers fail most often on question capture: 33.3%"
    alone = sections(analyse(made, verdicts=verdicts[:1]))["figure-9"]
    assert alone.title == "Answers fail most often on question capture: 33.3%"
    for few in (judged(made, [FAIL, PASS, PASS, UNSURE] * 10), judged(made, [FAIL, PASS, PASS] * 9, others=30)):
        assert sections(analyse(made, verdicts=[few]))["figure-9"].title == "Answers that fail a judge"
    assert len(section.tables) == 2
    assert rows(section.tables[0])[0][2] == "33.3%"
    assert rows(section.tables[0])[1][2] == "–"
    assert [chart.name for chart in section.charts] == [
        "judged-dimensions-0", "judged-0-0", "radar-0-0", "judged-dimensions-1", "judged-1-0", "radar-1-0",
    ]  # fmt: skip
    text = shown(found)
    assert "strict 1" in text
    assert "<script>" not in text


def test_no_name_is_given_twice() -> None:
    made = results()
    text = render_html(page(analyse(made, verdicts=[judged(made, [FAIL, PASS]), judged(made, [PASS], "mild 1")])))
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert [name for name, times in Counter(ids).items() if times > 1] == []


def test_a_judge_stands_beside_people_and_itself() -> None:
    made, same, strict = results(), np.zeros(20, dtype=np.int64), np.arange(20) < 6
    own, other = agreement(same, same, 3), agreement(strict.astype(int), same, 3)
    audits = (
        Audit(other="", dimension="", agreement=own, stricter=mcnemar(same == 1, same == 1)),
        Audit(other=EVIL, dimension="qc", agreement=other, stricter=mcnemar(strict, same == 1)),
    )
    verdicts = [judged(made, [FAIL, PASS])]
    assert len(sections(analyse(made, verdicts=verdicts))["figure-9"].tables) == 1
    found = analyse(made, verdicts=verdicts, notes=JudgeNotes(audits={"strict 1": audits}))
    _, table = sections(found)["figure-9"].tables
    assert rows(table)[0][:4] == ["itself, asked again", "all dimensions", "20", "100%"]
    assert rows(table)[1][1:4] == ["question capture", "20", "70.0%"]
    assert rows(table)[1][6:] == ["6 : 0", "0.031"]
    assert "<script>" not in shown(found)


CASES = {
    "one culture": results([("m", "us", "def", human), ("n", "us", "def", uniform)]),
    "one model": results(),
    "one participant": results(participants=1),
    "one question": results(tiny=one_question()),
    "no valid answer": results(states=(0, 0.5, 0.3, 0.2)),
    "no answer": results(done=0),
    "all at once": results([("m", "us", "def", human)], participants=1, tiny=one_question(), samples=(sample("1"),)),
}


@pytest.mark.parametrize("made", CASES.values(), ids=CASES.keys())
def test_little_data_is_reported_honestly(made: Results) -> None:
    text = shown(analyse(made))
    assert text.count("\n## ") == 30
    printed = "| None | 0 | 2.2341 |"  # the paper's own name of a condition
    assert re.findall(r"\b(?:nan|inf|None)\b", text.replace(printed, "")) == []


def test_nothing_valid_claims_nothing() -> None:
    found = sections(analyse(results(states=(0, 1, 0, 0))))
    for anchor in ("figure-4", "figure-7", "figure-8", "figure-11", "figure-12", "appendix-f", "appendix-g"):
        assert found[anchor].not_run, anchor
    assert found["quality"].title == "0% of the answers are valid"
    assert found["questions"].title == "Question by question"
    assert found["figure-5"].charts == ()


def test_several_samples_of_a_state_are_folded_and_very_many_stand_with_their_questions_only() -> None:
    several, many = (sections(analyse(results(samples=(sample("2"),) * count))) for count in (14, 41))
    assert len(several["appendix-e"].samples) == 10
    assert [(fold.title, len(fold.samples)) for fold in several["appendix-e"].folds] == [("Answered: 4 more", 4)]
    assert many["appendix-e"].folds == ()
    assert len(many["questions"].questions[0].samples) == 41


# Where the finding is said stands in which language each culture was asked, and which weights answered.


GGUF = {"weights": "/mine/model.gguf", "weights_format": "GGUF", "dtype": "float32", "quantisation": "none"}
TYPED = GGUF | {"weights_type": "Q4_K_M"}
SAFE = {"weights": "hub a/b", "weights_format": "safetensors", "dtype": "bfloat16", "quantisation": "none"}


@pytest.mark.parametrize(
    ("languages", "said"),
    [
        (("en", "en"), "The United States was asked in English; China was asked in English, not in its own language"),
        (("en", "zh"), "The United States was asked in English; China was asked in Chinese."),
        (("zh", "zh"), "The United States was asked in Chinese, not in its own language, English; China was asked in"),
    ],
)
def test_the_language_of_each_culture_is_said(languages: tuple[str, str], said: str) -> None:
    made = results([("m", culture, "def", human) for culture in ("us", "cn")])
    cells = tuple(replace(cell, language=language) for cell, language in zip(made.run.cells, languages, strict=True))
    whole = page(analyse(replace(made, run=replace(made.run, cells=cells))))
    assert whole.sentences[0].startswith(said)


@pytest.mark.parametrize(
    ("described", "said", "provenance"),
    [
        (TYPED, "4-bit weights (GGUF, Q4_K_M), dequantised to float32", ""),
        (TYPED | {"weights_type": "F16"}, "", "not quantised (GGUF), held in float32"),
        (SAFE, "", "not quantised (safetensors), held in bfloat16"),
        (SAFE | {"quantisation": "nf4"}, "weights made 4-bit (NF4) while loading, computed in bfloat16", ""),
        (SAFE | {"published_in": "fp8"}, "weights published in fp8, computed in bfloat16", ""),
        ({"engine": "openai", "model": "m"}, "", ""),
    ],
    ids=["typed", "full GGUF", "full", "nf4", "fp8", "server"],
)
def test_quantised_weights_are_said(described: Mapping[str, str], said: str, provenance: str) -> None:
    whole = page(analyse(replace(results([("m", "us", "def", human)]), engines={"m": described})))
    assert (f"m answered from {said}." in whole.sentences[0]) is bool(said)
    assert ("answered from" in whole.sentences[0]) is bool(said)
    (section,) = [section for section in whole.sections if section.anchor == "provenance"]
    terms = {term.name: term.value for term in section.terms}
    assert terms.get("Weights of m", "") == said or provenance == terms["Weights of m"]
    assert "quantisation: none" not in terms["Model m"]
