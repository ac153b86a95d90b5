"""What holds of divergences and diversity whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, wasserstein_distance

from defsurvey.reports.metrics.divergence import js_distance, plug_in_kl, smoothed_kl, total_variation, wasserstein
from defsurvey.reports.metrics.quality import diversity

Floats = NDArray[np.float64]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Whole counts of two samples of the same size of item, neither empty."""
    size = draw(st.integers(2, 10))
    lists = st.lists(st.integers(0, 40), min_size=size, max_size=size).filter(sum)
    return np.array(draw(lists), dtype=float), np.array(draw(lists), dtype=float)


@settings(max_examples=100, deadline=None)
@given(pairs())
def test_scipy_agrees(pair: tuple[Floats, Floats]) -> None:
    """Entropy, Jensen-Shannon and Wasserstein to ten digits."""
    p, q = pair
    assert float(plug_in_kl(p, q)) == pytest.approx(float(entropy(p, q)), abs=1e-10)
    assert float(js_distance(p, q)) == pytest.approx(float(jensenshannon(p, q, base=2)), abs=1e-7)
    places = np.arange(len(p))
    theirs = wasserstein_distance(places, places, p, q) / (len(p) - 1)
    assert float(wasserstein(p, q)) == pytest.approx(theirs, abs=1e-10)


@settings(max_examples=100, deadline=None)
@given(pairs())
def test_kl_is_zero_only_at_equality(pair: tuple[Floats, Floats]) -> None:
    """Never negative; 0 where shares are equal, above 0 where they are not."""
    p, q = pair
    value = float(plug_in_kl(p, q))
    assert value >= 0
    equal = np.abs(p / p.sum() - q / q.sum()).max() < 1e-12
    assert (value < 1e-12) == equal
    assert float(smoothed_kl(p, q, 1000)) >= 0
    assert float(plug_in_kl(p, p)) == 0


@settings(max_examples=100, deadline=None)
@given(pairs(), st.integers(0, 1000))
def test_relabelling_options_leaves_nominal_metrics(pair: tuple[Floats, Floats], seed: int) -> None:
    """The order of options means nothing to KL, Jensen-Shannon and total variation."""
    p, q = pair
    order = np.random.default_rng(seed).permutation(len(p))
    for metric in (plug_in_kl, js_distance, total_variation, lambda a, b: smoothed_kl(a, b, 500)):
        assert float(metric(p[order], q[order])) == pytest.approx(float(metric(p, q)), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(pairs())
def test_wasserstein_is_symmetric_and_bounded(pair: tuple[Floats, Floats]) -> None:
    """In [0, 1], alike both ways and with the scale turned around; at most the total variation moved all the way."""
    p, q = pair
    value = float(wasserstein(p, q))
    assert 0 <= value <= 1 + 1e-12
    assert value == pytest.approx(float(wasserstein(q, p)), abs=1e-12)
    assert value == pytest.approx(float(wasserstein(p[::-1], q[::-1])), abs=1e-12)
    assert value <= float(total_variation(p, q)) + 1e-12


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 8), st.integers(2, 12), st.integers(1, 12), st.integers(0, 1000))
def test_diversity_keeps_its_bounds(questions: int, replies: int, wordings: int, seed: int) -> None:
    """D lies in [0, (n - 1) / n], its ratio in [0, 1]; with n replies to every question it is Eq. 6 to the letter."""
    digest = np.random.default_rng(seed).integers(0, wordings, questions * replies)
    found = diversity(digest, np.repeat(np.arange(questions), replies))
    assert 0 <= found.d <= (replies - 1) / replies + 1e-12
    assert found.maximum == pytest.approx((replies - 1) / replies)
    assert 0 <= found.relative <= 1 + 1e-12
    assert found.d == pytest.approx((found.distinct - questions) / (replies * questions), abs=1e-12)
