"""Any survey as one table: a row per option, in long form."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from defsurvey.storage.surveys.folder import DIMENSION_RULE, is_dimension
from defsurvey.storage.surveys.importers.cultures import read_populations
from defsurvey.storage.surveys.importers.files import DATA, Header, Row, read_dicts, read_header
from defsurvey.storage.surveys.importers.imported import LOW_N, Imported, dimensions_of
from defsurvey.storage.surveys.problem import Fault, SurveyError, nearest, one_of
from defsurvey.storage.surveys.survey import Group, Option, Question, QuestionType, ReferenceDistribution, Survey, Value
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
_MOST = 999_999_999  #: more people than there are in any survey
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
    """The survey that a table in long form holds (docs/importing.md); ``cultures`` is the user's own. Raises Fault."""
    header, known = _header(path), read_populations(cultures)
    languages = tuple(name[5:] for name in header.names if name.startswith("text_"))
    rows: dict[str, list[Row]] = {}
    answers: dict[tuple[str, str, Group], list[Row]] = {}
    for row in read_dicts(header):
        for column, cell in row.cells.items():
            if control(cell):
                raise row.fault(column, "a text without control characters")
        if not _NAME.fullmatch(name := row.text("question")):
            raise row.fault("question", "a name of letters, digits, '_', '.' and '-'")
        rows.setdefault(name, []).append(row)
        if (population := known.find(row.text("culture"))) is None:
            expected = "a country that is known; others are added with --cultures FILE"
            raise row.fault("culture", expected, near=known.near(row.get("culture")))
        group = Group(_choice(row, "group", [group.value for group in Group], Group.ALL.value))
        answers.setdefault((name, population.code, group), []).append(row)
    if not rows:
        raise header.fault(2, "question", "at least one row", "")
    questions = {name: _question(name, own, languages) for name, own in rows.items()}
    references = tuple(_reference(questions[key[0]], *key[1:], own) for key, own in answers.items())
    populations = known.chosen(dict.fromkeys(reference.culture for reference in references))
    survey = Survey(
        id=id,
        title=title or path.stem,
        version="1",
        citation=citation or f"No citation was given; the figures are those of {path.name}.",
        terms=terms or "Not stated.",
        languages=languages,
        dimensions=dimensions_of([*questions.values()], languages),
        questions=tuple(questions.values()),
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
    if (written := row.get(column).lower()) not in _TRUTH:
        raise row.fault(column, "yes, no or nothing", written)
    return _TRUTH[written]


def _value(row: Row) -> Value | None:
    dimension = row.get("dimension")
    if not dimension and (row.get("direction") or row.get("basis") or _flag(row, "core")):
        raise row.fault("dimension", "a dimension where there is a direction, basis or core")
    if not dimension:
        return None
    direction = _choice(row, "direction", ("1", "-1", "+1"), "1")
    basis = _choice(row, "basis", ("A", "A2", "A3", "B"), "B")
    if not is_dimension(dimension):
        raise row.fault("dimension", DIMENSION_RULE)
    return Value(dimension=dimension, direction=int(direction), basis=basis, core=_flag(row, "core"))


def _differs(row: Row, column: str, first: Row) -> Fault:
    there, written = f"as on line {first.line}", first.get(column)
    return row.fault(column, f"{written!r} {there}, or nothing" if written else f"nothing, {there}")


def _question(name: str, rows: Sequence[Row], languages: Sequence[str]) -> Question:
    """What a question says of itself stands in its first row; further rows repeat it or leave it empty."""
    first = rows[0]
    kind = QuestionType(_choice(first, "type", [kind.value for kind in QuestionType]))
    multiple, scale = kind is QuestionType.MULTIPLE, kind is QuestionType.SCALE
    text = {language: first.text(f"text_{language}") for language in languages}
    limited = multiple and first.get("max_choices")
    most = _whole(first, "max_choices", "a whole number, 2 or more", 2) if limited else 0
    value = None if multiple else _value(first)
    options: dict[int, tuple[Option, Row]] = {}
    for row in rows:
        if not multiple and row.get("max_choices"):
            raise row.fault("max_choices", "max_choices only for a multiple question")
        for column in ("type", "topic", "max_choices", *(f"text_{language}" for language in languages)):
            if row.get(column) not in ("", first.get(column)):
                raise _differs(row, column, first)
        for column in filter(row.get, () if multiple else VALUE):  # each option of a list has a value of its own
            if _value(replace(row, cells={**first.cells, column: row.get(column)})) != value:
                raise _differs(row, column, first)
        code = _whole(row, "code")
        others = [option for option, _ in options.values() if option.code != code]
        option = _option(row, options[code][1] if code in options else row, code, kind, languages, others)
        if options.setdefault(code, (option, row))[0] != option:
            expected = f"option {code} of {name} as it was first written"
            raise row.fault("code", expected, "another label, residual or value")
    # Rows may be sorted by anything; the points of a scale have an order of their own.
    order = sorted(
        (option for option, _ in options.values()),
        key=lambda option: (option.residual, option.code if scale and not option.residual else 0),
    )
    return Question(
        id=name,
        type=kind,
        topic=first.get("topic") or "Questions",
        text=text,
        options=tuple(order),
        max_choices=(most or len(order)) if multiple else 1,
        value=value,
    )


def _option(
    row: Row, first: Row, code: int, kind: QuestionType, languages: Sequence[str], others: Sequence[Option]
) -> Option:
    """The option as a row has it; what the row leaves empty is as it was in the option's first row."""
    row = replace(row, cells={column: cell or first.cells[column] for column, cell in row.cells.items()})
    label: dict[str, str] = {}
    for language in languages:
        column = f"label_{language}"
        label[language] = row.get(column) or (str(code) if kind is QuestionType.SCALE else row.text(column))
        word = row.get(column).casefold()
        if word and any(word == other.label[language].casefold() for other in others):
            raise row.fault(column, "a label of its own")
    value = _value(row) if kind is QuestionType.MULTIPLE else None
    return Option(code=code, label=label, residual=_flag(row, "residual"), value=value)


def _reference(question: Question, culture: str, group: Group, rows: Sequence[Row]) -> ReferenceDistribution:
    first, whose = rows[0], f"{question.id}, {culture}"
    amounts: dict[int, float] = {}
    n, low_n, source = 0, False, ""
    for row in rows:
        code = _whole(row, "code")
        if code in amounts:
            raise row.fault("code", f"every option of {whose}, {group.value} once", f"{code} again")
        amounts[code] = _amount(row)
        if row.get("n"):
            told = _whole(row, "n", "a whole number of respondents, 1 or more")
            if told < 1 or n not in (0, told):
                raise row.fault("n", f"one number of respondents, 1 or more, for {whose}", f"{told}")
            n = told
        low_n = _flag(row, "low_n") or low_n
        if row.get("source") and source not in ("", row.get("source")):
            raise row.fault("source", f"one source for {whose}, {group.value}")
        source = source or row.get("source")
    multiple, counted = question.type is QuestionType.MULTIPLE, "count" in first.cells
    if (missing := [str(code) for code in question.codes if code not in amounts]) and not multiple:
        got = f"none for {', '.join(missing)}"
        raise first.fault("code", f"every option of {question.id} for {culture}, {group.value}", got)
    total, most = math.fsum(amounts.values()), max(amounts.values())
    n = n or (round(total) if counted and not multiple else 0)
    if n < 1:
        raise first.fault("n", f"a whole number of respondents to {question.id}, 1 or more")
    if not most:
        column = "count" if counted else "percent"
        raise first.fault(column, f"an option of {question.id} that somebody chose", "0 for each of them")
    if counted and multiple and most > n:
        raise first.fault("count", f"at most {n} people for each option of {question.id}", f"{most:g}")
    if not counted and not multiple and abs(total - 100) > 1:
        raise first.fault("percent", f"percentages of {question.id} that sum to 100 within 1", f"{total:.6g} in sum")
    whole = total if not multiple else n if counted else 100
    return ReferenceDistribution(
        question=question.id,
        culture=culture,
        group=group,
        shares={code: amounts[code] / whole for code in question.codes if code in amounts},
        n=n,
        low_n=low_n or n < LOW_N,
        source=source,
    )
