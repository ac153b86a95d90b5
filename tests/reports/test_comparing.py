"""Models compared under a known truth: how often a difference is claimed where there is none, and where one is."""

import numpy as np
import pytest
from scipy.stats import t as student

from defsurvey.reports.cells import (
    COMPARABLE,
    SIGNS_SEED,
    Compared,
    Floats,
    ItemTable,
    Pairs,
    ReferenceTable,
    Sample,
    compare,
    pairwise,
    sample_of,
    told_from_people,
)
from defsurvey.reports.metrics.aggregate import Grouping
from defsurvey.reports.metrics.comparisons import participants_apart, sign_flip

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


def answers(
    shares: Floats,
    rng: np.random.Generator,
    *,
    alike: float = 0.0,
    participants: int = PARTICIPANTS,
    valid: float = 1.0,
) -> Sample:
    """Participants of whom a share ``alike`` takes the first option throughout; of their answers some are not valid."""
    throughout = rng.random((participants, 1, 1)) < alike
    below = np.cumsum(np.where(throughout, FIRST, shares), axis=-1)
    chosen = (rng.random((participants, QUESTIONS, 1)) > below).sum(axis=-1).clip(max=OPTIONS - 1)
    given = rng.random((participants, QUESTIONS, 1)) < valid
    return sample_of(np.eye(OPTIONS)[chosen] * given, ITEMS, REFERENCE)


def compared(first: Sample, second: Sample) -> Compared:
    found = compare({"first": first, "second": second}, ITEMS, REFERENCE)
    assert found is not None
    return found


def paired(*samples: Sample) -> Pairs:
    """Every two models on the questions that they share."""
    found = pairwise({f"{place}": sample for place, sample in enumerate(samples)}, ITEMS, REFERENCE)
    assert found is not None
    return found


def test_equal_models_are_not_told_apart_for_a_few_participants() -> None:
    rng, by_question, told = np.random.default_rng(5), 0, 0
    for _ in range(60):
        both = [answers(PEOPLE, rng, alike=0.2) for _ in range(2)]
        pair = compared(*both)
        differences = pair.by_question[0] - pair.by_question[1]
        by_question += sign_flip(differences, np.random.default_rng(SIGNS_SEED), flips=499)[0] < 0.05
        told += paired(*both).p[0, 1] < 0.05
    assert by_question > 24
    assert told <= 6


def test_where_participants_answer_independently_little_power_is_lost() -> None:
    rng = np.random.default_rng(7)
    sharper = PEOPLE**2 / (PEOPLE**2).sum(axis=-1, keepdims=True)
    told, wrong, equal = 0, 0, 0
    for _ in range(30):
        pair = paired(answers(PEOPLE, rng), answers(sharper, rng))
        found = pair.p[0, 1] < 0.05
        told += found and pair.figures[0] < pair.figures[1]
        wrong += found and pair.figures[0] > pair.figures[1]
        equal += paired(answers(sharper, rng), answers(sharper, rng)).p[0, 1] < 0.05
    assert told >= 27
    assert wrong == 0
    assert equal <= 4


def test_the_variance_over_participants_is_the_jackknifes() -> None:
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


def test_people_are_told_from_who_exaggerates_them() -> None:
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


def test_many_cells_are_ranked_on_what_every_two_share() -> None:
    rng, uniform = np.random.default_rng(8), np.full((QUESTIONS, OPTIONS), 1 / OPTIONS)
    near, far = 0.95 * PEOPLE + 0.05 * uniform, 0.2 * PEOPLE + 0.8 * FIRST
    samples = [answers(near if place < 36 else far, rng, participants=13, valid=0.88) for place in range(72)]
    shared = np.stack([sample.counts.sum(axis=-1) >= COMPARABLE for sample in samples]).all(axis=0)
    assert shared.sum() <= 3
    found = paired(*samples)
    every_two = found.questions[np.triu_indices(72, k=1)]
    assert every_two.min() >= QUESTIONS / 2
    assert found.figures[:36].max() < found.figures[36:].min()
    apart = found.p < 0.05
    assert apart[:36, 36:].mean() > 0.9
    assert not apart[:36, :36].any()
    assert not apart[36:, 36:].any()


def test_a_cell_that_lacks_hard_questions_gains_nothing() -> None:
    rng, uniform = np.random.default_rng(4), np.full((QUESTIONS, OPTIONS), 1 / OPTIONS)
    hard = np.arange(QUESTIONS) % 2 == 0
    model = np.where(hard[:, None], FIRST, 0.9 * PEOPLE + 0.1 * uniform)
    samples = [answers(model, rng, participants=20) for _ in range(4)]
    easy = Sample(counts=samples[0].counts * ~hard[:, None], left_out=np.where(hard, np.nan, samples[0].left_out))
    whole, found = paired(*samples), paired(easy, *samples[1:])
    assert found.questions[0, 1] == (~hard).sum() < found.questions[1, 2] == QUESTIONS
    assert found.figures[0] == pytest.approx(whole.figures[0], abs=0.05)
    assert found.figures[1:] == pytest.approx(whole.figures[1:], abs=1e-9)
    assert not (found.p < 0.05).any()
