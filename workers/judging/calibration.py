"""The calibration set: answers of which it is known how they are to be judged, and what a judge must reach on them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from defsurvey.storage.runs.judgement import DIMENSIONS, Finding, Rubric, Verdict
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.surveys.survey import Culture, Option, Question, QuestionType
from defsurvey.workers.engines.base import Request
from defsurvey.workers.judging.prompt import Subject, judge_request

#: Share of all labels that a judge must meet; who always passes, always fails or is never sure meets half at most.
THRESHOLD = 0.8
#: And of every dimension's labels, and of all that are to pass, and of all that are to fail.
LEAST = 2 / 3


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
