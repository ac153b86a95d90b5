"""A run's answers, or option probabilities, as flat rows in an order that any database gives alike.

For exports: memory does not grow with the number of answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, get_type_hints

from sqlalchemy import Row, select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import store, tables
from defsurvey.storage.runs.run import Answer, Cell
from defsurvey.storage.runs.steps import read_probabilities

_OF_CELL = dict.fromkeys(("run", "model", "culture", "condition", "language"), str)


class _Column(NamedTuple):
    """A column of exported answers, and where its value is in the row of the table."""

    name: str
    kind: type
    telemetry: bool
    field: str
    within: str = ""  #: the field of the noun that the column of the table holds; empty: it holds none
    otherwise: Any = None  #: where an older answer does not have it


def _columns() -> Iterator[_Column]:
    hints = get_type_hints(Answer)
    for field in fields(Answer):
        kind, telemetry = tables.kind_of(hints[field.name])[0], bool(field.metadata)
        if is_dataclass(kind):
            inner = get_type_hints(kind)
            for each in fields(kind):
                name = each.name if field.name == "draws" else f"{field.name}_{each.name}"
                yield _Column(name, _plain(inner[each.name]), telemetry, field.name, each.name, each.default)
        else:
            yield _Column(field.name, _plain(kind), telemetry, field.name)


def _plain(hint: Any) -> type:
    kind: type = tables.kind_of(hint)[0]
    return kind if kind in (int, float, bool) else str


_ALL = [*_columns(), _Column("worker", str, True, "worker"), _Column("committed_at", float, True, "committed_at")]
#: Columns of every row, in order: those of its cell, then the fields of ``Answer``.
COLUMNS: dict[str, type] = _OF_CELL | {each.name: each.kind for each in _ALL if not each.telemetry}
#: Columns that depend on when, where and how often an answer was computed.
TELEMETRY: dict[str, type] = {each.name: each.kind for each in _ALL if each.telemetry}
#: Columns of every row of option probabilities, in order.
PROBABILITIES: dict[str, type] = {**_OF_CELL, "question": str, "order": int, "option": int, "probability": float}

_BATCH = 1000


def answer_rows(database: Database, run_id: str, *, telemetry: bool = False) -> Iterator[dict[str, Any]]:
    """Rows of ``COLUMNS`` (and ``TELEMETRY``), by model, culture, condition, language, participant, item and slot."""
    a, p = tables.answer.c, tables.participant.c
    answers = select(tables.answer, p.number).select_from(tables.ANSWERS).order_by(p.number, a.item, a.slot)
    with database.read() as connection:
        cells = store.run_in(connection, run_id).cells
        for cell in sorted(cells, key=_place):  # here: databases differ in how they order text
            of_cell = answers.where(p.cell == cell.id).execution_options(yield_per=_BATCH)
            for row in connection.execute(of_cell):
                yield _flat(run_id, cell, row, telemetry)


def probability_rows(database: Database, run_id: str) -> Iterator[dict[str, Any]]:
    """Rows of ``PROBABILITIES``, ordered by model, culture, condition, language; then as asked."""
    cells = store.load_run(database, run_id).cells
    found = read_probabilities(database, run_id)
    for row in sorted(found, key=lambda row: _place(cells[row.cell])):  # which leaves the rows of a cell as they are
        flat = {"run": run_id, **cells[row.cell].names}
        yield {name: flat[name] if name in flat else getattr(row, name) for name in PROBABILITIES}


def _place(cell: Cell) -> tuple[str, ...]:
    return tuple(cell.names.values())


def _flat(run_id: str, cell: Cell, row: Row[Any], telemetry: bool) -> dict[str, Any]:
    flat = {"run": run_id, **cell.names}
    for name, _, apart, field, within, otherwise in _ALL:
        if telemetry or not apart:
            value = getattr(row, field)
            value = value.get(within, otherwise) if within else value
            flat[name] = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return flat | {"participant": row.number}
