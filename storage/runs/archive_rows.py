"""What the columns of a bundle's tables may hold: by their types, and by name where there are few words or JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, String, Text
from sqlmodel import AutoString, SQLModel

from defsurvey.storage.runs.judgement import DIMENSIONS, Rubric, Verdict
from defsurvey.storage.runs.judgements import Ended
from defsurvey.storage.runs.probes import ProbeKind
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
from defsurvey.storage.runs.tables import Integers
from defsurvey.storage.surveys.as_json import fingerprint, survey_from_json
from defsurvey.storage.surveys.problem import SurveyError
from defsurvey.storage.surveys.questions import MOST_OPTIONS
from defsurvey.storage.surveys.survey import QuestionType, Survey
from defsurvey.storage.surveys.tables import to_number
from defsurvey.storage.text import control, storable


def mistyped(noun: Any) -> str:
    """The first field of a dataclass whose value is of another type than it says, as a path; empty if there is none.

    A text with a control character is none, which is named behind its path, and neither is a number that is not finite.
    Nouns within are gone through.
    """
    return _mistyped(noun, type(noun), "")


def _mistyped(value: Any, hint: Any, path: str) -> str:
    if is_dataclass(hint):
        if type(value) is not hint:
            return path
        found = (
            _mistyped(getattr(value, name), kind, f"{path}.{name}" if path else name)
            for name, kind in _hints(type(value)).items()
        )
        return next(filter(None, found), "")
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple:
        if type(value) is not tuple:
            return path
        each = (_mistyped(one, inner[0], f"{path}[{place}]") for place, one in enumerate(value, start=1))
        return next(filter(None, each), "")
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            return path
        parts = [(key, inner[0]) for key in value] + [(one, inner[1]) for one in value.values()]
        return next(filter(None, (_mistyped(one, kind, path) for one, kind in parts)), "")
    if origin in (Union, UnionType):
        told = [_mistyped(value, kind, path) for kind in inner]
        return "" if "" in told else max(told, key=len)
    if hint is str and type(value) is str and (sign := control(value)):
        return f"{path} (a control character, {sign})"
    return "" if _of_type(value, hint) else path


def _of_type(value: Any, kind: Any) -> bool:
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind


@cache
def _hints(noun: type) -> dict[str, Any]:
    hints = get_type_hints(noun)
    return {field.name: hints[field.name] for field in fields(noun)}


def plain_fits(noun: type) -> Callable[[Any], bool]:
    """A test of whether a JSON object can become a noun of plain values: its keys, and the type of each value.

    Keys whose field has a default may be missing, since older runs lack them. Made once, for it is asked of every row.
    """
    hints = _hints(noun)
    required = {field.name for field in fields(noun) if field.default is MISSING}
    tests = {name: _plain_test(hint) for name, hint in hints.items()}

    def fits(body: Any) -> bool:
        if type(body) is not dict or not required <= body.keys() <= tests.keys():
            return False
        return all(tests[name](value) for name, value in body.items())

    return fits


def _plain_test(hint: Any) -> Callable[[Any], bool]:
    kinds = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
    if kinds <= {str, int, float, bool, NoneType}:
        allowed = frozenset(kinds | ({int} if float in kinds else set()))
        return lambda value: type(value) in allowed
    (kind,) = kinds
    assert issubclass(kind, StrEnum)
    words = frozenset(member.value for member in kind)
    return lambda value: type(value) is str and value in words


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


#: What may stand for a character that no database keeps; looked at closely where it stands in a row.
_ESCAPED = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
#: Seconds since the epoch that no clock shows: the year 9999.
_LATEST = 253_402_300_800
#: A share of people, and what the last digits of a computed one may add.
_WHOLE = 1 + 1e-9


class Misfit(ValueError):
    """A row is not what its table can hold; the message says where, what was expected and what was got."""


def parse(line: bytes) -> Any:
    """A value from its line of JSON; raises Misfit where it is none, or holds what no database keeps."""
    try:
        value = _DECODER.decode(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Misfit(f"expected JSON, got something else ({error})") from None
    if _ESCAPED.search(line) and not _kept(value):
        raise Misfit("expected text that can be stored, got a NUL or half a character")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no finite number")
    return number


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def _kept(value: Any) -> bool:
    if isinstance(value, str):
        return storable(value) == value
    if isinstance(value, dict):
        return all(_kept(key) and _kept(one) for key, one in value.items())
    return not isinstance(value, list) or all(map(_kept, value))


@dataclass(slots=True, kw_only=True)
class RowReader:
    """Reads the rows of one run, its survey's before all others, then its own."""

    run: str
    survey: Survey | None = None  #: as soon as it was read
    read_run: bool = False  #: whether the run's own row was
    _codes: Mapping[str, frozenset[int]] = field(default_factory=dict)  #: question of the run -> codes of its options
    _most: Mapping[str, int] = field(default_factory=dict)  #: question of the survey -> how many of them it takes
    _prices: dict[int, dict[str, float | None]] = field(default_factory=dict)  #: judge -> what it took

    def read(self, table: str, line: bytes) -> dict[str, Any]:
        """A row of a table from its line of JSON; raises Misfit."""
        row, rules = parse(line), rules_of(table)
        if type(row) is not dict or row.keys() != rules.keys():
            got = sorted(row) if isinstance(row, dict) else type(row).__name__
            raise Misfit(f"expected the columns {', '.join(rules)}, got {got}")
        for column, value in row.items():
            rule = rules[column]
            if not (value is None and rule.nullable) and not rule.fits(value):
                raise Misfit(f"{column}: expected {rule.expected}, got {repr(value)[:80]}")
        if row.get("run", self.run) != self.run:
            raise Misfit(f"run: expected {self.run}, got {row['run']!r}")
        if check := _CHECKS.get(table):
            check(self, row)
        return row

    def _survey(self, row: dict[str, Any]) -> None:
        try:
            survey = survey_from_json(row["body"])
        except SurveyError as error:
            raise Misfit(str(error)) from None
        if wrong := mistyped(survey) or _ill_formed(survey):
            raise Misfit(f"body: expected a survey, got another value at {wrong}")
        if self.survey is not None or not fingerprint(survey) == survey.fingerprint == row["fingerprint"]:
            raise Misfit("fingerprint: expected that of the one survey of the run, got another")
        self.survey = survey

    def _run(self, row: dict[str, Any]) -> None:
        if self.read_run or row["id"] != self.run:
            raise Misfit(f"id: expected the run {self.run} alone, got {row['id']!r}")
        if self.survey is None or row["survey"] != self.survey.fingerprint:
            raise Misfit("survey: expected the one in the file, got another")
        codes = {question.id: frozenset(question.codes) for question in self.survey.questions}
        self._most = {
            question.id: question.max_choices if question.type is QuestionType.MULTIPLE else 1
            for question in self.survey.questions
        }
        if unknown := [question for question in row["questions"] if question not in codes]:
            raise Misfit(f"questions: expected questions of the survey, got {unknown[0]!r}")
        if row["created_at"] >= _LATEST:
            raise Misfit(f"created_at: expected seconds since the epoch, got {row['created_at']}")
        self._codes = {question: codes[question] for question in row["questions"]}
        self.read_run = True

    def _cell(self, row: dict[str, Any]) -> None:
        assert self.survey is not None
        self._one_of("culture", row, [culture.code for culture in self.survey.cultures])
        self._one_of("language", row, self.survey.languages)
        self._one_of("condition_name", row, [row["condition"]["name"]])

    def _answer(self, row: dict[str, Any]) -> None:
        question, choices, shown = row["question"], row["choices"], row["shown"]
        self._one_of("question", row, self._codes)
        codes = self._codes[question]
        if not (codes.issuperset(choices) and codes.issuperset(shown)):
            raise Misfit(f"choices, shown: expected options of {question}, got others")
        if not shown or len(set(shown)) < len(shown):
            raise Misfit(f"shown: expected some options of {question}, each once, got {_short(shown)}")
        _some_or_none(row)
        self.check_choices(question, choices)

    def check_choices(self, question: str, choices: Collection[int]) -> None:
        """Raise Misfit where a question of the run does not take these options together."""
        if not self._codes[question].issuperset(choices):
            raise Misfit(f"choices: expected options of {question}, got {_short(choices)}")
        if len(choices) > self._most[question] or len(set(choices)) < len(choices):
            expected = f"at most {self._most[question]} of {question}, each once"
            raise Misfit(f"choices: expected {expected}, got {_short(choices)}")

    def _option_probability(self, row: dict[str, Any]) -> None:
        self._one_of("question", row, self._codes)
        self._one_of("option", row, self._codes[row["question"]])

    def _probe(self, row: dict[str, Any]) -> None:
        assert self.survey is not None
        self._one_of("question", row, [question.id for question in self.survey.questions])

    def _reading(self, row: dict[str, Any]) -> None:
        """What its answer's question takes is held against it as soon as it is there: see ``check_choices``."""
        _some_or_none(row)

    def _judge(self, row: dict[str, Any]) -> None:
        """What a judge took elsewhere holds for what it said of this run, and for nothing that it is asked here."""
        self._prices[row["id"]] = {name: row[name] for name in PRICES}
        row |= dict.fromkeys(PRICES)

    def _judgement(self, row: dict[str, Any]) -> None:
        first = self._prices.get(row["judge"], {})
        row |= {name: first.get(name) for name in PRICES if row[name] is None}

    def _one_of(self, column: str, row: Mapping[str, Any], known: Collection[Any]) -> None:
        if row[column] not in known:
            raise Misfit(f"{column}: expected one that the run has, got {row[column]!r}")


