"""A run's answers, or option probabilities, as flat rows in an order that any database gives alike.

For exports: memory does not grow with the number of answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import store, tables
from defsurvey.storage.runs.rows import answer_from
from defsurvey.storage.runs.run import Cell
from defsurvey.storage.runs.steps import read_probabilities

#: Columns of every row, in order.
COLUMNS: dict[str, type] = {
    "run": str,
    "model": str,
    "culture": str,
    "condition": str,
    "language": str,
    "participant": int,
    "item": int,
    "slot": int,
    "question": str,
    "state": str,
    "out_of_sequence": bool,
    "choices": str,
    "completion": str,
    "reason": str,
    "remembered": str,
    "shown": str,
    "memory": str,
    "region": str,
    "num_beams": int,
    "do_sample": bool,
    "memory_capacity": int,
    "paraphrase": int,
    "seed": int,
    "used_num_beams": int,
    "used_do_sample": bool,
    "used_temperature": float,
    "used_top_p": float,
    "used_top_k": int,
    "used_max_new_tokens": int,
    "prompt_tokens": int,
    "completion_tokens": int,
}
#: Columns that depend on when, where and how often an answer was computed.
TELEMETRY: dict[str, type] = {"attempt": int, "seconds": float, "worker": str, "committed_at": float}
#: Columns of every row of option probabilities, in order.
PROBABILITIES: dict[str, type] = {
    "run": str,
    "model": str,
    "culture": str,
    "condition": str,
    "language": str,
    "question": str,
    "order": int,
    "option": int,
    "probability": float,
}

_BATCH = 1000


def answer_rows(database: Database, run_id: str, *, telemetry: bool = False) -> Iterator[dict[str, Any]]:
    """Rows of ``COLUMNS`` (and ``TELEMETRY``), ordered by model, culture, condition, language, participant, item, slot.

    Raises:
        storage.runs.store.UnknownRun: there is no such run.
    """
    with database.read() as connection:
        cells = store.run_in(connection, run_id).cells
        # Sorted here: databases differ in how they order text.
        for cell in sorted(cells, key=_names):
            yield from _of_cell(connection, run_id, cell, telemetry)


def probability_rows(database: Database, run_id: str) -> Iterator[dict[str, Any]]:
    """Rows of ``PROBABILITIES``, ordered by model, culture, condition, language; then as asked.

    Raises:
        storage.runs.store.UnknownRun: there is no such run.
    """
    cells = store.load_run(database, run_id).cells
    found = read_probabilities(database, run_id)
    for row in sorted(found, key=lambda row: _names(cells[row.cell])):  # which leaves the rows of a cell as they are
        yield {
            "run": run_id,
            **dict(zip(("model", "culture", "condition", "language"), _names(cells[row.cell]), strict=True)),
            "question": row.question,
            "order": row.order,
            "option": row.option,
            "probability": row.probability,
        }


def _names(cell: Cell) -> tuple[str, str, str, str]:
    return cell.model, cell.culture, cell.condition.name, cell.language


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
    answer = answer_from(row)
    flat = {
        "run": run_id,
        "model": cell.model,
        "culture": cell.culture,
        "condition": cell.condition.name,
        "language": cell.language,
        "participant": row.number,
        "item": answer.item,
        "slot": answer.slot,
        "question": answer.question,
        "state": answer.state.value,
        "out_of_sequence": answer.out_of_sequence,
        "choices": _joined(answer.choices),
        "completion": answer.completion,
        "reason": answer.reason,
        "remembered": answer.remembered,
        "shown": _joined(answer.shown),
        "memory": _joined(answer.memory),
        "region": answer.draws.region,
        "num_beams": answer.draws.num_beams,
        "do_sample": answer.draws.do_sample,
        "memory_capacity": answer.draws.memory_capacity,
        "paraphrase": answer.draws.paraphrase,
        "seed": answer.seed,
        "used_num_beams": answer.used.num_beams,
        "used_do_sample": answer.used.do_sample,
        "used_temperature": answer.used.temperature,
        "used_top_p": answer.used.top_p,
        "used_top_k": answer.used.top_k,
        "used_max_new_tokens": answer.used.max_new_tokens,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
    }
    if telemetry:
        flat |= {name: getattr(row, name) for name in TELEMETRY}
    return flat


def _joined(values: tuple[int, ...]) -> str:
    return " ".join(map(str, values))
