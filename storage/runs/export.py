"""A run's answers, or option probabilities, as flat rows in an order that any database gives alike.

For exports: memory does not grow with the number of answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, cast, get_type_hints

from sqlalchemy import Connection, Row, select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import store, tables
from defsurvey.storage.runs.rows import answer_from, flat
from defsurvey.storage.runs.run import Answer, Cell
from defsurvey.storage.runs.steps import read_probabilities

_OF_CELL = dict.fromkeys(("run", "model", "culture", "condition", "language"), str)


def _kinds(noun: type, *, telemetry: bool) -> dict[str, type]:
    """The columns that fields of a noun are exported as -> the type of their values."""
    hints = get_type_hints(noun)
    columns: dict[str, type] = {}
    for field in fields(noun):
        kind, _ = tables.kind_of(hints[field.name])
        if bool(field.metadata) is not telemetry:
            continue
        if is_dataclass(kind):
            inner = _kinds(cast(type, kind), telemetry=False)
            columns |= {_within(field.name, name): each for name, each in inner.items()}
        else:
            columns[field.name] = kind if kind in (int, float, bool) else str
    return columns


def _within(field: str, name: str) -> str:
    """The column of a noun within an answer: of its draws, or of what was used."""
    return name if field == "draws" else f"{field}_{name}"


#: Columns of every row, in order: those of its cell, then the fields of ``Answer``.
COLUMNS: dict[str, type] = _OF_CELL | _kinds(Answer, telemetry=False)
#: Columns that depend on when, where and how often an answer was computed.
TELEMETRY: dict[str, type] = _kinds(Answer, telemetry=True) | {"worker": str, "committed_at": float}
#: Columns of every row of option probabilities, in order.
PROBABILITIES: dict[str, type] = {
    **_OF_CELL,
    "question": str,
    "order": int,
    "option": int,
    "probability": float,
}

_BATCH = 1000


def answer_rows(database: Database, run_id: str, *, telemetry: bool = False) -> Iterator[dict[str, Any]]:
    """Rows of ``COLUMNS`` (and ``TELEMETRY``), by model, culture, condition, language, participant, item and slot."""
    with database.read() as connection:
        cells = store.run_in(connection, run_id).cells
        # Sorted here: databases differ in how they order text.
        for cell in sorted(cells, key=_place):
            yield from _of_cell(connection, run_id, cell, telemetry)


def probability_rows(database: Database, run_id: str) -> Iterator[dict[str, Any]]:
    """Rows of ``PROBABILITIES``, ordered by model, culture, condition, language; then as asked."""
    cells = store.load_run(database, run_id).cells
    found = read_probabilities(database, run_id)
    for row in sorted(found, key=lambda row: _place(cells[row.cell])):  # which leaves the rows of a cell as they are
        flat = {"run": run_id, **cells[row.cell].names}
        yield {name: flat[name] if name in flat else getattr(row, name) for name in PROBABILITIES}


def _place(cell: Cell) -> tuple[str, ...]:
    return tuple(cell.names.values())


def _of_cell(connection: Connection, run_id: str, cell: Cell, telemetry: bool) -> Iterator[dict[str, Any]]:
    a, p = tables.answer.c, tables.participant.c
    query = (
        select(tables.answer, p.number)
        .join_from(tables.answer, tables.participant, a.participant == p.id)
        .where(p.cell == cell.id)
        .order_by(p.number, a.item, a.slot)
        .execution_options(yield_per=_BATCH)
    )
    for row in connection.execute(query):
        yield _flat(run_id, cell, row, telemetry)


def _flat(run_id: str, cell: Cell, row: Row[Any], telemetry: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"run": run_id, **cell.names, "worker": row.worker, "committed_at": row.committed_at}
    for name, value in flat(answer_from(row)).items():
        if isinstance(value, dict):
            found |= {_within(name, inner): each for inner, each in value.items()}
        else:
            found[name] = " ".join(map(str, value)) if isinstance(value, tuple) else value
    found["participant"] = row.number
    return {name: found[name] for name in (COLUMNS | TELEMETRY if telemetry else COLUMNS)}
