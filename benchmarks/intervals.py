"""Coverage and width of the report's intervals on simulated models whose expected divergence is known.

    python -m benchmarks.intervals [--runs 400] [--participants 10 20 100]

Prints the table of docs/metrics.md. Every interval comes from the code that reports use, on 60 questions of the bundled
survey.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from defsurvey.reports.analysis import intervals
from defsurvey.reports.cells import ItemTable, ReferenceTable, item_table, reference_table
from defsurvey.reports.metrics.aggregate import grouped_mean, headline_mean
from defsurvey.reports.metrics.divergence import smoothed_kl
from defsurvey.storage.surveys.folder import find_survey

Floats = NDArray[np.float64]
#: Interviews behind the expected divergence of a setting.
TRUTH = 4_000
QUESTIONS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How simulated participants answer."""

    name: str
    people: float = 0.0  #: share of answers that are people's
    one: float = 0.0  #: share of answers that are always the same option
    #: The rest comes from a distribution of the model's own.
    power: float = 1.0  #: people's shares to this power
    together: float = 0.0  #: correlation of a participant's answers, by a common factor
    first: float = 0.0  #: share of participants who take the first option throughout
    valid: float = 1.0  #: share of answers that are valid


SETTINGS = (
    Setting(name="people", people=1.0),
    Setting(name="people, 85% valid", people=1.0, valid=0.85),
    Setting(name="people, common factor 0.1", people=1.0, together=0.1),
    Setting(name="people, common factor 0.3", people=1.0, together=0.3),
    Setting(name="people to the power of 1.5", people=1.0, power=1.5),
    Setting(name="near (85% people)", people=0.85),
    Setting(name="near, common factor 0.3", people=0.85, together=0.3),
    Setting(name="half people", people=0.5),
    Setting(name="half people, common factor 0.3", people=0.5, together=0.3),
    Setting(name="far (0% people)"),
    Setting(name="far, common factor 0.3", together=0.3),
    Setting(name="one answer, 80 of 100", one=0.8),
    Setting(name="one answer, 80 of 100, common factor 0.3", one=0.8, together=0.3),
    Setting(name="one answer, 97 of 100", one=0.97),
    Setting(name="a tenth take the first option", people=1.0, first=0.1),
    Setting(name="a fifth take the first option", people=1.0, first=0.2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What intervals of one setting did."""

    covered: float  #: share that holds the expected divergence
    dimensions: float  #: the same of value dimensions
    width: float  #: mean
    ideal: float  #: width of 1.96 true standard deviations to either side


class Simulation:
    """60 questions of the bundled survey, people of the United States."""

    def __init__(self) -> None:
        survey = find_survey("wvs7")
        ids = [question.id for question in survey.questions]
        picked = [ids[place] for place in np.linspace(0, len(ids) - 1, QUESTIONS).round().astype(int)]
        self.items: ItemTable = item_table(survey, picked)
        self.reference: ReferenceTable = reference_table(survey, self.items, "us")
        self._size = self.items.offered.sum(axis=1)
        own = np.where(self.items.offered, np.random.default_rng(99).dirichlet(np.ones(self.columns), len(self.own)), 0)
        self._own = own / own.sum(axis=1, keepdims=True)

    @property
    def columns(self) -> int:
        """Options of the longest question."""
        return self.items.offered.shape[1]

    @property
    def own(self) -> Floats:
        """People's shares, shape (I, K)."""
        return self.reference.shares

    def shares(self, setting: Setting) -> Floats:
        """How a model answers each item, shape (I, K)."""
        people = np.where(self.items.offered, self.own**setting.power, 0.0)
        people /= people.sum(axis=1, keepdims=True)
        one = np.eye(self.columns)[self._own.argmax(axis=1)]
        return (
            setting.people * people + setting.one * one + (1 - setting.people - setting.one) * self._own
        )  # shares of one item sum to 1

    def answers(self, setting: Setting, participants: int, runs: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """The option of each answer, -1 where it is not valid, shape (runs, P, I)."""
        shape = (runs, participants, len(self.own))
        lean = rng.normal(size=(runs, participants, 1))
        uniform = ndtr(np.sqrt(setting.together) * lean + np.sqrt(1 - setting.together) * rng.normal(size=shape))
        below = np.cumsum(self.shares(setting), axis=1)[:, :-1]
        chosen = np.minimum((uniform[..., None] > below).sum(axis=-1), self._size - 1)
        chosen = np.where(rng.random((runs, participants, 1)) < setting.first, 0, chosen)
        return np.where(rng.random(shape) < setting.valid, chosen, -1)

    def divergence(self, counts: Floats) -> Floats:
        """Smoothed KL, shape (..., I)."""
        return smoothed_kl(counts, self.reference.shares, self.reference.n, self.items.offered)

    def run(self, setting: Setting, participants: int, runs: int) -> Found:
        """Simulate one setting."""
        rng, grouping = np.random.default_rng(17), self.items.grouping
        values = np.concatenate(
            [
                self.divergence(np.stack([(given == k).sum(axis=1) for k in range(self.columns)], axis=-1))
                for given in (self.answers(setting, participants, 200, rng) for _ in range(TRUTH // 200))
            ]
        )
        figures = headline_mean(values, grouping)
        truth, spread = float(figures.mean()), float(figures.std())
        truths = np.nanmean(grouped_mean(values, grouping.dimension, grouping.dimensions), axis=0)
        covered, dimensions, widths = [], [], []
        for given in (one for _ in range(runs) for one in self.answers(setting, participants, 1, rng)):
            weights = (given[..., None] == np.arange(self.columns)).astype(np.float64)
            found = intervals(self.items, self.reference, weights, self.divergence(weights.sum(axis=0)))
            covered.append(found.headline.low <= truth <= found.headline.high)
            widths.append(found.headline.high - found.headline.low)
            dimensions += [
                each.low <= value <= each.high
                for each, value in zip(found.by_dimension, truths, strict=True)
                if not np.isnan(value)
            ]
        return Found(
            covered=float(np.mean(covered)),
            dimensions=float(np.mean(dimensions)),
            width=float(np.mean(widths)),
            ideal=2 * 1.96 * spread,
        )


def table(participants: list[int], runs: int) -> Iterator[str]:
    """Lines of Markdown."""
    simulation = Simulation()
    yield "| answers | " + " | ".join(f"n = {n}: covered | width | ideal | dimensions" for n in participants) + " |"
    yield "|---|" + "--:|" * (4 * len(participants))
    for setting in SETTINGS:
        found = [simulation.run(setting, n, runs) for n in participants]
        cells = [f"{each.covered:.1%} | {each.width:.3f} | {each.ideal:.3f} | {each.dimensions:.1%}" for each in found]
        yield f"| {setting.name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--participants", type=int, nargs="+", default=[10, 20, 100])
    options = parser.parse_args()
    for line in table(options.participants, options.runs):
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
