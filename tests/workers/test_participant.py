"""Draws: named, paired, uniform, and the same for ever."""

from collections import Counter
from dataclasses import replace
from itertools import permutations

import pytest
from scipy.stats import chisquare

from defsurvey.storage.runs.run import Condition, Draws, DrawsPer, Preset, Protocol, QuestionOrder
from defsurvey.workers.simulation.draws import completion_seed, draw_axes, options_shown, question_order, substream
from defsurvey.workers.simulation.methods import METHODS
from tests.workers.citizens import AIM, CN, DEF, DIVORCE, FAMILY, NONE, QUALITIES, QUESTIONS, US

PAPER = Protocol(seed=20250314)
CODE = Protocol(seed=20250314, preset=Preset.CODE)
ORDERED = Condition(name="order", option_order=True)
INDICES = range(2000)

PINNED_PAPER = [
    Draws(region="US-OH", num_beams=4, do_sample=False, memory_capacity=15),
    Draws(region="US-TX", num_beams=4, do_sample=True, memory_capacity=3),
    Draws(region="US-OH", num_beams=4, do_sample=True, memory_capacity=5),
]
PINNED_CODE = [
    Draws(region="CN-SC", num_beams=3, do_sample=True, memory_capacity=14),
    Draws(region="CN-GD", num_beams=4, do_sample=True, memory_capacity=3),
]
PINNED_SEEDS = [1627557863536700709, 6826901668951580195]
PINNED_ORDER = ("more0", "aim", "divorce", "more1", "family", "qualities")
PINNED_OPTIONS = [(3, 1, 2, 4), (2, 3, 1, 4), (3, 1, 2, 4), (2, 1, 3, 4)]


def _is_uniform(values: list[int], expected: range) -> bool:
    counts = Counter(values)
    assert set(counts) == set(expected)
    return bool(chisquare([counts[value] for value in expected]).pvalue > 0.001)


def test_draws_never_change() -> None:
    """Pinned draws: a change here would break the pairing of every later run with every earlier one."""
    assert [draw_axes(PAPER, DEF, US, index) for index in range(3)] == PINNED_PAPER
    assert [draw_axes(CODE, DEF, CN, index) for index in range(2)] == PINNED_CODE
    assert [completion_seed(PAPER, 0, "family"), completion_seed(PAPER, 0, "family", 1)] == PINNED_SEEDS
    shuffled = replace(PAPER, question_order=QuestionOrder.SHUFFLED)
    assert question_order(shuffled, 3, QUESTIONS[:6]) == PINNED_ORDER
    assert [options_shown(PAPER, ORDERED, AIM, index) for index in range(4)] == PINNED_OPTIONS


def test_streams_are_told_apart_by_every_name() -> None:
    names = [("a", "b"), ("ab",), ("a", "b", ""), ("b", "a"), (1,), ("1",), (1, 2), (12,), ("s1:a",), ("a",), ()]
    drawn = [int(substream(7, *name).integers(2**63)) for name in names]
    assert len(set(drawn)) == len(names)
    assert drawn != [int(substream(8, *name).integers(2**63)) for name in names]
    with pytest.raises(ValueError, match="seed: expected 0 or more, got -1"):
        substream(-1, "a")


@pytest.mark.parametrize("protocol", [PAPER, CODE], ids=["paper", "code"])
def test_culture_changes_the_region_alone(protocol: Protocol) -> None:
    for index in range(50):
        us, cn = draw_axes(protocol, DEF, US, index), draw_axes(protocol, DEF, CN, index)
        assert us.region in {"US-OH", "US-TX", "US-ME"}
        assert cn.region in {"CN-SC", "CN-GD"}
        assert replace(us, region=None) == replace(cn, region=None)


@pytest.mark.parametrize("draws", list(DrawsPer))
def test_an_ablation_leaves_the_other_axes_alone(draws: DrawsPer) -> None:
    protocol = replace(PAPER, draws=draws)
    for index in range(30):
        full = draw_axes(protocol, DEF, US, index, "family")
        without = {
            axis: draw_axes(protocol, replace(DEF, **{axis: False}), US, index, "family")
            for axis in ("prompt", "config", "memory")
        }
        assert without["prompt"] == replace(full, region=None)
        assert without["config"] == replace(full, num_beams=1, do_sample=False)
        assert without["memory"] == replace(full, memory_capacity=0)
        nothing = Draws(region=None, num_beams=1, do_sample=False, memory_capacity=0)
        assert draw_axes(protocol, NONE, US, index, "family") == nothing


def test_axes_are_drawn_per_question_where_the_protocol_says_so() -> None:
    """Per participant a question changes nothing; per question each has draws of its own, memory included."""
    per_question = replace(PAPER, draws=DrawsPer.QUESTION)
    assert {draw_axes(PAPER, DEF, US, 1, question) for question in QUESTIONS} == {draw_axes(PAPER, DEF, US, 1)}
    drawn = {draw_axes(per_question, DEF, US, 1, question) for question in QUESTIONS}
    assert len(drawn) > 10
    assert len({draws.memory_capacity for draws in drawn}) > 5
    assert draw_axes(per_question, DEF, US, 1, "family") != draw_axes(per_question, DEF, US, 2, "family")


