"""The tables of a survey folder: ``references.csv`` and ``regions.csv``.

Files are written in percent, what is read is shares; sums may be off by 1 for rounding, and are then made to be 1.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from defsurvey.storage.surveys.problem import Fault, Problem, Problems, nearest, one_of
from defsurvey.storage.surveys.survey import Group, Question, QuestionType, ReferenceDistribution, Region
from defsurvey.storage.visible import control

#: How far percentages may be from 100 in sum.
ROUNDING = 1.0
#: How far a percentage may be above 100 for the last digits that a program wrote.
_LAST_DIGITS = 1e-9
_COUNT = re.compile(r"[0-9]{1,9}")
#: A number as programs write it, pandas and R among them: "61.5", ".5", "33.333333333333336", "1e-05".
_NUMBER = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?")
_FLAGS = {"no": False, "yes": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of a table and the place where it stands."""

    file: str
    line: int
    cells: Mapping[str, str]

    def fault(self, field: str, expected: str, got: str) -> Fault:
        """The error that says that a cell is not what was expected."""
        return Fault(Problem(file=self.file, line=self.line, field=field, expected=expected, got=got))

    def text(self, field: str) -> str:
        """A cell that is not empty; raises Fault."""
        if not self.cells[field]:
            raise self.fault(field, "a text", "nothing")
        return self.cells[field]

    def choice(self, field: str, known: Collection[str], what: str) -> str:
        """A cell that is one of the known words; raises Fault naming the nearest."""
        word = self.text(field)
        if word not in known:
            raise self.fault(field, f"{what}: one of {one_of(known)}", f"{word!r}{nearest(word, known)}")
        return word

    def percent(self, field: str, written: str | None = None, whose: str = "") -> float:
        """A percentage, 0 to 100; raises Fault."""
        text = self.cells[field] if written is None else written
        if (percent := to_percent(text)) is None:
            raise self.fault(field, f"a percentage from 0 to 100{whose}", repr(text) if text else "nothing")
        return percent


def to_number(text: str, most: float) -> float | None:
    """The number from 0 to ``most`` that a text is, as programs write it; None where it is none.

    >>> to_number("1e-05", 100), to_number(".5", 100), to_number("1_0", 100), to_number("101", 100)
    (1e-05, 0.5, None, None)
    """
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if number <= most and math.isfinite(number) else None


def to_percent(text: str) -> float | None:
    """The percentage that a text is; None where it is none. What is above 100 by its last digits alone is 100."""
    number = to_number(text, 100 + _LAST_DIGITS)
    return None if number is None else min(number, 100.0)


def read_rows(
    file: str, text: str, columns: Sequence[str], problems: Problems, *, optional: Sequence[str] = ()
) -> Iterator[Row]:
    """The rows of a table in the order of the file; blank lines are left out.

    Rows of the wrong length, or with a control character, go to ``problems``. Raises Fault where the columns are not
    ``columns`` and any of ``optional`` (in any order), or the file is no CSV.
    """
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    begins = 1
    try:
        for cells in lines:
            begins, line = lines.line_num + 1, begins
            stripped = [cell.strip() for cell in cells]
            if not any(stripped):
                continue
            if not header:
                header = _checked_header(file, line, stripped, columns, optional)
            elif len(stripped) != len(header):
                got = f"{len(stripped)}"
                problems.found.append(Problem(file=file, line=line, expected=f"{len(header)} cells", got=got))
            elif sign := control("".join(stripped)):
                field = next(name for name, cell in zip(header, stripped, strict=True) if control(cell))
                expected, got = "a text without control characters", f"one with {sign}"
                problems.found.append(Problem(file=file, line=line, field=field, expected=expected, got=got))
            else:
                yield Row(file=file, line=line, cells=dict(zip(header, stripped, strict=True)))
    except csv.Error as error:
        raise Fault(Problem(file=file, line=begins, expected="comma-separated values", got=str(error))) from None
    if not header:
        _checked_header(file, 1, [], columns, optional)


