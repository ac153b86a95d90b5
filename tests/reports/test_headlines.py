"""What headings claim: of whom they speak, on how many answers, and nothing of a handful or of what chance does."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from defsurvey.reports.analysis import Analysis, CellAnalysis, analyse
from defsurvey.reports.contents import page
from defsurvey.reports.figures.configured import configuration_section
from defsurvey.reports.figures.cultural_map import map_section
from defsurvey.reports.figures.dimensions import furthest, mean_section, spread_section
from defsurvey.reports.figures.frameworks import closest_dimension, model_section
from defsurvey.reports.figures.landscape import near_question
from defsurvey.reports.figures.matching import RankAgreement, matching_section, rank_agreement, rank_section
from defsurvey.reports.figures.profiles import profiles
from defsurvey.reports.figures.projection import cultural_map
from defsurvey.reports.figures.questions import distinguish, placement
from defsurvey.reports.figures.series import series
from defsurvey.reports.figures.shared import apart, excess
from defsurvey.reports.finding import find
from defsurvey.reports.metrics.intervals import Interval
from defsurvey.reports.metrics.judges import PASS, Verdicts
from defsurvey.reports.metrics.quality import wilson
from defsurvey.storage.runs.results import Results
from tests.reports.planted import planted, wide_survey
from tests.reports.synthetic import (
    FAILED,
    answering,
    human,
    last,
    one_question,
    refusing,
    repeated,
    results,
    survey,
    uniform,
)


def title(analysis: Analysis, anchor: str) -> str:
    """The heading of one section."""
    return next(section.title for section in page(analysis).sections if section.anchor == anchor)


def test_who_stands_still_is_counted_with_the_length_it_has() -> None:
    """A model that answers alike in both cultures has no direction: its length does not become another's."""
    cells = [(m, c, "def", r) for m, r in (("still", last), ("good", human)) for c in ("us", "cn")]
    found = analyse(results(cells, participants=300))
    still, good = (each.arrow for each in found.figure(cultural_map).sound.arrows)
    assert (still.length_ratio, np.isnan(still.cosine)) == (0, True)
    assert good.cosine > 0.9
    assert title(found, "figure-7") == (
        "1 of 2 models clearly move between cultures as people do; "
        f"the median model goes {good.length_free / 2:.1f} times as far"
    )
    alone = analyse(results(cells[2:], participants=300))
    assert title(alone, "figure-7") == f"Between cultures good moves as people do, {good.length_free:.1f} times as far"
    assert title(analyse(results(cells[:2])), "figure-7") == "Cultural variation map"


def test_a_model_asked_in_two_languages_is_not_two_models() -> None:
    """Each of its languages has a way of its own, and is called that."""
    made = results([("m", culture, "def", human) for culture in ("us", "cn") for _ in range(2)], participants=300)
    spoken = zip(made.run.cells, ("en", "zh", "zh", "en"), strict=True)
    cells = tuple(replace(cell, language=language) for cell, language in spoken)
    found = analyse(replace(made, run=replace(made.run, cells=cells)))
    said = "2 of 2 pairs of model and language clearly move between cultures as people do"
    assert title(found, "figure-7").startswith(said)


def test_questions_name_no_model_with_few_answers() -> None:
    """Two valid answers to a question are told from nobody: a share of all questions is no finding."""
    made = answering(results([("thin", "us", "def", human), ("m", "us", "def", uniform)]), 0, 2)
    found = analyse(made)
    thin, whole = found.figure(distinguish)
    assert thin.share_alike > whole.share_alike
    assert (thin.comparable, whole.comparable) == (False, True)
    assert title(found, "questions").startswith("m is not told from people on ")
    assert title(found, "questions").endswith("% of 4 questions in the United States")
    alone = analyse(answering(results([("thin", "us", "def", human)]), 0, 2))
    assert title(alone, "questions") == "Question by question"


def test_the_furthest_from_even_is_of_a_culture() -> None:
    """A model leans in one culture: which one is said, by how many items; what holds half leans to nobody."""
    found = analyse(planted(wide_survey(60), models=("men",)).results)
    part = found.figure(profiles)
    most = max(part.sound, key=lambda row: (float(row.mismatching.gender[0]), row.mismatching.gender_items))
    where = {"us": "the United States", "cn": "China"}[most.culture]
    told = f"of whose {most.mismatching.gender_items} mismatching answers in {where} are most typical of men"
    assert f"{told} (95% interval " in title(found, "figure-11")
    sixteen = [
        replace(row, mismatching=replace(row.mismatching, gender=np.array([7 / 16, 9 / 16]), gender_items=16))
        for row in part.sound
    ]
    few = replace(found, figures={profiles: replace(part, sound=tuple(sixteen))})
    assert title(few, "figure-11") == (
        "No lean to a sex is told; furthest from even: men, 56.2% of whose 16 mismatching answers in the United States "
        "are most typical of women (95% interval 33.2% to 76.9%)"
    )


