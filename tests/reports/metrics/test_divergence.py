"""Divergences, and what people would score, as scipy, the jackknife by hand and every single outcome say."""

from itertools import combinations, product
from math import log, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.spatial.distance import jensenshannon
from scipy.special import entr
from scipy.stats import binom, entropy, hypergeom, power_divergence, wasserstein_distance

from defsurvey.reports.analysis import analyse, answer_weights
from defsurvey.reports.cells import item_table, reference_table
from defsurvey.reports.metrics import floor
from defsurvey.reports.metrics.divergence import (
    binomial_masses,
    corrected_kl,
    divergences,
    entropy_terms,
    expected_corrected_kl,
    js_distance,
    paper_values,
    plug_in_kl,
    rarefied_terms,
    smoothed_kl,
    total_variation,
    wasserstein,
    without_one,
)
from defsurvey.reports.metrics.floor import Floor, GTests, expected_js_distance, g_statistic, respondents
from tests.reports.synthetic import QUESTIONS, results, survey

counts = st.lists(st.integers(0, 40), min_size=4, max_size=4).filter(any)
shares = st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4).map(lambda raw: (np.array(raw) / sum(raw)).tolist())


def test_infinite_values_are_counted_among_items_behind_a_mean() -> None:
    values = [0.2, 1.4, np.inf, np.inf, np.nan]
    ruled = paper_values(values, [True, False, True, False, True])
    assert ruled.values[:4].tolist() == [0.2, 1.4, 2.4, 2.4]
    assert ruled.infinite_share == 0.5
    assert np.isnan(paper_values(values, [False] * 4 + [True]).infinite_share)
    assert paper_values([np.inf, np.inf], [False, True]).infinite_share == 1.0


def test_paper_rule_without_a_finite_value_says_so() -> None:
    infinite, nothing = paper_values([np.inf, np.inf]), paper_values([np.nan])
    assert np.isnan(infinite.values).all()
    assert infinite.infinite_share == 1.0
    assert "infinite" in infinite.reason
    assert np.isnan(nothing.infinite_share)
    assert nothing.reason == "no item has a value"


@given(counts, shares)
def test_scipy_agrees(observed: list[int], known: list[float]) -> None:
    p = np.array(observed) / sum(observed)
    assert float(plug_in_kl(observed, known)) == pytest.approx(entropy(p, known), abs=1e-12)
    assert float(js_distance(observed, known)) ** 2 == pytest.approx(jensenshannon(p, known, base=2) ** 2, abs=1e-12)
    steps = np.arange(4)
    assert float(wasserstein(observed, known)) * 3 == pytest.approx(
        wasserstein_distance(steps, steps, p, known), abs=1e-12
    )
    raised = (np.array(observed) + 0.5) / (sum(observed) + 2)
    theirs = (np.array(known) * 500 + 0.5) / (500 + 2)
    assert float(smoothed_kl(observed, known, 500)) == pytest.approx(entropy(raised, theirs), abs=1e-12)


def test_a_list_is_as_many_bernoulli_questions() -> None:
    known = survey(shares={"us": {"Q4": [0.4, 0.9, 0.3]}}, questions=QUESTIONS[3:])
    person = np.arange(20)  # 10 chose the first option, 16 the second, 6 the third
    bits = (person < 10) | (person >= 4) << 1 | np.isin(person, [0, 1, 2, 3, 10, 11]) << 2
    made = results([("m", "us", "def", lambda *_: bits)], tiny=known, participants=20)
    items = item_table(known, ["Q4"])
    counts = answer_weights(made.answers, items, 0, 20).sum(axis=0)
    by_hand = [entropy([0.5, 0.5], [0.6, 0.4]), entropy([0.2, 0.8], [0.1, 0.9]), entropy([0.7, 0.3], [0.7, 0.3])]
    values = plug_in_kl(counts, reference_table(known, items, "us").shares)
    assert values.tolist() == pytest.approx(by_hand, abs=1e-12)
    assert analyse(made).cells[0].paper.question_mean == pytest.approx(np.mean(by_hand), abs=1e-12)


def test_too_little_is_nan_with_a_reason() -> None:
    found = divergences([[0, 0], [1, 1]], [[0.5, 0.5], [np.nan, np.nan]], [100, np.nan], np.ones((2, 2), dtype=bool))
    for values in (found.plug_in_kl, found.smoothed_kl, found.wasserstein, found.js_distance, found.total_variation):
        assert np.isnan(values).all()
    assert found.reasons == ("no valid answer", "no reference")


