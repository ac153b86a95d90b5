"""What a judge, or a person, says of an answer: the values that rooms hand to each other.

Frozen nouns that check themselves. Deliberately knows nothing of rubrics, of SQL (see ``storage.judgements``) and of
how a judge is asked (see ``workers.judging``), and needs the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from storage.run import AnswerState, Cell

#: Codes of the six dimensions, in the order in which reports show them.
DIMENSIONS = ("qc", "rp", "iu", "cv", "ir", "ff")
#: Of each stratum at least so many answers are judged, where there are so many.
LEAST = 30
#: Share of the sample that is judged a second time, and how many at most.
REPEATED, MOST_REPEATED = 0.1, 50


class Verdict(StrEnum):
    """What an answer is worth on one dimension; ``pass`` is good on every one."""

    PASS = "pass"  # noqa: S105 -- a verdict, not a password
    FAIL = "fail"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A verdict on one dimension, and what it rests on."""

    verdict: Verdict
    evidence: str = ""  #: quoted from the response
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerKey:
    """One answer as it was given: asked again, it has another attempt, or at least another completion."""

    participant: int
    item: int
    slot: int
    attempt: int
    digest: int  #: hash of the completion


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenAnswer:
    """An answer with all that is needed to judge or to read it."""

    key: AnswerKey
    cell: Cell
    number: int  #: of its participant within the cell
    question: str
    state: AnswerState
    choices: tuple[int, ...]
    shown: tuple[int, ...]  #: option codes in the order shown
    completion: str
    reason: str
    region: str | None
    paraphrase: int = 0  #: number of the wording in which it was asked; 0: the question's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a judge said of one answer, in one call."""

    findings: Mapping[str, Finding]  #: every dimension of ``DIMENSIONS``
    prompt_tokens: int | None = None  #: None: not told, or nothing was asked
    completion_tokens: int | None = None

    def __post_init__(self) -> None:
        if tuple(self.findings) != DIMENSIONS:
            raise ValueError(f"findings: expected {', '.join(DIMENSIONS)}, got {', '.join(self.findings)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeName:
    """A judge as its verdicts are kept under: never pooled with another."""

    identity: str  #: name, version and rubric: "claude-haiku-5-5 (claude-haiku-5-5, rubric 1)"
    model: str  #: name of its card
    description: Mapping[str, str]
    input_price: float | None = None  #: US dollars per million tokens
    output_price: float | None = None


def all_dimensions(verdict: Verdict, reason: str) -> dict[str, Finding]:
    """The same finding on every dimension."""
    return {dimension: Finding(verdict=verdict, reason=reason) for dimension in DIMENSIONS}
