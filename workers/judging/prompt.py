"""What a judge is asked: the rubric, and how an answer is put before it.

The words of the rubrics are in ``rubric.toml``.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from defsurvey.storage.runs.judgement import DIMENSIONS, GivenAnswer, Rubric, Verdict
from defsurvey.storage.runs.run import DEF, AnswerState, Decoding
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Message, Request
from defsurvey.workers.simulation.methods import METHODS
from defsurvey.workers.simulation.methods.method import PromptParts
from defsurvey.workers.simulation.prompts import option_text

_WORDS = tomllib.loads(Path(__file__).with_name("rubric.toml").read_text(encoding="utf-8"))
#: Of each rubric and the prompt; part of a judge's name.
VERSIONS: Mapping[Rubric, int] = {rubric: _WORDS["versions"][rubric] for rubric in Rubric}
#: Rubric -> dimension -> what passes and what fails.
RUBRICS: Mapping[Rubric, Mapping[str, str]] = {rubric: _WORDS[rubric] for rubric in Rubric}
#: Rubric -> what a judge is told before it sees an answer.
INSTRUCTIONS: Mapping[Rubric, str] = {
    rubric: _WORDS["before"] + "\n".join(f"{name}: {words[name]}" for name in DIMENSIONS) + _WORDS["after"]
    for rubric, words in RUBRICS.items()
}
_FINDING = {
    "type": "object",
    "properties": {
        "evidence": {"type": "string"},
        "reason": {"type": "string"},
        "verdict": {"type": "string", "enum": [verdict.value for verdict in Verdict]},
    },
    "required": ["evidence", "reason", "verdict"],
    "additionalProperties": False,
}
#: JSON schema of a judge's reply.
SCHEMA: Mapping[str, object] = {
    "type": "object",
    "properties": dict.fromkeys(DIMENSIONS, _FINDING),
    "required": list(DIMENSIONS),
    "additionalProperties": False,
}
#: Longest reply of a judge, in tokens.
MAX_TOKENS = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject(PromptParts):
    """An answer to be judged, and what had been asked."""

    state: AnswerState
    choices: tuple[int, ...]  #: as the program has read them
    response: str
    method: str = DEF  #: of the condition: how it was asked
    slot: int = 0  #: of several answers to one prompt


def subject_of(given: GivenAnswer, survey: Survey) -> Subject:
    """A stored answer as a judge is to see it."""
    answer, cell = given.answer, given.cell
    return Subject(
        question=survey.worded(answer.question, answer.draws.paraphrase),
        culture=survey.culture(cell.culture),
        region=answer.draws.region,
        language=cell.language,
        shown=answer.shown,
        state=answer.state,
        choices=answer.choices,
        response=answer.completion,
        method=cell.condition.method,
        index=given.number,
        slot=answer.slot,
    )


def asked_text(subject: Subject) -> str:
    """The prompt as the model was asked with it, without what it remembered; the first one of several steps.

    Behind a prompt that asked for a list stands which line of it the response is.
    """
    method = METHODS[subject.method]
    asked = method.text(subject)
    if method.slots > 1:
        asked += f"\n\n(The response is what it wrote for person {subject.slot + 1} of that list.)"
    return asked


def mark(response: str) -> str:
    """A word that a response does not contain, and could not have foreseen: it hangs on every character of it."""
    number = 0
    while True:
        found = hashlib.sha256(f"{number}\n{response}".encode("utf-8", "replace")).hexdigest()[:16]
        if found not in response:
            return found
        number += 1


def judge_request(subject: Subject, rubric: Rubric = Rubric.OWN) -> Request:
    """The one call that judges an answer; equal answers make equal calls."""
    between = mark(subject.response)
    text = (
        f"The instructions that the model was given:\n{asked_text(subject)}\n\n"
        f"What the program has read from its response: {_read(subject)}\n\n"
        f"The response, between two marks:\n[response {between}]\n{subject.response}\n[end of response {between}]\n\n"
        "Examine it on all six dimensions."
    )
    return Request(
        messages=(Message(role="system", content=INSTRUCTIONS[rubric]), Message(role="user", content=text)),
        decoding=Decoding(num_beams=1, do_sample=False, max_new_tokens=MAX_TOKENS),
        seed=0,
        schema=SCHEMA,
    )


def _read(subject: Subject) -> str:
    if subject.state is AnswerState.REFUSED:
        return "a refusal to answer"
    if not subject.choices:
        return "no option"
    return "; ".join(option_text(subject.question, code, subject.language) for code in subject.choices)
