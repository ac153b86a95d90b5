"""What a judge, or a person, says of an answer: the values that rooms hand to each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from defsurvey.storage.runs.run import Answer, Cell

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


class Rubric(StrEnum):
    """The words by which answers are judged; verdicts of two are never pooled."""

    OWN = "own"
    CODE = "code"  #: after the published code of Liu et al. (2025)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Who judges a run's answers, which share of them, and by which rubric."""

    model: str  #: name of its card
    sample: float  #: of the answers of each model, culture and state
    rubric: Rubric = Rubric.OWN

    @property
    def key(self) -> str:
        """The name under which a run's judging is kept: a model with two rubrics is two judges."""
        return self.model if self.rubric is Rubric.OWN else f"{self.model}, rubric {self.rubric.value}"

    def to_json(self) -> dict[str, Any]:
        """As a run keeps it."""
        rubric = {} if self.rubric is Rubric.OWN else {"rubric": self.rubric.value}
        return {"model": self.model, "sample": self.sample, **rubric}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Judge:
        """From what a run keeps; one from before there was a choice has no rubric."""
        return cls(model=body["model"], sample=float(body["sample"]), rubric=Rubric(body.get("rubric", Rubric.OWN)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A verdict on one dimension, and what it rests on."""

    verdict: Verdict
    evidence: str = ""  #: quoted from the response
    reason: str = ""


class AnswerKey(NamedTuple):
    """One answer as it was given: asked again, it has another attempt, or at least another completion."""

    participant: int
    item: int
    slot: int
    attempt: int
    digest: int  #: hash of the completion
    repeat: int = 0  #: 1: judged a second time, to see whether the judge agrees with itself


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenAnswer:
    """An answer with all that is needed to judge or to read it."""

    key: AnswerKey
    cell: Cell
    number: int  #: of its participant within the cell
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a judge said of one answer, in one call."""

    findings: Mapping[str, Finding]  #: every dimension of ``DIMENSIONS``
    prompt_tokens: int | None = None  #: None: not told, or nothing was asked
    completion_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeName:
    """A judge as its verdicts are kept under: never pooled with another."""

    identity: str  #: name, version and rubric: "claude-haiku-5-5 (claude-haiku-5-5, rubric 1)"
    model: str  #: ``Judge.key``
    description: Mapping[str, str]
    input_price: float | None = None  #: US dollars per million tokens
    output_price: float | None = None


def rubric_in(identity: str) -> Rubric:
    """The rubric in a judge's identity, such as ``j (j-1, rubric code 1)``."""
    return Rubric.CODE if re.search(rf", rubric {Rubric.CODE.value} \d+\)$", identity) else Rubric.OWN
