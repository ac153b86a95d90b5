"""A run's questions as items, and cells of one culture compared on them, at one number of answers to each question.

A difference counts where it would hold for other questions like these (their signs turned) and for other participants
of these models as well (each left out in turn): what the same participants answer to several questions hangs together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from defsurvey.reports.metrics.aggregate import Grouping, grouped_sum, headline_mean, headline_weights
from defsurvey.reports.metrics.comparisons import (
    FLIPS,
    Place,
    holm,
    participants_apart,
    places,
    rearrangements_for,
    sign_flip,
)
from defsurvey.reports.metrics.divergence import corrected_kl, expected_corrected_kl, without_one
from defsurvey.storage.surveys.survey import Group, Question, QuestionType, Survey, Value

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Fewest valid answers to a question with which it enters a comparison, and the number that every cell is brought to.
#: Were it the smallest number found, a cell that answers less would change the yardstick for all the others.
COMPARABLE = 10
#: Two cells with an adjusted p below this are told apart.
LEVEL = 0.05
#: Seed of the sign vectors: the same answers always give the same p.
SIGNS_SEED = 20250314


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTable:
    """The I items of Q questions, the same for every culture; K is the size of the largest."""

    questions: tuple[Question, ...]
    grouping: Grouping  #: to which question and value dimension each item belongs
    option: Ints  #: position of the option in its question, -1 where the item is the whole question, shape (I,)
    offered: Bools  #: which columns the item has, shape (I, K)
    placed: Bools  #: which columns have a place in the order: all but residual options, shape (I, K)
    code: Floats  #: the option's code; of a list's option 0 not chosen, 1 chosen; nan where not placed, shape (I, K)
    direction: Ints  #: +1 if a higher code means more of the dimension, -1 if less, 0 without one, shape (I,)

    @property
    def question(self) -> Ints:
        """Position of each item's question, shape (I,)."""
        return self.grouping.question

    @property
    def whole(self) -> Bools:
        """Which items are whole questions, shape (I,)."""
        return self.option < 0

    def of_question(self, question: int) -> Ints:
        """Positions of a question's items, in the order of its options."""
        return np.flatnonzero(self.question == question)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceTable:
    """What people of one culture answered, per item."""

    shares: Floats  #: shape (I, K); a row of nan where there is no reference
    n: Floats  #: effective number of people behind it, shape (I,); nan where there is none
    asked: Floats  #: people who answered, more than ``n`` where they are weighted unequally, shape (I,)
    low_n: Bools  #: marked as too few people, shape (I,)


def item_table(survey: Survey, ids: Sequence[str]) -> ItemTable:
    """The items of these questions; a residual option ("other") has no code, however it is numbered."""
    questions = tuple(survey.question(name) for name in ids)
    rows: list[tuple[int, int, Value | None, list[float]]] = []
    for place, question in enumerate(questions):
        if question.type is QuestionType.MULTIPLE:
            rows += [(place, at, option.value, [0.0, 1.0]) for at, option in enumerate(question.options)]
        else:
            codes = [np.nan if option.residual else float(option.code) for option in question.options]
            rows.append((place, -1, question.value, codes))
    places, options, values, given = zip(*rows, strict=True)
    sizes = np.array([len(codes) for codes in given])
    offered = np.arange(sizes.max()) < sizes[:, None]
    code = np.full(offered.shape, np.nan)
    code[offered] = np.concatenate(given)
    dimensions = {name: place for place, name in enumerate(survey.dimensions)}
    return ItemTable(
        questions=questions,
        grouping=Grouping(
            question=np.array(places, dtype=np.int64),
            questions=len(questions),
            dimension=np.array([-1 if value is None else dimensions[value.dimension] for value in values]),
            dimensions=len(dimensions),
            by_dimension=any(value is not None for value in values),
        ),
        option=np.array(options, dtype=np.int64),
        offered=offered,
        placed=~np.isnan(code),
        code=code,
        direction=np.array([0 if value is None else value.direction for value in values], dtype=np.int64),
    )