def test_the_commonest_age_is_of_the_cultures_with_items_enough() -> None:
    """A share that holds for one culture names it; another with five items has no part in it."""
    found = analyse(planted(wide_survey(60), models=("men",)).results)
    part = found.figure(profiles)
    made = {"us": (np.array([0.75, 0.15, 0.1]), 16), "cn": (np.array([0.2, 0.4, 0.4]), 5)}
    rows = [
        replace(row, mismatching=replace(row.mismatching, age=made[row.culture][0], age_items=made[row.culture][1]))
        for row in part.sound
    ]
    said = replace(found, figures={profiles: replace(part, sound=tuple(rows))})
    assert title(said, "figure-12") == (
        "Mismatching answers: 75.0% of 16 in the United States are most typical of people up to 29 "
        "(95% interval 50.5% to 89.8%)"
    )


def test_one_question_counts_valid_answers_and_replies_apart() -> None:
    """Texts are of all replies; options are of valid answers alone."""
    found = analyse(results([("m", "us", "def", uniform)], tiny=one_question()))
    part = found.figure(near_question)
    said = replace(found, figures={near_question: replace(part, replies=8, distinct=5)})
    assert title(said, "figure-4").endswith("; its 8 replies have 5 distinct texts")
    assert title(said, "figure-4").startswith("Asked Q1 in the United States, m chose 4 of 4 options")


def test_items_and_answers_stand_behind_the_mean_of_each_dimension() -> None:
    """Table 2 counts them by culture: what was not answered, and what few items speak to, is seen."""
    made = answering(results([("m", "us", "def", human), ("m", "cn", "def", human)]), 1, 3)
    (section,) = [section for section in page(analyse(made)).sections if section.anchor == "table-2"]
    (table,) = [table for table in section.tables if table.anchor == "table-2-behind"]
    entries = {row.group: [(entry.text, entry.beneath) for entry in row.entries] for row in table.rows}
    assert entries["United States"] == [("1", "20"), ("1", "20"), ("1", "20"), ("2", "40")]
    assert entries["China"] == [("1", "3"), ("1", "3"), ("1", "3"), ("2", "6")]


def test_no_axis_was_tested_is_not_no_effect() -> None:
    """Where everyone drew the same, no axis has a test, and the heading claims nothing."""
    made = planted(wide_survey(18), models=("honest",))
    same = {
        name: np.full_like(getattr(made.draws, name), value)
        for name, value in (("num_beams", 1), ("do_sample", 0), ("memory_capacity", 3), ("region", 0))
    }
    found = analyse(made.results, draws=replace(made.draws, **same))
    assert title(found, "appendix-f") == "Best and worst configurations"
    told = configuration_section(analyse(made.results, draws=made.draws))
    assert re.match(
        r"(\d+|None) of the \d+ axes that could be tested goes? with the divergence beyond chance", told.title
    )


def test_few_participants_tell_no_axis() -> None:
    """Of four participants no p is below 1/3: neither an effect nor none is claimed, and a note says why."""
    made = planted(wide_survey(18), models=("honest",), participants=4)
    section = configuration_section(analyse(made.results, draws=made.draws))
    assert section.title == "Best and worst configurations"
    assert section.paragraphs[0].startswith("An axis is tested for each model and culture by itself. Not testable, ")
    assert "region (the United States and China)" in section.paragraphs[0]


@pytest.mark.parametrize(
    ("p", "said"),
    [
        ((np.nan, np.nan, np.nan), "Does the order shown move the answer?"),
        ((0.8, np.nan, 0.9), "In none of 2 cells tested does the order of options move answers beyond chance"),
        ((0.01, np.nan, 0.9), "The order of options moves the answers of a"),
        ((0.01, 0.01, 0.01), "The order of options moves the answers of 3 of 3 cells"),
    ],
)
def test_order_is_said_to_move_whom_it_was_tested_on(p: tuple[float, ...], said: str) -> None:
    """No test is no effect found nor missed; cells are counted as what they are."""
    found = analyse(planted(wide_survey(18), models=("honest",)).results)
    row = found.figure(placement)[0]
    cells = [replace(row.cell, name=name) for name in "abc"]
    rows = tuple(replace(row, cell=cell, p_holm=each) for cell, each in zip(cells, p, strict=True))
    assert title(replace(found, figures={placement: rows}), "position") == said


