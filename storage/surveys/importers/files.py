"""The files that importers read: delimited text and plain lines, row by row, and the first sheet of a workbook.

Errors name file, line and column. A file may be larger than the memory.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from defsurvey.storage.surveys.problem import Fault, fault, nearest, one_of, shown

DATA = Path(__file__).parent / "data"
DELIMITERS = (",", ";", "\t", "|")
LARGEST_UNPACKED = 64 * 2**20  #: a workbook with a table of a survey's questions is far smaller, unpacked
#: What is raised of workbooks that are none; the parser's errors are a SyntaxError.
_BROKEN = (zipfile.BadZipFile, LookupError, SyntaxError, ValueError, TypeError, RuntimeError, EOFError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line of a file of delimited text."""

    path: Path
    delimiter: str
    names: tuple[str, ...]  #: as written, without white space around them; those without a name are empty

    def fault(self, line: int, field: str, expected: str, got: str, near: str = "") -> Fault:
        """The error about a cell; ``near`` is put after what was got: a name that may have been meant."""
        column = self.names.index(field) + 1 if field in self.names else None
        return fault(self.path.name, expected, shown(got) + near, line=line, column=column, field=field)

    def require(self, columns: Sequence[str]) -> None:
        """Raises Fault where a column is missing; the nearest name is told."""
        for name in columns:
            if name not in self.names:
                got = f"{one_of(filter(None, self.names))}{nearest(name, self.names)}"
                raise fault(self.path.name, f"a column {name!r}", got, line=1, field="header")

    def check_names(self, known: Sequence[str]) -> None:
        """Raises Fault where a column is none of those known."""
        for name in self.names:
            if name not in known:
                expected = f"one of the columns {', '.join(known)}"
                raise self.fault(1, name, expected, name, nearest(name, known))

    def once(self) -> Header:
        """The header itself; raises Fault where a name stands twice."""
        for position, name in enumerate(self.names):
            if name and name in self.names[:position]:
                got = f"{shown(name)} again, first in column {self.names.index(name) + 1}"
                expected = "every name once"
                raise fault(self.path.name, expected, got, line=1, column=position + 1, field="header")
        return self


def read_header(path: Path) -> Header:
    """The header of a file, with the delimiter that splits its first line into most names; raises Fault."""
    first = next(read_lines(path), "")
    if not first.strip():
        raise fault(path.name, "a header", "an empty line" if first else "nothing", line=1)
    delimiter = max(DELIMITERS, key=first.count)
    if not first.count(delimiter):
        marks = ", ".join(DELIMITERS).replace("\t", "tab")
        raise fault(path.name, f"columns separated by one of {marks}", shown(first.strip()), line=1)
    _, names = next(_rows(path, delimiter))
    return Header(path=path, delimiter=delimiter, names=tuple(" ".join(name.split()) for name in names)).once()


def read_rows(header: Header) -> Iterator[tuple[int, list[str]]]:
    """The rows below the header, each with the line on which it ends; raises Fault.

    Blank lines are left out, and so are rows of empty cells, which spreadsheets write where something once was.
    """
    width = len(header.names)
    rows = _rows(header.path, header.delimiter)
    next(rows)
    for line, cells in rows:
        if not any(map(str.strip, cells)):
            continue
        if len(cells) != width:
            column = min(len(cells), width) + (len(cells) > width)
            expected = f"{width} cells, as the header has"
            raise fault(header.path.name, expected, f"{len(cells)}", line=line, column=column)
        yield line, cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row with its cells by the names of their columns, without white space around them."""

    header: Header
    line: int
    cells: Mapping[str, str]

    def get(self, column: str) -> str:
        """The cell; empty where the file has no such column."""
        return self.cells.get(column, "")

    def text(self, column: str) -> str:
        """The cell, which has to say something."""
        if not self.get(column):
            raise self.fault(column, "a text")
        return self.get(column)

    def fault(self, column: str, expected: str, got: str | None = None, near: str = "") -> Fault:
        """The error about a cell; ``got`` is left out where it is the cell."""
        return self.header.fault(self.line, column, expected, self.get(column) if got is None else got, near)


def read_dicts(header: Header) -> Iterator[Row]:
    """Like ``read_rows``, with each row's cells by the names of their columns."""
    for line, cells in read_rows(header):
        yield Row(header=header, line=line, cells=dict(zip(header.names, map(str.strip, cells), strict=True)))


def _rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader(read_lines(path), delimiter=delimiter, strict=True)
    begins = 1
    try:
        for cells in rows:
            begins = rows.line_num + 1
            yield rows.line_num, cells
    except csv.Error as error:
        mark = "tab" if delimiter == "\t" else delimiter
        expected = f"cells separated by {mark!r}, their quotes closed"
        raise fault(path.name, expected, str(error), line=begins) from None


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text file with their ends; raises Fault where one is not UTF-8."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                column = len(raw[: error.start].decode("utf-8", errors="ignore")) + 1
                got = f"byte 0x{raw[error.start]:02x}: save the file as UTF-8"
                raise fault(path.name, "text in UTF-8", got, line=number, column=column) from None


def read_sheet(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a workbook's first sheet as text, each with its number, counted from 1.

    Empty rows are left out. Raises Fault where it is no workbook, or unpacks to more than a table of questions needs.
    """
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > LARGEST_UNPACKED:
            expected = f"a workbook that unpacks to at most {LARGEST_UNPACKED // 2**20} MiB"
            raise fault(path.name, expected, f"{size / 2**20:,.0f} MiB")
        book = load_workbook(path, read_only=True, data_only=True, keep_links=False)
        try:
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # what a sheet says of its own size is not to be relied on
            for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
                whole = (int(c) if isinstance(c, float) and c.is_integer() else c for c in row)
                cells = ["" if cell is None else str(cell).strip() for cell in whole]
                if any(cells):
                    yield number, cells
        finally:
            book.close()
    except Fault:
        raise
    except (*_BROKEN, InvalidFileException) as error:
        raise fault(path.name, "an Excel workbook (.xlsx)", f"{type(error).__name__}: {error}") from None