def reference_table(survey: Survey, items: ItemTable, culture: str, group: Group = Group.ALL) -> ReferenceTable:
    """What a group of one culture answered, per item, shares of ordinary questions made to sum to 1.

    An option that a multiple-choice reference does not name was not published for that group: unknown, never 0.
    An ordinary reference names every option that anyone chose, so that one not named has share 0.
    """
    shares, low = np.full(items.offered.shape, np.nan), np.zeros(len(items.offered), dtype=bool)
    n, asked = np.full((2, len(items.offered)), np.nan)
    for place, question in enumerate(items.questions):
        reference = survey.reference(question.id, culture, group)
        if reference is None:
            continue
        here, listed = items.of_question(place), question.type is QuestionType.MULTIPLE
        absent = np.nan if listed else 0.0
        given = np.array([reference.shares.get(code, absent) for code in question.codes], dtype=np.float64)
        low[here] = reference.low_n
        if listed:
            shares[here] = 0.0
            shares[here, 0], shares[here, 1] = 1.0 - given, given
            here = here[~np.isnan(given)]
        elif given.sum() > 0:
            shares[here] = 0.0
            shares[here, : len(given)] = given / given.sum()
        else:
            low[here] = False
            continue
        n[here], asked[here] = reference.effective_n, reference.n
    shares[np.isnan(shares).any(axis=-1)] = np.nan
    return ReferenceTable(shares=shares, n=n, asked=asked, low_n=low)


