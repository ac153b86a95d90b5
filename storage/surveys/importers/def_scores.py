"""The figures of the dataset of Liu et al. (2025): reference scores and respondents."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from defsurvey.storage.surveys.importers.delimited import Header, read_header, read_rows
from defsurvey.storage.surveys.problem import Fault, Problem

#: Column of the scores that counts failures, which are no answers.
FAILED = 12
#: Scores are shares if most of their rows sum to 1 or 100; a few may have codes that are no options.
_ROUNDING, _MOST = 0.02, 0.9
_NOTHING = frozenset({"", "nan", "na"})
_VARIABLE = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,2}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The reference scores of a part."""

    rows: Mapping[int, Mapping[int, float]]  #: question number -> code -> amount; failures left out
    failed: Mapping[int, float]  #: question number -> failures
    lines: Mapping[int, int]  #: question number -> line
    header: Header
    whole: float | None  #: what each row sums to: 1 or 100 for shares; None for counts

    def fault(self, number: int, expected: str, got: str) -> Fault:
        """The error that says what is wrong with a question's row."""
        file, line = self.header.path.name, self.lines.get(number)
        return Fault(Problem(file=file, line=line, field=f"question {number}", expected=expected, got=got))


def read_scores(path: Path, *, lists: Sequence[int] = ()) -> Scores:
    """The scores of a file.

    Args:
        path: the CSV file; its first column has the numbers of the questions, the row of number 0 is passed over.
        lists: numbers of questions with several answers, whose rows sum to nothing in particular.

    Raises:
        Fault: a cell is no number; line and column are told.
    """
    header = read_header(path)
    codes = {position: int(name) for position, name in enumerate(header.names) if position and name.isdecimal()}
    header.require([str(code) for code in range(2)])
    rows: dict[int, dict[int, float]] = {}
    failed: dict[int, float] = {}
    lines: dict[int, int] = {}
    for line, cells in read_rows(header):
        number = _number(header, line, 0, cells[0])
        if number is None or number != int(number) or int(number) in lines:
            raise header.fault(line, header.names[0], "the number of a question, each once", cells[0])
        amounts = {code: _number(header, line, position, cells[position]) or 0.0 for position, code in codes.items()}
        for code, amount in amounts.items():
            if amount < 0:
                raise header.fault(line, str(code), "an amount, 0 or more", f"{amount:g}")
        lines[int(number)] = line
        failed[int(number)] = amounts.pop(FAILED, 0.0)
        rows[int(number)] = amounts
    sums = [math.fsum(amounts.values()) for number, amounts in rows.items() if number and number not in lists]
    sums = [amount for amount in sums if amount]
    near = {one: sum(abs(amount / one - 1) <= _ROUNDING for amount in sums) for one in (1.0, 100.0)}
    whole = next((one for one, fitting in near.items() if sums and fitting >= _MOST * len(sums)), None)
    return Scores(rows=rows, failed=failed, lines=lines, header=header, whole=whole)


def _number(header: Header, line: int, position: int, cell: str) -> float | None:
    text = cell.strip()
    if text.casefold() in _NOTHING:
        return None
    try:
        number = math.inf if "_" in text else float(text)  # Python's own way to group digits is no file's
    except ValueError:
        number = math.inf
    if not math.isfinite(number):
        name = header.names[position]
        place = {"file": header.path.name, "field": name}
        raise Fault(Problem(**place, line=line, column=position + 1, expected="a number", got=repr(text)))
    return number


@dataclass(slots=True, kw_only=True)
class Respondents:
    """What the respondents of a group answered."""

    single: dict[int, dict[int, int]] = field(default_factory=dict)  #: question number -> code -> respondents
    chosen: dict[int, dict[int, int]] = field(default_factory=dict)  #: list -> option -> who chose it
    asked: dict[int, int] = field(default_factory=dict)  #: list -> respondents with an answer to any of its options


def read_respondents(path: Path) -> Respondents:
    """The answers of a file of respondents: a column ``12`` is a question, ``7-3`` option 3 of list 7.

    Of a list, 1 is "chosen". Negative values and empty cells are missing, columns of other names passed over.

    Raises:
        Fault: a cell is no number; line and column are told.
    """
    header = read_header(path)
    columns = [(position, match) for position, name in enumerate(header.names) if (match := _VARIABLE.fullmatch(name))]
    found = Respondents()
    for line, cells in read_rows(header):
        answered: set[int] = set()
        for position, match in columns:
            value = _number(header, line, position, cells[position])
            if value is None or value < 0:
                continue
            if value != int(value):
                raise header.fault(line, header.names[position], "a code, a whole number", cells[position])
            question, code = int(match[1]), int(value)
            if match[2] is None:
                answers = found.single.setdefault(question, {})
                answers[code] = answers.get(code, 0) + 1
            else:
                answered.add(question)
                options = found.chosen.setdefault(question, {})
                options[int(match[2])] = options.get(int(match[2]), 0) + (code == 1)
        for question in answered:
            found.asked[question] = found.asked.get(question, 0) + 1
    return found
