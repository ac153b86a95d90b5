"""What a judge is asked: the rubric, how an answer is put before it, and the answers by which it is calibrated.

Of these it is known how they are to be judged. The words of rubrics and answers are in ``.toml`` files.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from defsurvey.storage.runs.judgement import DIMENSIONS, Finding, GivenAnswer, Judge, JudgeName, Rubric, Verdict
from defsurvey.storage.runs.run import DEF, AnswerState, Decoding
from defsurvey.storage.surveys.survey import Culture, Option, Question, QuestionType, Survey
from defsurvey.workers.engines.base import Engine, Message, Request
from defsurvey.workers.engines.opening import describe_engine
from defsurvey.workers.models import ModelCard
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


def _object(properties: Mapping[str, object]) -> Mapping[str, object]:
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_VERDICT = {"type": "string", "enum": [verdict.value for verdict in Verdict]}
_FINDING = _object({"evidence": {"type": "string"}, "reason": {"type": "string"}, "verdict": _VERDICT})
SCHEMA = _object(dict.fromkeys(DIMENSIONS, _FINDING))  #: JSON schema of a judge's reply
MAX_TOKENS = 1500  #: longest reply of a judge, in tokens


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
    """The prompt, the first of several steps, as the model was asked with it; of a list, which line it is."""
    method = METHODS[subject.method]
    line = f"\n\n(The response is what it wrote for person {subject.slot + 1} of that list.)"
    return method.text(subject) + (line if method.slots > 1 else "")


def judge_name(card: ModelCard, engine: Engine, rubric: Rubric = Rubric.OWN) -> JudgeName:
    """The name under which a judge's verdicts are kept: model, version, rubric.

    The version is the model that a server is asked for, a hash, a revision, or all that an engine says of its weights.
    """
    said = describe_engine(card.name, engine)
    digest = said.get("weights_sha256") or said.get("revision") or ""
    version = card.model if card.hosted else digest[:12] or said.get("weights") or card.revision
    edition = f"{'' if rubric is Rubric.OWN else f'{rubric.value} '}{VERSIONS[rubric]}"
    return JudgeName(
        identity=f"{card.name} ({version}, rubric {edition})",
        model=Judge(model=card.name, sample=1.0, rubric=rubric).key,
        description={name: value for name, value in said.items() if name != "server"},
        input_price=card.input_price,
        output_price=card.output_price,
    )


def mark(response: str) -> str:
    """A word that a response could not have foreseen, since it hangs on every character of it."""
    return hashlib.sha256(f"0\n{response}".encode("utf-8", "replace")).hexdigest()[:16]


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
    return "; ".join(option_text(subject.question, code, subject.language) for code in subject.choices) or "no option"


#: Share of all labels that a judge must meet; who always passes, always fails or is never sure meets half at most.
THRESHOLD = 0.8
LEAST = 2 / 3  #: and of every dimension's labels, and of all that are to pass, and of all that are to fail


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationItem:
    """An answer and how it is to be judged on one dimension."""

    name: str
    dimension: str
    label: Verdict  #: pass or fail
    subject: Subject
    rubric: Rubric

    @property
    def request(self) -> Request:
        """The call that judges it."""
        return judge_request(self.subject, self.rubric)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How a judge did on the set."""

    by_part: Mapping[str, tuple[int, int]]  #: each dimension, ``pass`` and ``fail`` -> labels met, labels

    @property
    def right(self) -> int:
        """Labels met; unsure meets none."""
        return sum(self.by_part[name][0] for name in DIMENSIONS)

    @property
    def labels(self) -> int:
        """How many there are."""
        return sum(self.by_part[name][1] for name in DIMENSIONS)

    @property
    def passed(self) -> bool:
        """Whether this judge may judge."""
        parts = all(right >= LEAST * labels for right, labels in self.by_part.values())
        return self.right >= THRESHOLD * self.labels and parts

    def __str__(self) -> str:
        weak = [f"{name} {right}/{labels}" for name, (right, labels) in self.by_part.items() if right < LEAST * labels]
        told = f"right on {self.right} of {self.labels} calibration answers"
        return told + (f" (below two thirds: {', '.join(weak)})" if weak else "")


@cache
def calibration_set(rubric: Rubric = Rubric.OWN) -> tuple[CalibrationItem, ...]:
    """The bundled set for a rubric, in the order of its file: its own items stand in the place of those they name."""
    tables = tomllib.loads(Path(__file__).with_name("calibration.toml").read_text(encoding="utf-8"))
    questions = {name: _question(name, table) for name, table in tables.pop("questions").items()}
    cultures = {language: Culture(language=language, **table) for language, table in tables.pop("cultures").items()}
    others = {other: tables.pop(other.value, {}) for other in Rubric}
    items = []
    for name, usual in tables.items():
        dimension, language, label = name.split("-")
        table = others[rubric].get(name, usual)
        question = questions[table["question"]]
        subject = Subject(
            question=question,
            culture=cultures[language],
            region=None,
            language=language,
            shown=question.codes,
            index=0,
            state=AnswerState(table.get("state", AnswerState.ANSWERED)),
            choices=tuple(table.get("choices", ())),
            response=table["response"],
        )
        verdict = Verdict.PASS if label.startswith("p") else Verdict.FAIL
        items.append(CalibrationItem(name=name, dimension=dimension, label=verdict, subject=subject, rubric=rubric))
    return tuple(items)


def _question(name: str, table: Mapping[str, Any]) -> Question:
    labels = {code: {"en": english, "zh": chinese} for code, english, chinese in table["options"]}
    options = tuple(Option(code=code, label=label) for code, label in labels.items())
    most, kind = table.get("max_choices", 1), QuestionType(table["type"])
    return Question(id=name, type=kind, topic="", text=table["text"], options=options, max_choices=most)


def score(judged: Mapping[str, Mapping[str, Finding]], rubric: Rubric = Rubric.OWN) -> Score:
    """How a judge did, by its findings on every item of the set."""
    parts: dict[str, list[bool]] = {name: [] for name in (*DIMENSIONS, Verdict.PASS.value, Verdict.FAIL.value)}
    for item in calibration_set(rubric):
        right = judged[item.name][item.dimension].verdict is item.label
        parts[item.dimension].append(right)
        parts[item.label.value].append(right)
    return Score(by_part={name: (sum(of), len(of)) for name, of in parts.items()})