@pytest.mark.parametrize("p", [0.01, 0.9])
def test_few_answers_say_nothing_of_the_order(p: float) -> None:
    """Six answers of which two thirds would have moved are no model that order does not move, nor one that it does."""
    found = analyse(planted(wide_survey(18), models=("honest",)).results)
    row = found.figure(placement)[0]
    few = replace(row, p_holm=p, bias=replace(row.bias, answers=6))
    small = replace(found, figures={placement: (few,)})
    assert title(small, "position") == "Does the order shown move the answer?"


def test_series_that_were_not_compared_are_not_alike() -> None:
    """With too few answers in common there is nothing to tell apart by."""
    made = planted(wide_survey(18), models=("alpha-base", "alpha-instruct", "beta-base", "beta-instruct")).results
    found = analyse(made)
    none = tuple(replace(test, by_question=None) for test in found.figure(series))
    said = title(replace(found, figures={series: none}), "table-3")
    assert said == "Series of models against each other"


def test_failed_answers_are_no_wording() -> None:
    """The question from near counts replies: an answer that failed has none, and no digest of its own."""
    made = results([("m", "us", "def", uniform)], states=(0.6, 0, 0, 0.4))
    answers = made.answers
    failed = answers.state == FAILED
    found = analyse(replace(made, answers=replace(answers, digest=np.where(failed, 99, answers.digest))))
    near = found.figure(near_question)
    asked = answers.question == made.run.questions.index(near.question)
    assert (asked & failed).any()
    assert near.replies == (asked & ~failed).sum()
    assert near.distinct == len(np.unique(answers.digest[asked & ~failed]))


def passed(made: Results, judge: str) -> Verdicts:
    """A judge that found nothing wrong with the first answers, by two dimensions."""
    return Verdicts(
        judge=judge,
        cell=np.zeros(60, dtype=np.int32),
        answer=np.tile(np.arange(30), 2),
        dimension=np.repeat([0, 1], 30).astype(np.int8),
        verdict=np.full(60, PASS, dtype=np.int8),
        weight=np.ones(60),
    )


def test_where_nothing_fails_nothing_is_worst() -> None:
    """A rate of 0 names no dimension, and thirty answers are a sample; of several judges one who says it is named."""
    made, reaches = results(), f"its 95% interval reaches {100 * wilson(0, 30).high:.1f}%"
    verdicts = [passed(made, "mild 1"), passed(made, "mild 2")]
    assert title(analyse(made, verdicts=verdicts[:1]), "figure-9") == f"No judged answer fails; {reaches}"
    assert title(analyse(made, verdicts=verdicts), "figure-9") == f"Judged by mild 1, no judged answer fails; {reaches}"


def test_ranks_follow_the_order_of_closeness() -> None:
    """Models are ordered as they are ranked, at equal n; who is not ranked has no place here either."""
    cells = [("a", "us", "def", human), ("b", "us", "def", uniform), ("full", "us", "def", last)]
    made = answering(results([*cells, ("thin", "us", "def", last)]), 3, 10)
    found = analyse(made)
    order = tuple(name for name, _ in found.cultures[0].ranking.order)
    own = {cell.name: cell.sound.headline for cell in found.cells}
    assert order.index("full") < order.index("thin")
    assert own["thin"] < own["full"]
    ranks = found.figure(rank_agreement)
    assert ranks[0].models == order
    assert ranks[0].divergence_rank[-2] <= ranks[0].divergence_rank[-1]
    three = analyse(answering(results([*cells[1:], ("thin", "us", "def", last)]), 2, 5))
    assert three.figure_if_run(rank_agreement) is None


NEUTRAL = {
    "table-2": "By value dimension",
    "figure-5": "Mean divergence by dimension",
    "figure-6": "Spread of the divergence within a dimension",
    "figure-8": "Commonest answers that match people's",
}
WIDE = wide_survey(60)


def titles(analysis: Analysis) -> dict[str, str]:
    """Anchor -> heading."""
    makers = (model_section, mean_section, spread_section, matching_section, rank_section)
    return {section.anchor: section.title for section in (make(analysis) for make in makers)}