def _some_or_none(row: Mapping[str, Any]) -> None:
    """Raise Misfit where there are choices without an answer, or an answer without any."""
    if bool(row["choices"]) is not (row["state"] == AnswerState.ANSWERED.value):
        raise Misfit(f"choices: expected some exactly where it is answered, got {_short(row['choices'])}")


def _short(codes: Collection[int]) -> str:
    return repr(list(codes))[:80]


_CHECKS: Mapping[str, Callable[[RowReader, dict[str, Any]], None]] = {
    "survey": RowReader._survey,
    "run": RowReader._run,
    "cell": RowReader._cell,
    "answer": RowReader._answer,
    "option_probability": RowReader._option_probability,
    "probe": RowReader._probe,
    "reading": RowReader._reading,
    "judge": RowReader._judge,
    "judgement": RowReader._judgement,
}


def _ill_formed(survey: Survey) -> str:
    """What of a survey could not be asked or reported; empty where there is nothing."""
    questions = {question.id: question for question in survey.questions}
    cultures = {culture.code for culture in survey.cultures}
    if not questions or len(questions) < len(survey.questions) or len(cultures) < len(survey.cultures):
        return "its ids"
    for question in survey.questions:
        codes, wordings = question.codes, [question.text, *(option.label for option in question.options)]
        if not 0 < len(codes) <= MOST_OPTIONS or len(set(codes)) < len(codes) or min(codes) < 0:
            return f"the options of {question.id}"
        if any(wording.keys() < set(survey.languages) for wording in wordings):
            return f"the languages of {question.id}"
    for reference in survey.references:
        asked = questions.get(reference.question)
        if asked is None or reference.culture not in cultures or reference.n < 1 or reference.effective_n <= 0:
            return f"the references of {reference.question}"
        if any(code not in asked.codes or not 0 <= share <= _WHOLE for code, share in reference.shares.items()):
            return f"the references of {reference.question}"
    return ""