# The divergence that models are compared by: against leaving answers out by hand, and what it is for.

PEOPLE = np.array([[0.5, 0.3, 0.15, 0.05]])
MANY = np.array([1e9])
ALL = np.ones((1, 4), bool)


def by_hand(answers: list[int]) -> float:
    """The jackknife's divergence of answers from people: n times the whole, less n - 1 times those without one."""

    def plug_in(some: list[int]) -> float:
        share = np.bincount(some, minlength=4) / len(some)
        return float(entr(share).sum())

    n = len(answers)
    without = np.mean([plug_in(answers[:one] + answers[one + 1 :]) for one in range(n)])
    surprise = -np.mean([log(PEOPLE[0, answer]) for answer in answers])
    return float(surprise - (n * plug_in(answers) - (n - 1) * without))


@pytest.mark.parametrize("answers", [[0, 1], [0, 0], [0, 0, 1, 2, 2, 2], [3] * 5, [0, 1, 2, 3] * 3])
def test_it_is_the_jackknife(answers: list[int]) -> None:
    counts = np.bincount(answers, minlength=4)[None]
    assert corrected_kl(counts, PEOPLE, MANY, ALL, len(answers))[0] == pytest.approx(by_hand(answers), abs=1e-6)


def test_rarefying_is_the_mean_over_every_subset() -> None:
    """Bringing 6 answers down to 3 averages over all 20 subsets."""
    answers = [0, 0, 1, 2, 2, 2]
    expected = np.mean([by_hand(list(some)) for some in combinations(answers, 3)])
    assert corrected_kl([[2, 1, 3, 0]], PEOPLE, MANY, ALL, 3)[0] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(corrected_kl([[2, 0, 0, 0]], PEOPLE, MANY, ALL, 3)[0])
    assert rarefied_terms(6, 6).tolist() == pytest.approx(entropy_terms(6).tolist())


def test_leaving_out_one_answer() -> None:
    answers = [0, 0, 1, 2, 2, 2]
    whole = by_hand(answers)
    expected = [by_hand([0, 1, 2, 2, 2]) - whole, by_hand([0, 0, 2, 2, 2]) - whole, by_hand([0, 0, 1, 2, 2]) - whole, 0]
    assert without_one(corrected_kl, np.array([[2, 1, 3, 0]]), PEOPLE, MANY, ALL)[0].tolist() == pytest.approx(
        expected, abs=1e-6
    )
    assert not without_one(corrected_kl, np.array([[1, 1, 0, 0]]), PEOPLE, MANY, ALL).any()
    assert not without_one(corrected_kl, np.array([[5, 5, 0, 0]]), PEOPLE * np.nan, MANY, ALL).any()


def test_what_is_expected_is_the_mean_of_what_is_drawn() -> None:
    people, offered = np.array([[0.7, 0.3, 0.0]]), np.array([[True, True, False]])
    counts = np.array([[c, 12 - c, 0] for c in range(13)])
    each = corrected_kl(counts, people.repeat(13, 0), MANY.repeat(13), offered.repeat(13, 0), 12)
    mean = binomial_masses(12, 0.4) @ each
    found = expected_corrected_kl([[0.4, 0.6, 0.0]], people, MANY, offered, 12)
    assert found[0] == pytest.approx(float(mean), abs=1e-12)


# What people themselves would score, and whether answers are told from theirs, as brute force and scipy say.


def brute(metric: object, n: int, shares: np.ndarray) -> float:
    """Expectation over every sequence of n answers."""
    total = 0.0
    for sequence in product(range(len(shares)), repeat=n):
        counts = np.bincount(sequence, minlength=len(shares))
        total += prod(shares[list(sequence)]) * float(metric(counts, shares))  # type: ignore[operator]
    return total


def test_floors_equal_the_sum_over_every_sample() -> None:
    found, shares = respondents(PEOPLE, PEOPLE, np.array([500.0]), ALL, 5), PEOPLE[0]
    assert float(found.plug_in_kl[0]) == pytest.approx(brute(plug_in_kl, 5, shares), abs=1e-12)
    assert float(found.wasserstein[0]) == pytest.approx(brute(wasserstein, 5, shares), abs=1e-12)
    smoothed = brute(lambda c, q: smoothed_kl(c, q, 500), 5, shares)
    assert float(found.smoothed_kl[0]) == pytest.approx(smoothed, abs=1e-12)
    assert expected_js_distance(5, tuple(shares)) == pytest.approx(brute(js_distance, 5, shares), abs=1e-12)
    assert float(found.total_variation[0]) == pytest.approx(brute(total_variation, 5, shares), abs=1e-12)


