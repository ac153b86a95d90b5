"""Delimited text, read line by line, with errors that name file, line and column.

A file is never held in memory: it may be larger than that.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from defsurvey.storage.surveys.problem import Fault, Problem, nearest, one_of, shown

DELIMITERS = (",", ";", "\t", "|")
#: A line longer than this is no line of a table.
LONGEST_LINE = 4 * 2**20
_NAMES = {"\t": "tab"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line of a file."""

    path: Path
    delimiter: str
    names: tuple[str, ...]  #: as written, without white space around them; those without a name are empty
    lines: int = 1  #: of the file that it takes: a name within quotes may have several

    def fault(self, line: int, field: str, expected: str, got: str, near: str = "") -> Fault:
        """The error that says that a cell is not what was expected; its column is counted from 1.

        ``near`` is put behind what was got: a name that may have been meant.
        """
        column = self.names.index(field) + 1 if field in self.names else None
        return Fault(
            Problem(
                file=self.path.name, line=line, column=column, field=field, expected=expected, got=shown(got) + near
            )
        )

    def require(self, columns: Sequence[str]) -> None:
        """Raises Fault where a column is missing; a name that is near is told."""
        for name in columns:
            if name not in self.names:
                close = nearest(name, self.names)
                got = f"{one_of(name for name in self.names if name)}{close}"
                raise Fault(
                    Problem(file=self.path.name, line=1, field="header", expected=f"a column {name!r}", got=got)
                )


def read_header(path: Path, *, delimiters: Sequence[str] = DELIMITERS) -> Header:
    """The header of a file, with the delimiter that it shows.

    The delimiter is the one that splits the first line into most names.

    Raises:
        Fault: the file is empty, not UTF-8, has no delimiter in its first line, or a name twice.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        first = next(_lines(path, file), "")
    if not first.strip():
        raise Fault(Problem(file=path.name, line=1, expected="a header", got="an empty line" if first else "nothing"))
    delimiter = max(delimiters, key=first.count)
    if not first.count(delimiter):
        named = ", ".join(_NAMES.get(mark, mark) for mark in delimiters)
        raise Fault(
            Problem(file=path.name, line=1, expected=f"columns separated by one of {named}", got=shown(first.strip()))
        )
    with path.open("rb") as file:
        lines, names = next(_rows(path, file, delimiter))
    stripped = tuple(" ".join(name.split()) for name in names)
    for position, name in enumerate(stripped):
        if name and name in stripped[:position]:
            got = f"{shown(name)} again, first in column {stripped.index(name) + 1}"
            raise Fault(
                Problem(
                    file=path.name, line=1, column=position + 1, field="header", expected="every name once", got=got
                )
            )
    return Header(path=path, delimiter=delimiter, names=stripped, lines=lines)


def read_rows(header: Header) -> Iterator[tuple[int, list[str]]]:
    """The rows below the header, each with the line on which it ends.

    Blank lines are left out, and so are rows of empty cells, which spreadsheets write where something once was.

    Raises:
        Fault: a row has more or fewer cells than the header, a byte is not UTF-8, or a quote is not closed.
        OSError: the file cannot be read.
    """
    width = len(header.names)
    with header.path.open("rb") as file:
        rows = _rows(header.path, file, header.delimiter)
        next(rows)
        for line, cells in rows:
            if not any(map(str.strip, cells)):
                continue
            if len(cells) == width:
                yield line, cells
            else:
                raise Fault(
                    Problem(
                        file=header.path.name,
                        line=line,
                        column=min(len(cells), width) + (len(cells) > width),
                        expected=f"{width} cells, as the header has",
                        got=f"{len(cells)}",
                    )
                )


def ends_whole(header: Header) -> bool:
    """Whether the file's last line is a row with its quotes closed, as far as the line alone can tell."""
    with header.path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - LONGEST_LINE))
        last = file.read().rstrip(b"\r\n").rpartition(b"\n")[2].decode("utf-8", errors="replace")
    try:
        rows = list(csv.reader([last], delimiter=header.delimiter, strict=True))
    except csv.Error:
        return False
    return len(rows) == 1 and len(rows[0]) == len(header.names)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers, without their ends.

    Raises:
        Fault: a byte is not UTF-8, or a line is too long.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        for number, line in enumerate(_lines(path, file), start=1):
            yield number, line.rstrip("\r\n")


def _rows(path: Path, file: BinaryIO, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader(_lines(path, file), delimiter=delimiter, strict=True)
    begins = 1
    try:
        for cells in rows:
            begins = rows.line_num + 1
            yield rows.line_num, cells
    except csv.Error as error:
        expected = f"cells separated by {_NAMES.get(delimiter, delimiter)!r}, their quotes closed"
        raise Fault(Problem(file=path.name, line=begins, expected=expected, got=str(error))) from None


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    """The file's lines as text, with their ends."""
    number = 0
    while raw := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(raw) > LONGEST_LINE:
            got = f"more than {LONGEST_LINE:,} bytes without an end of line"
            raise Fault(Problem(file=path.name, line=number, expected="a line of a table", got=got))
        try:
            yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            column = len(raw[: error.start].decode("utf-8", errors="ignore")) + 1
            got = f"byte 0x{raw[error.start]:02x}: save the file as UTF-8"
            raise Fault(
                Problem(file=path.name, line=number, column=column, expected="text in UTF-8", got=got)
            ) from None
