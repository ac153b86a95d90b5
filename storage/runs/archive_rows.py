"""What the rows of a bundle may hold: the types of their tables' columns, and what the run's survey takes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from sqlalchemy import BigInteger, Column, Text
from sqlmodel import SQLModel

from defsurvey.storage.runs.judgement import DIMENSIONS, Finding, Judge
from defsurvey.storage.runs.judgements import Ended
from defsurvey.storage.runs.probes import ProbeKind
from defsurvey.storage.runs.run import MOST_PARTICIPANTS, NAME, NAME_RULE, AnswerState
from defsurvey.storage.runs.tables import ROWS, kind_of
from defsurvey.storage.surveys.as_json import fingerprint, survey_from_json
from defsurvey.storage.surveys.problem import SurveyError
from defsurvey.storage.surveys.questions import MOST_OPTIONS
from defsurvey.storage.surveys.survey import QuestionType, Survey
from defsurvey.storage.surveys.tables import to_number
from defsurvey.storage.surveys.yaml_models import explain, must
from defsurvey.storage.text import control, storable

#: What may stand for a character that no database keeps; looked at closely where it stands in a row.
_ESCAPED = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
#: Seconds since the epoch that no clock shows: the year 9999.
_LATEST = 253_402_300_800
#: A share of people, and what the last digits of a computed one may add.
_WHOLE = 1 + 1e-9
#: Whole numbers that may be below 0, the revision before any among them; all others count something.
_SIGNED = frozenset({"digest", "seed", "ledger"})
#: US dollars per million tokens read and written.
_PRICES = ("input_price", "output_price")


class Misfit(ValueError):
    """A row is not what its table can hold; the message says where, what was expected and what was got."""


def parse(line: bytes) -> Any:
    """A value from its line of JSON; raises Misfit where it is none, or holds what no database keeps."""
    try:
        value = _DECODER.decode(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Misfit(f"expected JSON, got something else ({error})") from None
    if _ESCAPED.search(line) and any(storable(text) != text for _, text in _texts(value)):
        raise Misfit("expected text that can be stored, got a NUL or half a character")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no finite number")
    return number


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text within a value of JSON, keys among them, each with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield path, key
            yield from _texts(one, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for place, one in enumerate(value, start=1):
            yield from _texts(one, f"{path}[{place}]")


_Name = Annotated[str, must(lambda text: not control(text), "a text without control characters")]
_RunName = Annotated[str, must(NAME.fullmatch, NAME_RULE)]
_Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Facts = dict[_Name, str]


def _priced(facts: Mapping[str, str]) -> bool:
    """Whether prices are numbers: they are added up in what a run costs."""
    return all(to_number(facts[name], math.inf) is not None for name in _PRICES if name in facts)


#: What columns of these types hold, more closely.
_CLOSER: dict[Any, Any] = {
    float: Annotated[float, Field(ge=0)],
    tuple[int, ...]: tuple[_Whole, ...],
    dict[int, int]: dict[_Whole, _Whole],
    dict[str, str]: _Facts,
    list[str]: list[_Name],
    Mapping[str, str]: _Facts,
    Mapping[str, Finding]: Annotated[
        dict[str, Finding], must(lambda said: said.keys() == set(DIMENSIONS), f"findings on {', '.join(DIMENSIONS)}")
    ],
}
#: What columns hold whose type does not tell it.
_SAID: dict[tuple[str, str], Any] = {
    ("run", "id"): _RunName,
    ("run", "created_at"): Annotated[float, Field(ge=0, lt=_LATEST)],
    ("run", "judge"): Annotated[Judge, must(lambda judge: 0 < judge.sample <= 1, "a sample above 0 and at most 1")],
    ("cell", "condition_name"): _RunName,
    ("participant", "number"): Annotated[int, Field(ge=0, lt=MOST_PARTICIPANTS)],
    ("served", "description"): Annotated[_Facts, must(_priced, "texts, prices being numbers")],
    ("probe", "kind"): ProbeKind,
    ("judging", "ended"): Ended,
    ("label", "dimension"): Literal[DIMENSIONS],
    ("reading", "state"): Literal["answered", "refused"],
}


@cache
def _model(table: str) -> type[BaseModel]:
    """What a row of a table is, as JSON; its columns are read from the table's declaration."""
    row = ROWS[table]
    columns: dict[str, Any] = {}
    for column in SQLModel.metadata.tables[table].columns:
        kind = _SAID.get((table, column.name)) or _closer(kind_of(row.model_fields[column.name].annotation)[0], column)
        columns[column.name] = (kind | None if column.nullable else kind, ...)
    return create_model(table, __config__=ConfigDict(strict=True, extra="forbid"), **columns)


