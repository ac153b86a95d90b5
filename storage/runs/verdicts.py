"""What judges and people said of a run's answers: as arrays for reports, and as people give it.

Only what was said of answers as they are now: an answer that was asked again has lost its verdicts and readings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from defsurvey.storage.database import Database, Now, insert_new
from defsurvey.storage.runs import outbox, store, tables
from defsurvey.storage.runs.judgement import DIMENSIONS, AnswerKey, Verdict
from defsurvey.storage.runs.judgements import KEY, Ended
from defsurvey.storage.runs.results import STATES, Results
from defsurvey.storage.runs.run import AnswerState

_A, _P, _C, _J = tables.answer.c, tables.participant.c, tables.cell.c, tables.judgement.c
_L, _R = tables.label.c, tables.reading.c
_VERDICTS = [verdict.value for verdict in Verdict]
_UNREAD = _A.state == AnswerState.UNPARSABLE.value
#: An answer as labels and readings are kept of it.
_SAID_OF = ("participant", "item", "slot", "digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Two verdicts on each of the same answers and dimensions; arrays of shape (n,)."""

    other: str  #: who gave the second: a person, or empty: the judge itself, asked again
    dimension: NDArray[np.int8]  #: position in ``DIMENSIONS``
    first: NDArray[np.int8]  #: the judge's verdict, its position in ``Verdict``
    second: NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeArrays:
    """What one judge said of a run: one row per answer and dimension; arrays of shape (n,)."""

    judge: str  #: name and version
    cell: NDArray[np.int32]  #: position in ``Run.cells``
    answer: NDArray[np.int64]  #: verdicts on one answer share it
    dimension: NDArray[np.int8]  #: position in ``DIMENSIONS``
    verdict: NDArray[np.int8]  #: position in ``Verdict``
    weight: NDArray[np.float64]  #: answers of its cell and state that each judged answer stands for
    pairs: tuple[Pairs, ...]  #: the judge against itself, then against every person


@dataclass(frozen=True, slots=True, kw_only=True)
class RunJudgements:
    """All that judges said of a run, and why others said nothing, or not all."""

    judges: tuple[JudgeArrays, ...] = ()
    told: tuple[str, ...] = ()  #: of judges that did not come to their end: their score, or what kept them from it
    partial: frozenset[str] = frozenset()  #: of ``judges`` those that did not come to their end, by ``judge``
    revision: int = 0
    people: Mapping[str, int] = field(default_factory=dict)  #: person -> verdicts


#: (participant, item, slot) -> verdicts of people: person, dimension, verdict.
_Labels = Mapping[tuple[int, int, int], Sequence[tuple[str, int, int]]]


def read_judgements(database: Database, run_id: str) -> RunJudgements:
    """Everything that was said of a run's answers; raises ``storage.runs.store.UnknownRun``."""
    with database.read() as connection:
        revision = outbox.revisions_in(connection, run_id)[1]
        places = {cell.id: place for place, cell in enumerate(store.run_in(connection, run_id).cells)}
        strata = _strata(connection, run_id)
        labels = _labels(connection, run_id)
        said = _said(connection, run_id)
        told, partial = _not_done(connection, run_id)
    judges = tuple(_arrays(name, rows, places, strata, labels) for name, rows in sorted(said.items()))
    people = Counter(person for given in labels.values() for person, *_ in given)
    partial &= said.keys()
    return RunJudgements(judges=judges, told=told, partial=partial, revision=revision, people=dict(people))


