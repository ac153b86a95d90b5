"""Workbooks: rows as text, and nothing that unpacks beyond reason."""

from __future__ import annotations

import zipfile
from pathlib import Path

import openpyxl
import pytest

from defsurvey.storage.surveys.importers import files
from defsurvey.storage.surveys.importers.def_dataset import read_types
from defsurvey.storage.surveys.importers.files import read_sheet
from defsurvey.storage.surveys.problem import SurveyError


def book(path: Path, rows: list[list[object]]) -> Path:
    """A workbook of these rows."""
    made = openpyxl.Workbook()
    for row in rows:
        made.active.append(row)  # type: ignore[union-attr]
    made.save(path)
    return path


def test_rows_are_text(tmp_path: Path) -> None:
    """Numbers are written as whole numbers where they are; empty rows are left out, their numbers kept."""
    path = book(tmp_path / "b.xlsx", [["id", "value type"], [1.0, "EVI"], [None, None], [2.5, " TDI "]])
    assert list(read_sheet(path)) == [(1, ["id", "value type"]), (2, ["1", "EVI"]), (4, ["2.5", "TDI"])]


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """A small file that unpacks to more than any table needs is refused by what it says of itself."""
    path = tmp_path / "bomb.xlsx"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("xl/worksheets/sheet1.xml", "w") as part,
    ):
        for _ in range(65):
            part.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    with pytest.raises(
        SurveyError, match=r"bomb\.xlsx: expected at most 500 parts that unpack to 64 MiB, got 1 parts of 65"
    ):
        list(read_sheet(path))


def test_many_parts_are_refused(tmp_path: Path) -> None:
    """So are many small ones."""
    path = tmp_path / "parts.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(501):
            archive.writestr(f"{number}.xml", "")
    with pytest.raises(SurveyError, match="got 501 parts"):
        list(read_sheet(path))


def test_entities_do_not_unfold(tmp_path: Path) -> None:
    """A sheet of entities that name each other ten times over is refused by the XML parser, at once."""
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    path = tmp_path / "laughs.xlsx"
    with zipfile.ZipFile(book(tmp_path / "b.xlsx", [[1]])) as whole, zipfile.ZipFile(path, "w") as archive:
        for part in whole.namelist():
            text = whole.read(part)
            if part == "xl/worksheets/sheet1.xml":
                text = f'<!DOCTYPE a [<!ENTITY e0 "{"ha" * 50}">{entities}]>'.encode() + text
                text = text.replace(b"<v>", b"<v>&e11;", 1)
            archive.writestr(part, text)
    with pytest.raises(
        SurveyError, match=r"laughs\.xlsx: expected an Excel workbook \(\.xlsx\), got ParseError: limit on"
    ):
        list(read_sheet(path))


def test_too_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sheet that goes on and on is told at the row where it is too much."""
    monkeypatch.setattr(files, "MOST_ROWS", 2)
    path = book(tmp_path / "b.xlsx", [["id"], [1], [2]])
    with pytest.raises(SurveyError, match=r"b\.xlsx, line 3: expected at most 2 rows, got more"):
        list(read_sheet(path))


def test_what_is_no_workbook(tmp_path: Path) -> None:
    """A text of that name, and an archive of something else."""
    path = tmp_path / "b.xlsx"
    path.write_text("id,value type\n", encoding="utf-8")
    with pytest.raises(SurveyError, match=r"b\.xlsx: expected an Excel workbook \(\.xlsx\), got"):
        list(read_sheet(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no workbook")
    with pytest.raises(SurveyError, match=r"b\.xlsx: expected an Excel workbook \(\.xlsx\), got KeyError"):
        list(read_sheet(path))


def test_types_without_their_column(tmp_path: Path) -> None:
    """A workbook of types needs the column, and numbers in the other."""
    with pytest.raises(SurveyError, match=r"b\.xlsx, line 1, header: expected a column 'value type', got id, type"):
        read_types(book(tmp_path / "b.xlsx", [["id", "type"]]))
    with pytest.raises(SurveyError, match=r"b\.xlsx, line 2, id: expected the number of a question, got 'one'"):
        read_types(book(tmp_path / "b.xlsx", [["id", "value type"], ["one", "EVI"]]))
    assert read_types(book(tmp_path / "c.xlsx", [["value type"], ["evi"], ["Masculinity"]])) == {1: "EVI", 2: "MAS"}