def test_large_samples_are_simulated_the_same_way_every_time() -> None:
    shares = np.full(6, 1 / 6)
    first = expected_js_distance(60, tuple(shares))
    assert first == expected_js_distance(60, tuple(shares))
    draws = np.random.default_rng(9).multinomial(60, shares, size=20_000)
    assert first == pytest.approx(float(js_distance(draws, shares).mean()), rel=0.01)


def test_masses_agree_with_scipy() -> None:
    assert binomial_masses(20, 0.3) == pytest.approx(binom.pmf(np.arange(21), 20, 0.3), abs=1e-12)
    assert binomial_masses(3, 0.0).tolist() == [1, 0, 0, 0]
    assert rarefied_terms(12, 5)[4] == pytest.approx(
        hypergeom.pmf(np.arange(6), 12, 4, 5) @ entropy_terms(5), abs=1e-12
    )


def test_the_floor_is_taken_at_each_items_own_n() -> None:
    shares = np.vstack([PEOPLE, PEOPLE, PEOPLE, np.full((1, 4), np.nan)])
    people = Floor(shares=shares, n_human=np.array([1e9, 1e9, 1e9, np.nan]), offered=np.ones((4, 4), dtype=bool))
    found = people.at([20, 5, 0, 20]).plug_in_kl
    assert found[0] == pytest.approx(0.08225, abs=5e-6)
    assert found[1] > found[0]
    assert np.isnan(found[2:]).all()
    assert people.js_distance(0, 20) == pytest.approx(expected_js_distance(20, tuple(PEOPLE[0])))
    assert np.isnan(people.js_distance(0, 0))
    assert np.isnan(people.js_distance(3, 20))


def p_of(counts: ArrayLike, shares: ArrayLike) -> float:
    q = np.array([shares])
    return float(GTests(shares=q, offered=np.ones(q.shape, dtype=bool)).p([counts])[0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=8).filter(sum), st.integers(0, 1000))
def test_scipy_agrees_on_the_statistic(counts: list[int], seed: int) -> None:
    shares = np.random.default_rng(seed).dirichlet(np.full(len(counts), 3.0))
    theirs = power_divergence(counts, shares * sum(counts), lambda_="log-likelihood").statistic
    assert float(g_statistic(counts, shares)) == pytest.approx(theirs, abs=1e-8)


def test_p_is_the_share_of_outcomes_as_far_or_further() -> None:
    shares, counts = np.array([0.6, 0.3, 0.1]), np.array([2, 1, 3])
    far = float(g_statistic(counts, shares)) - 1e-9
    expected = brute(lambda outcome, q: g_statistic(outcome, q) >= far, 6, shares)
    assert p_of(counts, shares) == pytest.approx(expected, abs=1e-12)


def test_drawing_gives_what_enumerating_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    shares, counts = np.array([0.4, 0.3, 0.2, 0.1]), np.array([3, 5, 6, 6])
    exact = p_of(counts, shares)
    monkeypatch.setattr(floor, "GTEST_OUTCOMES", 1)
    drawn = p_of(counts, shares)
    assert drawn == p_of(counts, shares)
    assert drawn == pytest.approx(exact, abs=0.02)
    assert p_of([0, 0, 0, 20], shares) == pytest.approx(1 / 5000)


def test_an_impossible_answer_is_as_far_as_it_gets() -> None:
    assert p_of([1, 1], [1.0, 0.0]) < 1e-300
    assert p_of([2, 0], [1.0, 0.0]) == pytest.approx(1.0)


def test_items_of_different_size_stand_side_by_side() -> None:
    tests = GTests(
        shares=np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]), offered=np.array([[True, True, False], [True, True, True]])
    )
    found = tests.p(np.array([[5, 1, 0], [1, 1, 4]]))
    assert found.tolist() == pytest.approx([p_of([5, 1], [0.5, 0.5]), p_of([1, 1, 4], [0.2, 0.3, 0.5])])
