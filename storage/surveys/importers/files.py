"""The files that importers read: delimited text and plain lines, row by row, and the first sheet of a workbook.

Errors name file, line and column. Text is never held in memory as a whole: a file may be larger than that.
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from xml.etree.ElementTree import ParseError

from defsurvey.storage.surveys.problem import Fault, fault, nearest, one_of, shown

DATA = Path(__file__).parent / "data"
DELIMITERS = (",", ";", "\t", "|")
#: A line longer than this is no line of a table.
LONGEST_LINE = 4 * 2**20
_NAMES = {"\t": "tab"}
#: A workbook with a table of a survey's questions is far smaller, unpacked.
LARGEST_UNPACKED = 64 * 2**20
MOST_PARTS, MOST_ROWS, MOST_COLUMNS = 500, 50_000, 100
#: How a part of a workbook begins that is XML, in UTF-8 or UTF-16, whatever its name is.
_XML = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\0]*<")
#: An encoding that such a part names for itself.
_ENCODING = re.compile(rb"<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"'>]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line of a file of delimited text."""

    path: Path
    delimiter: str
    names: tuple[str, ...]  #: as written, without white space around them; those without a name are empty
    lines: int = 1  #: of the file that it takes: a name within quotes may have several

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
    """The header of a file, with the delimiter that splits its first line into most names.

    Raises:
        Fault: the file is empty, not UTF-8, has no delimiter in its first line, or a name twice.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        first = next(_lines(path, file), "")
    if not first.strip():
        raise fault(path.name, "a header", "an empty line" if first else "nothing", line=1)
    delimiter = max(DELIMITERS, key=first.count)
    if not first.count(delimiter):
        marks = ", ".join(_NAMES.get(mark, mark) for mark in DELIMITERS)
        raise fault(path.name, f"columns separated by one of {marks}", shown(first.strip()), line=1)
    with path.open("rb") as file:
        lines, names = next(_rows(path, file, delimiter))
    stripped = tuple(" ".join(name.split()) for name in names)
    return Header(path=path, delimiter=delimiter, names=stripped, lines=lines).once()


def read_rows(header: Header) -> Iterator[tuple[int, list[str]]]:
    """The rows below the header, each with the line on which it ends.

    Blank lines are left out, and so are rows of empty cells, which spreadsheets write where something once was.

    Raises:
        Fault: a row has another number of cells than the header, a quote is not closed, or a byte is not UTF-8.
    """
    width = len(header.names)
    with header.path.open("rb") as file:
        rows = _rows(header.path, file, header.delimiter)
        next(rows)
        for line, cells in rows:
            if not any(map(str.strip, cells)):
                continue
            if len(cells) != width:
                column = min(len(cells), width) + (len(cells) > width)
                expected = f"{width} cells, as the header has"
                raise fault(header.path.name, expected, f"{len(cells)}", line=line, column=column)
            yield line, cells


def read_dicts(header: Header) -> Iterator[tuple[int, dict[str, str]]]:
    """Like ``read_rows``, with each row's cells by the names of their columns and without white space around them."""
    for line, cells in read_rows(header):
        yield line, dict(zip(header.names, map(str.strip, cells), strict=True))


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
        raise fault(path.name, expected, str(error), line=begins) from None


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    """The file's lines as text, with their ends."""
    number = 0
    while raw := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(raw) > LONGEST_LINE:
            got = f"more than {LONGEST_LINE:,} bytes without an end of line"
            raise fault(path.name, "a line of a table", got, line=number)
        try:
            yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            column = len(raw[: error.start].decode("utf-8", errors="ignore")) + 1
            got = f"byte 0x{raw[error.start]:02x}: save the file as UTF-8"
            raise fault(path.name, "text in UTF-8", got, line=number, column=column) from None


def read_sheet(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a workbook's first sheet as text, each with its number, counted from 1.

    Empty rows are left out, and empty cells at the end of a row.

    Raises:
        Fault: it is no workbook, or unpacks to more than a table of questions can need.
    """
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        _check_parts(path)
        book = load_workbook(path, read_only=True, data_only=True, keep_links=False)
        try:
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # what a sheet says of its own size is not to be relied on
            for number, row in enumerate(sheet.iter_rows(max_col=MOST_COLUMNS, values_only=True), start=1):
                if number > MOST_ROWS:
                    raise fault(path.name, f"at most {MOST_ROWS:,} rows", "more", line=number)
                cells = ["" if cell is None else _cell(cell) for cell in row]
                while cells and not cells[-1]:
                    cells.pop()
                if cells:
                    yield number, cells
        finally:
            book.close()
    except Fault:
        raise
    except (
        zipfile.BadZipFile, KeyError, IndexError, ParseError, InvalidFileException, ValueError, TypeError, RuntimeError,
        EOFError,
    ) as error:  # fmt: skip
        raise fault(path.name, "an Excel workbook (.xlsx)", f"{type(error).__name__}: {error}") from None


def _cell(cell: object) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def _check_parts(path: Path) -> None:
    """Raises Fault where a workbook is a bomb, by its size or by entities, which are looked for in UTF-8 only."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        size = sum(part.file_size for part in parts)
        if len(parts) > MOST_PARTS or size > LARGEST_UNPACKED:
            expected = f"at most {MOST_PARTS} parts that unpack to {LARGEST_UNPACKED // 2**20} MiB"
            raise fault(path.name, expected, f"{len(parts)} parts of {size / 2**20:,.0f} MiB")
        for part in parts:
            name, content = part.filename, archive.read(part)
            if not name.endswith((".xml", ".rels")) and not _XML.match(content):
                continue
            encoding = _ENCODING.search(content)
            plain = encoding is None or encoding[1].lower() in (b"utf-8", b"utf8", b"us-ascii", b"ascii")
            try:
                plain = plain and "\0" not in content.decode("utf-8")
            except UnicodeDecodeError:
                plain = False
            if not plain:
                raise fault(path.name, "a workbook in UTF-8", f"{name} in another encoding")
            if b"<!ENTITY" in content:
                raise fault(path.name, "a workbook without entities of its own", f"one in {name}")