def uniform_shares(items: ItemTable) -> Floats:
    """Uniform answers (I, K): every option alike; of a list of k options, 1 to the maximum, each number alike."""
    shares = items.offered / items.offered.sum(axis=-1, keepdims=True)
    for item in np.flatnonzero(~items.whole):
        question = items.questions[items.question[item]]
        chosen = (1 + min(question.max_choices, len(question.options))) / 2 / len(question.options)
        shares[item, :2] = 1 - chosen, chosen
    return np.asarray(shares, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one cell is compared by."""

    counts: Floats  #: valid answers per item and category, shape (I, K)
    left_out: Floats  #: by how much each item's corrected KL changes without one of the participants, shape (P, I);
    #: nan where that one has no valid answer


def sample_of(weights: Floats, items: ItemTable, reference: ReferenceTable) -> Sample:
    """What a cell is compared by: how often each participant chose each category, shape (P, I, K)."""
    counts = weights.sum(axis=0)
    left_out = without_one(corrected_kl, counts, reference.shares, reference.n, items.offered)
    changes = np.einsum("pik,ik->pi", weights, left_out)
    return Sample(counts=counts, left_out=np.where(weights.any(axis=-1), changes, np.nan))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """M cells on the items of the headline where all have at least n valid answers, each rarefied to n of them."""

    names: tuple[str, ...]
    common: Bools  #: items compared, shape (I,)
    values: Floats  #: corrected KL, nats, of the items compared, shape (M, C)
    left_out: tuple[Floats, ...]  #: what leaving out a participant adds to ``by_question``, a cell's of shape (P, Q');
    #: a row of nan for one without an answer to any of it
    grouping: Grouping  #: of the items compared
    n: int

    @property
    def questions(self) -> int:
        """How many questions are compared."""
        return len(np.unique(self.grouping.question))

    @property
    def by_question(self) -> Floats:
        """What each question adds to the headline mean of each cell, shape (M, Q')."""
        return _by_question(self.values, self.grouping)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Two groups of cells, paired by question."""

    first: str
    second: str
    difference: float  #: mean of the first less mean of the second, nats; negative: the first is closer
    p: float  #: two-sided: the larger of that over questions and that over participants
    p_holm: float  #: adjusted over the contrasts planned together
    questions: int
    n: int  #: valid answers per question that every cell was brought down to


def enough(counts: Floats, items: ItemTable, reference: ReferenceTable, *, of_all: bool = False) -> float:
    """Share of the headline's questions (or of all) with a reference to which a cell has enough valid answers."""
    known = ~np.isnan(reference.n) & (of_all | items.grouping.headline)
    asked, having = (np.unique(items.question[of]) for of in (known, known & (counts.sum(axis=-1) >= COMPARABLE)))
    return len(having) / len(asked) if asked.size else np.nan


def comparable(counts: Floats, items: ItemTable, reference: ReferenceTable) -> bool:
    """Whether a cell has enough valid answers to half of the headline's questions; else it is compared with none."""
    return enough(counts, items, reference) >= 0.5


def answered(counts: Floats, items: ItemTable, reference: ReferenceTable) -> bool:
    """Whether a cell has enough valid answers to half of all questions with a reference, for what is of them all."""
    return enough(counts, items, reference, of_all=True) >= 0.5


def compare(samples: Mapping[str, Sample], items: ItemTable, reference: ReferenceTable) -> Compared | None:
    """Bring cells, by name, to the headline's questions that all answered enough, if any, and to as many answers."""
    values = _corrected(samples, items, reference)
    common = ~np.isnan(values).any(axis=0) & items.grouping.headline
    if not common.any():
        return None
    grouping = items.grouping.of(common)
    return Compared(
        names=tuple(samples),
        common=common,
        values=values[:, common],
        left_out=tuple(_left_out(sample.left_out[:, common], grouping) for sample in samples.values()),
        grouping=grouping,
        n=COMPARABLE,
    )


def _corrected(samples: Mapping[str, Sample], items: ItemTable, reference: ReferenceTable) -> Floats:
    """Corrected KL of every cell and item, shape (M, I); nan without a reference, or of too few answers."""
    known = reference.shares, reference.n, items.offered
    return np.stack([corrected_kl(sample.counts, *known, COMPARABLE) for sample in samples.values()])


def _left_out(changes: Floats, grouping: Grouping) -> Floats:
    found = _by_question(np.nan_to_num(changes), grouping)
    found[np.isnan(changes).all(axis=1)] = np.nan
    return found


def _by_question(values: Floats, grouping: Grouping) -> Floats:
    """What each question adds to the headline mean of values (..., C), shape (..., Q')."""
    asked, place = np.unique(grouping.question, return_inverse=True)
    return grouped_sum(values * headline_weights(grouping), place, len(asked))


def told_from_people(sample: Sample, items: ItemTable, reference: ReferenceTable) -> float:
    """Two-sided p that a cell is as far from people, by the corrected KL, as people themselves would be.

    The tests are those between cells: people are known, so that only the cell varies. nan where none is possible.
    """
    alone = compare({"": sample}, items, reference)
    if alone is None:
        return float("nan")
    known, asked, offered = (each[alone.common] for each in (reference.shares, reference.n, items.offered))
    people = _by_question(expected_corrected_kl(known, known, asked, offered, alone.n), alone.grouping)
    return float(_p(alone.left_out, np.ones((1, 1)), (alone.by_question[0] - people)[:, None])[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """M cells, every two of them compared on the items of the headline where both have at least n valid answers."""

    names: tuple[str, ...]
    items: Bools  #: that at least two cells share, shape (I,)
    figures: Floats  #: corrected KL of each cell over all of these items, by an additive fit, nats, shape (M,)
    p: Floats  #: Holm-adjusted, shape (M, M); 1 where the two differ the other way round than their figures
    questions: Ints  #: that two cells share, shape (M, M); on the diagonal those that a cell shares with any


def pairwise(samples: Mapping[str, Sample], items: ItemTable, reference: ReferenceTable) -> Pairs | None:
    """Compare every two of at least two cells on what they share of the headline, if any two share anything."""
    values = _corrected(samples, items, reference)
    usable = ~np.isnan(values) & items.grouping.headline
    shared = usable.sum(axis=0) > 1
    if not shared.any():
        return None
    usable &= shared
    figures = _fitted(values[:, shared], usable[:, shared], headline_weights(items.grouping.of(shared)))
    p, questions = _every_two(list(samples.values()), values, usable, items.grouping, figures)
    return Pairs(names=tuple(samples), items=shared, figures=figures, p=p, questions=questions)


def _fitted(values: Floats, usable: Bools, weights: Floats) -> Floats:
    """The mean of each cell over all items, shape (M,): what it lacks is taken from an additive fit.

    Least squares of value = cell + item over what is usable, each item by its weight in the mean. Of cells that all
    have every item it is their plain mean.
    """
    weighed, count = usable * weights, usable.sum(axis=0)
    known = np.where(usable, values, 0.0)
    level = known.sum(axis=0) / count
    normal = np.diag(weighed.sum(axis=1)) - (weighed / count) @ usable.T
    cells = np.linalg.lstsq(normal, (weighed * (known - level)).sum(axis=1), rcond=None)[0]
    by_item = np.where(usable, known - cells[:, None], 0.0).sum(axis=0) / count
    return np.asarray(cells + weights @ by_item, dtype=np.float64)


def _every_two(
    samples: Sequence[Sample], values: Floats, usable: Bools, grouping: Grouping, figures: Floats
) -> tuple[Floats, Ints]:
    """Holm-adjusted p of every two cells and how many questions they share, each of shape (M, M)."""
    first, second = np.triu_indices(len(samples), k=1)
    differences = np.zeros((grouping.questions, len(first)))
    over_participants = np.full(len(first), np.nan)
    questions = np.diag([len(np.unique(grouping.question[mine])) for mine in usable])
    for pair, (one, other) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        common = usable[one] & usable[other]
        if not common.any():
            continue
        here = grouping.of(common)
        asked = np.unique(here.question)
        found = _by_question(values[one, common], here) - _by_question(values[other, common], here)
        left_out = [_left_out(samples[cell].left_out[:, common], here) for cell in (one, other)]
        over_participants[pair] = participants_apart(left_out, [[1.0, -1.0]], found[:, None])[0]
        differences[asked, pair] = found
        questions[one, other] = questions[other, one] = len(asked)
    tested = np.maximum(_over_questions(differences), over_participants)
    adjusted = np.nan_to_num(holm(tested), nan=1.0)
    # on its own questions a pair may differ the other way round than in the order: that tells nothing of the order
    against = differences.sum(axis=0) * (figures[first] - figures[second]) < 0
    p = np.ones((len(samples), len(samples)))
    p[first, second] = p[second, first] = np.where(against, 1.0, adjusted)
    return p, questions


def _over_questions(differences: Floats) -> Floats:
    """p over questions; as finely as Holm needs over so many pairs, of those that may yet be told apart."""
    differences = differences[differences.any(axis=1)]
    p = sign_flip(differences, np.random.default_rng(SIGNS_SEED))
    needed = rearrangements_for(differences.shape[1])
    if needed > FLIPS:
        close = p < LEVEL
        p[close] = sign_flip(differences[:, close], np.random.default_rng(SIGNS_SEED + 1), flips=needed)
    return p


def _p(left_out: Sequence[Floats], signs: Floats, differences: Floats) -> Floats:
    """The larger p of the test over questions and of that over participants, of contrasts (Q, C), shape (C,)."""
    over_questions = sign_flip(differences, np.random.default_rng(SIGNS_SEED))
    return np.maximum(over_questions, participants_apart(left_out, signs, differences))


#: Name of a group, its cells, name of another group, its cells.
Plan = tuple[str, Sequence[str], str, Sequence[str]]


def contrasts(compared: Compared, planned: Sequence[Plan]) -> tuple[Contrast, ...]:
    """Test planned contrasts of groups of cells, Holm over all; one of which a group was not compared is left out."""
    place = {name: at for at, name in enumerate(compared.names)}
    known, signs = [], []
    for first, mine, second, theirs in planned:
        groups = [[place[name] for name in group if name in place] for group in (mine, theirs)]
        if all(groups):
            known.append((first, second))
            one, other = (np.eye(len(place))[group].mean(axis=0) for group in groups)
            signs.append(one - other)
    if not known:
        return ()
    weighing = np.stack(signs)  # how each contrast weighs the cells, shape (C, M)
    by_question = (weighing @ compared.by_question).T
    p = _p(compared.left_out, weighing, by_question)
    figures = zip(known, by_question.sum(axis=0).tolist(), p.tolist(), holm(p).tolist(), strict=True)
    return tuple(
        Contrast(
            first=first,
            second=second,
            difference=difference,
            p=alone,
            p_holm=adjusted,
            questions=compared.questions,
            n=compared.n,
        )
        for (first, second), difference, alone, adjusted in figures
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Cells of one culture, closest first; empty where ``reason`` says why."""

    order: tuple[tuple[str, float], ...] = ()  #: name, corrected KL in nats
    places: tuple[Place, ...] = ()  #: of each, ties shared
    p: Floats = field(default_factory=lambda: np.zeros((0, 0)))  #: Holm-adjusted, pairs in the order of ``order``
    unranked: tuple[tuple[str, float], ...] = ()  #: name, share of the headline's questions with enough valid answers
    questions: int = 0  #: that at least two cells share
    shared: Ints = field(default_factory=lambda: np.zeros((0, 0), np.int64))  #: questions that a pair is compared on
    n: int = 0  #: valid answers per question that every cell was brought down to
    people: float = np.nan  #: what n real people would score on those questions
    random: float = np.nan  #: what n respondents who answer at random would score
    reason: str = ""

    @property
    def winner(self) -> str:
        """The cell that holds the first place alone; empty where there is none."""
        return self.order[0][0] if self.order and self.places[0].last == 1 else ""

    @property
    def apart(self) -> Bools:
        """Which pairs are told apart, shape (M, M)."""
        return np.asarray(self.p < LEVEL)


def rank(samples: Mapping[str, Sample], items: ItemTable, reference: ReferenceTable) -> Ranking:
    """Order cells by corrected KL over the headline's questions, every two on those that they share, at equal n."""
    if len(samples) < 2:
        return Ranking(reason="there is one cell: nothing to compare")
    if np.isnan(reference.n).all():
        return Ranking(reason="no question has a reference")
    if np.isnan(reference.n[items.grouping.headline]).all():
        return Ranking(reason="no question of a value dimension has a reference")
    covered = {name: enough(sample.counts, items, reference) for name, sample in samples.items()}
    eligible = {name: samples[name] for name, share in covered.items() if share >= 0.5}
    unranked = tuple((name, share) for name, share in covered.items() if name not in eligible)
    if len(eligible) < 2:
        who = "only one cell" if eligible else "no cell"
        return Ranking(
            unranked=unranked,
            reason=f"{who} has {COMPARABLE} valid answers to at least half of the questions behind the mean",
        )
    pairs = pairwise(eligible, items, reference)
    if pairs is None:
        return Ranking(unranked=unranked, reason=f"no question has {COMPARABLE} valid answers in any two cells")
    compared, grouping = pairs.items, items.grouping.of(pairs.items)
    figures = list(zip(pairs.names, pairs.figures.tolist(), strict=True))
    order = sorted(range(len(figures)), key=lambda place: (figures[place][1], figures[place][0]))
    ordered = [figures[place] for place in order]
    p = pairs.p[np.ix_(order, order)]

    def expected(source: Floats) -> float:
        people = reference.shares[compared], reference.n[compared]
        values = expected_corrected_kl(source[compared], *people, items.offered[compared], COMPARABLE)
        return float(headline_mean(values, grouping))

    return Ranking(
        order=tuple(ordered),
        places=places([figure for _, figure in ordered], p < LEVEL),
        p=p,
        unranked=unranked,
        questions=len(np.unique(grouping.question)),
        shared=pairs.questions[np.ix_(order, order)],
        n=COMPARABLE,
        people=expected(reference.shares),
        random=expected(uniform_shares(items)),
    )