@pytest.mark.parametrize("participants", [2, 5, 9])
def test_fewer_than_ten_answers_to_a_question_place_nobody(participants: int) -> None:
    """Uniform answers are not called anything else by luck, nor people's, in any of twenty runs."""
    made = [
        results([("m", "us", "def", respondent)], participants=participants, tiny=tiny, seed=seed)
        for seed in range(5)
        for respondent in (uniform, human)
        for tiny in (one_question(), None)
    ]
    said = {find(analyse(each)).headline for each in made}
    assert said == {"m gave too few answers to tell it from people of the United States, or from uniform answers"}


def test_a_hundred_answers_are_enough_for_a_verdict_however_few_there_are_to_each_question() -> None:
    """Eight participants and sixteen questions: what is far from people is said to be."""
    said = find(analyse(results([("m", "us", "def", last)], participants=8, tiny=repeated(4)))).headline
    assert said == "m is further from people of the United States than uniform answers are"


@pytest.mark.parametrize(
    "made",
    [
        results(participants=40),
        results(participants=3, tiny=one_question()),
        results([(m, c, "def", r) for m, r in (("a", human), ("b", last)) for c in ("us", "cn")]),
        planted(WIDE, models=("beta-base",), participants=9).results,
    ],
    ids=["few items", "one item", "few items of two models", "few answers"],
)
def test_few_items_or_answers_name_no_dimension_and_no_share(made: Results) -> None:
    """Four questions, or nine answers to each of sixty: figures, and no finding."""
    found = titles(analyse(made))
    assert {anchor: found[anchor] for anchor in NEUTRAL} == NEUTRAL


def test_enough_of_both_is_a_finding() -> None:
    """With six questions of each dimension and twenty answers to each, the headings say what was found."""
    found = titles(analyse(planted(WIDE, models=("beta-base",)).results))
    assert found["table-2"].startswith("Closest on ")
    assert found["figure-6"].startswith("Items differ most within ")
    assert found["figure-8"].startswith("The commonest answer is people's on ")


@pytest.mark.parametrize("participants", [1, 9])
def test_few_answers_go_no_way_on_the_map(participants: int) -> None:
    """One participant may lie anywhere: the heading is neutral, and others' ways are told without it."""
    cells = [(m, c, "def", human) for m in "ab" for c in ("us", "cn")]
    made = results(cells, tiny=repeated(4))
    few = answering(answering(made, 0, participants), 1, participants)
    assert map_section(analyse(answering(answering(few, 2, participants), 3, participants))).title == (
        "Cultural variation map"
    )
    assert map_section(analyse(few)).title.startswith("Between cultures b moves as people do")


def test_nobody_is_the_best_of_a_few_answers() -> None:
    """A participant with one answer of eighteen is no best or worst; where nobody has more, the row says why."""
    made = planted(wide_survey(18), models=("honest",))
    of = made.results.answers
    one = refusing(made.results, (of.participant == 0) & (of.question > 0))
    for given, picked in ((one, 2), (refusing(made.results, of.participant != of.question), 1)):
        found = analyse(given, draws=made.draws)
        rows = [row for row in configuration_section(found).tables[0].rows if row.group == "United States"]
        assert len(rows) == picked
        assert "0" not in {row.entries[0].text for row in rows}
    assert {entry.why for entry in rows[0].entries} == {"no participant has answered half of the questions"}


def test_a_model_of_one_culture_makes_no_culture_further() -> None:
    """Only models that answered for both cultures say which lies further: the others would bring their own distance."""
    cells = [("a", "us", "def", human), ("a", "cn", "def", human), ("b", "cn", "def", last)]
    both = analyse(results([*cells, ("b", "us", "def", human)], tiny=repeated(4)))
    assert titles(both)["figure-5"] == "Furthest from people of China on 4 of 4 dimensions"
    alone = analyse(results(cells, tiny=repeated(4)))
    paired = analyse(results(cells[:2], tiny=repeated(4)))
    assert titles(alone)["figure-5"] == titles(paired)["figure-5"]


