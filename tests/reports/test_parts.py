"""Parts of a report that need more than one model: conditions, languages, judges, draws; and runs that lack them."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from defsurvey.reports.analysis import NotRun, analyse
from defsurvey.reports.cells import item_table, reference_table
from defsurvey.reports.figures.ablation import ablation, languages
from defsurvey.reports.figures.configured import configured, draw_section, drawn
from defsurvey.reports.figures.frameworks import frameworks
from defsurvey.reports.figures.judging import insensitivity
from defsurvey.reports.figures.landscape import cases, landscape, landscape_section, near_question
from defsurvey.reports.figures.matching import rank_agreement
from defsurvey.reports.figures.profiles import profiles
from defsurvey.reports.figures.projection import cultural_map, paper_map
from defsurvey.reports.figures.questions import placement
from defsurvey.reports.figures.series import series, series_section, training
from defsurvey.reports.metrics.divergence import smoothed_kl
from defsurvey.storage.surveys.survey import Group, ReferenceDistribution
from tests.reports.planted import Planted, planted, wide_survey
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

WIDE = wide_survey(90)


def test_one_condition_one_language_no_cards_say_why() -> None:
    found = analyse(results())
    reasons = {
        frameworks: "one condition, def: no framework to compare it with",
        ablation: "one condition, def: nothing was switched off",
        languages: "every culture was asked in one language",
        insensitivity: "no judge",
        series: "the model cards name no series",
        training: "the model cards name neither training stage nor size",
        profiles: "no reference of this survey tells the sexes or ages apart",
        rank_agreement: "fewer than three models are ranked: no order to compare",
        placement: "every question was shown in one order only",
        cases: "no answer was sampled",
        configured: "the draws of this run were not read",
        drawn: "the draws of this run were not read",
    }
    for compute, reason in reasons.items():
        with pytest.raises(NotRun, match=f"^{re.escape(reason)}$"):
            found.figure(compute)


def test_one_culture_has_no_map() -> None:
    parts = analyse(results([("m", "us", "def", human)]))
    with pytest.raises(NotRun, match="one culture"):
        parts.figure(cultural_map)
    assert parts.figure_if_run(paper_map) is None


def test_cultures_asked_different_questions_have_the_papers_map_only() -> None:
    split = replace(
        WIDE, references=tuple(r for r in WIDE.references if (int(r.question[1:]) % 2 == 0) == (r.culture == "us"))
    )
    made = planted(WIDE, models=("honest", "random")).results
    found = analyse(replace(made, survey=split))
    with pytest.raises(NotRun, match="both cultures answered"):
        found.figure(cultural_map)
    assert len(found.figure(paper_map).rows) == 6


def test_people_who_chose_an_option_are_counted_as_they_were_asked() -> None:
    made = planted(wide_survey(18), models=("men",)).results
    sizes = {Group.MALE: 0.2, Group.FEMALE: 0.9, Group.AGE_LE29: 0.9, Group.AGE_30_49: 0.5, Group.AGE_50PLUS: 0.1}
    unequal = tuple(replace(r, n_eff=r.n * sizes.get(r.group, 1.0)) for r in made.survey.references)
    plain, weighted = (
        analyse(replace(made, survey=replace(made.survey, references=references))).figure(profiles)
        for references in (made.survey.references, unequal)
    )
    for one, other in zip(plain.paper, weighted.paper, strict=True):
        assert np.array_equal(one.tensor, other.tensor)


def test_draws_are_counted_and_named() -> None:
    made = planted(wide_survey(12), models=("honest", "random"))
    draws = replace(made.draws, num_beams=np.where(made.draws.participant == 0, np.nan, made.draws.num_beams))
    part, counts = analyse(made.results, draws=draws), Counter[str]()
    for culture, axis, label, count in part.figure(drawn):
        counts[axis] += count if culture == "us" else 0
        assert axis != "region" or label in {f"{culture.upper()}-{place}" for place in range(4)}
    assert counts == {"beams": 19, "sampling": 20, "memory": 20, "region": 20}
    cell = part.figure(configured).cells[0]
    assert {row.name for row in cell.axes} == {"beams", "sampling", "memory", "region"}
    assert cell.extremes[0].num_beams in {"1", "2", "3", "4", "5", "provider default"}
    assert all(sum(level.participants for level in row.axis.levels) <= 20 for row in cell.axes)


def test_draws_per_question_have_no_best_participant() -> None:
    made = planted(wide_survey(12), models=("honest",))
    draws = replace(made.draws, question=np.zeros_like(made.draws.question))
    part = analyse(made.results, draws=draws)
    with pytest.raises(NotRun, match="anew for every question"):
        part.figure(configured)
    assert draw_section(part).paragraphs[0].startswith("Drawn anew for every question.")


def test_a_configuration_that_matters_is_found() -> None:
    made = planted(wide_survey(90), models=("honest", "random"))
    answers, run = made.results.answers, made.results.run
    sampled = {int(p) for p, on in zip(made.draws.participant, made.draws.do_sample, strict=True) if on == 1.0}
    where = {cell.model: place for place, cell in enumerate(run.cells) if cell.culture == "us"}
    honest, random = answers.cell == where["honest"], answers.cell == where["random"]
    mixed = answers.choices.copy()
    swap = np.isin(answers.participant[honest], list(sampled))
    mixed[honest] = np.where(swap, answers.choices[random], answers.choices[honest])
    found = analyse(replace(made.results, answers=replace(answers, choices=mixed)), draws=made.draws).figure(configured)
    cell = next(each for each in found.cells if (each.name, each.culture) == ("honest", "us"))
    p = {row.name: row.axis.p for row in cell.axes}
    assert p["sampling"] <= 0.01
    assert [each.do_sample for each in cell.extremes] == ["off", "on"]


def by_series(**series: str) -> Planted:
    """Planted models as members of series, names with dashes low."""
    made = planted(wide_survey(18), models=tuple(name.replace("_", "-") for name in series))
    facts = {name.replace("_", "-"): {"series": of} for name, of in series.items()}
    return replace(made, results=replace(made.results, model_facts=facts))


def test_a_value_that_is_missing_is_no_unit() -> None:
    made = by_series(alpha_base="A", alpha_instruct="A", beta_base="B", beta_instruct="B").results
    unread = np.flatnonzero(item_table(made.survey, made.run.questions).grouping.dimension == 0)
    gone = (made.answers.cell == 0) & np.isin(made.answers.question, unread)
    found = analyse(refusing(made, gone))
    us, cn = found.figure(series)
    assert us.sound.test.first.n == us.paper.test.first.n == 17
    for units in (us.sound.units, us.paper.units):
        assert units == (
            "A: 17 values of 2 models and 9 dimensions, not independent",
            "B: 18 = 2 models x 9 dimensions, not independent",
        )
    assert cn.sound.units[0] == "A: 18 = 2 models x 9 dimensions, not independent"
    odd = replace(us, paper=replace(us.paper, units=("A: of its own", "B: of its own")))
    told = series_section(replace(found, figures={series: (odd,)}))
    assert told.tables[1].notes == (f"{us.sound.units[0]}; {us.sound.units[1]}.",)
    assert told.tables[2].notes == ("A: of its own; B: of its own.",)


def test_welch_stands_with_its_own_t_and_standard_error() -> None:
    made = by_series(honest="A", random="A", first="A", beta_base="B", beta_instruct="B").results
    found = analyse(made)
    test, table = found.figure(series)[0].sound.test, series_section(found).tables[1]
    heads = [column.text for column in table.columns[1:9]]
    assert heads == ["t", "df", "SED", "p", "Welch t", "Welch df", "Welch SED", "Welch p"]
    printed = dict(zip(heads, (entry.text.replace("−", "-") for entry in table.rows[0].entries), strict=False))
    assert float(printed["t"]) == pytest.approx(test.pooled.t, abs=0.005)
    assert float(printed["Welch t"]) == pytest.approx(test.welch.t, abs=0.005)
    assert float(printed["Welch SED"]) == pytest.approx(test.welch.sed, abs=0.0005)
    assert printed["Welch t"] != printed["t"]
    assert float(printed["Welch p"]) == pytest.approx(
        2 * student.sf(abs(float(printed["Welch t"])), float(printed["Welch df"])), abs=0.01
    )


def test_questions_are_counted_by_topic_and_dimension() -> None:
    found = analyse(results(tiny=without_reference("cn", "Q4")))
    (topic,) = found.figure(landscape)
    assert (topic.topic, topic.questions, topic.by_dimension.tolist()) == ("Life", 4, [1, 1, 1, 2])
    kinds = {row.head.text: row.entries[0].text for row in landscape_section(found).tables[1].rows}
    assert [kinds[f"with a reference for {name}"] for name in ("the United States", "China")] == ["4", "3"]
    assert [count for kind, count in kinds.items() if "type" in kind] == ["1", "1", "1", "1"]


def test_the_question_from_near_is_the_most_varied() -> None:
    made = results([("flat", "us", "def", last), ("varied", "us", "def", uniform)])
    near = analyse(replace(made, samples=(sample("a", cell=1, question="Q2"),))).figure(near_question)
    assert near.name == "varied"
    assert near.counts.sum() == near.replies == 20
    assert near.effective > 2
    assert 1 <= near.distinct <= 5
    assert analyse(results(states=(0, 1, 0, 0))).figure_if_run(near_question) is None


def test_a_single_answer_scores_as_the_formula_says() -> None:
    found = analyse(results([("m", "us", "def", human)]))
    cell, reference = found.cells[0], found.cultures[0].reference
    answers = found.results.answers
    first = int(answers.choices[(answers.participant == 0) & (answers.question == 0)][0])
    alone = np.zeros(found.items.offered.shape[1])
    alone[first.bit_length() - 1] = 1
    expected = smoothed_kl(alone, reference.shares[0], reference.n[0], found.items.offered[0])
    assert cell.participant_kl[0, 0] == pytest.approx(float(expected))
    assert cell.participant_code[0, 0] == first.bit_length()


def test_residual_options_are_left_out_of_scores_not_of_distributions() -> None:
    options = tuple(replace(each, residual=each.code == 4) for each in QUESTIONS[0].options)
    tiny = survey(questions=(replace(QUESTIONS[0], options=options), *QUESTIONS[1:]))
    items = item_table(tiny, ("Q1", "Q2", "Q3", "Q4"))
    assert np.isnan(items.code[0, 3])
    assert items.code[0, :3].tolist() == [1, 2, 3]
    assert (items.offered[0].sum(), items.placed[0].sum()) == (4, 3)
    found = analyse(results([("last", "us", "def", last), ("m", "us", "def", human)], tiny=tiny))
    always, mixed = found.cells
    assert np.isnan(always.participant_code[:, 0]).all()
    assert np.isnan([always.divergences.wasserstein[0], always.floor.wasserstein[0]]).all()
    assert always.divergences.smoothed_kl[0] > 1
    counts, shares = mixed.counts[0, :3], found.cultures[0].reference.shares[0, :3]
    distance = np.abs(np.cumsum(counts / counts.sum() - shares / shares.sum()))[:2].sum() / 2
    assert mixed.divergences.wasserstein[0] == pytest.approx(distance)
    assert np.isfinite(mixed.floor.wasserstein[0])


def test_groups_have_tables_of_their_own() -> None:
    known = survey()
    men = ReferenceDistribution(
        question="Q2", culture="us", group=Group.MALE, shares={1: 0.6, 2: 0.4}, n=900, low_n=True
    )
    told = replace(known, references=(*known.references, men))
    items = item_table(told, ("Q1", "Q2"))
    table = reference_table(told, items, "us", Group.MALE)
    assert np.isnan(table.n[0])
    assert table.shares[1, :3].tolist() == [0.6, 0.4, 0]
    assert table.low_n.tolist() == [False, True]