def _closer(kind: Any, column: Column[Any]) -> Any:
    if kind is int:
        most = 2**63 if isinstance(column.type, BigInteger) else 2**31
        return Annotated[int, Field(ge=-most if column.name in _SIGNED else 0, lt=most)]
    if kind is str:
        return str if isinstance(column.type, Text) else _Name
    return _CLOSER.get(kind, kind)


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
        row, model = parse(line), _model(table)
        if type(row) is not dict or row.keys() != model.model_fields.keys():
            got = sorted(row) if isinstance(row, dict) else type(row).__name__
            raise Misfit(f"expected the columns {', '.join(model.model_fields)}, got {got}")
        try:
            model.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            expected, got = explain(first, repr(first["input"])[:80])
            where, expected = ".".join(map(str, first["loc"])), expected.removeprefix("Input should be ")
            raise Misfit(f"{where}: expected {expected}, got {got}") from None
        if row.get("run", self.run) != self.run:
            raise Misfit(f"run: expected {self.run}, got {row['run']!r}")
        if table not in ("survey", "run"):
            self._check_names(table, row)
        if check := _CHECKS.get(table):
            check(self, row)
        return row

    def _check_names(self, table: str, row: Mapping[str, Any]) -> None:
        """Raise Misfit where a row names what the run, or its survey, does not have."""
        assert self.survey is not None
        known: dict[str, Collection[Any]] = {}
        if table == "cell":
            known["culture"] = [culture.code for culture in self.survey.cultures]
            known["language"] = self.survey.languages
            known["condition_name"] = [row["condition"]["name"]]
        elif "question" in row:
            known["question"] = self._most if table == "probe" else self._codes
        for column, names in known.items():
            if row[column] not in names:
                raise Misfit(f"{column}: expected one that the run has, got {row[column]!r}")
        if "option" in row and row["option"] not in self._codes[row["question"]]:
            raise Misfit(f"option: expected one of {row['question']}, got {row['option']}")

    def _survey(self, row: dict[str, Any]) -> None:
        try:
            survey = survey_from_json(row["body"])
        except SurveyError as error:
            raise Misfit(str(error)) from None
        signs = (f"{at} (a control character, {sign})" for at, text in _texts(row["body"]) if (sign := control(text)))
        if wrong := next(signs, "") or _ill_formed(survey):
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
        self._codes = {question: codes[question] for question in row["questions"]}
        self.read_run = True

    def _answer(self, row: dict[str, Any]) -> None:
        question, shown = row["question"], row["shown"]
        if not shown or len(set(shown)) < len(shown) or not self._codes[question].issuperset(shown):
            raise Misfit(f"shown: expected some options of {question}, each once, got {_short(shown)}")
        _some_or_none(row)
        self.check_choices(question, row["choices"])

    def check_choices(self, question: str, choices: Collection[int]) -> None:
        """Raise Misfit where a question of the run does not take these options together."""
        if not self._codes[question].issuperset(choices):
            raise Misfit(f"choices: expected options of {question}, got {_short(choices)}")
        if len(choices) > self._most[question] or len(set(choices)) < len(choices):
            expected = f"at most {self._most[question]} of {question}, each once"
            raise Misfit(f"choices: expected {expected}, got {_short(choices)}")

    def _judge(self, row: dict[str, Any]) -> None:
        """What a judge took elsewhere holds for what it said of this run, and for nothing that it is asked here."""
        self._prices[row["id"]] = {name: row[name] for name in _PRICES}
        row |= dict.fromkeys(_PRICES)

    def _judgement(self, row: dict[str, Any]) -> None:
        first = self._prices.get(row["judge"], {})
        row |= {name: first.get(name) for name in _PRICES if row[name] is None}


def _some_or_none(row: Mapping[str, Any]) -> None:
    """Raise Misfit where there are choices without an answer, or an answer without any."""
    if bool(row["choices"]) is not (row["state"] == AnswerState.ANSWERED.value):
        raise Misfit(f"choices: expected some exactly where it is answered, got {_short(row['choices'])}")


def _short(codes: Collection[int]) -> str:
    return repr(list(codes))[:80]


_CHECKS: Mapping[str, Callable[[RowReader, dict[str, Any]], None]] = {
    "survey": RowReader._survey,
    "run": RowReader._run,
    "answer": RowReader._answer,
    "reading": lambda _, row: _some_or_none(row),  # what its answer's question takes: see ``check_choices``
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
