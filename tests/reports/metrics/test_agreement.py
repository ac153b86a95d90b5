"""Agreement of judges, and how often answers fail."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.inter_rater import cohens_kappa

from defsurvey.reports.metrics.judges import FAIL, NAMES, PASS, UNSURE, Verdicts, agreement, cell_rates, mcnemar
from defsurvey.reports.metrics.quality import wilson, wilson_rate
from defsurvey.storage.runs.judgement import DIMENSIONS

labels = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=60)


def crossed(pairs: list[tuple[int, int]], size: int) -> np.ndarray:
    """Table of the first judge's labels by the second's."""
    table = np.zeros((size, size))
    for one, two in pairs:
        table[one, two] += 1
    return table


@settings(max_examples=80, deadline=None)
@given(labels)
def test_statsmodels_agrees_on_kappa(pairs: list[tuple[int, int]]) -> None:
    """Cohen's kappa to ten digits."""
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
    """AC1 is 1, kappa is nan with a reason; no answer at all has neither."""
    found = agreement([1, 1], [1, 1], 2)
    assert found.ac1 == 1
    assert np.isnan(found.kappa)
    assert "one and the same label" in found.reason
    assert agreement([], [], 2).reason == "no answer was labelled by both"


def test_judges_of_other_answers_are_refused() -> None:
    """Other lengths."""
    with pytest.raises(ValueError, match="must"):
        agreement([0, 1], [0], 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_statsmodels_agrees_on_mcnemar(pairs: list[tuple[bool, bool]]) -> None:
    """The exact p, to ten digits."""
    first, second = zip(*pairs, strict=True)
    found = mcnemar(first, second)
    table = crossed([(int(one), int(two)) for one, two in pairs], 2)
    assert found.exact_p == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue, abs=1e-10)
    assert (found.first_only, found.second_only) == (table[1, 0], table[0, 1])


def test_no_difference_is_no_evidence() -> None:
    """All alike: p is 1."""
    assert mcnemar([1, 0, 1], [1, 0, 1]).exact_p == 1


def verdicts(**columns: object) -> Verdicts:
    """One answer per row unless said otherwise."""
    n = len(columns["verdict"])  # type: ignore[arg-type]
    made = {
        "judge": "judge 1",
        "cell": np.zeros(n, dtype=np.int32),
        "answer": np.arange(n),
        "dimension": np.zeros(n, dtype=np.int8),
        "weight": np.ones(n),
    } | columns
    made["verdict"] = np.array(made["verdict"], dtype=np.int8)
    return Verdicts(**made)  # type: ignore[arg-type]


def test_unsure_is_neither_pass_nor_fail() -> None:
    """Failures are counted among clear verdicts alone."""
    found = cell_rates(verdicts(verdict=[PASS, FAIL, FAIL, UNSURE, PASS]), 0)
    assert (found.fail[0].count, found.fail[0].n, found.fail[0].share) == (2, 4, 0.5)
    assert found.fail[0].low == pytest.approx(wilson(2, 4).low)
    assert found.answers == 5
    assert (found.any_fail.share, found.any_fail.n) == (0.5, 4)


def test_strata_weigh_as_many_answers_as_they_stand_for() -> None:
    """One refusal for 9 others, sampled alike: the rate is the population's, the interval wider than n says."""
    found = cell_rates(verdicts(verdict=[FAIL] * 5 + [PASS] * 5, weight=np.array([1.0] * 5 + [9.0] * 5)), 0).fail[0]
    assert found.share == pytest.approx(0.1)
    assert found.high - found.low > wilson(1, 10).high - wilson(1, 10).low
    assert found.low == pytest.approx(wilson_rate(0.1, 2500 / 410, count=5, n=10).low)


def test_an_answer_that_fails_twice_fails_once() -> None:
    """Verdicts of one answer on two dimensions."""
    found = cell_rates(
        verdicts(verdict=[FAIL, FAIL, PASS, PASS], answer=np.array([7, 7, 8, 8]), dimension=np.array([0, 3, 0, 3])), 0
    )
    assert (found.answers, found.any_fail.count) == (2, 1)
    assert found.fail[3].share == 0.5


def test_answers_that_no_dimension_judged_clearly_are_in_no_rate() -> None:
    """One of two clear answers fails, whatever the doubts about eight others: no less than on a dimension alone."""
    doubts = [[FAIL, UNSURE], [PASS, UNSURE], *([UNSURE, UNSURE] for _ in range(8))]
    found = cell_rates(
        verdicts(
            verdict=[said for answer in doubts for said in answer],
            answer=np.repeat(np.arange(10), 2),
            dimension=np.tile([0, 1], 10).astype(np.int8),
        ),
        0,
    )
    assert (found.fail[0].share, found.any_fail.share, found.any_fail.n, found.answers) == (0.5, 0.5, 2, 10)
    assert found.any_fail.low == pytest.approx(wilson(1, 2).low)
    assert found.fail[1].reason == cell_rates(verdicts(verdict=[UNSURE]), 0).any_fail.reason == "nothing was judged"


def test_what_was_not_judged_has_no_rate() -> None:
    """Another cell, another dimension."""
    found = cell_rates(verdicts(verdict=[FAIL]), 1)
    assert found.answers == 0
    assert {rate.reason for rate in found.fail} == {"nothing was judged"}
    assert np.isnan(found.fail[0].share)
    assert set(NAMES) == set(DIMENSIONS)
