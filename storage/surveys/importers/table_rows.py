"""Rows of a table in long form, gathered into questions and reference distributions."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from defsurvey.storage.surveys.folder import DIMENSION_RULE, is_dimension
from defsurvey.storage.surveys.importers.cultures import Populations
from defsurvey.storage.surveys.importers.delimited import Header
from defsurvey.storage.surveys.importers.imported import LOW_N
from defsurvey.storage.surveys.problem import Fault, nearest, one_of
from defsurvey.storage.surveys.survey import Group, Option, Question, QuestionType, ReferenceDistribution, Value
from defsurvey.storage.surveys.tables import to_number, to_percent
from defsurvey.storage.visible import control

_TRUTH = {"": False, "no": False, "false": False, "yes": True, "true": True}
#: A whole number; one with ``.0`` behind it is what a program writes where a column has empty cells.
_WHOLE = re.compile(r"([0-9]{1,9})(?:\.0)?")
#: More people than there are in any survey.
_MOST = 999_999_999
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_VALUE = ("dimension", "direction", "basis", "core")


@dataclass(slots=True, kw_only=True)
class Row:
    """A row, and what is needed to say what is wrong with it."""

    header: Header
    line: int
    cells: Mapping[str, str]

    def text(self, column: str, *, default: str | None = None) -> str:
        """A cell, or the default where it is empty; raises Fault where there is neither."""
        written = self.cells.get(column, "")
        if not written and default is None:
            raise self.header.fault(self.line, column, "a text", "")
        return written or (default or "")

    def whole(self, column: str, expected: str = "a whole number, 0 or more") -> int:
        """A whole number; raises Fault."""
        written = self.cells.get(column, "")
        whole = _WHOLE.fullmatch(written)
        if not whole:
            raise self.header.fault(self.line, column, expected, written)
        return int(whole[1])

    def amount(self, column: str) -> float:
        """A percentage or a number of people; raises Fault."""
        written = self.cells.get(column, "")
        amount = to_percent(written) if column == "percent" else to_number(written, _MOST)
        if amount is None:
            most = "100" if column == "percent" else f"{_MOST:,}"
            raise self.header.fault(self.line, column, f"a number from 0 to {most}", written)
        return amount

    def choice(self, column: str, known: Sequence[str], *, default: str | None = None) -> str:
        """One of the known words; raises Fault naming the nearest."""
        written = self.text(column, default=default)
        if written not in known:
            raise self.fault(column, f"one of {one_of(known)}", written, nearest(written, known))
        return written

    def flag(self, column: str) -> bool:
        """Yes or no; raises Fault."""
        written = self.cells.get(column, "").lower()
        if written not in _TRUTH:
            raise self.header.fault(self.line, column, "yes, no or nothing", written)
        return _TRUTH[written]

    def filled(self, first: Row) -> Row:
        """The row with what an earlier one says where it says nothing."""
        cells = {column: cell or first.cells[column] for column, cell in self.cells.items()}
        return Row(header=self.header, line=self.line, cells=cells)

    def differs(self, column: str, first: Row) -> Fault:
        """The error that says that a cell is not as it was in an earlier row."""
        written = first.cells.get(column, "")
        as_there = f"as on line {first.line}"
        expected = f"{written!r} {as_there}, or nothing" if written else f"nothing, {as_there}"
        return self.fault(column, expected, self.cells[column])

    def fault(self, column: str, expected: str, got: str, near: str = "") -> Fault:
        """The error that says what is wrong with a cell."""
        return self.header.fault(self.line, column, expected, got, near)


@dataclass(slots=True, kw_only=True)
class Draft:
    """A question while its rows come in."""

    first: Row
    type: QuestionType
    topic: str
    text: Mapping[str, str]
    max_choices: int
    value: Value | None
    options: dict[int, Option] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)  #: the first of each option


@dataclass(slots=True, kw_only=True)
class Answers:
    """A distribution while its rows come in."""

    first: Row
    amounts: dict[int, float] = field(default_factory=dict)
    n: int | None = None
    low_n: bool = False
    source: str = ""


@dataclass(slots=True, kw_only=True)
class TableReader:
    """Gathers rows."""

    header: Header
    languages: Sequence[str]
    populations: Populations
    drafts: dict[str, Draft] = field(default_factory=dict)
    answers: dict[tuple[str, str, Group], Answers] = field(default_factory=dict)

    def read(self, row: Row) -> None:
        """Take a row in; raises Fault where it does not fit the rows before it, or has a control character."""
        for column, cell in row.cells.items():
            if control(cell):
                raise row.fault(column, "a text without control characters", cell)
        name = row.text("question")
        if not _NAME.fullmatch(name):
            raise row.fault("question", "a name of letters, digits, '_', '.' and '-'", name)
        if name not in self.drafts:
            self.drafts[name] = self._draft(row)
        draft = self.drafts[name]
        self._same(row, draft)
        code = row.whole("code")
        option = self._option(row, draft, code)
        if draft.options.setdefault(code, option) != option:
            raise row.fault(
                "code", f"option {code} of {name} as it was first written", "another label, residual or value"
            )
        self._amount(row, name, code)

    def _draft(self, row: Row) -> Draft:
        kind = QuestionType(row.choice("type", [kind.value for kind in QuestionType]))
        multiple = kind is QuestionType.MULTIPLE
        return Draft(
            first=row,
            type=kind,
            topic=row.text("topic", default="Questions"),
            text={language: row.text(f"text_{language}") for language in self.languages},
            max_choices=_max_choices(row) if multiple and row.cells.get("max_choices") else 0,
            value=None if multiple else self._value(row),
        )

    def _same(self, row: Row, draft: Draft) -> None:
        """What a question says of itself stands in its first row; further rows repeat it or leave it empty."""
        if draft.type is not QuestionType.MULTIPLE and row.cells.get("max_choices"):
            raise row.fault("max_choices", "max_choices only for a multiple question", row.cells["max_choices"])
        for column in ("type", "topic", "max_choices", *(f"text_{language}" for language in self.languages)):
            written, first = row.cells.get(column, ""), draft.first.cells.get(column, "")
            if written not in ("", first):
                raise row.differs(column, draft.first)
        if draft.type is QuestionType.MULTIPLE:
            return  # each option has a value of its own
        for column in filter(row.cells.get, _VALUE):
            said = Row(header=row.header, line=row.line, cells={**draft.first.cells, column: row.cells[column]})
            if self._value(said) != draft.value:
                raise row.differs(column, draft.first)

    def _option(self, row: Row, draft: Draft, code: int) -> Option:
        """The option as a row has it; what the row leaves empty is as it was first written."""
        earlier = draft.options.get(code)
        labels = [f"label_{language}" for language in self.languages]
        if earlier is not None and not any(map(row.cells.get, (*labels, "residual", *_VALUE))):
            return earlier
        row = row.filled(draft.rows.setdefault(code, row))
        scale = draft.type is QuestionType.SCALE
        for language in self.languages:
            word = row.cells.get(f"label_{language}", "").casefold()
            if word and any(word == o.label[language].casefold() for o in draft.options.values() if o.code != code):
                raise row.fault(f"label_{language}", "a label of its own", row.cells[f"label_{language}"])
        return Option(
            code=code,
            label={lang: row.text(f"label_{lang}", default=str(code) if scale else None) for lang in self.languages},
            residual=row.flag("residual"),
            value=self._value(row) if draft.type is QuestionType.MULTIPLE else None,
        )

    def _value(self, row: Row) -> Value | None:
        given = row.cells.get("direction") or row.cells.get("basis") or row.flag("core")
        if not row.cells.get("dimension"):
            if given:
                raise row.fault("dimension", "a dimension where there is a direction, basis or core", "")
            return None
        direction = row.choice("direction", ("1", "-1", "+1"), default="1")
        basis = row.choice("basis", ("A", "A2", "A3", "B"), default="B")
        if not is_dimension(row.text("dimension")):
            raise row.fault("dimension", DIMENSION_RULE, row.text("dimension"))
        return Value(dimension=row.text("dimension"), direction=int(direction), basis=basis, core=row.flag("core"))

    def _amount(self, row: Row, name: str, code: int) -> None:
        population = self.populations.find(row.text("culture"))
        if population is None:
            near = nearest(row.text("culture"), self.populations.names())
            expected = "a country that is known; others are added with --cultures FILE"
            raise row.fault("culture", expected, row.text("culture"), near)
        group = Group(row.choice("group", [group.value for group in Group], default=Group.ALL.value))
        answers = self.answers.setdefault((name, population.code, group), Answers(first=row))
        if code in answers.amounts:
            raise row.fault("code", f"every option of {name}, {population.code}, {group.value} once", f"{code} again")
        answers.amounts[code] = row.amount("percent" if "percent" in row.cells else "count")
        if row.cells.get("n"):
            n = row.whole("n", "a whole number of respondents, 1 or more")
            if n < 1 or answers.n not in (None, n):
                raise row.fault("n", f"one number of respondents, 1 or more, for {name}, {population.code}", f"{n}")
            answers.n = n
        answers.low_n = answers.low_n or row.flag("low_n")
        source = row.cells.get("source", "")
        if source and answers.source not in ("", source):
            raise row.fault("source", f"one source for {name}, {population.code}, {group.value}", source)
        answers.source = answers.source or source

    def question(self, name: str) -> Question:
        """A question of which all rows were taken in."""
        draft = self.drafts[name]
        multiple = draft.type is QuestionType.MULTIPLE
        scale = draft.type is QuestionType.SCALE
        # Rows may be sorted by anything; the points of a scale have an order of their own.
        options = sorted(draft.options.values(), key=lambda o: (o.residual, o.code if scale and not o.residual else 0))
        return Question(
            id=name,
            type=draft.type,
            topic=draft.topic,
            text=draft.text,
            options=tuple(options),
            max_choices=(draft.max_choices or len(options)) if multiple else 1,
            value=draft.value,
        )

    def reference(self, key: tuple[str, str, Group]) -> ReferenceDistribution:
        """A distribution of which all rows were taken in; raises Fault where options or respondents are missing."""
        name, culture, group = key
        answers, draft = self.answers[key], self.drafts[name]
        multiple = draft.type is QuestionType.MULTIPLE
        missing = [str(code) for code in draft.options if code not in answers.amounts]
        if missing and not multiple:
            got = f"none for {', '.join(missing)}"
            raise answers.first.fault("code", f"every option of {name} for {culture}, {group.value}", got)
        n, whole = self._whole(answers, name, multiple=multiple)
        return ReferenceDistribution(
            question=name,
            culture=culture,
            group=group,
            shares={code: answers.amounts[code] / whole for code in draft.options if code in answers.amounts},
            n=n,
            low_n=answers.low_n or n < LOW_N,
            source=answers.source,
        )

    def _whole(self, answers: Answers, name: str, *, multiple: bool) -> tuple[int, float]:
        """The number of respondents, and what is 1 among the amounts."""
        first, total, most = answers.first, math.fsum(answers.amounts.values()), max(answers.amounts.values())
        counted = "count" in first.cells
        n = answers.n or (round(total) if counted and not multiple else 0)
        if n < 1:
            raise first.fault("n", f"a whole number of respondents to {name}, 1 or more", first.cells.get("n", ""))
        if not most:
            column = "count" if counted else "percent"
            raise first.fault(column, f"an option of {name} that somebody chose", "0 for each of them")
        if counted and multiple and most > n:
            raise first.fault("count", f"at most {n} people for each option of {name}", f"{most:g}")
        if not counted and not multiple and abs(total - 100) > 1:
            raise first.fault("percent", f"percentages of {name} that sum to 100 within 1", f"{total:.6g} in sum")
        return n, total if not multiple else n if counted else 100


def _max_choices(row: Row) -> int:
    expected = "a whole number, 2 or more"
    most = row.whole("max_choices", expected)
    if most < 2:
        raise row.fault("max_choices", expected, str(most))
    return most
