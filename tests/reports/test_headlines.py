"""What headings claim: of whom they speak, on how many answers, and nothing of a handful or of what chance does."""

import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from defsurvey.reports.analysis import Analysis, CellAnalysis, analyse
from defsurvey.reports.contents import page
from defsurvey.reports.figures.configured import configuration_section
from defsurvey.reports.figures.cultural_map import map_section
from defsurvey.reports.figures.dimensions import furthest, mean_section, spread_section
from defsurvey.reports.figures.frameworks import model_section
from defsurvey.reports.figures.landscape import near_question
from defsurvey.reports.figures.matching import RankAgreement, matching_section, rank_agreement, rank_section
from defsurvey.reports.figures.profiles import profiles
from defsurvey.reports.figures.projection import cultural_map
from defsurvey.reports.figures.questions import distinguish, placement
from defsurvey.reports.figures.series import series, training
from defsurvey.reports.figures.shared import apart, excess
from defsurvey.reports.finding import find
from defsurvey.reports.measures import measure_rows
from defsurvey.reports.metrics.intervals import Interval
from defsurvey.reports.metrics.judges import PASS, Verdicts
from defsurvey.reports.metrics.quality import wilson
from defsurvey.storage.runs.results import Results
from defsurvey.storage.surveys.survey import Question, Survey
from tests.reports.planted import planted, wide_survey
from tests.reports.synthetic import (
    FAILED,
    QUESTIONS,
    SHARES,
    Respondent,
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
    return next(section.title for section in page(analysis).sections if section.anchor == anchor)


def test_who_stands_still_is_counted_with_the_length_it_has() -> None:
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


def test_questions_name_no_model_with_few_answers() -> None:
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


def test_items_and_answers_stand_behind_the_mean_of_each_dimension() -> None:
    made = answering(results([("m", "us", "def", human), ("m", "cn", "def", human)]), 1, 3)
    (section,) = [section for section in page(analyse(made)).sections if section.anchor == "table-2"]
    (table,) = [table for table in section.tables if table.anchor == "table-2-behind"]
    entries = {row.group: [(entry.text, entry.beneath) for entry in row.entries] for row in table.rows}
    assert entries["United States"] == [("1", "20"), ("1", "20"), ("1", "20"), ("2", "40")]
    assert entries["China"] == [("1", "3"), ("1", "3"), ("1", "3"), ("2", "6")]


def test_axes_that_could_not_be_tested_are_not_without_effect() -> None:
    made, few = (planted(wide_survey(18), models=("honest",), participants=participants) for participants in (20, 4))
    told = configuration_section(analyse(made.results, draws=made.draws)).title
    assert re.match(r"(\d+|None) of the \d+ axes that could be tested goes? with the divergence beyond chance", told)
    section = configuration_section(analyse(few.results, draws=few.draws))
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
    found = analyse(planted(wide_survey(18), models=("honest",)).results)
    row = found.figure(placement)[0]
    cells = [replace(row.cell, name=name) for name in "abc"]
    rows = tuple(replace(row, cell=cell, p_holm=each) for cell, each in zip(cells, p, strict=True))
    assert title(replace(found, figures={placement: rows}), "position") == said


def test_failed_answers_are_no_wording() -> None:
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
    made, reaches = results(), f"its 95% interval reaches {100 * wilson(0, 30).high:.1f}%"
    verdicts = [passed(made, "mild 1"), passed(made, "mild 2")]
    assert title(analyse(made, verdicts=verdicts[:1]), "figure-9") == f"No judged answer fails; {reaches}"
    assert title(analyse(made, verdicts=verdicts), "figure-9") == f"Judged by mild 1, no judged answer fails; {reaches}"


def test_ranks_follow_the_order_of_closeness() -> None:
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
    makers = (model_section, mean_section, spread_section, matching_section)
    return {section.anchor: section.title for section in (make(analysis) for make in makers)}


@pytest.mark.parametrize("participants", [2, 5, 9])
def test_fewer_than_ten_answers_to_a_question_place_nobody(participants: int) -> None:
    made = [
        results([("m", "us", "def", respondent)], participants=participants, tiny=tiny, seed=seed)
        for seed in range(5)
        for respondent in (uniform, human)
        for tiny in (one_question(), None)
    ]
    said = {find(analyse(each)).headline for each in made}
    assert said == {"m gave too few answers to tell it from people of the United States, or from uniform answers"}


@pytest.mark.parametrize(
    "made",
    [results(participants=40), planted(WIDE, models=("beta-base",), participants=9).results],
    ids=["few items", "few answers"],
)
def test_few_items_or_answers_name_no_dimension_and_no_share(made: Results) -> None:
    assert titles(analyse(made)) == NEUTRAL


def test_enough_of_both_is_a_finding() -> None:
    found = titles(analyse(planted(WIDE, models=("beta-base",)).results))
    assert found["table-2"].startswith("Closest on ")
    assert found["figure-6"].startswith("Items differ most within ")
    assert found["figure-8"].startswith("The commonest answer is people's on ")


@pytest.mark.parametrize("participants", [1, 9])
def test_few_answers_go_no_way_on_the_map(participants: int) -> None:
    made = results([(m, c, "def", human) for m in "ab" for c in ("us", "cn")], tiny=repeated(4))
    few = answering(answering(made, 0, participants), 1, participants)
    assert map_section(analyse(few)).title.startswith("Between cultures b moves as people do")
    none = answering(answering(few, 2, participants), 3, participants)
    assert map_section(analyse(none)).title == "Cultural variation map"


def test_nobody_is_the_best_of_a_few_answers() -> None:
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
    cells = [("a", "us", "def", human), ("a", "cn", "def", human), ("b", "cn", "def", last), ("b", "us", "def", human)]
    both, alone, pair = (mean_section(analyse(results(cells[:n], tiny=repeated(4)))).title for n in (4, 3, 2))
    assert both == "Furthest from people of China on 4 of 4 dimensions"
    assert alone == pair


def agreement(culture: str, rho: float, p: float, models: int = 6) -> RankAgreement:
    """So many models with that correlation of their ranks."""
    ranks = tuple(float(place) for place in range(1, models + 1))
    names = tuple(f"m{place}" for place in range(models))
    return RankAgreement(culture=culture, models=names, divergence_rank=ranks, matching_rank=ranks, rho=rho, p=p)


FOLLOWS, AGAINST = "Rank by matching follows rank by divergence", "Rank by matching against rank by divergence"


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ([agreement("us", 0.94, 0.01)], f"{FOLLOWS} in the United States (0.94)"),
        (
            [agreement("us", 0.94, 0.01), agreement("cn", -0.9, 0.02)],
            f"{FOLLOWS} in the United States (0.94), and runs against rank by divergence in China (−0.90)",
        ),
        ([agreement("us", 0.94, 0.03), agreement("cn", 0.2, 0.7)], f"{FOLLOWS} no more than chance would"),
        ([agreement("us", 0.94, 0.03), agreement("cn", 1.0, 0.03, models=4)], f"{FOLLOWS} in the United States (0.94)"),
        ([agreement("us", 0.87, 0.661, models=3)], AGAINST),
        ([agreement("us", np.nan, np.nan)], AGAINST),
    ],
)
def test_ranks_follow_only_where_they_are_told_to(part: list[RankAgreement], said: str) -> None:
    assert rank_section(replace(analyse(results()), figures={rank_agreement: tuple(part)})).title == said


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
    rng = np.random.default_rng(1)
    ends, cultures = 0, 0
    for _ in range(1_000):
        us, cn = rng.normal(0, 0.1, (2, 9))
        ends += apart(float(np.ptp(us)), (0.1, 0.1), 36)
        cultures += furthest(known, [[made_up(known, us, 0.1)], [made_up(known, cn, 0.1, 1)]]) is not None
    assert ends < 50
    assert cultures < 50


