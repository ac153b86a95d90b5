"""A finished (or unfinished) run as reports read it: arrays, not one object per answer.

How they are read from SQL is in ``storage.runs.store``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from defsurvey.storage.runs.probe import Probe
from defsurvey.storage.runs.run import Answer, AnswerState, EngineDescription, Progress, Run
from defsurvey.storage.surveys.survey import Survey

#: Codes of ``AnswerArrays.state``: the position in this tuple.
STATES: tuple[AnswerState, ...] = tuple(AnswerState)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerArrays:
    """One row per stored answer, ordered by cell, participant, question, slot; every array has shape (n,)."""

    cell: NDArray[np.int32]  #: position in ``Run.cells``
    participant: NDArray[np.int32]  #: the participant's index within its cell
    question: NDArray[np.int32]  #: position in ``Run.questions``
    slot: NDArray[np.int32]
    state: NDArray[np.int8]  #: position in ``STATES``
    choices: NDArray[np.int64]  #: bit k is set if option k (the survey's order) was chosen
    shown: NDArray[np.int64]  #: code of the option shown first
    digest: NDArray[np.int64]  #: hash of the completion: equal replies have equal digests


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawArrays:
    """What was drawn on the axes of DEF; a configuration is what an engine really used, not what it was asked for.

    One row per participant, or, where the axes are drawn anew for every question, one per answer; shape (n,).
    """

    cell: NDArray[np.int32]  #: position in ``Run.cells``
    participant: NDArray[np.int32]  #: the participant's index within its cell
    question: NDArray[np.int32]  #: position in ``Run.questions``; -1: the draw holds for all of them
    num_beams: NDArray[np.float64]  #: nan: the provider's default
    do_sample: NDArray[np.float64]  #: 1 or 0; nan: the provider's default
    memory_capacity: NDArray[np.int64]
    region: NDArray[np.int32]  #: position in ``regions``; -1: the country alone
    regions: tuple[str, ...]  #: codes of the regions drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbabilityRow:
    """The probability of one option of a question by the next token, the options shown in one of several orders."""

    cell: int  #: position in ``Run.cells``
    question: str
    order: int  #: which order; a question's distribution is the mean over its orders
    option: int  #: code
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer with what is needed to show it as it was asked."""

    cell: int  #: position in ``Run.cells``
    participant: int  #: index within the cell
    answer: Answer
    remembered_questions: tuple[str, ...]  #: ids of the questions remembered, in the order shown


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """Tokens of a model's answers, as far as its engine counted them."""

    answers: int  #: that carry both counts
    prompt: int  #: summed over these
    completion: int
    seconds: float  #: of the same answers, summed


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything that a report of one run is made of."""

    run: Run
    survey: Survey
    answers: AnswerArrays
    samples: tuple[Sample, ...]  #: a few, spread over cells and states; then one of each question that has none yet
    progress: Progress
    engines: Mapping[str, EngineDescription]  #: model -> what served it
    versions: Mapping[str, str]  #: package -> version that computed the answers
    revision: int  #: of the ledger: number of answers committed, retries included
    model_seconds: Mapping[str, float]  #: model -> summed seconds of its completions
    out_of_sequence: int = 0  #: answers that were asked again later, from the memory that they were shown
    #: model -> what its card says of it, as far as it does: ``series``, ``stage`` (of training), ``parameters`` ("7B");
    #: ``input_price`` and ``output_price`` in US dollars per million tokens, and when they were ``priced``
    model_facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    probes: tuple[Probe, ...] = ()  #: what models know of the survey; empty: nobody asked
    tokens: Mapping[str, TokenCount] = field(default_factory=dict)  #: model -> its tokens; none: nothing was counted
    probabilities: tuple[ProbabilityRow, ...] = ()  #: of options by the next token, of the cells where they were read
