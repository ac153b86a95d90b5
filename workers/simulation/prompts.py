"""How a question is put to a model, in the survey's language.

Survey text and remembered answers are inserted literally: whatever brackets or braces they hold, they are never read as
a template.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from defsurvey.storage.surveys.survey import Culture, Question, QuestionType, Wording
from defsurvey.workers.engines.base import ClosedReply, Message

_Table = TypeVar("_Table")
_MARKER = re.compile(r"\[([A-Z_]+)\]")


class UnknownLanguage(ValueError):
    """A prompt was asked for in a language that has no table in ``prompts.toml``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptWords:
    """The words around a question in one language; ``prompts.toml`` names the markers."""

    place: str
    role: str
    choose_one: str
    choose_up_to: str
    choose_any: str
    choose_point: str
    format: str
    request: str
    option: str
    scale: str
    answer: str  #: how a reply begins
    between: str  #: between two options of an answer that names several
    explanation: str  #: how its explanation begins
    average_1: str
    average_2: str
    list: str
    entry: str  #: how a person's line in a list begins
    critique: str
    critique_list: str
    rewrite: str
    rewrite_list: str
    vote: str
    draft: str  #: above a draft that is voted on


@cache  # one small table for the life of the process
def languages() -> Mapping[str, PromptWords]:
    """Language code -> the words of its prompts."""
    tables = tomllib.loads(Path(__file__).with_name("prompts.toml").read_text(encoding="utf-8"))
    return {code: PromptWords(**table) for code, table in tables.items()}


def words(language: str) -> PromptWords:
    """The words of one language; raises UnknownLanguage."""
    return of_language(languages(), language, "prompt in it")


def of_language(tables: Mapping[str, _Table], language: str, what: str) -> _Table:
    """The table of one language; raises UnknownLanguage, which says that there is no such thing."""
    if language not in tables:
        known = ", ".join(sorted(tables))
        raise UnknownLanguage(f"language {language}: there is no {what}, only in {known}")
    return tables[language]


def conversation(*turns: str) -> tuple[Message, ...]:
    """Turns as messages, the user's first."""
    return tuple(Message(role="assistant" if place % 2 else "user", content=turn) for place, turn in enumerate(turns))


def prompt_text(question: Question, shown: Sequence[int], culture: Culture, region: str | None, language: str) -> str:
    """Role, number of choices, format and request: the paper's prompt (section 4.1)."""
    table = words(language)
    country = country_name(culture, language)
    if region is not None:
        place = _in_language(culture.region(region).name, language, f"region {region}")
        country = fill(table.place, COUNTRY=country, REGION=place)
    lines = (
        fill(table.role, COUNTRY=country),
        choosing_text(question, shown, language),
        table.format,
        request_text(question, shown, language),
    )
    return "\n".join(lines)


def choosing_text(question: Question, shown: Sequence[int], language: str) -> str:
    """How many of how many options are to be chosen; of a scale, of how many points."""
    table = words(language)
    if question.type is QuestionType.SCALE:
        wording = table.choose_point
    elif question.type is not QuestionType.MULTIPLE:
        wording = table.choose_one
    else:
        wording = table.choose_any if question.max_choices >= len(question.options) else table.choose_up_to
    return fill(wording, NUM=str(len(_scale_points(question, shown) or shown)), MAX=str(question.max_choices))


def country_name(culture: Culture, language: str) -> str:
    """The culture's country as a prompt in this language calls it."""
    return _in_language(culture.name, language, f"culture {culture.code}")


def request_text(question: Question, shown: Sequence[int], language: str) -> str:
    """The bare request, as memory keeps it: the question, and its options as shown or the ends of its scale."""
    table = words(language)
    lines = [table.request + _in_language(question.text, language, f"question {question.id}")]
    listed = list(shown)
    points = _scale_points(question, shown)
    if points:
        ends = (question.option(code).label for code in (points[0], points[-1]))
        low, high = (_in_language(label, language, f"question {question.id}") for label in ends)
        lines.append(fill(table.scale, LOW=str(points[0]), LOW_LABEL=low, HIGH=str(points[-1]), HIGH_LABEL=high))
        listed = [code for code in shown if code not in points]
    lines.extend(option_text(question, code, language) for code in listed)
    return "\n".join(lines)


def option_text(question: Question, code: int, language: str) -> str:
    """One option as listed and as an answer names it: ``2: Rather important``, or a point of a scale alone."""
    label = _in_language(question.option(code).label, language, f"question {question.id}, option {code}")
    if label == str(code):
        return label
    return fill(words(language).option, CODE=str(code), LABEL=label)


def closed_reply(question: Question, shown: Sequence[int], language: str) -> ClosedReply:
    """All that a reply to a question can be where it names options alone: their numbers, as many as may be chosen."""
    most = min(question.max_choices, len(shown)) if question.type is QuestionType.MULTIPLE else 1
    return ClosedReply(options=tuple(map(str, shown)), most=most, separator=words(language).between)


def _scale_points(question: Question, shown: Sequence[int]) -> tuple[int, ...]:
    """The points that the two ends of a scale stand for; none where it has to be listed."""
    if question.type is not QuestionType.SCALE:
        return ()
    points = tuple(code for code in shown if not question.option(code).residual)
    if len(points) < 3 or tuple(shown[: len(points)]) != points:
        return ()
    step = points[1] - points[0]
    if step not in (1, -1) or points != tuple(range(points[0], points[-1] + step, step)):
        return ()
    inner = (question.option(code) for code in points[1:-1])
    return points if all(set(option.label.values()) == {str(option.code)} for option in inner) else ()


def _in_language(wording: Wording, language: str, where: str) -> str:
    try:
        return wording[language]
    except KeyError:
        raise UnknownLanguage(f"{where}: there is no wording in {language}, only in {', '.join(wording)}") from None


def fill(template: str, **texts: str) -> str:
    """Replace the markers of a template in one pass, so that inserted text is never read again."""
    return _MARKER.sub(lambda found: texts[found[1]], template)