def test_a_mean_of_several_cells_is_known_better(known: Analysis) -> None:
    cells = [made_up(known, np.array([0.0, 1.0]), 0.2) for _ in range(4)]
    means, errors = excess(cells)
    assert means.tolist() == [0.0, 1.0]
    assert errors == pytest.approx([0.1, 0.1], rel=1e-3)
    assert np.isnan(excess([*cells, made_up(known, np.array([0.0, 1.0]), np.nan)])[1]).all()


def test_only_dimensions_that_tell_cultures_apart_are_counted(known: Analysis) -> None:
    us, cn = np.zeros(9), np.full(9, 0.1)
    cn[:2] = 2.0
    assert furthest(known, [[made_up(known, us, 0.1)], [made_up(known, cn, 0.1, 1)]]) == (1, 2, 9)
    assert furthest(known, [[made_up(known, us, 0.1)], [made_up(known, us, 0.1, 1)]]) is None


# Which items the headline is of: fixed for a run, so that no model's refusals change how others are measured.


PLAIN = 40


def mixed(spoken: int, plain: int = PLAIN) -> Survey:
    """So many questions of one value dimension, and so many of none."""
    named = [(QUESTIONS[0], f"Q1-{n}") for n in range(spoken)]
    named += [(replace(QUESTIONS[1], value=None), f"Q2-{n}") for n in range(plain)]
    return survey(
        questions=tuple(replace(question, id=name) for question, name in named),
        shares={culture: {name: known[question.id] for question, name in named} for culture, known in SHARES.items()},
    )