def _not_done(connection: sa.Connection, run: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """What is told of unfinished judgings, and their judges: all of a card's where it could not be opened."""
    g, j = tables.judging.c, tables.judge.c
    whose = sa.or_(g.judge == j.id, sa.and_(g.judge.is_(None), g.model == j.model))
    query = (
        sa.select(g.told, j.identity)
        .join_from(tables.judging, tables.judge, whose, isouter=True)
        .where(g.run == run, g.ended != Ended.DONE.value)
    )
    rows = connection.execute(query).all()
    return tuple(sorted({row.told for row in rows})), frozenset(row.identity for row in rows if row.identity)


def _same(table: sa.Table) -> sa.ColumnElement[bool]:
    """Joins what was said of an answer to the answer as it is now."""
    return sa.and_(*(table.c[column.name] == column for column in KEY if column.name in table.c))


def _of_run(query: sa.Select[Any], table: sa.Table, run: str) -> sa.Select[Any]:
    """What was said in a table of a run's answers."""
    answers = query.join_from(table, tables.answer, _same(table))
    return answers.join(tables.participant, _A.participant == _P.id).where(_P.run == run)


def _said(connection: sa.Connection, run: str) -> dict[str, list[Any]]:
    """Judge -> its judgements, with the cell and the state of each answer."""
    j = tables.judge.c
    columns = [j.identity, _P.cell, _A.state, _J.participant, _J.item, _J.slot, _J.repeat, _J.findings]
    query = _of_run(sa.select(*columns), tables.judgement, run).join(tables.judge, _J.judge == j.id)
    found: dict[str, list[Any]] = {}
    for row in connection.execute(query.order_by(_J.participant, _J.item, _J.slot, _J.repeat)):
        found.setdefault(row.identity, []).append(row)
    return found


def _strata(connection: sa.Connection, run: str) -> dict[tuple[int, str], int]:
    """(cell id, state) -> how many answers there are."""
    answers = sa.select(_P.cell, _A.state, sa.func.count()).select_from(tables.ANSWERS).where(_P.run == run)
    rows = connection.execute(answers.group_by(_P.cell, _A.state))
    return {(cell, state): count for cell, state, count in rows}


def _labels(connection: sa.Connection, run: str) -> _Labels:
    found: dict[tuple[int, int, int], list[tuple[str, int, int]]] = {}
    query = _of_run(sa.select(tables.label), tables.label, run)
    for row in connection.execute(query.order_by(_L.person, _L.participant, _L.item, _L.slot)):
        given = (row.person, DIMENSIONS.index(row.dimension), _VERDICTS.index(row.verdict))
        found.setdefault((row.participant, row.item, row.slot), []).append(given)
    return found


def _arrays(
    judge: str, rows: Sequence[Any], places: Mapping[int, int], strata: Mapping[tuple[int, str], int], labels: _Labels
) -> JudgeArrays:
    first = {(row.participant, row.item, row.slot): row for row in rows if row.repeat == 0}
    judged = Counter((row.cell, row.state) for row in first.values())
    table: list[tuple[int, int, int, int, float]] = []
    pairs: dict[str, list[tuple[int, int, int]]] = {}
    for number, (key, row) in enumerate(first.items()):
        verdicts, stratum = _verdicts(row), (row.cell, row.state)
        weight = strata[stratum] / judged[stratum]
        table += [(places[row.cell], number, place, verdict, weight) for place, verdict in enumerate(verdicts)]
        for person, dimension, verdict in labels.get(key, ()):
            pairs.setdefault(person, []).append((dimension, verdicts[dimension], verdict))
    for row in rows:
        key = (row.participant, row.item, row.slot)
        if row.repeat and key in first:
            both = zip(_verdicts(first[key]), _verdicts(row), strict=True)
            pairs.setdefault("", []).extend((place, one, two) for place, (one, two) in enumerate(both))
    cells, answers, dimensions, given, weights = zip(*table, strict=True) if table else ((), (), (), (), ())
    return JudgeArrays(
        judge=judge,
        cell=np.array(cells, dtype=np.int32),
        answer=np.array(answers, dtype=np.int64),
        dimension=np.array(dimensions, dtype=np.int8),
        verdict=np.array(given, dtype=np.int8),
        weight=np.array(weights, dtype=np.float64),
        pairs=tuple(_pairs(other, pairs[other]) for other in sorted(pairs)),
    )


def _verdicts(row: Any) -> list[int]:
    return [_VERDICTS.index(row.findings[name]["verdict"]) for name in DIMENSIONS]


def _pairs(other: str, rows: Sequence[tuple[int, int, int]]) -> Pairs:
    dimension, first, second = np.array(rows, dtype=np.int8).T
    return Pairs(other=other, dimension=dimension, first=first, second=second)


def judged_keys(database: Database, run: str) -> list[AnswerKey]:
    """The answers of a run that any judge has judged as they are now, each once, in a fixed order."""
    query = _of_run(sa.select(*KEY), tables.judgement, run).distinct().order_by(*KEY)
    return [AnswerKey(*row) for row in database.rows(query)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A person's verdicts on one answer."""

    key: AnswerKey
    person: str
    verdicts: Mapping[str, Verdict]  #: dimension -> verdict, of those given


def find_answer(
    database: Database, run: str, names: Mapping[str, str], *, number: int, question: str, slot: int
) -> AnswerKey | None:
    """The answer of a participant, by its number within the cell of those ``names`` (``Cell.names``); None: no such."""
    columns = {"model": _C.model, "culture": _C.culture, "condition": _C.condition_name, "language": _C.language}
    in_cell = sa.select(*KEY).select_from(tables.ANSWERS_IN_CELLS).where(_C.run == run)
    in_cell = in_cell.where(*(columns[name] == value for name, value in names.items()))
    found = database.rows(in_cell.where(_P.number == number, _A.question == question, _A.slot == slot))
    return AnswerKey(*found[0]) if found else None


def record_labels(database: Database, run: str, labels: Sequence[Label]) -> None:
    """Keep verdicts, all or none; a person's earlier verdicts on the same answers are replaced, and a report is due."""
    j = tables.judging.c

    def work(connection: sa.Connection) -> None:
        for label in labels:
            key = {**_said_of(label.key), "person": label.person}
            connection.execute(_those(tables.label, key))
            rows = [{**key, "dimension": name, "verdict": verdict.value} for name, verdict in label.verdicts.items()]
            if rows:
                connection.execute(tables.label.insert(), rows)
        connection.execute(tables.judging.update().where(j.run == run).values(revision=j.revision + 1))

    database.write(work)


def _said_of(key: AnswerKey) -> dict[str, int]:
    return {name: getattr(key, name) for name in _SAID_OF}


def _those(table: sa.Table, key: Mapping[str, Any]) -> sa.Delete:
    """Deletes the rows of a key."""
    return sa.delete(table).where(*(table.c[name] == value for name, value in key.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How one person read one answer."""

    key: AnswerKey
    reader: str
    choices: tuple[int, ...] = ()  #: option codes, ascending; empty: as a refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBy:
    """How many readings of a run's answers there are, and by whom."""

    answers: int  #: with a reading on which all their readers agree
    disputed: int  #: on which they do not
    readers: tuple[str, ...]


def to_read(database: Database, run: str, reader: str) -> list[AnswerKey]:
    """The unparsable answers of a run that this reader has not read, by participant and item."""
    mine = sa.exists().where(_same(tables.reading), _R.reader == reader)
    unread = sa.select(*KEY).select_from(tables.ANSWERS).where(_P.run == run, _UNREAD, sa.not_(mine))
    return [AnswerKey(*row) for row in database.rows(unread.order_by(_P.cell, _P.number, _A.item, _A.slot))]


def record_reading(database: Database, reading: Reading) -> None:
    """Keep a reading, in place of the same reader's earlier one."""
    key = {**_said_of(reading.key), "reader": reading.reader}

    def work(connection: sa.Connection) -> None:
        connection.execute(_those(tables.reading, key))
        state = AnswerState.ANSWERED if reading.choices else AnswerState.REFUSED
        columns = {**key, "state": state.value, "choices": reading.choices, "read_at": Now()}
        insert_new(connection, tables.reading, columns)

    database.write(work)


def take_back(database: Database, reading: Reading) -> None:
    """Forget a reading."""
    database.change(_those(tables.reading, {**_said_of(reading.key), "reader": reading.reader}))


#: Answer (cell id, participant's number, question, slot) -> how all its readers read it: state and option codes.
_Agreed = Mapping[tuple[Any, ...], tuple[str, tuple[int, ...]]]


def _readings(database: Database, run: str) -> tuple[_Agreed, ReadBy]:
    """How answers are read on which all readers agree, and how many readings there are."""
    columns = (_P.cell, _P.number, _A.question, _A.slot, _R.reader, _R.state, _R.choices)
    query = _of_run(sa.select(*columns), tables.reading, run).where(_UNREAD)
    found: dict[tuple[Any, ...], set[tuple[str, tuple[int, ...]]]] = {}
    readers: set[str] = set()
    for *answer, reader, state, choices in database.rows(query):
        found.setdefault(tuple(answer), set()).add((state, choices))
        readers.add(reader)
    agreed = {key: next(iter(read)) for key, read in found.items() if len(read) == 1}
    disputed = len(found) - len(agreed)
    return agreed, ReadBy(answers=len(agreed), disputed=disputed, readers=tuple(sorted(readers)))


def read_by(database: Database, run: str) -> ReadBy:
    """How many readings of a run's answers there are."""
    return _readings(database, run)[1]


def with_readings(database: Database, results: Results) -> Results:
    """Results as people read them: unparsable answers end as their readers say, where all of them agree."""
    agreed, _ = _readings(database, results.run.id)
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
