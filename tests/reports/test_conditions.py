"""Conditions of one run: frameworks, ablations, languages, panels, and the probabilities of the next token."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import entropy

from defsurvey.reports.analysis import Analysis, analyse
from defsurvey.reports.contents import page
from defsurvey.reports.figures.ablation import ablation, languages
from defsurvey.reports.figures.first_token import first_token
from defsurvey.reports.figures.frameworks import frameworks
from defsurvey.reports.figures.projection import cultural_map
from defsurvey.reports.figures.questions import distinguish
from defsurvey.reports.html import render_html
from defsurvey.reports.markdown import render_markdown
from defsurvey.reports.merge import merge
from defsurvey.reports.metrics.divergence import jeffreys, smoothed_kl
from defsurvey.reports.page import Section
from defsurvey.storage.runs.results import AnswerArrays, ProbabilityRow, Results
from defsurvey.storage.runs.run import Cell, Condition
from defsurvey.storage.surveys.survey import Question, Survey
from tests.reports.planted import planted, wide_survey
from tests.reports.reading import read
from tests.reports.synthetic import answering, human, refusing, repeated, results, survey

DEF = (
    Condition(name="def"),
    Condition(name="def-without-prompt", prompt=False),
    Condition(name="def-without-config", config=False),
    Condition(name="def-without-memory", memory=False),
    Condition(name="none", prompt=False, config=False, memory=False),
)
BASELINES = (
    Condition(name="cao2023", method="cao2023"),
    Condition(name="ccsv-single", method="ccsv-single"),
    Condition(name="ccsv-list", method="ccsv-list", slots=20),
)
FIRST = Condition(name="first-token", method="first-token", slots=0)


def tri_lingual() -> Survey:
    """The wide survey, its second culture speaking Chinese, with wordings in three languages."""
    known = wide_survey(36)
    cultures = tuple(replace(each, language="zh" if each.code == "cn" else "en") for each in known.cultures)
    return replace(known, languages=("en", "zh", "de"), cultures=cultures)


def everything() -> Results:
    """One model in two cultures: def in three languages, every other condition in the native one."""
    made = planted(tri_lingual(), models=("honest",), participants=20).results
    of, cells = made.answers, list[Cell]()
    columns: dict[str, list[np.ndarray]] = {name: [] for name in AnswerArrays.__dataclass_fields__}
    for source, culture in enumerate(("us", "cn")):
        native, here = made.survey.culture(culture).language, of.cell == source
        wanted = [(DEF[0], language) for language in ("en", "zh", "de")]
        wanted += [(condition, native) for condition in (*DEF[1:], *BASELINES, FIRST)]
        for condition, language in wanted:
            for name, parts in columns.items() if condition.slots else ():
                parts.append(getattr(of, name)[here])
            if condition.slots:
                columns["cell"][-1] = np.full(int(here.sum()), len(cells), dtype=np.int32)
            if condition.slots > 1:
                columns["slot"][-1] = of.participant[here]
                columns["participant"][-1] = np.zeros(int(here.sum()), dtype=np.int32)
            where = {"model": "m", "culture": culture, "condition": condition, "language": language}
            cells.append(Cell(id=len(cells) + 1, **where, participants=20 if condition.slots == 1 else 1))
    answers = AnswerArrays(**{name: np.concatenate(parts) for name, parts in columns.items()})
    progress = replace(made.progress, planned=answers.cell.size, answered=answers.cell.size, refused=0)
    return replace(made, run=replace(made.run, cells=tuple(cells)), answers=answers, progress=progress)


@pytest.fixture(scope="module")
def found() -> Analysis:
    return analyse(everything())


def sections(analysis: Analysis) -> dict[str, Section]:
    """Anchor -> section; the whole page is sound in both forms."""
    whole = page(analysis)
    read(render_html(whole))
    assert "nan" not in render_markdown(whole)
    return {section.anchor: section for section in whole.sections}


def test_every_condition_that_answers_is_a_framework_and_of_those_parts_of_def_an_ablation(found: Analysis) -> None:
    rows, parts = found.figure(frameworks).rows, found.figure(ablation)
    assert [row.condition for row in rows] == [condition.name for condition in (*DEF, *BASELINES)]
    assert {row.sound.cultures for row in rows} == {("us", "cn")}
    assert [part.row.condition for part in parts] == [condition.name for condition in DEF]
    assert all(len(part.contrasts) == 2 for part in parts[1:])
    assert sections(found)["first-token"].not_run == "no condition read the probabilities of the options"


def test_every_language_stands_against_the_native_one(found: Analysis) -> None:
    part = found.figure(languages)
    rows = [(row.cell.cell.culture, row.cell.cell.language, row.native, row.contrast is None) for row in part]
    assert sorted(rows) == sorted(
        (culture, language, native == language, native == language)
        for culture, native in (("us", "en"), ("cn", "zh"))
        for language in ("en", "zh", "de")
    )
    drawn = [(row.subject, row.culture) for row in found.figure(cultural_map).sound.rows]
    assert len(drawn) == len(set(drawn)) == 8
    assert ("m · native language", "us") in drawn
    assert ("m · in de, not native", "cn") in drawn


def test_a_panel_is_one_sample(found: Analysis) -> None:
    panels = [cell for cell in found.cells if cell.panel]
    assert [cell.cell.culture for cell in panels] == ["us", "cn"]
    for cell in panels:
        assert cell.quality.planned == 20 * len(found.items.questions)
        assert cell.n_valid.max() == 20
        assert np.isnan(cell.interval.low)
        assert "fewer than 2 participants" in cell.interval.reason
        alone = next(c for c in found.cells if c.cell.culture == cell.cell.culture and c.name == "m · def · en")
        if cell.cell.culture == "us":  # the same answers by twenty participants
            assert cell.sound.headline == pytest.approx(alone.sound.headline)
            assert not np.isnan(alone.interval.low)
    tests = {(test.culture, test.name): test for test in found.figure(distinguish)}
    assert all(tests[cell.cell.culture, cell.name].questions == 0 for cell in panels)
    cautions = " ".join(page(found).cautions)
    assert "ccsv-list: one panel answers for a whole cell" in cautions
    assert "One participant shows no spread" not in cautions


def test_a_condition_with_few_answers_takes_no_comparison_from_the_others() -> None:
    cells = [(model, "us", condition, human) for model in "ab" for condition in ("def", "none")]
    part = analyse(answering(results(cells), 3, 1)).figure(ablation)
    found = {(row.row.model, row.row.condition): row.contrasts for row in part}
    assert found["b", "none"] == {}
    (contrast,) = found["a", "none"].values()
    assert contrast.questions == 4
    assert contrast.p_holm == contrast.p


def probabilities(cell: int) -> tuple[ProbabilityRow, ...]:
    """Two questions of the tiny survey, the first in two orders."""
    said = {("Q1", 0): (0.7, 0.1, 0.1, 0.1), ("Q1", 1): (0.1, 0.7, 0.1, 0.1), ("Q2", 0): (0.2, 0.5, 0.3)}
    return tuple(
        ProbabilityRow(cell=cell, question=question, order=order, option=option, probability=share)
        for (question, order), shares in said.items()
        for option, share in enumerate(shares, start=1)
    )


def with_first_token() -> Results:
    made = results([("m", "us", "def", human)])
    cell = replace(made.run.cells[0], id=2, condition=FIRST, participants=1)
    return replace(made, run=replace(made.run, cells=(*made.run.cells, cell)), probabilities=probabilities(1))


def test_probabilities_are_a_baseline_of_their_own() -> None:
    found = analyse(with_first_token())
    part = found.figure(first_token)
    (row,) = part
    people = {r.question: (list(r.shares.values()), r.n) for r in survey().references if r.culture == "us"}
    expected = [
        entropy(said, jeffreys(np.array(people[name][0]) / sum(people[name][0]) * people[name][1]))
        for name, said in (("Q1", (0.4, 0.4, 0.1, 0.1)), ("Q2", (0.2, 0.5, 0.3)))
    ]
    assert (row.questions, row.orders) == (2, 2)
    assert row.value == pytest.approx(np.mean(expected))
    cell = found.cells[0]
    of = [list(found.items.question).index(place) for place in (0, 1)]
    assert row.interview == pytest.approx(cell.divergences.smoothed_kl[of].mean())
    assert row.floor == pytest.approx(cell.floor.smoothed_kl[of].mean())
    assert [each.cell.condition.name for each in found.cells] == ["def"]
    table = sections(found)["first-token"].tables[0]
    assert [entry.text for entry in table.rows[0].entries][-2:] == ["2", "2"]


def test_probabilities_alone_are_reported_too() -> None:
    made = results(done=0, participants=1)
    cells = tuple(replace(cell, condition=FIRST) for cell in made.run.cells)
    alone = replace(made, run=replace(made.run, cells=cells), probabilities=probabilities(0))
    alone = replace(alone, progress=replace(alone.progress, planned=0))
    found = analyse(alone)
    assert np.isnan(found.figure(first_token)[0].interview)
    assert sections(found)["first-token"].tables


def test_runs_merged_keep_whose_probabilities_they_are() -> None:
    one = with_first_token()
    other = replace(one, run=replace(one.run, id="run-2"))
    both = merge([one, other])
    assert {row.cell for row in both.probabilities} == {1, 3}
    assert both.run.cells[3].condition.name == "first-token"


#: A model that nearly always gives one answer: by its probabilities as by its interview.
SAID = {"Q1": [0.91, 0.03, 0.03, 0.03], "Q2": [0.02, 0.02, 0.96], "Q3": [0.01] * 9 + [0.91], "Q4": [0.1, 0.9, 0.1]}


def drawing(question: Question, culture: str, people: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws each answer from the probabilities; of a list its second option alone."""
    name = question.id.partition("-")[0]
    if name == "Q4":
        return np.full(people, 2, dtype=np.int64)
    return (1 << rng.choice(len(SAID[name]), size=people, p=SAID[name])).astype(np.int64)


