"""CSV tables of survey folders: rows read into pydantic models, and rows written.

Figures are written in percent and read as shares; sums may be off by 1 for rounding, and are then made to be 1.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from defsurvey.storage.surveys.problem import Fault, Problem, Problems, fault, nearest, one_of, shown
from defsurvey.storage.surveys.yaml_models import explain, mistake, must
from defsurvey.storage.text import control

ROUNDING = 1.0  #: how far percentages may be from 100 in sum
_LAST_DIGITS = 1e-9  #: how far a percentage may be above 100 for the last digits that a program wrote
#: A number as programs write it, pandas and R among them: "61.5", ".5", "33.333333333333336", "1e-05".
_NUMBER = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?")
_COUNT = re.compile(r"[0-9]{1,9}")


def to_number(text: str, most: float) -> float | None:
    """The number from 0 to ``most`` that a text is, as programs write it; None where it is none."""
    number = float(text) if _NUMBER.fullmatch(text) else math.inf
    return number if number <= most and math.isfinite(number) else None


def to_percent(text: str) -> float | None:
    """The percentage that a text is; None where it is none. What is above 100 by its last digits alone is 100."""
    number = to_number(text, 100 + _LAST_DIGITS)
    return None if number is None else min(number, 100.0)


def to_count(text: str) -> int | None:
    """The whole number that a text of at most nine digits is; None where it is none."""
    return int(text) if _COUNT.fullmatch(text) else None


def to_shares(percentages: Mapping[int, float], *, whole: bool = True) -> dict[int, float]:
    """Percentages as shares that, where they are a whole, sum to 1: what rounding left over is put on the largest."""
    if not whole:
        return {key: percent / 100 for key, percent in percentages.items()}
    total = math.fsum(percentages.values())
    shares = {key: percent / total for key, percent in percentages.items()}
    largest = max(shares, key=lambda key: shares[key])
    shares[largest] += 1.0 - math.fsum(shares.values())
    return shares


def decimal(number: float) -> str:
    """A number with at most six decimals, by which a respondent among a million can be told."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV file as this project writes them: commas, line feeds, quotes only where needed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue()


def parsed(parse: Callable[[str], object], expected: str) -> BeforeValidator:
    """Takes what can be parsed, which None says that it cannot."""

    def read(text: str) -> object:
        if (value := parse(text)) is None:
            raise mistake(expected)
        return value

    return BeforeValidator(read)


def yes_or_no(empty: str) -> BeforeValidator:
    """Takes ``yes``, ``no`` and nothing, which means what ``empty`` is."""
    return parsed(lambda text: {"yes": True, "no": False}.get(text.lower() or empty), "yes, no or nothing")


Words = Annotated[str, must(bool, "a text")]
Respondents = Annotated[int, parsed(lambda text: to_count(text) or None, "a whole number of respondents, 1 or more")]
Percent = Annotated[float, parsed(to_percent, "a percentage from 0 to 100")]


class Row(BaseModel):
    """A line of a table: its columns are the fields, of which those with a default may be left out."""

    model_config = ConfigDict(frozen=True)

    file: str = Field(repr=False)
    line: int

    def fault(self, field: str, expected: str, got: str) -> Fault:
        """The error that says that a cell is not what was expected."""
        return fault(self.file, expected, got, line=self.line, field=field)

    def check_sum(self, field: str, parts: Collection[float], whose: str) -> None:
        """Raises Fault where percentages are not 100 in sum."""
        total = math.fsum(parts)
        if abs(total - 100) > ROUNDING + 1e-9:
            raise self.fault(field, f"percentages that sum to 100 within {ROUNDING:g} {whose}", f"{total:.6g}")


R = TypeVar("R", bound=Row)


def read_table(
    file: str, text: str, model: type[R], problems: Problems, *, context: object = None, unique: Sequence[str]
) -> Iterator[R]:
    """The well-formed rows of a table in the order of the file; blank lines are left out.

    What is wrong with a row goes to ``problems``, also that one before has the same in the columns ``unique``; what is
    wrong with the header or the whole file raises Fault.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    begins = 1
    lines: dict[tuple[str, ...], int] = {}
    try:
        for cells in reader:
            begins, line = reader.line_num + 1, begins
            stripped = [cell.strip() for cell in cells]
            if not any(stripped):
                continue
            if not header:
                header = _checked_header(file, line, stripped, model)
                continue
            with problems.gathered():
                row = _row(file, line, header, stripped, model, context)
                key = tuple(str(getattr(row, name)) for name in unique)
                if (first := lines.setdefault(key, line)) != line:
                    got = f"{', '.join(key)} again, first on line {first}"
                    raise row.fault(unique[-1], f"one row for each {', '.join(unique)}", got)
                yield row
    except csv.Error as error:
        raise fault(file, "comma-separated values", str(error), line=begins) from None
    if not header:
        _checked_header(file, 1, [], model)


def _row(file: str, line: int, header: list[str], cells: list[str], model: type[R], context: object) -> R:
    if len(cells) != len(header):
        raise fault(file, f"{len(header)} cells", f"{len(cells)}", line=line)
    row = dict(zip(header, cells, strict=True))
    expected = "a text without control characters"
    found = [(name, expected, f"one with {sign}") for name, cell in row.items() if (sign := control(cell))]
    if not found:
        try:
            return model.model_validate({**row, "file": file, "line": line}, context=context)
        except ValidationError as error:
            each = error.errors(include_url=False)
            found = [(name := str(one["loc"][0]), *explain(one, shown(row[name]))) for one in each]
    raise Fault(*(Problem(file=file, line=line, field=name, expected=wanted, got=got) for name, wanted, got in found))


def _checked_header(file: str, line: int, found: list[str], model: type[Row]) -> list[str]:
    columns = {name: field for name, field in model.model_fields.items() if name not in Row.model_fields}
    for name in found:
        if name not in columns:
            expected, got = f"one of the columns {one_of(columns)}", f"{name!r}{nearest(name, columns)}"
            raise fault(file, expected, got, line=line, field="header")
        if found.count(name) > 1:
            raise fault(file, "every column once", repr(name), line=line, field="header")
    for name, field in columns.items():
        if field.is_required() and name not in found:
            raise fault(file, f"a column {name!r}", "none", line=line, field="header")
    return found