def test_axes_are_uniform() -> None:
    """Beams 1-5, a coin toss, capacity 0-15 (paper, section 5.1); beams 1-4, always sampled, 0-14 in its code."""
    drawn = [draw_axes(PAPER, DEF, US, index) for index in INDICES]
    assert _is_uniform([draws.num_beams for draws in drawn], range(1, 6))
    assert _is_uniform([int(draws.do_sample) for draws in drawn], range(2))
    assert _is_uniform([draws.memory_capacity for draws in drawn], range(16))
    drawn = [draw_axes(CODE, DEF, US, index) for index in INDICES]
    assert _is_uniform([draws.num_beams for draws in drawn], range(1, 5))
    assert all(draws.do_sample for draws in drawn)
    assert _is_uniform([draws.memory_capacity for draws in drawn], range(15))
    places = [region.code for region in US.regions]
    assert _is_uniform([places.index(draws.region or "") for draws in drawn], range(3))


@pytest.mark.parametrize("protocol", [PAPER, CODE], ids=["paper", "code"])
@pytest.mark.parametrize("sampled", [True, False])
def test_a_study_can_fix_whether_to_sample(protocol: Protocol, sampled: bool) -> None:
    """As the code's configuration files do: in every condition, the beams being as they were. Baselines keep theirs."""
    fixed = replace(protocol, do_sample=sampled)
    for condition in (DEF, NONE):
        for index in range(20):
            drawn = draw_axes(protocol, condition, US, index)
            assert draw_axes(fixed, condition, US, index) == replace(drawn, do_sample=sampled)
    for method in ("cao2023", "ccsv-single"):
        draws = METHODS[method].draw(fixed, replace(NONE, method=method), US, 0)
        assert draws == METHODS[method].draw(PAPER, replace(NONE, method=method), US, 0)
        assert (draws.num_beams, draws.do_sample) == (1, method == "ccsv-single")


def test_regions_follow_their_shares() -> None:
    culture = replace(US, regions=(replace(US.regions[0], code="US-AK", share=0.0), *US.regions))
    counts = Counter(draw_axes(PAPER, DEF, culture, index).region for index in INDICES)
    assert counts["US-AK"] == 0
    expected = [region.share * len(INDICES) for region in US.regions]
    assert chisquare([counts[region.code] for region in US.regions], expected).pvalue > 0.001


def test_the_published_code_draws_from_its_own_list() -> None:
    """Regions that are not on it are never drawn uniformly; one on it is, whether or not people there were asked."""
    alaska = replace(US.regions[0], code="US-AK", share=0.0)
    culture = replace(US, regions=(alaska, *(replace(region, uniform=False) for region in US.regions[1:])))
    counts = Counter(draw_axes(CODE, DEF, culture, index).region for index in INDICES)
    assert set(counts) == {"US-AK"}
    by_share = {draw_axes(PAPER, DEF, culture, index).region for index in INDICES}
    assert by_share == {region.code for region in US.regions[1:]}
    for protocol in (PAPER, CODE):  # the country alone is named where there are no regions
        assert draw_axes(protocol, DEF, replace(US, regions=()), 0).region is None


def test_questions_come_in_survey_order_or_in_an_order_of_the_participants_own() -> None:
    """Shuffled: a permutation, one per index, the same whenever it is asked for."""
    assert question_order(PAPER, 5, QUESTIONS) == QUESTIONS
    shuffled = replace(PAPER, question_order=QuestionOrder.SHUFFLED)
    orders = [question_order(shuffled, index, QUESTIONS) for index in range(20)]
    assert all(sorted(order) == sorted(QUESTIONS) for order in orders)
    assert len(set(orders)) == 20
    assert orders[7] == question_order(shuffled, 7, QUESTIONS)


def test_options_stay_in_the_surveys_order_in_the_paper() -> None:
    fixed = replace(DEF, option_order=False)
    for question in (FAMILY, AIM, DIVORCE, QUALITIES):
        assert {options_shown(PAPER, DEF, question, index) for index in range(20)} == {question.codes}
        assert {options_shown(CODE, fixed, question, index) for index in range(20)} == {question.codes}


def test_listed_options_are_shuffled_in_the_published_code() -> None:
    """Every order of an ordinal question occurs, residual options anywhere; a scale lists none and stays."""
    orders = Counter(options_shown(CODE, DEF, FAMILY, index) for index in INDICES)
    assert set(orders) == set(permutations(FAMILY.codes))
    assert chisquare(list(orders.values())).pvalue > 0.001
    assert {options_shown(CODE, DEF, AIM, index)[-1] for index in range(50)} == set(AIM.codes)
    assert {options_shown(CODE, DEF, DIVORCE, index) for index in range(20)} == {DIVORCE.codes}


@pytest.mark.parametrize("protocol", [PAPER, CODE], ids=["paper", "code"])
def test_option_order_as_an_axis_respects_the_kind_of_question(protocol: Protocol) -> None:
    """Nominal options are permuted, ordinal ones and scales run either way, residual ones stay last."""
    aims = {options_shown(protocol, ORDERED, AIM, index) for index in range(200)}
    assert aims == {(*order, 4) for order in permutations((1, 2, 3))}
    family = Counter(options_shown(protocol, ORDERED, FAMILY, index) for index in INDICES)
    assert set(family) == {(1, 2, 3, 4), (4, 3, 2, 1)}
    assert chisquare(list(family.values())).pvalue > 0.001
    ends = {options_shown(protocol, ORDERED, DIVORCE, index) for index in range(50)}
    assert ends == {tuple(range(1, 11)), tuple(range(10, 0, -1))}
    assert {options_shown(protocol, ORDERED, QUALITIES, index) for index in INDICES} == set(permutations((1, 2, 3, 4)))
