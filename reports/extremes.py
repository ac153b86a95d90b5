"""Which value dimension, and which culture, a heading may call the closest or the furthest.

The largest of several is always some one of them: it is named where it lies further off than chance puts the ends of so
many.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, hypot, isnan

import numpy as np
from scipy.special import ndtri

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.items import Bools, Floats
from defsurvey.reports.figures.by_dimension import DimensionRow, by_dimension
from defsurvey.reports.figures.frameworks import lacks, model_table
from defsurvey.reports.figures.parts import NotRun
from defsurvey.reports.finding import ENOUGH
from defsurvey.reports.metrics.aggregate import mean_known

#: Fewest items of a value dimension that a headline names.
OF_DIMENSION = 4
#: Chance of naming any two that do not differ, whatever the number compared.
LEVEL = 0.05


def apart(gap: float, errors: tuple[float, float], comparisons: int) -> bool:
    """Whether two means lie further apart than chance would put any two of those compared (Bonferroni).

    Args:
        gap: of the two means, at least 0.
        errors: standard error of each; nan: not known, and nothing is claimed.
        comparisons: pairs that might have been named.

    >>> apart(.3, (.1, .1), 1), apart(.3, (.1, .1), 36), apart(.3, (.1, float("nan")), 1)
    (True, False, False)
    """
    least = float(ndtri(1 - LEVEL / (2 * comparisons))) * hypot(*errors)
    return gap > least


def excess(rows: Sequence[DimensionRow]) -> tuple[Floats, Floats]:
    """Mean excess of some rows and its standard error, both of shape (D,); nan where a row has none, or no interval.

    An interval reaches 1.96 standard errors to both sides together; rows are of different participants.
    """
    width = np.array([[each.high - each.low for each in row.intervals] for row in rows])
    errors = width / (2 * float(ndtri(0.975)))
    means = mean_known(np.stack([row.sound - row.floor for row in rows], axis=-1))
    return means, np.asarray(np.sqrt((errors**2).sum(axis=0)) / len(rows), dtype=np.float64)


def nameable(items: Sequence[Floats]) -> Bools:
    """The value dimensions that a headline may name, shape (D,): with items enough in every row, and all together.

    Args:
        items: of each row, items with a value per dimension, shape (D,).
    """
    fewest = np.min(items, axis=0)
    named = fewest >= OF_DIMENSION
    return np.asarray(named & (fewest[named].sum() >= ENOUGH))


def closest_dimension(analysis: Analysis) -> str:
    """Name the dimensions with the least and the most excess over the floor, over the rows of Table 2 alike.

    Rows with few answers are left out, and so are those that lack what another of the rest has. Neutral where the two
    lie no further apart than chance would put the ends of so many dimensions.
    """
    neutral, part = "By value dimension", analysis.figure(by_dimension)
    enough = [row for row in analysis.figure(model_table).rows if row.comparable]
    rows = [row for row in enough if not lacks(row, enough)]
    if not rows or isinstance(part, NotRun):
        return neutral
    behind = {(row.model, culture) for row in rows for culture in row.cultures}
    means, errors = excess([row for row in part.rows if (row.model, row.culture) in behind])
    named = nameable([row.items for row in rows])
    codes = analysis.results.survey.dimensions
    known = sorted(
        (value, error, code)
        for value, error, code, known in zip(means.tolist(), errors.tolist(), codes, named, strict=True)
        if known and not isnan(value)
    )
    if len(known) < 2:
        return neutral
    (low, low_error, least), (high, high_error, most) = known[0], known[-1]
    if not apart(high - low, (low_error, high_error), comb(len(known), 2)):
        return neutral
    first, last = (_within(codes[code].get("en", code)) for code in (least, most))
    return f"Closest on {first}, furthest on {last}"


def furthest(by_culture: Sequence[Sequence[DimensionRow]]) -> tuple[int, int, int] | None:
    """Which culture's people answers lie furthest from on most dimensions, told apart by their intervals.

    Args:
        by_culture: the rows of each of the cultures compared.

    Returns:
        Position of the culture, on how many dimensions it is furthest, and of how many; None where no dimension tells
        cultures apart, or no culture leads.
    """
    found = [excess(rows) for rows in by_culture]
    means, errors = (np.stack(each) for each in zip(*found, strict=True))
    named = nameable([row.items for rows in by_culture for row in rows]) & ~np.isnan(means).any(axis=0)
    cultures, places = len(by_culture), np.flatnonzero(named).tolist()
    counts = np.zeros(cultures, dtype=np.int64)
    for place in places:
        *_, second, first = np.argsort(means[:, place], kind="stable").tolist()
        gap = float(means[first, place] - means[second, place])
        counts[first] += apart(gap, (errors[first, place], errors[second, place]), len(places) * comb(cultures, 2))
    if len(places) < 2 or counts.max() == 0 or (counts == counts.max()).sum() > 1:
        return None
    return int(counts.argmax()), int(counts.max()), len(places)


def _within(name: str) -> str:
    """A name as it stands within a sentence; capitals of an abbreviation stay."""
    return name if name[:2].isupper() else name[:1].lower() + name[1:]
