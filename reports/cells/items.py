"""A run's questions as items, and its answers counted by item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defsurvey.reports.metrics.aggregate import Grouping
from defsurvey.storage.runs.results import STATES, AnswerArrays
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.surveys.survey import Group, Question, QuestionType, Survey, Value

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ANSWERED = STATES.index(AnswerState.ANSWERED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTable:
    """The I items of Q questions, the same for every culture; K is the size of the largest."""

    questions: tuple[Question, ...]
    grouping: Grouping  #: to which question and value dimension each item belongs
    option: Ints  #: position of the option in its question, -1 where the item is the whole question, shape (I,)
    offered: NDArray[np.bool_]  #: which columns the item has, shape (I, K)
    placed: NDArray[np.bool_]  #: which columns have a place in the order: all but residual options, shape (I, K)
    code: Floats  #: the option's code; of a list's option 0 not chosen, 1 chosen; nan where not placed, shape (I, K)
    direction: Ints  #: +1 if a higher code means more of the dimension, -1 if less, 0 without one, shape (I,)

    @property
    def question(self) -> Ints:
        """Position of each item's question, shape (I,)."""
        return self.grouping.question

    @property
    def whole(self) -> NDArray[np.bool_]:
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
    low_n: NDArray[np.bool_]  #: marked as too few people, shape (I,)


def _value(question: Question, option: int) -> Value | None:
    return question.value if option < 0 else question.options[option].value


def item_table(survey: Survey, ids: Sequence[str]) -> ItemTable:
    """The items of these questions."""
    questions = tuple(survey.question(name) for name in ids)
    positions = [
        (place, option)
        for place, question in enumerate(questions)
        for option in (range(len(question.options)) if question.type is QuestionType.MULTIPLE else (-1,))
    ]
    dimensions = {code: place for place, code in enumerate(survey.dimensions)}
    values = [_value(questions[place], option) for place, option in positions]
    sizes = np.array([2 if option >= 0 else len(questions[place].options) for place, option in positions])
    offered = np.arange(sizes.max()) < sizes[:, None]
    code = _codes(questions, positions, offered)
    return ItemTable(
        questions=questions,
        grouping=Grouping(
            question=np.array([place for place, _ in positions], dtype=np.int64),
            questions=len(questions),
            dimension=np.array([-1 if value is None else dimensions[value.dimension] for value in values]),
            dimensions=len(dimensions),
            by_dimension=any(value is not None for value in values),
        ),
        option=np.array([option for _, option in positions], dtype=np.int64),
        offered=offered,
        placed=~np.isnan(code),
        code=code,
        direction=np.array([0 if value is None else value.direction for value in values], dtype=np.int64),
    )


def _codes(questions: Sequence[Question], positions: Sequence[tuple[int, int]], offered: NDArray[np.bool_]) -> Floats:
    """Codes to take means of; a residual option ("other") has none, however it is numbered."""
    code = np.full(offered.shape, np.nan)
    for row, (place, option) in enumerate(positions):
        given = questions[place].options
        code[row, : 2 if option >= 0 else len(given)] = (
            [0.0, 1.0] if option >= 0 else [np.nan if each.residual else float(each.code) for each in given]
        )
    return code


def reference_table(survey: Survey, items: ItemTable, culture: str, group: Group = Group.ALL) -> ReferenceTable:
    """What a group of one culture answered, per item, shares of ordinary questions made to sum to 1.

    An option that a multiple-choice reference does not name was not published for that group: unknown, never 0.
    An ordinary reference names every option that anyone chose, so that one not named has share 0.
    """
    count, columns = items.offered.shape
    shares, low = np.full((count, columns), np.nan), np.zeros(count, dtype=bool)
    n, asked = np.full(count, np.nan), np.full(count, np.nan)
    for place, question in enumerate(items.questions):
        reference = survey.reference(question.id, culture, group)
        if reference is None:
            continue
        here = items.of_question(place)
        listed = question.type is QuestionType.MULTIPLE
        absent = np.nan if listed else 0.0
        given = np.array([reference.shares.get(code, absent) for code in question.codes], dtype=np.float64)
        if not listed and not given.sum() > 0:
            continue
        shares[here] = 0.0
        if listed:
            shares[here, 0], shares[here, 1] = 1.0 - given, given
            shares[here[np.isnan(given)]] = np.nan
        else:
            shares[here, : len(given)] = given / given.sum()
        n[here], asked[here], low[here] = reference.effective_n, reference.n, reference.low_n
        unknown = here[np.isnan(shares[here]).any(axis=-1)]
        n[unknown] = asked[unknown] = np.nan
    return ReferenceTable(shares=shares, n=n, asked=asked, low_n=low)


def answer_weights(answers: AnswerArrays, items: ItemTable, cell: int, participants: int) -> Floats:
    """What each participant of a cell answered: 1 in the category chosen, shape (P, I, K).

    An item without a valid answer is all 0; answers in several slots add up.
    """
    here = (answers.cell == cell) & (answers.state == ANSWERED)
    person, question = answers.participant[here].astype(np.int64), answers.question[here].astype(np.int64)
    choices = answers.choices[here]
    people = max(participants, int(person.max(initial=-1)) + 1)
    weights = np.zeros((people, *items.offered.shape))
    first = np.zeros(len(items.questions), dtype=np.int64)
    first[items.question[::-1]] = np.arange(len(items.question))[::-1]
    single = items.whole[first[question]]
    # the number of zeros below the one bit set is the position of the option chosen
    chosen = np.bitwise_count(choices[single] - 1).astype(np.int64)
    np.add.at(weights, (person[single], first[question[single]], chosen), 1.0)
    for item in np.flatnonzero(~items.whole):
        rows = question == items.question[item]
        picked = (choices[rows] >> items.option[item]) & 1
        np.add.at(weights, (person[rows], np.full(int(rows.sum()), item), picked), 1.0)
    return weights


def uniform_shares(items: ItemTable) -> Floats:
    """Uniform answers (I, K): every option alike; of a list of k options, 1 to the maximum, each number alike."""
    shares = items.offered / items.offered.sum(axis=-1, keepdims=True)
    for item in np.flatnonzero(~items.whole):
        question = items.questions[items.question[item]]
        chosen = (1 + min(question.max_choices, len(question.options))) / 2 / len(question.options)
        shares[item, :2] = 1 - chosen, chosen
    return np.asarray(shares, dtype=np.float64)


def valid_answers(answers: AnswerArrays, cell: int, questions: int) -> Ints:
    """Valid answers per question of a cell, shape (Q,)."""
    here = (answers.cell == cell) & (answers.state == ANSWERED)
    return np.bincount(answers.question[here], minlength=questions).astype(np.int64)


def state_counts(answers: AnswerArrays, cell: int, participants: int) -> dict[AnswerState, Ints]:
    """How many answers of each participant of a cell ended in each state, shape (P,)."""
    here = answers.cell == cell
    person, state = answers.participant[here].astype(np.int64), answers.state[here]
    people = max(participants, int(person.max(initial=-1)) + 1)
    return {
        STATES[place]: np.bincount(person[state == place], minlength=people).astype(np.int64)
        for place in range(len(STATES))
    }
