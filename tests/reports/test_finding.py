"""The finding claims what the figures bear, and no more; figures are measured both ways."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import entropy

from defsurvey.reports.analysis import analyse, cell_names, mode_shares
from defsurvey.reports.cells import Compared, contrasts, item_table, reference_table, uniform_shares
from defsurvey.reports.figures.questions import distinguish, question_cards
from defsurvey.reports.finding import find
from defsurvey.reports.metrics.aggregate import Grouping
from defsurvey.storage.runs.results import Results
from defsurvey.storage.surveys.survey import Question, QuestionType, Survey
from tests.reports.planted import planted, wide_survey, without
from tests.reports.synthetic import (
    SHARES,
    human,
    last,
    one_question,
    repeated,
    results,
    survey,
    uniform,
    without_reference,
)

US_ONLY = [("m", "us", "def", human)]


def headline(made: Results) -> str:
    return find(analyse(made)).headline


def sharp(question: Question, culture: str, people: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """As people, but each answer by the square of its share: the commonest ones more often still."""
    shares = np.array(SHARES[culture][question.id.partition("-")[0]])
    if question.type is QuestionType.MULTIPLE:
        picked = rng.random((people, len(shares))) < shares**2 / (shares**2 + (1 - shares) ** 2)
        return np.asarray((picked * (1 << np.arange(len(shares)))).sum(axis=1), dtype=np.int64)
    return (1 << rng.choice(len(shares), size=people, p=shares**2 / (shares**2).sum())).astype(np.int64)


def test_answers_more_alike_than_peoples_can_be_told_from_them() -> None:
    made = results([("m", "us", "def", sharp)], participants=2, tiny=repeated(40))
    cell = analyse(made).cells[0]
    assert cell.interval.high < cell.sound_floor.headline
    assert headline(made) == "m answers more alike than people of the United States do"
    two = [("a", "us", "def", sharp), ("b", "us", "def", human)]
    both = find(analyse(results(two, tiny=repeated(40), participants=2)))
    assert any(caution.startswith("a, United States: answers more alike than") for caution in both.cautions)
    assert not any("b, United States" in caution for caution in both.cautions)


def americans(question: Question, culture: str, people: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return human(question, "us", people, rng)


US = "people of the United States"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (results(participants=40), f"human cannot be told from {US} and China"),
        (results([("m", "us", "def", last)]), f"m is further from {US} than uniform answers are"),
        (
            results([("m", "us", "def", uniform)], tiny=one_question(), participants=200),
            f"m is about as far from {US} as uniform answers are",
        ),
        (
            results([("m", "cn", "def", americans)], participants=200),
            "m comes closer to people of China than uniform answers do, but not as close as people themselves",
        ),
        (
            results([("m", "us", "def", uniform)], participants=3),
            f"m gave too few answers to tell it from {US}, or from uniform answers",
        ),
        (results(US_ONLY, participants=1), f"m has too few participants to be compared with {US}"),
    ],
    ids=["people", "caricature", "uniform", "closer", "few answers", "one participant"],
)
def test_one_model_stands_between_people_and_uniform_answers(made: Results, said: str) -> None:
    assert headline(made) == said


def two_models(participants: int = 20) -> Results:
    return planted(wide_survey(60), models=("honest", "beta-base"), participants=participants).results


def test_several_models_are_compared_by_culture() -> None:
    found = find(analyse(two_models()))
    assert found.headline == "honest comes closest to people of the United States and China"
    assert "; they differ (p < 0.001)" in found.sentences[0]
    assert "all brought down to 10 answers each" in found.sentences[0]


def test_different_winners_are_both_named() -> None:
    made = two_models()
    other = {"honest": "beta-base", "beta-base": "honest"}
    cells = tuple(replace(cell, model=other[cell.model]) if cell.culture == "cn" else cell for cell in made.run.cells)
    said = headline(replace(made, run=replace(made.run, cells=cells)))
    assert said == "honest comes closest to people of the United States, beta-base to people of China"


def test_a_tie_is_said() -> None:
    pair = find(analyse(results([("a", "us", "def", human), ("b", "us", "def", human)])))
    assert pair.headline == "No model is told from another as closest to people of the United States"
    assert "; the difference may be chance (p = " in pair.sentences[0]
    conditions = headline(results([("m", "us", "def", human), ("m", "us", "none", human)]))
    assert conditions == "No condition or language is told from another as closest to people of the United States"
    three = find(analyse(results([(name, "us", "def", human) for name in "abc"])))
    assert "adjusted for 3 pairs" in three.sentences[0]


def test_only_the_culture_with_a_winner_is_said_to_have_one() -> None:
    cells = [("a", "us", "def", human), ("b", "us", "def", last), ("a", "cn", "def", human), ("b", "cn", "def", human)]
    said = headline(results(cells, tiny=repeated(40)))
    assert said == "a comes closest to people of the United States, no model is told from another for people of China"


def test_cells_that_are_not_ranked_are_named() -> None:
    made = without(planted(wide_survey(30), models=("honest", "beta-base", "random"), refuses=()), "random").results
    assert "Not ranked for China, too few valid answers: random." in find(analyse(made)).cautions


def test_models_too_thin_to_rank_are_not_ranked() -> None:
    found = find(analyse(results([("a", "us", "def", human), ("b", "us", "def", last)], participants=6)))
    assert found.headline == "The answers are too few to say who comes closest"
    assert any("No ranking for the United States" in caution for caution in found.cautions)


def test_low_validity_is_in_the_headline() -> None:
    found = find(analyse(results(US_ONLY, states=(0.5, 0.3, 0.1, 0.1), participants=50)))
    assert ", judging by the" in found.headline
    assert any("m, United States:" in caution for caution in found.cautions)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (results(done=0), "Nothing has been answered yet"),
        (results(states=(0, 1, 0, 0)), "Nothing can be compared: none of 160 answers is valid"),
        (results(US_ONLY, tiny=survey(shares={"us": {}})), "no valid answer meets a reference distribution"),
    ],
    ids=["nothing", "none valid", "no reference"],
)
def test_nothing_to_say_is_said(made: Results, said: str) -> None:
    assert said in headline(made)


def test_unfinished_and_cancelled_runs_are_named() -> None:
    made = results(done=0.5)
    assert any("is unfinished: 80 of 160" in caution for caution in find(analyse(made)).cautions)
    stopped = replace(made, run=replace(made.run, cancelled=True))
    assert any("was cancelled" in caution for caution in find(analyse(stopped)).cautions)


def test_missing_and_thin_references_are_named() -> None:
    found = find(analyse(results(tiny=without_reference("us", "Q1"))))
    assert "1 of 4 questions have no reference for the United States." in found.cautions
    known = survey()
    thin = replace(known, references=tuple(replace(r, low_n=True) for r in known.references))
    assert any("too few people" in caution for caution in find(analyse(results(tiny=thin))).cautions)


def test_as_many_answers_as_people_are_cautioned() -> None:
    known = survey()
    few = replace(known, references=tuple(replace(r, n=150) if r.question == "Q2" else r for r in known.references))
    said = "On 1 question a model gave more answers than a tenth of the people asked in the United States."
    told = [
        find(analyse(results(tiny=tiny, participants=n))).cautions for tiny, n in ((few, 20), (few, 15), (known, 20))
    ]
    assert [any(caution.startswith(said) for caution in cautions) for cautions in told] == [True, False, False]


# From results to one Analysis: counts, both ways of measuring, and honesty where there is little.

ALL = ("Q1", "Q2", "Q3", "Q4")


def test_a_cell_is_measured_both_ways() -> None:
    """Always the last option: infinite by plug-in in China, where nobody chose it; finite when smoothed."""
    found = analyse(results([("last", "us", "def", last), ("last", "cn", "def", last)]))
    us, cn = found.cells
    assert us.divergences.plug_in_kl[0] == pytest.approx(entropy([0, 0, 0, 1], SHARES["us"]["Q1"]))
    assert np.isinf(cn.divergences.plug_in_kl[0])
    finite = cn.divergences.plug_in_kl[np.isfinite(cn.divergences.plug_in_kl)]
    assert cn.paper_values.values[0] == pytest.approx(finite.max() + 1)
    assert cn.paper_values.infinite_share == pytest.approx(1 / 5)  # an option of Q4 speaks to no dimension
    assert np.isfinite(cn.sound.headline)


def test_dimension_means_follow_the_options() -> None:
    """TDI is the mean of Q1 and of Q4's first option, IDV that of Q4's second alone."""
    cell = analyse(results()).cells[0]
    values = cell.divergences.smoothed_kl
    assert cell.sound.by_dimension.tolist() == pytest.approx(
        [values[1], values[4], values[2], (values[0] + values[3]) / 2]
    )
    assert cell.sound.macro == pytest.approx(cell.sound.by_dimension.mean())
    assert cell.sound.question_mean == pytest.approx(np.mean([values[0], values[1], values[2], values[3:].mean()]))


def test_control_respondents_answer_as_said() -> None:
    items = item_table(survey(), ALL)
    random, known = uniform_shares(items), reference_table(survey(), items, "us")
    assert random[1, :3].tolist() == pytest.approx([1 / 3] * 3)
    assert random[3, :2].tolist() == pytest.approx([0.5, 0.5])  # one or two of three: 1.5 / 3
    mode = mode_shares(known)
    assert mode[0, :4].tolist() == [1, 0, 0, 0]
    assert mode[3, :2].tolist() == [0.5, 0.5]  # exactly half chose it: a tie
    assert mode[5, :2].tolist() == [0, 1]


def test_cells_are_named_by_what_tells_them_apart() -> None:
    run = results().run
    assert cell_names(run.cells) == ("human", "human")
    conditions = results([("m", "us", "def", human), ("m", "us", "none", human)]).run.cells
    assert cell_names(conditions) == ("m · def", "m · none")
    languages = (conditions[0], replace(conditions[0], language="zh"))
    assert cell_names(languages) == ("m · en", "m · zh")


def weighted(n: int, n_eff: float | None) -> Survey:
    known = survey()
    return replace(known, references=tuple(replace(r, n=n, n_eff=n_eff) for r in known.references))


def test_weighted_people_count_by_their_effective_number() -> None:
    cells = [("m", culture, "def", uniform) for culture in ("us", "cn")]
    few, as_few, many = (
        analyse(results(cells, tiny=weighted(n, n_eff))) for n, n_eff in ((60, None), (1000, 60.0), (1000, None))
    )
    for one, other, unlike in zip(few.cells, as_few.cells, many.cells, strict=True):
        assert (one.sound.headline, one.interval) == (other.sound.headline, other.interval)
        assert one.sound_floor.headline == other.sound_floor.headline != unlike.sound_floor.headline
        assert one.sound.headline != unlike.sound.headline
    for found, equal in ((as_few, True), (many, False)):
        same = [
            np.array_equal(one.p, other.p, equal_nan=True)
            for one, other in zip(few.figure(distinguish), found.figure(distinguish), strict=True)
        ]
        assert all(same) is equal
    people = question_cards(as_few)[0].table.rows[0].entries[-5]
    assert (people.text, people.beneath) == ("1,000", "as 60")
    assert question_cards(many)[0].table.rows[0].entries[-5].beneath == ""


def test_a_contrast_that_participants_might_turn_is_no_difference() -> None:
    """Over 30 questions all alike it is sure; each participant left out moves them all together by more than it."""
    questions = np.arange(30)
    of = Grouping(question=questions, questions=30, dimension=0 * questions, dimensions=1, by_dimension=True)
    moved = np.where(np.arange(10) % 2, 0.2, -0.2)[:, None] * np.ones(30) / 30
    for left_out, apart in ((0 * moved, True), (moved, False)):
        both = Compared(
            names=("a", "b"),
            common=of.headline,
            values=np.stack([np.full(30, 0.5), np.full(30, 0.4)]),
            left_out=(left_out, -left_out),
            grouping=of,
            n=10,
        )
        (found,) = contrasts(both, [("a", ["a"], "b", ["b"])])
        assert found.difference == pytest.approx(0.1)
        assert (found.p < 0.05) is apart
