"""How a survey's questions spread over topics and value dimensions: the paper's Figure 3, on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from defsurvey.storage.surveys.catalogue import find_survey
from defsurvey.storage.surveys.survey import Question, QuestionType, Survey

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Width of the longest bar, in characters.
_BAR = 40
#: What items without a value dimension are counted under.
NO_DIMENSION = ""


def spread(name: str, *, topics: bool, dimensions: bool) -> dict[str, Any]:
    """Counts of a survey's questions by topic, and of its items by value dimension.

    An item is a question, or one option of a question that allows several: these have dimensions of their own.

    Args:
        name: a bundled survey or a folder.
        topics: whether to count questions by topic, in the order of the questionnaire.
        dimensions: whether to count items by dimension, in the survey's order; those without one come last.

    Raises:
        SurveyError: there is no such survey, or it is not sound.
    """
    survey = find_survey(name)
    counted: dict[str, Any] = {
        "id": survey.id,
        "title": survey.title,
        "questions": len(survey.questions),
        "items": sum(len(_items(question)) for question in survey.questions),
        "excluded": len(survey.excluded),
    }
    if topics:
        counted["topics"] = [
            {"topic": topic, "questions": number, "share": number / len(survey.questions)}
            for topic, number in Counter(question.topic for question in survey.questions).items()
        ]
    if dimensions:
        counted["dimensions"] = _dimensions(survey, counted["items"])
    return counted


def _dimensions(survey: Survey, items: int) -> list[dict[str, Any]]:
    numbers = Counter(item for question in survey.questions for item in _items(question))
    return [
        {
            "dimension": code,
            "name": dict(survey.dimensions.get(code, {})),
            "items": numbers[code],
            "share": numbers[code] / items,
        }
        for code in (*survey.dimensions, NO_DIMENSION)
        if numbers[code]
    ]


def _items(question: Question) -> list[str]:
    """The dimension of each item of a question."""
    if question.type is QuestionType.MULTIPLE:
        return [option.value.dimension if option.value is not None else NO_DIMENSION for option in question.options]
    return [question.value.dimension if question.value is not None else NO_DIMENSION]


def render_spread(counted: Mapping[str, Any]) -> RenderableType:
    """What ``survey show --topics --dimensions`` prints: a bar for each topic and dimension."""
    from rich.console import Group
    from rich.text import Text

    left_out = f", {counted['excluded']} excluded" if counted["excluded"] else ""
    parts: list[RenderableType] = [
        Text(f"{counted['title']} ({counted['questions']} questions, {counted['items']} items{left_out})", style="bold")
    ]
    if "topics" in counted:
        parts += [Text("Questions by topic", style="dim"), _bars(counted["topics"], "topic", "questions")]
    if "dimensions" in counted:
        rows = [{**row, "label": _label(row["dimension"], row["name"])} for row in counted["dimensions"]]
        parts += [Text("Items by value dimension", style="dim"), _bars(rows, "label", "items")]
    return Group(*parts)


def _label(code: str, name: Mapping[str, str]) -> str:
    return f"{code} {next(iter(name.values()), '')}".strip() or "no dimension"


def _bars(rows: list[dict[str, Any]], label: str, count: str) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column()
    most = max(row[count] for row in rows)
    for row in rows:
        bar = "█" * max(1, round(_BAR * row[count] / most))
        table.add_row(Text(row[label]), str(row[count]), f"{row['share']:.1%}", Text(bar, style="cyan"))
    return table
