"""From weighted counts of an official World Values Survey file to shares of answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defsurvey.storage.surveys.importers.imported import LOW_N
from defsurvey.storage.surveys.importers.wvs_codes import CHOSEN, STORED, columns_of
from defsurvey.storage.surveys.importers.wvs_counts import AGES, MISSING_SLOT, SLOTS, Counts
from defsurvey.storage.surveys.survey import Group, Question, QuestionType, ReferenceDistribution

#: Which sexes and ages of a count make up a group.
_MEMBERS: Mapping[Group, tuple[slice, slice]] = {
    Group.ALL: (slice(None), slice(None)),
    Group.MALE: (slice(1, 2), slice(None)),
    Group.FEMALE: (slice(2, 3), slice(None)),
    Group.AGE_LE29: (slice(None), slice(1, 2)),
    Group.AGE_30_49: (slice(None), slice(2, 3)),
    Group.AGE_50PLUS: (slice(None), slice(3, AGES)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Answers to one question in one culture, by sex and age; the last axis has the question's options."""

    weighted: NDArray[np.float64]
    asked: NDArray[np.bool_]  #: for each option whether it can be told; all True but for lists
    valid: NDArray[np.float64] | NDArray[np.int64]  #: (sex, age, option): respondents on whom the option's share rests
    valid_weight: NDArray[np.float64]  #: their summed weights
    valid_square: NDArray[np.float64]  #: the sum of these squared, one by one
    missing: int
    not_offered: int

    def distribution(self, question: Question, culture: str, group: Group, source: str) -> ReferenceDistribution | None:
        """The group's distribution; None where nobody in it answered.

        Its effective number of respondents is Kish's, (sum w)^2 / sum w^2; of a list the smallest of its options'.
        """
        sexes, ages = _MEMBERS[group]
        n = self.valid[sexes, ages].sum(axis=(0, 1))
        chosen = self.weighted[sexes, ages].sum(axis=(0, 1))
        whole = self.valid_weight[sexes, ages].sum(axis=(0, 1))
        squares = self.valid_square[sexes, ages].sum(axis=(0, 1))
        told = self.asked & (n > 0) & (whole > 0)
        if not told.any() or (question.type is not QuestionType.MULTIPLE and not told.all()):
            return None
        fewest = int(n[told].min())
        effective = min(float((whole[told] ** 2 / squares[told]).min()), float(fewest))
        shares = {code: float(chosen[place] / whole[place]) for place, code in enumerate(question.codes) if told[place]}
        return ReferenceDistribution(
            question=question.id,
            culture=culture,
            group=group,
            shares=shares,
            n=fewest,
            low_n=fewest < LOW_N,
            source=source,
            n_eff=effective,
        )


def tally(question: Question, counts: Counts, index: int) -> Tally | None:
    """None where the file does not have the question."""
    if question.type is QuestionType.MULTIPLE:
        return _list_tally(question, counts, index)
    for column, recoded in STORED.get(question.id, ((question.id, {}),)):
        if column in counts.weighted and counts.respondents[column][index, ..., :MISSING_SLOT].any():
            codes = recoded or {code: code for code in question.codes}
            weighted, respondents = counts.weighted[column][index], counts.respondents[column][index]
            squared = counts.squared[column][index]
            options = [[raw for raw, code in codes.items() if code == option] for option in question.codes]
            answers = np.stack([respondents[..., raw].sum(axis=-1) for raw in options], axis=-1)
            weights = np.stack([weighted[..., raw].sum(axis=-1) for raw in options], axis=-1)
            squares = np.stack([squared[..., raw].sum(axis=-1) for raw in options], axis=-1)
            missing = int(respondents[..., MISSING_SLOT].sum())
            return Tally(
                weighted=weights,
                asked=np.ones(len(question.codes), bool),
                valid=np.broadcast_to(answers.sum(axis=-1, keepdims=True), answers.shape),
                valid_weight=np.broadcast_to(weights.sum(axis=-1, keepdims=True), weights.shape),
                valid_square=np.broadcast_to(squares.sum(axis=-1, keepdims=True), squares.shape),
                missing=missing,
                not_offered=int(respondents.sum() - answers.sum()) - missing,
            )
    return None


def _list_tally(question: Question, counts: Counts, index: int) -> Tally | None:
    """A list: each option is a column, with 1 where it was mentioned and 2 where it was not."""
    columns = columns_of(question)
    shape = (*next(iter(counts.weighted.values())).shape[1:3], SLOTS)
    weighted = np.stack([_column(counts.weighted, column, index, shape) for column in columns], axis=-2)
    squared = np.stack([_column(counts.squared, column, index, shape) for column in columns], axis=-2)
    respondents = np.stack([_column(counts.respondents, column, index, shape) for column in columns], axis=-2)
    both = [CHOSEN, CHOSEN + 1]
    valid = respondents[..., both].sum(axis=-1)
    if not valid.any():
        return None
    missing = respondents[..., MISSING_SLOT].sum(axis=(0, 1))
    other = respondents.sum(axis=(0, 1, 3)) - valid.sum(axis=(0, 1)) - missing
    return Tally(
        weighted=weighted[..., CHOSEN],
        asked=np.array([column in counts.weighted for column in columns]),
        valid=valid,
        valid_weight=weighted[..., both].sum(axis=-1),
        valid_square=squared[..., both].sum(axis=-1),
        missing=int(missing.max()),
        not_offered=int(other.max()),
    )


def _column(
    counted: Mapping[str, NDArray[np.int64]] | Mapping[str, NDArray[np.float64]],
    column: str,
    index: int,
    shape: tuple[int, ...],
) -> NDArray[np.float64]:
    return counted[column][index].astype(np.float64) if column in counted else np.zeros(shape)