def with_probabilities(participants: int) -> Results:
    """An interview of that model, and a cell whose probabilities were read."""
    made = results([("m", "us", "def", drawing)], participants=participants, tiny=repeated(12), seed=3)
    read = replace(made.run.cells[0], id=2, condition=FIRST, participants=1)
    rows = tuple(
        ProbabilityRow(cell=1, question=question.id, order=0, option=code, probability=share)
        for question in made.survey.questions
        if (name := question.id.partition("-")[0]) != "Q4"
        for code, share in zip(question.codes, SAID[name], strict=True)
    )
    return replace(made, run=replace(made.run, cells=(*made.run.cells, read)), probabilities=rows)


def test_as_many_are_drawn_as_the_interview_answered() -> None:
    made = with_probabilities(6)
    few = refusing(made, (made.answers.question < 20) & (made.answers.participant > 1))
    found = analyse(few)
    part, rng = found.figure(first_token), np.random.default_rng(6)
    items, reference, cell = found.items, found.cultures[0].reference, found.cells[0]
    by_dimension: dict[int, list[float]] = {}
    for item in np.flatnonzero(items.whole & items.grouping.headline).tolist():
        question = items.questions[items.question[item]]
        drawn = rng.multinomial(cell.n_valid[items.question[item]], SAID[question.id.partition("-")[0]], size=4_000)
        size = len(question.codes)
        values = smoothed_kl(drawn, reference.shares[item, :size], reference.n[item])
        by_dimension.setdefault(int(items.grouping.dimension[item]), []).append(float(values.mean()))
    assert part[0].drawn == pytest.approx(np.mean([np.mean(each) for each in by_dimension.values()]), rel=0.01)
