"""The answers of Results as flat rows, without the text of the reply.

The text is in the ledger, and is exported from there (``defsurvey export``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from defsurvey.reports.merge import run_of_cells
from defsurvey.storage.runs.results import STATES, Results
from defsurvey.storage.surveys.survey import Question

#: Columns of every row, in order.
ANSWERS: dict[str, type] = {
    "run": str,
    "model": str,
    "culture": str,
    "condition": str,
    "language": str,
    "participant": int,
    "question": str,
    "slot": int,
    "state": str,
    "choices": str,
    "shown_first": int,
}


def answer_rows(results: Results) -> Iterator[dict[str, Any]]:
    """One row per stored answer, in the order of the arrays; choices are option codes, separated by spaces."""
    answers, run = results.answers, results.run
    questions = [results.survey.question(name) for name in run.questions]
    cells = [
        (of.id, cell.model, cell.culture, cell.condition.name, cell.language)
        for of, cell in zip(run_of_cells(run), run.cells, strict=True)
    ]
    known = _Choices(questions)
    columns = (
        answers.cell,
        answers.participant,
        answers.question,
        answers.slot,
        answers.state,
        answers.choices,
        answers.shown,
    )
    for cell, person, place, slot, state, chosen, first in zip(*(c.tolist() for c in columns), strict=True):
        of, model, culture, condition, language = cells[cell]
        yield {
            "run": of,
            "model": model,
            "culture": culture,
            "condition": condition,
            "language": language,
            "participant": person,
            "question": questions[place].id,
            "slot": slot,
            "state": STATES[state].value,
            "choices": known[place, chosen],
            "shown_first": first,
        }


class _Choices(dict[tuple[int, int], str]):
    """(question, options chosen as bits) -> their codes, worked out once each."""

    def __init__(self, questions: list[Question]) -> None:
        super().__init__()
        self._questions = questions

    def __missing__(self, key: tuple[int, int]) -> str:
        place, chosen = key
        codes = self._questions[place].codes
        self[key] = " ".join(str(code) for bit, code in enumerate(codes) if chosen >> bit & 1)
        return self[key]