def mix(*respondents: tuple[str, Respondent], spoken: int = 3, plain: int = PLAIN) -> Results:
    """Models of one culture that answer such a survey."""
    return results([(name, "us", "def", how) for name, how in respondents], tiny=mixed(spoken, plain))


def without(given: Results, cell: int, *, first: int = 0) -> Results:
    """The run where a cell refuses all questions of the dimension, but for its first participants."""
    of = given.answers
    asked = np.array([question.value is not None for question in given.survey.questions])
    return refusing(given, (of.cell == cell) & asked[of.question] & (of.participant >= first))


def test_a_model_that_answers_no_question_of_a_dimension_changes_nobodys_measure() -> None:
    three = analyse(without(mix(("h", human), ("l", last), ("u", uniform)), 2))
    two = analyse(mix(("h", human), ("l", last)))
    found, expected = three.cultures[0].ranking, two.cultures[0].ranking
    assert np.isnan(three.cells[2].sound.headline)
    assert found.order == expected.order
    assert (found.people, found.random, found.questions) == (expected.people, expected.random, expected.questions)
    assert found.unranked == (("u", 0.0),)


def test_answers_to_other_questions_make_no_verdict() -> None:
    def far(question: Question, culture: str, people: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return (last if question.id.startswith("Q1") else human)(question, culture, people, rng)

    found = analyse(without(mix(("m", far), spoken=12), 0, first=2))
    assert not found.cells[0].comparable
    assert find(found).headline.startswith("m gave too few answers to tell it from people of the United States")


def test_series_are_compared_on_the_questions_behind_the_figure() -> None:
    run = mix(("a", human), ("b", human), ("c", last), ("d", last))
    facts = {model: {"series": "near" if model in "ab" else "far"} for model in "abcd"}
    part = series(analyse(replace(run, model_facts=facts)))
    (contrast,) = (test.by_question for test in part)
    assert contrast is not None
    assert (contrast.questions, contrast.p) == (3, 0.25)


def test_questions_of_no_dimension_widen_no_interval() -> None:
    alone, beside = (analyse(mix(("h", human), spoken=12, plain=plain)).cells[0] for plain in (0, PLAIN))
    for one, other in zip(*((each.interval, each.intervals.two_way) for each in (alone, beside)), strict=True):
        assert (one.low, one.high) == pytest.approx((other.low, other.high))


def rarest_unknown(given: Results) -> Results:
    """The run where no person gave the last option of any question that speaks to no dimension."""
    known = []
    for reference in given.survey.references:
        shares = dict(reference.shares)
        if given.survey.question(reference.question).value is None:
            shares[max(shares)] = 0.0
        known.append(replace(reference, shares={code: share / sum(shares.values()) for code, share in shares.items()}))
    return replace(given, survey=replace(given.survey, references=tuple(known)))


def picky(question: Question, culture: str, people: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Gives the last option wherever the question speaks to no dimension."""
    return (human if question.value is not None else last)(question, culture, people, rng)


def test_infinite_values_are_counted_where_the_headline_is_of() -> None:
    run = rarest_unknown(mix(("m", picky), spoken=12))
    found = analyse(replace(run, model_facts={"m": {"stage": "chat"}}))
    (cell,) = found.cells
    assert np.isinf(cell.divergences.plug_in_kl).sum() == PLAIN
    assert cell.paper_values.infinite_share == 0.0
    plug_in = model_section(found).tables[1]
    assert plug_in.rows[0].entries[-1].text == "0%"
    assert [stage.infinite for stage in found.figure(training).stages] == [0.0]
    assert [row["value"] for row in measure_rows(found) if row["metric"] == "infinite_share"] == [0.0]
    (fold,) = (fold for fold in mean_section(found).folds if fold.anchor == "figure-5-paper")
    assert fold.tables[0].rows[0].entries[-1].text == "0%"


def test_a_culture_without_a_reference_for_any_dimension_has_no_order() -> None:
    run = mix(("h", human), ("l", last))
    kept = tuple(r for r in run.survey.references if not r.question.startswith("Q1"))
    found = analyse(replace(run, survey=replace(run.survey, references=kept)))
    assert found.cultures[0].ranking.reason == "no question of a value dimension has a reference"
