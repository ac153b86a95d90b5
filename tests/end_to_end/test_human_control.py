"""The yardstick's own check: respondents drawn from what people answered must score what sampling alone scores."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from defsurvey.reports.analysis import Analysis, CultureAnalysis, analyse
from defsurvey.reports.metrics.aggregate import grouped_mean
from defsurvey.reports.metrics.divergence import smoothed_kl
from defsurvey.storage.database import Database
from defsurvey.storage.runs.results import read_results
from tests.end_to_end.machine import machine_in

EXAMPLE = Path(__file__).parents[2] / "examples" / "human-control.yaml"
PARTICIPANTS = 200
SIMULATED = 400  #: samples of honest respondents by which the spread of the statistic is known
ALPHA = 0.001  #: chance of a false alarm, over all dimensions and cultures together


def as_people_would(
    analysis: Analysis, culture: CultureAnalysis, generator: np.random.Generator
) -> NDArray[np.float64]:
    items, shares = analysis.items, culture.reference.shares
    counts = np.zeros((SIMULATED, *shares.shape))
    for place in range(len(items.questions)):
        here = items.of_question(place)
        if items.whole[here[0]]:
            offered = items.offered[here[0]]
            known = shares[here[0], offered]
            counts[:, here[0], offered] = generator.multinomial(PARTICIPANTS, known / known.sum(), size=SIMULATED)
        else:
            chosen = several(shares[here, 1], generator)
            counts[:, here, 1], counts[:, here, 0] = chosen, PARTICIPANTS - chosen
    return counts


def several(shares: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """How many people chose each option of a list from which several are chosen, shape (S, options).

    Shares laid end to end in a random order, an option for every whole step of a ruler laid beside them.
    """
    size = (SIMULATED, PARTICIPANTS, len(shares))
    order = generator.random(size).argsort(axis=-1)
    ends = shares[order].cumsum(axis=-1)
    marks = np.ceil(np.concatenate([np.zeros((*size[:2], 1)), ends], axis=-1) - generator.random((*size[:2], 1)))
    taken = np.zeros(size)
    np.put_along_axis(taken, order, np.diff(marks, axis=-1), axis=-1)
    return np.asarray(taken.sum(axis=1))


@pytest.mark.slow
def test_respondents_drawn_from_people_come_out_at_the_floor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every planned answer is committed, and no dimension of either culture is off by more than sampling error."""
    with machine_in(tmp_path / "machine") as machine:
        began = time.monotonic()
        machine.done("run", str(EXAMPLE))
        took = time.monotonic() - began
        first, last = machine.rows("SELECT min(committed_at), max(committed_at) FROM answer")[0]
        with Database(machine.database_url) as database:
            analysis = analyse(read_results(database, "human-control"))
    progress = analysis.results.progress
    planned = progress.planned
    assert planned > 20_000
    assert (progress.answered, analysis.results.answers.state.size) == (planned, planned)
    with capsys.disabled():
        rates = f"{planned / (last - first):.0f}/s working, {planned / took:.0f}/s all in all"
        sys.stdout.write(f"\nhuman control, {planned} answers: {rates}\n")
    generator = np.random.default_rng(20250314)
    limit = norm.isf(ALPHA / 2 / (len(analysis.dimensions) * len(analysis.cultures)))
    assert len(analysis.dimensions) == 9
    for culture in analysis.cultures:
        (cell,) = culture.cells
        reference, grouping = culture.reference, analysis.items.grouping
        samples = as_people_would(analysis, culture, generator)
        scores = smoothed_kl(samples, reference.shares, reference.n, analysis.items.offered)
        null = grouped_mean(scores, grouping.dimension, grouping.dimensions)
        mean, spread = null.mean(axis=0), null.std(axis=0, ddof=1)
        known = ~np.isnan(cell.sound.by_dimension)
        assert known.sum() == 9
        floor_off = (mean - cell.sound_floor.by_dimension)[known] / spread[known] * np.sqrt(SIMULATED)
        assert np.abs(floor_off).max() < limit, "the expected floor is not what simulated people score"
        off = (cell.sound.by_dimension - cell.sound_floor.by_dimension)[known] / spread[known]
        assert np.abs(off).max() < limit, dict(zip(analysis.dimensions, off.round(2).tolist(), strict=True))