def _checked_header(
    file: str, line: int, found: list[str], columns: Sequence[str], optional: Sequence[str]
) -> list[str]:
    known = [*columns, *optional]
    for name in found:
        if name not in known:
            expected, got = f"one of the columns {one_of(known)}", f"{name!r}{nearest(name, known)}"
            raise Fault(Problem(file=file, line=line, field="header", expected=expected, got=got))
        if found.count(name) > 1:
            raise Fault(Problem(file=file, line=line, field="header", expected="every column once", got=repr(name)))
    for name in columns:
        if name not in found:
            raise Fault(Problem(file=file, line=line, field="header", expected=f"a column {name!r}", got="none"))
    return found


def to_shares(percentages: Mapping[int, float]) -> dict[int, float]:
    """Percentages as shares that sum to 1, what rounding left over put on the largest."""
    total = math.fsum(percentages.values())
    shares = {key: percent / total for key, percent in percentages.items()}
    largest = max(shares, key=lambda key: shares[key])
    shares[largest] += 1.0 - math.fsum(shares.values())
    return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceReader:
    """Reads reference distributions against the questions and cultures of a survey."""

    questions: Mapping[str, Question]  #: the well-formed ones
    ids: Collection[str]  #: of all questions, well formed or not
    cultures: Collection[str]
    sources: Mapping[str, str]  #: short key -> where figures are from
    problems: Problems

    def read(self, file: str, text: str) -> tuple[ReferenceDistribution, ...]:
        """The well-formed distributions; problems go to ``problems``, or raise Fault for the file as a whole."""
        columns = ("question", "culture", "group", "n", "low_n", "source", "percent")
        found: dict[tuple[str, str, Group], ReferenceDistribution] = {}
        lines: dict[tuple[str, str, Group], int] = {}
        for row in read_rows(file, text, columns, self.problems, optional=("n_eff",)):
            with self.problems.gathered():
                question = row.choice("question", self.ids, "a question of the survey")
                culture = row.choice("culture", self.cultures, "a culture of the survey")
                group = Group(row.choice("group", [group.value for group in Group], "a group"))
                key = (question, culture, group)
                if key in lines:
                    got = f"{question}, {culture}, {group.value} again, first on line {lines[key]}"
                    raise row.fault("group", "one distribution of a question, culture and group", got)
                lines[key] = row.line
                if question in self.questions:
                    found[key] = self._distribution(row, self.questions[question], culture, group)
        return tuple(found.values())

    def _distribution(self, row: Row, question: Question, culture: str, group: Group) -> ReferenceDistribution:
        n = row.cells["n"]
        if not _COUNT.fullmatch(n) or int(n) < 1:
            raise row.fault("n", "a whole number of respondents, 1 or more", repr(n) if n else "nothing")
        low_n = _flag(row, "low_n", "no")
        source = row.choice("source", self.sources, "a source of survey.yaml") if row.cells["source"] else ""
        percentages = self._percentages(row, question)
        multiple = question.type is QuestionType.MULTIPLE
        return ReferenceDistribution(
            question=question.id,
            culture=culture,
            group=group,
            shares={code: part / 100 for code, part in percentages.items()} if multiple else to_shares(percentages),
            n=int(n),
            low_n=low_n,
            source=self.sources.get(source, ""),
            n_eff=_effective(row, int(n)),
        )

    def _percentages(self, row: Row, question: Question) -> dict[int, float]:
        """Option code -> percent, in the survey's order. Of a multiple question some options may be unknown."""
        known = question.codes
        found: dict[int, float] = {}
        for pair in row.text("percent").split("|"):
            code, colon, written = (part.strip() for part in pair.partition(":"))
            if not colon or not _COUNT.fullmatch(code):
                raise row.fault("percent", f"code:percent|code:percent|... for question {question.id}", repr(pair))
            if int(code) not in known:
                expected = f"an option of question {question.id}: one of {one_of(map(str, known))}"
                raise row.fault("percent", expected, f"option {code}")
            if int(code) in found:
                raise row.fault("percent", f"every option of question {question.id} once", f"option {code} again")
            found[int(code)] = row.percent("percent", written, f" for question {question.id}")
        if question.type is not QuestionType.MULTIPLE:
            missing = [str(code) for code in known if code not in found]
            if missing:
                raise row.fault("percent", f"every option of question {question.id}", f"none for {', '.join(missing)}")
            _check_sum(row, "percent", found.values(), f" for question {question.id}")
        return {code: found[code] for code in known if code in found}