def agreement(culture: str, rho: float, p: float, models: int = 6) -> RankAgreement:
    """So many models with that correlation of their ranks."""
    ranks = tuple(float(place) for place in range(1, models + 1))
    names = tuple(f"m{place}" for place in range(models))
    return RankAgreement(culture=culture, models=names, divergence_rank=ranks, matching_rank=ranks, rho=rho, p=p)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ([agreement("us", 0.94, 0.01)], "Rank by matching follows rank by divergence in the United States (0.94)"),
        (
            [agreement("us", -0.94, 0.01), agreement("cn", 0.2, 0.7)],
            "Rank by matching runs against rank by divergence in the United States (−0.94)",
        ),
        (
            [agreement("us", 0.94, 0.01), agreement("cn", -0.9, 0.02)],
            (
                "Rank by matching follows rank by divergence in the United States (0.94), "
                "and runs against rank by divergence in China (−0.90)"
            ),
        ),
        (
            [agreement("us", 0.94, 0.03), agreement("cn", 0.2, 0.7)],
            "Rank by matching follows rank by divergence no more than chance would",
        ),
        (
            [agreement("us", 0.94, 0.03), agreement("cn", 1.0, 0.03, models=4)],
            "Rank by matching follows rank by divergence in the United States (0.94)",
        ),
        ([agreement("us", 0.6, 0.2)], "Rank by matching follows rank by divergence no more than chance would"),
        ([agreement("us", 0.87, 0.661, models=3)], "Rank by matching against rank by divergence"),
        ([agreement("us", np.nan, np.nan)], "Rank by matching against rank by divergence"),
    ],
)
def test_ranks_follow_only_where_they_are_told_to(part: list[RankAgreement], said: str) -> None:
    """Sign and p decide; three models in any order, or all of one rank, say nothing."""
    found = analyse(results())
    assert titles(replace(found, figures={rank_agreement: tuple(part)}))["ranks"] == said


@pytest.fixture(scope="module")
def known() -> Analysis:
    """Nine dimensions with six items each, in two cultures."""
    return analyse(planted(wide_survey(54), models=("honest",)).results)


def made_up(known: Analysis, values: np.ndarray, error: float, culture: int = 0) -> CellAnalysis:
    """A cell with that excess on each dimension, and intervals of that standard error."""
    cell = known.cells[culture]
    between = tuple(Interval(low=v - 1.96 * error, high=v + 1.96 * error) for v in values)
    return replace(
        cell,
        sound=replace(cell.sound, by_dimension=values),
        sound_floor=replace(cell.sound_floor, by_dimension=np.zeros(len(values))),
        intervals=replace(cell.intervals, by_dimension=between),
    )


def test_the_ends_of_nine_that_are_alike_are_seldom_told_apart(known: Analysis) -> None:
    """Nine dimensions, two cultures, no difference: told apart in under 5 of 100; overlap alone would pass 12."""
    rng = np.random.default_rng(1)
    ends, cultures = 0, 0
    for _ in range(1_000):
        us, cn = rng.normal(0, 0.1, (2, 9))
        ends += apart(float(np.ptp(us)), (0.1, 0.1), 36)
        cultures += furthest(known, [[made_up(known, us, 0.1)], [made_up(known, cn, 0.1, 1)]]) is not None
    assert ends < 50
    assert cultures < 50


def test_a_mean_of_several_cells_is_known_better(known: Analysis) -> None:
    """Four cells halve the standard error; a cell without an interval leaves none."""
    cells = [made_up(known, np.array([0.0, 1.0]), 0.2) for _ in range(4)]
    means, errors = excess(cells)
    assert means.tolist() == [0.0, 1.0]
    assert errors == pytest.approx([0.1, 0.1], rel=1e-3)
    assert np.isnan(excess([*cells, made_up(known, np.array([0.0, 1.0]), np.nan)])[1]).all()


def test_only_dimensions_that_tell_cultures_apart_are_counted(known: Analysis) -> None:
    """Further on all nine, and told apart on two of them."""
    us, cn = np.zeros(9), np.full(9, 0.1)
    cn[:2] = 2.0
    assert furthest(known, [[made_up(known, us, 0.1)], [made_up(known, cn, 0.1, 1)]]) == (1, 2, 9)
    assert furthest(known, [[made_up(known, us, 0.1)], [made_up(known, us, 0.1, 1)]]) is None


def headings(analysis: Analysis) -> tuple[str, str]:
    """Those of Table 2 and Figure 5."""
    return closest_dimension(analysis), mean_section(analysis).title


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_models_that_answer_as_people_do_have_no_extremes(seed: int) -> None:
    """Whatever lies furthest does so by chance, and no heading names it."""
    found = analyse(planted(wide_survey(60), models=("honest",), seed=seed).results)
    assert headings(found) == ("", "Mean divergence by dimension")


def test_a_culture_without_references_is_not_called_unanswered() -> None:
    """Every answer is valid; it is people's that are not known."""
    made = results([(name, "us", "def", human) for name in "ab"], tiny=survey(shares={"us": {}}))
    cautions = find(analyse(made)).cautions
    assert "No ranking for the United States: no question has a reference." in cautions
