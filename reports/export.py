"""Answers as CSV, JSON lines or Parquet, row by row: memory does not grow with the run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from math import isnan
from typing import IO, Any

#: Characters with which a spreadsheet takes a cell for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_BATCH = 5000


def write_csv(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, type], target: IO[bytes]) -> None:
    """CSV in UTF-8 with a header; an apostrophe stands before text that a spreadsheet would take for a formula."""
    text = io.TextIOWrapper(target, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(_Lines(text))
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in columns])
    text.detach()


class _Lines:
    """Ends lines as Unix does. The writer must not be told so: it quotes only what its own lines end with."""

    def __init__(self, text: IO[str]) -> None:
        self._text = text

    def write(self, line: str) -> None:
        self._text.write(line.removesuffix("\r\n") + "\n")


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    if isinstance(value, bool):
        return str(value).lower()
    return _known(value)


def _known(value: Any) -> Any:
    """The value, or None for nan: JSON has no such number, and in a CSV it is a word."""
    return None if isinstance(value, float) and isnan(value) else value


def write_jsonl(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, type], target: IO[bytes]) -> None:
    """One JSON object per line, UTF-8, keys in the order of the columns; null for what is not known."""
    for row in rows:
        line = json.dumps({name: _known(row[name]) for name in columns}, ensure_ascii=False, allow_nan=False)
        target.write(line.encode("utf-8") + b"\n")


def write_parquet(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, type], target: IO[bytes]) -> None:
    """Parquet with typed columns, compressed by zstd; null for what is not known."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {str: pa.string(), int: pa.int64(), bool: pa.bool_(), float: pa.float64()}
    schema = pa.schema([pa.field(name, kinds[kind]) for name, kind in columns.items()])
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    source = iter(rows)
    while batch := [{name: _known(value) for name, value in row.items()} for row in islice(source, _BATCH)]:
        yield batch


#: Format -> how it is written.
WRITERS = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}
