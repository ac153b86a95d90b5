"""The first sheet of an Excel workbook, from which nothing can be unpacked beyond reason."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import ParseError

from defsurvey.storage.surveys.problem import Fault, Problem

#: A table of a survey's questions is far smaller, unpacked.
LARGEST_UNPACKED = 64 * 2**20
MOST_PARTS, MOST_ROWS, MOST_COLUMNS = 500, 50_000, 100
#: How a part begins that is XML, in UTF-8 or UTF-16, whatever its name is.
_XML = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\0]*<")
#: An encoding that a part names for itself.
_ENCODING = re.compile(rb"<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"'>]*)")
_UTF8 = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii"})


def read_sheet(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a workbook's first sheet as text, each with its number, counted from 1.

    Empty rows are left out, and empty cells at the end of a row.

    Raises:
        Fault: it is no workbook, or unpacks to more than a table of questions can need.
    """
    _check_size(path)
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path, read_only=True, data_only=True, keep_links=False)
        try:
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # what a sheet says of its own size is not to be relied on
            for number, row in enumerate(sheet.iter_rows(max_col=MOST_COLUMNS, values_only=True), start=1):
                if number > MOST_ROWS:
                    raise _fault(path, f"at most {MOST_ROWS:,} rows", "more", line=number)
                cells = ["" if cell is None else _text(cell) for cell in row]
                while cells and not cells[-1]:
                    cells.pop()
                if cells:
                    yield number, cells
        finally:
            book.close()
    except (zipfile.BadZipFile, KeyError, IndexError, ParseError, InvalidFileException, ValueError, TypeError) as error:
        if isinstance(error, Fault):
            raise
        raise _fault(path, "an Excel workbook (.xlsx)", f"{type(error).__name__}: {error}") from None


def _text(cell: object) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def _check_size(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            size = sum(part.file_size for part in parts)
            if len(parts) > MOST_PARTS or size > LARGEST_UNPACKED:
                got = f"{len(parts)} parts of {size / 2**20:,.0f} MiB"
                expected = f"at most {MOST_PARTS} parts that unpack to {LARGEST_UNPACKED // 2**20} MiB"
                raise _fault(path, expected, got)
            for part in parts:
                _check_part(path, part.filename, archive.read(part))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise _fault(path, "an Excel workbook (.xlsx)", f"{error}") from None


def _check_part(path: Path, name: str, content: bytes) -> None:
    """Entities are looked for in UTF-8: what the reader of a workbook could take for XML has to be in it."""
    if not name.endswith((".xml", ".rels")) and not _XML.match(content):
        return
    named = _ENCODING.search(content)
    if b"\0" in content or (named and named[1].lower() not in _UTF8) or not _is_utf8(content):
        raise _fault(path, "a workbook in UTF-8", f"{name} in another encoding")
    if b"<!ENTITY" in content:
        raise _fault(path, "a workbook without entities of its own", f"one in {name}")


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _fault(path: Path, expected: str, got: str, line: int | None = None) -> Fault:
    return Fault(Problem(file=path.name, line=line, expected=expected, got=got))
