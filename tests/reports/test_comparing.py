"""Models compared under a known truth: how often a difference is claimed where there is none, and where one is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from reports.comparing import SIGNS_SEED, Compared, Sample, compare, pairwise, sample_of, told_from_people
from reports.items import Floats, ItemTable, ReferenceTable
from reports.metrics.aggregate import Grouping
from reports.metrics.comparisons import participants_apart, sign_flip

QUESTIONS, OPTIONS, PARTICIPANTS = 45, 4, 20
PEOPLE = np.random.default_rng(3).dirichlet(np.full(OPTIONS, 2.0), size=QUESTIONS)
OFFERED = np.ones((QUESTIONS, OPTIONS), bool)
NOTHING = np.full((QUESTIONS, OPTIONS), np.nan)
ITEMS = ItemTable(
    questions=(),
    grouping=Grouping(
        question=np.arange(QUESTIONS),
        questions=QUESTIONS,
        dimension=np.arange(QUESTIONS) % 9,
        dimensions=9,
        by_dimension=True,
    ),
    option=np.full(QUESTIONS, -1),
    offered=OFFERED,
    placed=OFFERED,
    code=NOTHING,
    direction=np.zeros(QUESTIONS, np.int64),
)
REFERENCE = ReferenceTable(
    shares=PEOPLE, n=np.full(QUESTIONS, 2000.0), asked=np.full(QUESTIONS, 2000.0), low_n=np.zeros(QUESTIONS, bool)
)
#: Who does this takes the same option throughout.
FIRST = np.eye(OPTIONS)[np.zeros(QUESTIONS, np.int64)]


def answers(shares: Floats, rng: np.random.Generator, *, alike: float = 0.0) -> Sample:
    """Twenty participants, of whom a share ``alike`` takes the first option throughout."""
    throughout = rng.random((PARTICIPANTS, 1, 1)) < alike
    below = np.cumsum(np.where(throughout, FIRST, shares), axis=-1)
    chosen = (rng.random((PARTICIPANTS, QUESTIONS, 1)) > below).sum(axis=-1).clip(max=OPTIONS - 1)
    return sample_of(np.eye(OPTIONS)[chosen], ITEMS, REFERENCE)


def compared(first: Sample, second: Sample) -> Compared:
    """Two models on the same questions."""
    found = compare({"first": first, "second": second}, ITEMS, REFERENCE)
    assert found is not None
    return found


def test_equal_models_are_not_told_apart_for_a_few_participants() -> None:
    """Of two equal models one happens to have more who answer all alike: by questions alone that is a difference."""
    rng, by_question, told = np.random.default_rng(5), 0, 0
    for _ in range(60):
        pair = compared(*(answers(PEOPLE, rng, alike=0.2) for _ in range(2)))
        differences = pair.by_question[0] - pair.by_question[1]
        by_question += sign_flip(differences, np.random.default_rng(SIGNS_SEED), flips=499)[0] < 0.05
        told += pairwise(pair)[0, 1] < 0.05
    assert by_question > 24
    assert told <= 6


def test_where_participants_answer_independently_little_power_is_lost() -> None:
    """A model that answers as people do comes before one that gives their commonest answers more often."""
    rng = np.random.default_rng(7)
    sharper = PEOPLE**2 / (PEOPLE**2).sum(axis=-1, keepdims=True)
    told, wrong, equal = 0, 0, 0
    for _ in range(30):
        pair = compared(answers(PEOPLE, rng), answers(sharper, rng))
        found = pairwise(pair)[0, 1] < 0.05
        told += found and pair.figures[0] < pair.figures[1]
        wrong += found and pair.figures[0] > pair.figures[1]
        equal += pairwise(compared(answers(sharper, rng), answers(sharper, rng)))[0, 1] < 0.05
    assert told >= 27
    assert wrong == 0
    assert equal <= 4


def test_the_variance_over_participants_is_the_jackknifes() -> None:
    """Two models of different size, two questions: by hand."""
    rng = np.random.default_rng(0)
    left_out = [rng.normal(size=(6, 2)), rng.normal(size=(4, 2))]
    left_out[0][:, 1] = left_out[0][:, 0]  # its participants move both questions together
    differences = np.array([[0.6], [0.2]])
    moved = np.zeros((6, 2))
    for changes, sign in zip(left_out, (1, -1), strict=True):
        size = len(changes)
        moved[:size] += sign * np.sqrt((size - 1) / size) * (changes - changes.mean(axis=0))
    beyond = (moved.sum(axis=1) ** 2).sum() - (moved**2).sum()
    assert beyond > 0
    over_questions = (differences**2).sum()
    freedom = (over_questions + beyond) ** 2 / (over_questions**2 / 2 + beyond**2 / 3)
    expected = 2 * student.sf(0.8 / np.sqrt(over_questions + beyond), freedom)
    assert participants_apart(left_out, [[1.0, -1.0]], differences)[0] == pytest.approx(expected, abs=1e-12)


def test_who_answered_nothing_is_no_participant() -> None:
    """A run of which most participants are still to come has the degrees of freedom of those who were there."""
    rng = np.random.default_rng(4)
    given = (rng.random((12, QUESTIONS, 1)) > np.cumsum(PEOPLE, axis=-1)).sum(axis=-1).clip(max=OPTIONS - 1)
    few = np.eye(OPTIONS)[given]
    planned = np.concatenate([few, np.zeros((300, QUESTIONS, OPTIONS))])
    other = answers(PEOPLE, rng)
    alone, among = (pairwise(compared(sample_of(each, ITEMS, REFERENCE), other))[0, 1] for each in (few, planned))
    assert among == pytest.approx(alone, abs=1e-12)


def test_people_are_told_from_who_exaggerates_them() -> None:
    """By themselves too, and not only beside a model that answers as they do; people are, by chance, in 1 of 20."""
    rng = np.random.default_rng(11)
    sharper = PEOPLE**2 / (PEOPLE**2).sum(axis=-1, keepdims=True)
    told = [
        np.mean([told_from_people(answers(shares, rng), ITEMS, REFERENCE) < 0.05 for _ in range(40)])
        for shares in (PEOPLE, sharper)
    ]
    assert told[0] <= 0.15
    assert told[1] >= 0.9
    few = Sample(counts=np.zeros((QUESTIONS, OPTIONS)), left_out=np.full((2, QUESTIONS), np.nan))
    assert np.isnan(told_from_people(few, ITEMS, REFERENCE))


def test_a_panel_says_nothing_of_other_participants() -> None:
    """One participant who lists all answers: what is left is the variance over questions, with as many degrees."""
    differences = np.array([[0.6], [0.2]])
    panel = [np.array([[0.3, 0.3]]), np.array([[0.2, 0.1]])]
    found = participants_apart(panel, [[1.0, -1.0]], differences)[0]
    assert found == pytest.approx(2 * student.sf(0.8 / np.sqrt((differences**2).sum()), 2), abs=1e-12)
