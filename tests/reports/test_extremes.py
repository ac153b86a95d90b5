"""What a heading calls the closest or the furthest: what lies further off than the ends of so many lie by chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from defsurvey.reports.analysis import Analysis, analyse
from defsurvey.reports.figures.dimensions import DimensionRow, apart, excess, furthest, mean_section
from defsurvey.reports.figures.frameworks import closest_dimension
from defsurvey.reports.metrics.intervals import Interval
from tests.reports.planted import planted, wide_survey
from tests.reports.synthetic import rare, repeated, results


def made_up(values: np.ndarray, error: float, culture: str = "us", model: str = "m") -> DimensionRow:
    """A row with that excess on each dimension, and intervals of that standard error."""
    between = tuple(Interval(low=v - 1.96 * error, high=v + 1.96 * error) for v in values)
    given = np.full(len(values), np.nan)
    quantiles = np.full((len(values), 7), np.nan)
    return DimensionRow(
        name=model, model=model, culture=culture, sound=values, intervals=between, floor=np.zeros(len(values)),
        paper=given, items=np.full(len(values), 6.0), answers=given, comparable=True, infinite=given,
        sound_quantiles=quantiles, paper_quantiles=quantiles,
    )  # fmt: skip


def test_the_ends_of_nine_that_are_alike_are_seldom_told_apart() -> None:
    """Nine dimensions, two cultures, no difference: told apart in under 5 of 100; overlap alone would pass 12."""
    rng = np.random.default_rng(1)
    ends, cultures = 0, 0
    for _ in range(1_000):
        us, cn = rng.normal(0, 0.1, (2, 9))
        ends += apart(float(np.ptp(us)), (0.1, 0.1), 36)
        cultures += furthest([[made_up(us, 0.1)], [made_up(cn, 0.1, "cn")]]) is not None
    assert ends < 50
    assert cultures < 50


def test_a_mean_of_several_rows_is_known_better() -> None:
    """Four rows halve the standard error; a row without an interval leaves none."""
    rows = [made_up(np.array([0.0, 1.0]), 0.2) for _ in range(4)]
    means, errors = excess(rows)
    assert means.tolist() == [0.0, 1.0]
    assert errors == pytest.approx([0.1, 0.1], rel=1e-3)
    none = replace(rows[0], intervals=(Interval(low=np.nan, high=np.nan),) * 2)
    assert np.isnan(excess([*rows, none])[1]).all()


def test_only_dimensions_that_tell_cultures_apart_are_counted() -> None:
    """Further on all nine, and told apart on two of them."""
    us, cn = np.zeros(9), np.full(9, 0.1)
    cn[:2] = 2.0
    assert furthest([[made_up(us, 0.1)], [made_up(cn, 0.1, "cn")]]) == (1, 2, 9)
    assert furthest([[made_up(us, 0.1)], [made_up(us, 0.1, "cn")]]) is None


def headings(analysis: Analysis) -> tuple[str, str]:
    """Those of Table 2 and Figure 5."""
    return closest_dimension(analysis), mean_section(analysis).title


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_models_that_answer_as_people_do_have_no_extremes(seed: int) -> None:
    """Whatever lies furthest does so by chance, and no heading names it."""
    found = analyse(planted(wide_survey(60), models=("honest",), seed=seed).results)
    assert headings(found) == ("By value dimension", "Mean divergence by dimension")


def test_a_dimension_that_is_further_is_named() -> None:
    """Always the same goal: what lies furthest is what goals speak to."""
    found = analyse(results([("m", "us", "def", rare)], tiny=repeated(4)))
    assert closest_dimension(found).endswith("furthest on emancipative values")
