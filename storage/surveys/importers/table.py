"""Any survey as one table: a row per option, in long form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from defsurvey.storage.surveys.folder import DIMENSION_RULE, is_dimension
from defsurvey.storage.surveys.importers.cultures import Populations, read_populations
from defsurvey.storage.surveys.importers.files import DATA, Header, Row, read_dicts, read_header
from defsurvey.storage.surveys.importers.imported import LOW_N, Imported, dimensions_of
from defsurvey.storage.surveys.problem import Fault, SurveyError, nearest, one_of
from defsurvey.storage.surveys.survey import (
    Group,
    Option,
    Question,
    QuestionType,
    ReferenceDistribution,
    Survey,
    Value,
)
from defsurvey.storage.surveys.tables import to_number, to_percent
from defsurvey.storage.text import control

REQUIRED = ("question", "type", "code", "culture")
AMOUNTS = ("percent", "count")
VALUE = ("dimension", "direction", "basis", "core")
OPTIONAL = ("topic", "max_choices", "residual", *VALUE, "group", "n", "low_n", "source")
_WORDED = re.compile(r"text_([a-z]{2,3}(-[A-Za-z0-9]{2,8})*)")
#: The table that ``survey template`` writes: two cultures, every type of question.
TEMPLATE = DATA / "table_template.csv"
_TRUTH = {"": False, "no": False, "false": False, "yes": True, "true": True}
#: A whole number; one with ``.0`` behind it is what a program writes where a column has empty cells.
_WHOLE = re.compile(r"([0-9]{1,9})(?:\.0)?")
#: More people than there are in any survey.
_MOST = 999_999_999
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def import_table(
    path: Path,
    *,
    id: str,
    title: str | None = None,
    citation: str | None = None,
    terms: str | None = None,
    cultures: Path | None = None,
) -> Imported:
    """The survey that a table in long form holds, as docs/importing.md has it; raises Fault where a row is not so.

    ``title`` and ``citation`` are the file's name by default; ``cultures`` is the user's own table of cultures.
    """
    header = _header(path)
    languages = tuple(name[5:] for name in header.names if name.startswith("text_"))
    reader = _Reader(languages=languages, populations=read_populations(cultures))
    for row in read_dicts(header):
        reader.read(row)
    questions = tuple(map(reader.question, reader.drafts))
    references = tuple(map(reader.reference, reader.answers))
    if not questions:
        raise header.fault(2, "question", "at least one row", "")
    populations = reader.populations.chosen(dict.fromkeys(reference.culture for reference in references))
    survey = Survey(
        id=id,
        title=title or path.stem,
        version="1",
        citation=citation or f"No citation was given; the figures are those of {path.name}.",
        terms=terms or "Not stated.",
        languages=languages,
        dimensions=dimensions_of(questions, languages),
        questions=questions,
        cultures=tuple(population.culture(languages) for population in populations),
        references=references,
    )
    return Imported(survey=survey, left_out=(f"{len(questions)} questions",))


def write_template(path: Path) -> None:
    """Write an example table that can be imported as it is; raises SurveyError where there is a file already."""
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(TEMPLATE.read_text(encoding="utf-8"))
    except FileExistsError:
        raise SurveyError(f"{path}: expected a place where nothing is yet, got a file; it is kept") from None


def _header(path: Path) -> Header:
    header = read_header(path)
    languages = [match[1] for match in map(_WORDED.fullmatch, header.names) if match]
    header.require((*REQUIRED, *(f"label_{language}" for language in languages)))
    worded = [f"{kind}_{language}" for language in languages for kind in ("text", "label")]
    header.check_names((*REQUIRED, *AMOUNTS, *OPTIONAL, *worded))
    if not languages:
        header.require(("text_en",))
    if sum(name in header.names for name in AMOUNTS) != 1:
        raise header.fault(1, "header", "one of the columns percent and count", one_of(header.names))
    if "percent" in header.names:
        header.require(("n",))
    return header


def _whole(row: Row, column: str, expected: str = "a whole number, 0 or more", least: int = 0) -> int:
    whole = _WHOLE.fullmatch(row.get(column))
    if not whole or int(whole[1]) < least:
        raise row.fault(column, expected)
    return int(whole[1])


def _amount(row: Row) -> float:
    """A percentage or a number of people."""
    if "percent" in row.cells:
        column, most, amount = "percent", "100", to_percent(row.get("percent"))
    else:
        column, most, amount = "count", f"{_MOST:,}", to_number(row.get("count"), _MOST)
    if amount is None:
        raise row.fault(column, f"a number from 0 to {most}")
    return amount


def _choice(row: Row, column: str, known: Sequence[str], default: str = "") -> str:
    written = row.get(column) or default or row.text(column)
    if written not in known:
        raise row.fault(column, f"one of {one_of(known)}", written, nearest(written, known))
    return written


def _flag(row: Row, column: str) -> bool:
    written = row.get(column).lower()
    if written not in _TRUTH:
        raise row.fault(column, "yes, no or nothing", written)
    return _TRUTH[written]


def _value(row: Row) -> Value | None:
    given = row.get("direction") or row.get("basis") or _flag(row, "core")
    dimension = row.get("dimension")
    if not dimension:
        if given:
            raise row.fault("dimension", "a dimension where there is a direction, basis or core")
        return None
    direction = _choice(row, "direction", ("1", "-1", "+1"), "1")
    basis = _choice(row, "basis", ("A", "A2", "A3", "B"), "B")
    if not is_dimension(dimension):
        raise row.fault("dimension", DIMENSION_RULE)
    return Value(dimension=dimension, direction=int(direction), basis=basis, core=_flag(row, "core"))


def _differs(row: Row, column: str, first: Row) -> Fault:
    """The error about a cell that is not as it was in an earlier row."""
    there = f"as on line {first.line}"
    written = first.get(column)
    return row.fault(column, f"{written!r} {there}, or nothing" if written else f"nothing, {there}")


@dataclass(slots=True, kw_only=True)
class _Draft:
    """A question while its rows come in."""

    first: Row
    type: QuestionType
    text: Mapping[str, str]
    max_choices: int
    value: Value | None
    options: dict[int, Option] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)  #: the first of each option


@dataclass(slots=True, kw_only=True)
class _Answers:
    """A distribution while its rows come in."""

    first: Row
    amounts: dict[int, float] = field(default_factory=dict)
    n: int | None = None
    low_n: bool = False
    source: str = ""


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Gathers rows into questions and distributions."""

    languages: Sequence[str]
    populations: Populations
    drafts: dict[str, _Draft] = field(default_factory=dict)
    answers: dict[tuple[str, str, Group], _Answers] = field(default_factory=dict)

    def read(self, row: Row) -> None:
        """Take a row in; raises Fault where it does not fit the rows before it, or has a control character."""
        for column, cell in row.cells.items():
            if control(cell):
                raise row.fault(column, "a text without control characters")
        name = row.text("question")
        if not _NAME.fullmatch(name):
            raise row.fault("question", "a name of letters, digits, '_', '.' and '-'")
        if name not in self.drafts:
            self.drafts[name] = self._draft(row)
        draft = self.drafts[name]
        self._check_same(row, draft)
        code = _whole(row, "code")
        option = self._option(row, draft, code)
        if draft.options.setdefault(code, option) != option:
            expected = f"option {code} of {name} as it was first written"
            raise row.fault("code", expected, "another label, residual or value")
        self._add(row, name, code)

    def _draft(self, row: Row) -> _Draft:
        kind = QuestionType(_choice(row, "type", [kind.value for kind in QuestionType]))
        multiple = kind is QuestionType.MULTIPLE
        text = {language: row.text(f"text_{language}") for language in self.languages}
        limited = multiple and row.get("max_choices")
        most = _whole(row, "max_choices", "a whole number, 2 or more", 2) if limited else 0
        return _Draft(first=row, type=kind, text=text, max_choices=most, value=None if multiple else _value(row))

    def _check_same(self, row: Row, draft: _Draft) -> None:
        """What a question says of itself stands in its first row; further rows repeat it or leave it empty."""
        multiple = draft.type is QuestionType.MULTIPLE
        if not multiple and row.get("max_choices"):
            raise row.fault("max_choices", "max_choices only for a multiple question")
        for column in ("type", "topic", "max_choices", *(f"text_{language}" for language in self.languages)):
            if row.get(column) not in ("", draft.first.get(column)):
                raise _differs(row, column, draft.first)
        for column in filter(row.get, () if multiple else VALUE):  # each option of a list has a value of its own
            if _value(replace(row, cells={**draft.first.cells, column: row.get(column)})) != draft.value:
                raise _differs(row, column, draft.first)

    def _option(self, row: Row, draft: _Draft, code: int) -> Option:
        """The option as a row has it; what the row leaves empty is as it was first written."""
        labels = {language: f"label_{language}" for language in self.languages}
        first = draft.rows.setdefault(code, row)
        row = replace(row, cells={column: cell or first.cells[column] for column, cell in row.cells.items()})
        for language, column in labels.items():
            word = row.get(column).casefold()
            if word and any(word == o.label[language].casefold() for o in draft.options.values() if o.code != code):
                raise row.fault(column, "a label of its own")
        default = str(code) if draft.type is QuestionType.SCALE else ""
        return Option(
            code=code,
            label={language: row.get(column) or default or row.text(column) for language, column in labels.items()},
            residual=_flag(row, "residual"),
            value=_value(row) if draft.type is QuestionType.MULTIPLE else None,
        )

    def _add(self, row: Row, name: str, code: int) -> None:
        population = self.populations.find(row.text("culture"))
        if population is None:
            expected = "a country that is known; others are added with --cultures FILE"
            raise row.fault("culture", expected, near=self.populations.near(row.get("culture")))
        group = Group(_choice(row, "group", [group.value for group in Group], Group.ALL.value))
        answers = self.answers.setdefault((name, population.code, group), _Answers(first=row))
        whose = f"{name}, {population.code}"
        if code in answers.amounts:
            raise row.fault("code", f"every option of {whose}, {group.value} once", f"{code} again")
        answers.amounts[code] = _amount(row)
        if row.get("n"):
            n = _whole(row, "n", "a whole number of respondents, 1 or more")
            if n < 1 or answers.n not in (None, n):
                raise row.fault("n", f"one number of respondents, 1 or more, for {whose}", f"{n}")
            answers.n = n
        answers.low_n = answers.low_n or _flag(row, "low_n")
        if row.get("source") and answers.source not in ("", row.get("source")):
            raise row.fault("source", f"one source for {whose}, {group.value}")
        answers.source = answers.source or row.get("source")

    def question(self, name: str) -> Question:
        """A question of which all rows were taken in."""
        draft = self.drafts[name]
        scale = draft.type is QuestionType.SCALE
        # Rows may be sorted by anything; the points of a scale have an order of their own.
        options = sorted(draft.options.values(), key=lambda o: (o.residual, o.code if scale and not o.residual else 0))
        return Question(
            id=name,
            type=draft.type,
            topic=draft.first.get("topic") or "Questions",
            text=draft.text,
            options=tuple(options),
            max_choices=(draft.max_choices or len(options)) if draft.type is QuestionType.MULTIPLE else 1,
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
        n, whole = _respondents(answers, name, multiple=multiple)
        return ReferenceDistribution(
            question=name,
            culture=culture,
            group=group,
            shares={code: answers.amounts[code] / whole for code in draft.options if code in answers.amounts},
            n=n,
            low_n=answers.low_n or n < LOW_N,
            source=answers.source,
        )


def _respondents(answers: _Answers, name: str, *, multiple: bool) -> tuple[int, float]:
    """The number of respondents, and what is 1 among the amounts."""
    first, total, most = answers.first, math.fsum(answers.amounts.values()), max(answers.amounts.values())
    counted = "count" in first.cells
    n = answers.n or (round(total) if counted and not multiple else 0)
    if n < 1:
        raise first.fault("n", f"a whole number of respondents to {name}, 1 or more")
    if not most:
        column = "count" if counted else "percent"
        raise first.fault(column, f"an option of {name} that somebody chose", "0 for each of them")
    if counted and multiple and most > n:
        raise first.fault("count", f"at most {n} people for each option of {name}", f"{most:g}")
    if not counted and not multiple and abs(total - 100) > 1:
        raise first.fault("percent", f"percentages of {name} that sum to 100 within 1", f"{total:.6g} in sum")
    return n, total if not multiple else n if counted else 100
