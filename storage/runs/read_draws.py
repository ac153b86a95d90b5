"""What every participant of a run drew, as arrays.

Read from the answers, beside each of which stands what its engine really used: an API may
know no beams, and then nothing is claimed about them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlalchemy import func, select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import store, tables
from defsurvey.storage.runs.results import DrawArrays
from defsurvey.storage.runs.run import DrawsPer

_A, _P = tables.answer.c, tables.participant.c


def read_draws(database: Database, run_id: str) -> DrawArrays:
    """The configurations of a run: one row per participant, or per answer where each question has its own draws.

    Raises:
        storage.runs.store.UnknownRun: there is no such run.
    """
    with database.read() as connection:
        run = store.run_in(connection, run_id)
        per_question = run.protocol.draws is DrawsPer.QUESTION
        query = (
            select(_P.cell, _P.number, _A.question, _A.draws, _A.used)
            .join_from(tables.answer, tables.participant, _A.participant == _P.id)
            .where(_P.run == run_id, _A.slot == 0)
            .order_by(_P.cell, _P.number, _A.item)
        )
        if not per_question:
            first = select(func.min(_A.item)).where(_A.participant == _P.id).correlate(tables.participant)
            query = query.where(_A.item == first.scalar_subquery())
        rows = connection.execute(query).all()
    cells = {cell.id: position for position, cell in enumerate(run.cells)}
    questions = {question: position for position, question in enumerate(run.questions)}
    regions = tuple(sorted({row.draws["region"] for row in rows} - {None}))
    places = {None: -1, **{region: position for position, region in enumerate(regions)}}
    return DrawArrays(
        cell=np.array([cells[row.cell] for row in rows], dtype=np.int32),
        participant=np.array([row.number for row in rows], dtype=np.int32),
        question=np.array([questions[row.question] if per_question else -1 for row in rows], dtype=np.int32),
        num_beams=np.array([_used(row.used, "num_beams") for row in rows], dtype=np.float64),
        do_sample=np.array([_used(row.used, "do_sample") for row in rows], dtype=np.float64),
        memory_capacity=np.array([row.draws["memory_capacity"] for row in rows], dtype=np.int64),
        region=np.array([places[row.draws["region"]] for row in rows], dtype=np.int32),
        regions=regions,
    )


def _used(used: Mapping[str, Any], name: str) -> float:
    return float("nan") if used[name] is None else float(used[name])