def _effective(row: Row, n: int) -> float | None:
    """The effective number of respondents, None where the table has none; raises Fault."""
    written = row.cells.get("n_eff", "")
    if not written:
        return None
    if not (number := to_number(written, n)):
        raise row.fault("n_eff", f"a number above 0 and at most n ({n}), or nothing", repr(written))
    return number


def _flag(row: Row, field: str, nothing: str) -> bool:
    """Yes or no; ``nothing`` is what an empty cell, or no such column, says. Raises Fault."""
    written = row.cells.get(field, "")
    word = written.lower() or nothing
    if word not in _FLAGS:
        raise row.fault(field, "yes, no or nothing", repr(written))
    return _FLAGS[word]


def _check_sum(row: Row, field: str, parts: Collection[float], whose: str = "") -> None:
    total = math.fsum(parts)
    if abs(total - 100) > ROUNDING + 1e-9:
        raise row.fault(field, f"percentages that sum to 100 within {ROUNDING:g}{whose}", f"{total:.6g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionReader:
    """Reads the regions of a survey's cultures."""

    languages: Sequence[str]
    cultures: Collection[str]
    problems: Problems

    def read(self, file: str, text: str) -> dict[str, tuple[Region, ...]]:
        """Culture -> its regions; problems go to ``problems``, or raise Fault for the file as a whole."""
        names = {language: f"name_{language}" for language in self.languages}
        columns = ("culture", "code", *names.values(), "share")
        rows: dict[str, dict[str, Row]] = {}
        before = len(self.problems.found)
        for row in read_rows(file, text, columns, self.problems, optional=("uniform",)):
            with self.problems.gathered():
                culture = row.choice("culture", self.cultures, "a culture of the survey")
                code = row.text("code")
                earlier = rows.setdefault(culture, {}).setdefault(code, row)
                if earlier is not row:
                    raise row.fault("code", "a code of its own", f"{code!r}, first on line {earlier.line}")
                for name in names.values():
                    row.text(name)
                row.percent("share")
                _flag(row, "uniform", "yes")
        if len(self.problems.found) > before:
            return {}  # what rows at fault leave out would be missing in the sums, too
        return {culture: self._regions(places, names) for culture, places in rows.items()}

    def _regions(self, places: Mapping[str, Row], names: Mapping[str, str]) -> tuple[Region, ...]:
        percentages = {code: row.percent("share") for code, row in places.items()}
        last = list(places.values())[-1]
        with self.problems.gathered():
            _check_sum(last, "share", percentages.values(), f" over the regions of {last.cells['culture']}")
            if not any(_flag(row, "uniform", "yes") for row in places.values()):
                expected = f"a region of {last.cells['culture']} that may be drawn"
                raise last.fault("uniform", expected, "no for all")
            shares = dict(zip(places, to_shares(dict(enumerate(percentages.values()))).values(), strict=True))
            return tuple(
                Region(
                    code=code,
                    name={lang: row.cells[name] for lang, name in names.items()},
                    share=shares[code],
                    uniform=_flag(row, "uniform", "yes"),
                )
                for code, row in places.items()
            )
        return ()


def read_exclusions(file: str, text: str, ids: Collection[str], problems: Problems) -> dict[str, str]:
    """Question -> why it was excluded; problems go to ``problems``, or raise Fault for the file as a whole."""
    found: dict[str, str] = {}
    for row in read_rows(file, text, ("question", "reason"), problems):
        with problems.gathered():
            question = row.choice("question", ids, "a question of the survey")
            if question in found:
                raise row.fault("question", "every question once", f"{question} again")
            found[question] = row.text("reason")
    return found
