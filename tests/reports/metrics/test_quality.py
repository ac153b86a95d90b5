"""Means, diversity, rates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, entropy

from defsurvey.reports.metrics.aggregate import Grouping, means
from defsurvey.reports.metrics.quality import clustered, diversity, effective_options, quality, wilson, wilson_rate


def test_macro_mean_weighs_dimensions_alike() -> None:
    """Three items of one dimension and one of another: the mean of the two means."""
    speaks = np.array([0, 0, 0, 1])
    grouping = Grouping(question=np.arange(4), questions=4, dimension=speaks, dimensions=3, by_dimension=True)
    found = means([1, 2, 3, 10], grouping)
    assert found.macro == found.headline == 6.0
    assert found.question_mean == 4.0
    assert np.isnan(found.by_dimension[2])


def test_without_dimensions_the_headline_is_the_mean_over_questions() -> None:
    """A survey that names no dimension still has a headline figure."""
    speaks = np.full(3, -1)
    none = Grouping(question=np.array([0, 0, 1]), questions=2, dimension=speaks, dimensions=0, by_dimension=False)
    found = means([1, 3, 4], none)
    assert np.isnan(found.macro)
    assert found.headline == 3.0
    assert found.reason == "no item speaks to a dimension"


def test_nothing_to_average_is_nan_with_a_reason() -> None:
    """No value gives no mean."""
    one = np.array([0])
    found = means([np.nan], Grouping(question=one, questions=1, dimension=one, dimensions=1, by_dimension=True))
    assert np.isnan(found.macro)
    assert found.items == 0
    assert found.reason == "no item has a value"


def test_diversity_is_equation_six() -> None:
    """(n_diff - n_ques) / (n_test * n_ques), and its maximum where all replies differ."""
    question = np.repeat([0, 1], 4)
    assert diversity([1, 1, 2, 3, 4, 4, 4, 4], question).d == pytest.approx((4 - 2) / (4 * 2))
    different = diversity(np.arange(8), question)
    assert different.d == pytest.approx(different.maximum) == pytest.approx(3 / 4)
    assert different.relative == pytest.approx(1)


def test_diversity_of_nothing_has_a_reason() -> None:
    """No reply, or one per question, has no diversity."""
    assert diversity([], []).reason == "no reply"
    lone = diversity([5], [0])
    assert np.isnan(lone.relative)
    assert "cannot differ" in lone.reason


def test_effective_options_are_the_exponential_of_scipys_entropy() -> None:
    """exp(entropy)."""
    assert float(effective_options([3, 5, 2])) == pytest.approx(np.exp(entropy([3, 5, 2])), abs=1e-12)


@pytest.mark.parametrize(("count", "n"), [(0, 20), (1, 20), (10, 20), (20, 20), (81, 263)])
def test_wilson_agrees_with_scipy(count: int, n: int) -> None:
    """The interval is scipy's Wilson interval."""
    theirs = binomtest(count, n).proportion_ci(method="wilson")
    found = wilson(count, n)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert found.low <= found.share <= found.high


def test_rates_are_of_answers_that_ended() -> None:
    """Coverage is of the planned answers, rates of those that ended."""
    found = quality(planned=40, answered=15, refused=3, unparsable=1, failed=1)
    assert found.coverage == 0.5
    assert [found.valid.share, found.refused.share, found.unparsable.share, found.failed.share] == [
        0.75,
        0.15,
        0.05,
        0.05,
    ]
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
    """A hundred participants who all refuse about as often: wider by no more than a fifth."""
    counts = np.random.default_rng(5).binomial(50, 0.1, 100)
    found, plain = clustered(counts, [50] * 100), wilson(int(counts.sum()), 5_000)
    assert plain.high - plain.low <= found.high - found.low <= 1.2 * (plain.high - plain.low)


def test_where_nobody_differs_a_participant_counts_once() -> None:
    """Twenty participants who never refuse say that few participants do; who gave no answer is left out."""
    found = clustered([0] * 20 + [0], [89] * 20 + [0])
    assert (found.n, found.share, found.low) == (1780, 0.0, 0.0)
    assert found.high == pytest.approx(wilson(0, 20).high)
    assert clustered([3], [10]).high == pytest.approx(wilson_rate(0.3, 1.0, count=3, n=10).high)
    assert clustered([], []).reason == "no answer has ended"
