"""Means, diversity, rates, judges."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, entropy
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.inter_rater import cohens_kappa

from defsurvey.reports.metrics.aggregate import Grouping, means
from defsurvey.reports.metrics.judges import FAIL, PASS, UNSURE, agreement, cell_rates, mcnemar
from defsurvey.reports.metrics.quality import clustered, diversity, effective_options, quality, wilson, wilson_rate
from tests.reports.synthetic import verdicts


def test_macro_mean_weighs_dimensions_alike() -> None:
    speaks = np.array([0, 0, 0, 1])
    grouping = Grouping(question=np.arange(4), questions=4, dimension=speaks, dimensions=3, by_dimension=True)
    found = means([1, 2, 3, 10], grouping)
    assert found.macro == found.headline == 6.0
    assert found.question_mean == 4.0
    assert np.isnan(found.by_dimension[2])


def test_diversity_is_equation_six() -> None:
    question = np.repeat([0, 1], 4)
    assert diversity([1, 1, 2, 3, 4, 4, 4, 4], question).d == pytest.approx((4 - 2) / (4 * 2))
    different = diversity(np.arange(8), question)
    assert different.d == pytest.approx(different.maximum) == pytest.approx(3 / 4)
    assert different.relative == pytest.approx(1)


def test_diversity_of_nothing_has_a_reason() -> None:
    assert diversity([], []).reason == "no reply"
    lone = diversity([5], [0])
    assert np.isnan(lone.relative)
    assert "cannot differ" in lone.reason


def test_effective_options_are_the_exponential_of_scipys_entropy() -> None:
    assert float(effective_options([3, 5, 2])) == pytest.approx(np.exp(entropy([3, 5, 2])), abs=1e-12)


@pytest.mark.parametrize(("count", "n"), [(0, 20), (20, 20), (81, 263)])
def test_wilson_agrees_with_scipy(count: int, n: int) -> None:
    theirs = binomtest(count, n).proportion_ci(method="wilson")
    found = wilson(count, n)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert found.low <= found.share <= found.high


def test_rates_are_of_answers_that_ended() -> None:
    found = quality(planned=40, answered=15, refused=3, unparsable=1, failed=1)
    assert found.coverage == 0.5
    rates = (found.valid, found.refused, found.unparsable, found.failed)
    assert [rate.share for rate in rates] == [0.75, 0.15, 0.05, 0.05]
    assert np.isnan(quality(planned=0, answered=0, refused=0, unparsable=0, failed=0).coverage)


@pytest.mark.parametrize("people", [3, 5, 10, 20, 100])
@pytest.mark.parametrize(("kind", "other"), [(9.0, 1.0), (0.9, 0.1), (0.19, 18.81)])
def test_rates_of_answers_that_hang_together_cover(people: int, kind: float, other: float) -> None:
    """Participants who refuse often or never: about nine of ten intervals hold the rate at least."""
    rng, truth, asked, runs = np.random.default_rng(2), kind / (kind + other), 89, 200
    held = 0
    for _ in range(runs):
        counts = rng.binomial(asked, rng.beta(kind, other, people))
        found = clustered(counts, [asked] * people)
        held += found.low <= truth <= found.high
        assert found.low <= found.share <= found.high
    assert held / runs >= 0.88


def test_answers_that_do_not_hang_together_keep_nearly_wilsons_interval() -> None:
    counts = np.random.default_rng(5).binomial(50, 0.1, 100)
    found, plain = clustered(counts, [50] * 100), wilson(int(counts.sum()), 5_000)
    assert plain.high - plain.low <= found.high - found.low <= 1.2 * (plain.high - plain.low)


def test_where_nobody_differs_a_participant_counts_once() -> None:
    found = clustered([0] * 20 + [0], [89] * 20 + [0])
    assert (found.n, found.share, found.low) == (1780, 0.0, 0.0)
    assert found.high == pytest.approx(wilson(0, 20).high)
    assert clustered([3], [10]).high == pytest.approx(wilson_rate(0.3, 1.0, count=3, n=10).high)
    assert clustered([], []).reason == "no answer has ended"


# Agreement of judges, and how often answers fail.

labels = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=60)


def crossed(pairs: list[tuple[int, int]], size: int) -> np.ndarray:
    table = np.zeros((size, size))
    for one, two in pairs:
        table[one, two] += 1
    return table


@settings(max_examples=80, deadline=None)
@given(labels)
def test_statsmodels_agrees_on_kappa(pairs: list[tuple[int, int]]) -> None:
    first, second = zip(*pairs, strict=True)
    assume(len({*first, *second}) > 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its standard error, which we do not use, divides by zero at times
        theirs = cohens_kappa(crossed(pairs, 3)).kappa
    assert agreement(first, second, 3).kappa == pytest.approx(theirs, abs=1e-10)


def test_gwets_coefficient_of_a_published_table() -> None:
    """Gwet (2008), the case where kappa fails: 118 of 125 labelled alike, kappa below 0, AC1 .94."""
    pairs = [(1, 1)] * 118 + [(1, 0)] * 5 + [(0, 1)] * 2
    found = agreement(*zip(*pairs, strict=True), labels=2)
    yes = ((123 + 120) / 2) / 125
    chance = 2 * yes * (1 - yes)
    assert found.ac1 == pytest.approx((118 / 125 - chance) / (1 - chance), abs=1e-12)
    assert round(found.ac1, 2) == 0.94
    assert found.kappa < 0


def test_judges_that_say_one_thing_only_have_no_kappa() -> None:
    found = agreement([1, 1], [1, 1], 2)
    assert found.ac1 == 1
    assert np.isnan(found.kappa)
    assert "one and the same label" in found.reason
    assert agreement([], [], 2).reason == "no answer was labelled by both"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_statsmodels_agrees_on_mcnemar(pairs: list[tuple[bool, bool]]) -> None:
    first, second = zip(*pairs, strict=True)
    found = mcnemar(first, second)
    table = crossed([(int(one), int(two)) for one, two in pairs], 2)
    assert found.exact_p == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue, abs=1e-10)
    assert (found.first_only, found.second_only) == (table[1, 0], table[0, 1])


def test_unsure_is_neither_pass_nor_fail() -> None:
    found = cell_rates(verdicts([PASS, FAIL, FAIL, UNSURE, PASS]), 0)
    assert (found.fail[0].count, found.fail[0].n, found.fail[0].share) == (2, 4, 0.5)
    assert found.fail[0].low == pytest.approx(wilson(2, 4).low)
    assert found.answers == 5
    assert (found.any_fail.share, found.any_fail.n) == (0.5, 4)


def test_strata_weigh_as_many_answers_as_they_stand_for() -> None:
    """One refusal for 9 others, sampled alike: the rate is the population's, the interval wider than n says."""
    whole = cell_rates(verdicts([FAIL] * 5 + [PASS] * 5, weight=np.array([1.0] * 5 + [9.0] * 5)), 0)
    found = whole.fail[0]
    assert found.share == whole.any_fail.share == pytest.approx(0.1)
    assert found.high - found.low > wilson(1, 10).high - wilson(1, 10).low
    assert found.low == pytest.approx(wilson_rate(0.1, 2500 / 410, count=5, n=10).low)


def test_an_answer_that_fails_twice_fails_once() -> None:
    found = cell_rates(
        verdicts([FAIL, FAIL, PASS, PASS], answer=np.array([7, 7, 8, 8]), dimension=np.array([0, 3, 0, 3])), 0
    )
    assert (found.answers, found.any_fail.count) == (2, 1)
    assert found.fail[3].share == 0.5


def test_answers_that_no_dimension_judged_clearly_are_in_no_rate() -> None:
    doubts = [[FAIL, UNSURE], [PASS, UNSURE], *([UNSURE, UNSURE] for _ in range(8))]
    found = cell_rates(
        verdicts(
            [said for answer in doubts for said in answer],
            answer=np.repeat(np.arange(10), 2),
            dimension=np.tile([0, 1], 10).astype(np.int8),
        ),
        0,
    )
    assert (found.fail[0].share, found.any_fail.share, found.any_fail.n, found.answers) == (0.5, 0.5, 2, 10)
    assert found.any_fail.low == pytest.approx(wilson(1, 2).low)
    assert found.fail[1].reason == cell_rates(verdicts([UNSURE]), 0).any_fail.reason == "nothing was judged"
