"""No headline of a handful: what few answers, few items or few models say is shown, and not called a finding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from defsurvey.reports.analysis import Analysis, analyse
from defsurvey.reports.figures.configured import configuration_section
from defsurvey.reports.figures.cultural_map import map_section
from defsurvey.reports.figures.dimensions import mean_section, spread_section
from defsurvey.reports.figures.frameworks import model_section
from defsurvey.reports.figures.matching import RankAgreement, matching_section, rank_agreement, rank_section
from defsurvey.reports.finding import find
from defsurvey.storage.runs.results import Results
from tests.reports.planted import planted, wide_survey
from tests.reports.synthetic import answering, human, last, one_question, refusing, repeated, results, uniform

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
