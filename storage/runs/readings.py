"""How people read answers that the program could not read: kept apart from the answers, under the reader's name.

The answers themselves are never changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import Connection, and_, exists, not_, select, update

from defsurvey.storage.columns import Now
from defsurvey.storage.database import Database, insert_new
from defsurvey.storage.runs import tables, verdict_tables
from defsurvey.storage.runs.judgement import AnswerKey
from defsurvey.storage.runs.results import STATES, Results
from defsurvey.storage.runs.run import AnswerState

_A, _P, _R = tables.answer.c, tables.participant.c, verdict_tables.reading.c
_SAME = and_(
    _R.participant == _A.participant, _R.item == _A.item, _R.slot == _A.slot, _R.digest == _A.digest
)  # an answer that was asked again has lost its readings
_UNREAD = _A.state == AnswerState.UNPARSABLE.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How one person read one answer."""

    key: AnswerKey
    reader: str
    state: AnswerState  #: answered or refused
    choices: tuple[int, ...] = ()  #: option codes, ascending; empty unless answered

    def __post_init__(self) -> None:
        if self.state not in (AnswerState.ANSWERED, AnswerState.REFUSED):
            raise ValueError(f"a person reads an answer as answered or refused, got {self.state.value}")
        if bool(self.choices) is not (self.state is AnswerState.ANSWERED):
            raise ValueError(f"choices: expected some exactly where it is answered, got {self.choices}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBy:
    """How many readings of a run's answers there are, and by whom."""

    answers: int  #: with a reading on which all their readers agree
    disputed: int  #: on which they do not
    readers: tuple[str, ...]


def to_read(database: Database, run: str, reader: str) -> list[AnswerKey]:
    """The unparsable answers of a run that this reader has not read, by participant and item."""
    mine = exists().where(_SAME, _R.reader == reader)
    query = (
        select(_A.participant, _A.item, _A.slot, _A.attempt, _A.digest)
        .join_from(tables.answer, tables.participant, _A.participant == _P.id)
        .where(_P.run == run, _UNREAD, not_(mine))
        .order_by(_P.cell, _P.number, _A.item, _A.slot)
    )
    with database.read() as connection:
        return [AnswerKey(**row._mapping) for row in connection.execute(query)]


def record_reading(database: Database, reading: Reading) -> None:
    """Keep a reading, in place of the same reader's earlier one."""
    columns = {"state": reading.state.value, "choices": reading.choices, "read_at": Now()}

    def work(connection: Connection) -> None:
        if connection.execute(update(verdict_tables.reading).where(_of(reading)).values(columns)).rowcount == 0:
            k = reading.key
            key = {"participant": k.participant, "item": k.item, "slot": k.slot, "digest": k.digest}
            insert_new(connection, verdict_tables.reading, {**key, "reader": reading.reader, **columns})

    database.write(work)


def take_back(database: Database, reading: Reading) -> None:
    """Forget a reading."""
    database.write(lambda connection: connection.execute(verdict_tables.reading.delete().where(_of(reading))))


def _of(reading: Reading) -> Any:
    k = reading.key
    return and_(
        _R.participant == k.participant,
        _R.item == k.item,
        _R.slot == k.slot,
        _R.digest == k.digest,
        _R.reader == reading.reader,
    )


def _readings(connection: Connection, run: str) -> Sequence[Any]:
    query = (
        select(_P.cell, _P.number, _A.question, _A.slot, _R.reader, _R.state, _R.choices)
        .join_from(verdict_tables.reading, tables.answer, _SAME)
        .join(tables.participant, _A.participant == _P.id)
        .where(_P.run == run, _UNREAD)
        .order_by(_P.cell, _P.number, _A.question, _A.slot, _R.reader)
    )
    return connection.execute(query).all()


def _agreed(rows: Sequence[Any]) -> tuple[dict[tuple[int, int, str, int], tuple[str, tuple[int, ...]]], int]:
    """Answer -> how all its readers read it; and how many answers they read differently."""
    found: dict[tuple[int, int, str, int], set[tuple[str, tuple[int, ...]]]] = {}
    for row in rows:
        found.setdefault((row.cell, row.number, row.question, row.slot), set()).add((row.state, row.choices))
    agreed = {key: next(iter(read)) for key, read in found.items() if len(read) == 1}
    return agreed, len(found) - len(agreed)


def read_by(database: Database, run: str) -> ReadBy:
    """How many readings of a run's answers there are."""
    with database.read() as connection:
        rows = _readings(connection, run)
    agreed, disputed = _agreed(rows)
    return ReadBy(answers=len(agreed), disputed=disputed, readers=tuple(sorted({row.reader for row in rows})))


def with_readings(database: Database, results: Results) -> Results:
    """Results as people read them: unparsable answers end as their readers say, where all of them agree."""
    with database.read() as connection:
        agreed, _ = _agreed(_readings(connection, results.run.id))
    cells = {cell.id: place for place, cell in enumerate(results.run.cells)}
    questions = {question: place for place, question in enumerate(results.run.questions)}
    a = results.answers
    columns = [column.tolist() for column in (a.cell, a.participant, a.question, a.slot)]
    rows = {key: row for row, key in enumerate(zip(*columns, strict=True))}
    state, choices, progress = a.state.copy(), a.choices.copy(), results.progress
    for (cell, number, question, slot), (ended, chosen) in agreed.items():
        row = rows[cells[cell], number, questions[question], slot]
        codes = results.survey.question(question).codes
        state[row] = STATES.index(AnswerState(ended))
        choices[row] = np.bitwise_or.reduce([1 << codes.index(code) for code in chosen]) if chosen else 0
        progress = replace(progress, unparsable=progress.unparsable - 1, **{ended: getattr(progress, ended) + 1})
    return replace(results, answers=replace(a, state=state, choices=choices), progress=progress)
