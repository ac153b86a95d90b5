"""What the columns of a bundle's tables may hold: by their types, and by name where there are few words or JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, String, Text
from sqlmodel import AutoString, SQLModel

from defsurvey.storage.columns import Integers
from defsurvey.storage.runs.judgement import DIMENSIONS, Rubric, Verdict
from defsurvey.storage.runs.judgements import Ended
from defsurvey.storage.runs.noun_types import plain_fits
from defsurvey.storage.runs.probe import ProbeKind
from defsurvey.storage.runs.run import (
    MOST_PARTICIPANTS,
    NAME,
    NAME_RULE,
    AnswerState,
    Condition,
    Draws,
    ParticipantStatus,
    Protocol,
    UsedDecoding,
)
from defsurvey.storage.surveys.tables import to_number
from defsurvey.storage.visible import control

#: Whole numbers that may be below 0, the revision before any among them; all others count something.
_SIGNED = frozenset({"digest", "seed", "ledger"})
#: US dollars per million tokens read and written.
PRICES = ("input_price", "output_price")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What the values of a column are."""

    fits: Callable[[Any], bool]
    expected: str
    nullable: bool = False


@cache
def rules_of(table: str) -> dict[str, Rule]:
    """Column -> what its values are."""
    return {column.name: _rule(table, column) for column in SQLModel.metadata.tables[table].columns}


def _rule(table: str, column: Column[Any]) -> Rule:
    told = _SAID.get((table, column.name)) or _by_type(column)
    return Rule(fits=told.fits, expected=told.expected, nullable=bool(column.nullable))


def _by_type(column: Column[Any]) -> Rule:
    kind = column.type
    if isinstance(kind, Integers):
        return Rule(fits=_whole_numbers, expected="a list of whole numbers")
    if isinstance(kind, Boolean):
        return Rule(fits=lambda value: type(value) is bool, expected="true or false")
    if isinstance(kind, Integer):
        most = 2**63 if isinstance(kind, BigInteger) else 2**31
        return _whole_number(-most if column.name in _SIGNED else 0, most)
    if isinstance(kind, Float):
        return Rule(fits=lambda value: type(value) in (int, float) and value >= 0, expected="a number, 0 or more")
    if isinstance(kind, Text):
        return Rule(fits=lambda value: type(value) is str, expected="a text")
    assert isinstance(kind, (String, AutoString)), f"{column}: a rule of its own is needed"
    return Rule(fits=_is_name, expected="a text without control characters")


def _whole_number(least: int, most: int) -> Rule:
    return Rule(
        fits=lambda value: type(value) is int and least <= value < most,
        expected=f"a whole number from {least} to below {most}",
    )


def _is_name(value: Any) -> bool:
    return type(value) is str and not control(value)


def _is_whole(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _whole_numbers(value: Any) -> bool:
    return type(value) is list and all(map(_is_whole, value))


def _texts(value: Any) -> bool:
    return type(value) is list and all(map(_is_name, value))


def _facts(value: Any) -> bool:
    return type(value) is dict and all(_is_name(key) and type(fact) is str for key, fact in value.items())


def _served(value: Any) -> bool:
    """What an engine says of itself; prices are added up in what a run costs."""
    return _facts(value) and all(to_number(value[name], math.inf) is not None for name in PRICES if name in value)


def _attempts(value: Any) -> bool:
    return type(value) is dict and all(key.isdecimal() and _is_whole(number) for key, number in value.items())


def _judge(value: Any) -> bool:
    if type(value) is not dict or value.keys() - {"rubric"} != {"model", "sample"}:
        return False
    known = value.get("rubric", Rubric.OWN.value) in tuple(Rubric)
    return known and _is_name(value["model"]) and type(value["sample"]) in (int, float) and 0 < value["sample"] <= 1


def _findings(value: Any) -> bool:
    return (
        type(value) is dict
        and value.keys() == set(DIMENSIONS)
        and all(type(found) is dict and found.keys() == _FINDING and _facts(found) for found in value.values())
        and all(found["verdict"] in _VERDICTS for found in value.values())
    )


def _percentages(value: Any) -> bool:
    return type(value) is list and all(
        type(pair) is list and len(pair) == 2 and all(type(number) in (int, float) for number in pair) for pair in value
    )


def _word_of(words: type[StrEnum] | Collection[str]) -> Rule:
    known = frozenset(str(word) for word in words)
    return Rule(fits=lambda value: type(value) is str and value in known, expected=f"one of {', '.join(sorted(known))}")


def _noun(kind: type) -> Rule:
    names = ", ".join(each.name for each in fields(kind))
    return Rule(fits=plain_fits(kind), expected=f"an object of {names}")


_NAMED = Rule(fits=lambda value: type(value) is str and bool(NAME.fullmatch(value)), expected=NAME_RULE)
_FACTS = Rule(fits=_facts, expected="an object of texts")
_FINDING, _VERDICTS = {"verdict", "evidence", "reason"}, frozenset(verdict.value for verdict in Verdict)
#: Columns whose values their type does not tell; those of JSON all have a rule.
_SAID: Mapping[tuple[str, str], Rule] = {
    ("survey", "body"): Rule(fits=lambda value: type(value) is dict, expected="a survey"),
    ("run", "id"): _NAMED,
    ("run", "questions"): Rule(fits=_texts, expected="a list of questions"),
    ("run", "protocol"): _noun(Protocol),
    ("run", "judge"): Rule(fits=_judge, expected="a model and a sample above 0 and at most 1"),
    ("cell", "condition_name"): _NAMED,
    ("cell", "condition"): _noun(Condition),
    ("participant", "number"): _whole_number(0, MOST_PARTICIPANTS),
    ("participant", "draws"): _noun(Draws),
    ("participant", "status"): _word_of(ParticipantStatus),
    ("participant", "attempts"): Rule(fits=_attempts, expected="an object of item: attempt"),
    ("answer", "state"): _word_of(AnswerState),
    ("answer", "draws"): _noun(Draws),
    ("answer", "used"): _noun(UsedDecoding),
    ("step", "used"): _noun(UsedDecoding),
    ("served", "description"): Rule(fits=_served, expected="an object of texts, prices being numbers"),
    ("served", "versions"): _FACTS,
    ("probe", "kind"): _word_of(ProbeKind),
    ("probe", "percent"): Rule(fits=_percentages, expected="a list of [code, percentage]"),
    ("judge", "description"): _FACTS,
    ("judgement", "findings"): Rule(fits=_findings, expected=f"findings on {', '.join(DIMENSIONS)}"),
    ("judging", "ended"): _word_of(Ended),
    ("label", "dimension"): _word_of(DIMENSIONS),
    ("label", "verdict"): _word_of(Verdict),
    ("reading", "state"): _word_of((AnswerState.ANSWERED, AnswerState.REFUSED)),
}
