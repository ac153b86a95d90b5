"""What a heading calls the closest or the furthest: what lies further off than the ends of so many lie by chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from defsurvey.reports.analysis import Analysis, CellAnalysis, analyse
from defsurvey.reports.figures.dimensions import furthest, mean_section
from defsurvey.reports.figures.frameworks import closest_dimension
from defsurvey.reports.figures.shared import apart, excess
from defsurvey.reports.metrics.intervals import Interval
from tests.reports.planted import planted, wide_survey
from tests.reports.synthetic import rare, repeated, results


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
    """Nine dimensions, two cultures, no difference: told apart in under 5 of 100; overlap alone would pass 12."""
    rng = np.random.default_rng(1)
    ends, cultures = 0, 0
    for _ in range(1_000):
        us, cn = rng.normal(0, 0.1, (2, 9))
        ends += apart(float(np.ptp(us)), (0.1, 0.1), 36)
        cultures += furthest(known, [[made_up(known, us, 0.1)], [made_up(known, cn, 0.1, 1)]]) is not None
    assert ends < 50
    assert cultures < 50


def test_a_mean_of_several_cells_is_known_better(known: Analysis) -> None:
    """Four cells halve the standard error; a cell without an interval leaves none."""
    cells = [made_up(known, np.array([0.0, 1.0]), 0.2) for _ in range(4)]
    means, errors = excess(cells)
    assert means.tolist() == [0.0, 1.0]
    assert errors == pytest.approx([0.1, 0.1], rel=1e-3)
    assert np.isnan(excess([*cells, made_up(known, np.array([0.0, 1.0]), np.nan)])[1]).all()


def test_only_dimensions_that_tell_cultures_apart_are_counted(known: Analysis) -> None:
    """Further on all nine, and told apart on two of them."""
    us, cn = np.zeros(9), np.full(9, 0.1)
    cn[:2] = 2.0
    assert furthest(known, [[made_up(known, us, 0.1)], [made_up(known, cn, 0.1, 1)]]) == (1, 2, 9)
    assert furthest(known, [[made_up(known, us, 0.1)], [made_up(known, us, 0.1, 1)]]) is None


def headings(analysis: Analysis) -> tuple[str, str]:
    """Those of Table 2 and Figure 5."""
    return closest_dimension(analysis), mean_section(analysis).title


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_models_that_answer_as_people_do_have_no_extremes(seed: int) -> None:
    """Whatever lies furthest does so by chance, and no heading names it."""
    found = analyse(planted(wide_survey(60), models=("honest",), seed=seed).results)
    assert headings(found) == ("", "Mean divergence by dimension")


def test_a_dimension_that_is_further_is_named() -> None:
    """Always the same goal: what lies furthest is what goals speak to."""
    found = analyse(results([("m", "us", "def", rare)], tiny=repeated(4)))
    assert closest_dimension(found).endswith("furthest on emancipative values")
