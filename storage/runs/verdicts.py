"""Judgements of a run as reports read them: arrays, one set for each judge.

Only what was said of answers as they are now: an answer that was asked again has lost its verdicts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, and_, exists, insert, not_, or_, select, update

from defsurvey.storage.database import Database, Now, insert_new
from defsurvey.storage.runs import outbox, store, tables
from defsurvey.storage.runs.judgement import DIMENSIONS, AnswerKey, Verdict
from defsurvey.storage.runs.judgements import Ended
from defsurvey.storage.runs.results import STATES, Results
from defsurvey.storage.runs.run import AnswerState

_A, _P, _J, _L = tables.answer.c, tables.participant.c, tables.judgement.c, tables.label.c
_VERDICTS = [verdict.value for verdict in Verdict]


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


def read_judgements(database: Database, run_id: str) -> RunJudgements:
    """Everything that was said of a run's answers; raises ``storage.runs.store.UnknownRun``."""
    with database.read() as connection:
        revision = outbox.judged_in(connection, run_id)
        places = {cell.id: place for place, cell in enumerate(store.run_in(connection, run_id).cells)}
        strata = _strata(connection, run_id)
        labels = _labels(connection, run_id)
        said = _said(connection, run_id)
        told, partial = _not_done(connection, run_id)
    judges = tuple(_arrays(name, rows, places, strata, labels) for name, rows in sorted(said.items()))
    people = Counter(person for given in labels.values() for person, _ in given)
    partial &= said.keys()
    return RunJudgements(judges=judges, told=told, partial=partial, revision=revision, people=dict(people))


def _not_done(connection: Connection, run: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """What is told of judgings that did not come to their end, and the names and versions of their judges.

    Of a judge that could not be opened the version is not known: it is every one of its card.
    """
    g, j = tables.judging.c, tables.judge.c
    whose = or_(g.judge == j.id, and_(g.judge.is_(None), g.model == j.model))
    query = (
        select(g.told, j.identity)
        .join_from(tables.judging, tables.judge, whose, isouter=True)
        .where(g.run == run, g.ended != Ended.DONE.value)
    )
    rows = connection.execute(query).all()
    return tuple(sorted({row.told for row in rows})), frozenset(row.identity for row in rows if row.identity)


def _same(table: Any) -> Any:
    """Joins what was said of an answer to the answer as it is now."""
    c = table.c
    keys = [c.participant == _A.participant, c.item == _A.item, c.slot == _A.slot, c.digest == _A.digest]
    return and_(*keys, *([c.attempt == _A.attempt] if "attempt" in c else []))


def _said(connection: Connection, run: str) -> dict[str, list[Any]]:
    j = tables.judge.c
    columns = [j.identity, _P.cell, _A.state, _J.participant, _J.item, _J.slot, _J.digest, _J.repeat, _J.findings]
    query = (
        select(*columns)
        .join_from(tables.judgement, tables.answer, _same(tables.judgement))
        .join(tables.participant, _A.participant == _P.id)
        .join(tables.judge, _J.judge == j.id)
        .where(_P.run == run)
        .order_by(_J.participant, _J.item, _J.slot, _J.repeat)
    )
    found: dict[str, list[Any]] = {}
    for row in connection.execute(query):
        found.setdefault(row.identity, []).append(row)
    return found


def _strata(connection: Connection, run: str) -> Counter[tuple[int, str]]:
    """(cell id, state) -> how many answers there are."""
    query = select(_P.cell, _A.state).join_from(tables.answer, tables.participant, _A.participant == _P.id)
    return Counter((row.cell, row.state) for row in connection.execute(query.where(_P.run == run)))


def _labels(connection: Connection, run: str) -> dict[tuple[int, int, int], list[tuple[str, tuple[int, int]]]]:
    """(participant, item, slot) -> verdicts of people: (person, (dimension, verdict))."""
    query = (
        select(tables.label)
        .join_from(tables.label, tables.answer, _same(tables.label))
        .join(tables.participant, _A.participant == _P.id)
        .where(_P.run == run)
        .order_by(_L.person, _L.participant, _L.item, _L.slot)
    )
    found: dict[tuple[int, int, int], list[tuple[str, tuple[int, int]]]] = {}
    for row in connection.execute(query):
        given = (DIMENSIONS.index(row.dimension), _VERDICTS.index(row.verdict))
        found.setdefault((row.participant, row.item, row.slot), []).append((row.person, given))
    return found


def _arrays(
    judge: str,
    rows: Sequence[Any],
    places: Mapping[int, int],
    strata: Mapping[tuple[int, str], int],
    labels: Mapping[tuple[int, int, int], list[tuple[str, tuple[int, int]]]],
) -> JudgeArrays:
    first = {(row.participant, row.item, row.slot): row for row in rows if row.repeat == 0}
    judged = Counter((row.cell, row.state) for row in first.values())
    table: list[tuple[int, int, int, int, float]] = []
    pairs: dict[str, list[tuple[int, int, int]]] = {}
    for number, (key, row) in enumerate(first.items()):
        verdicts = _verdicts(row)
        stratum = (row.cell, row.state)
        weight = strata[stratum] / judged[stratum]
        table += [(places[row.cell], number, place, verdict, weight) for place, verdict in enumerate(verdicts)]
        for person, (dimension, verdict) in labels.get(key, ()):
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
    columns = [_J.participant, _J.item, _J.slot, _J.attempt, _J.digest]
    query = (
        select(*columns)
        .join_from(tables.judgement, tables.answer, _same(tables.judgement))
        .join(tables.participant, _A.participant == _P.id)
        .where(_P.run == run)
        .distinct()
        .order_by(*columns)
    )
    with database.read() as connection:
        return [AnswerKey(**row._mapping) for row in connection.execute(query)]


_A, _P, _C, _L = tables.answer.c, tables.participant.c, tables.cell.c, tables.label.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An answer as people name it."""

    model: str
    culture: str
    condition: str
    language: str
    number: int  #: of the participant within its cell
    question: str
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A person's verdicts on one answer."""

    key: AnswerKey
    person: str
    verdicts: Mapping[str, Verdict]  #: dimension -> verdict, of those given


def find_answer(database: Database, run: str, place: Place) -> AnswerKey | None:
    """The answer of that place as it is now, or None."""
    query = (
        select(_A.participant, _A.item, _A.slot, _A.attempt, _A.digest)
        .join_from(tables.answer, tables.participant, _A.participant == _P.id)
        .join(tables.cell, _P.cell == _C.id)
        .where(_C.run == run, _C.model == place.model, _C.culture == place.culture)
        .where(_C.condition_name == place.condition, _C.language == place.language)
        .where(_P.number == place.number, _A.question == place.question, _A.slot == place.slot)
    )
    with database.read() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else AnswerKey(**row._mapping)


def record_labels(database: Database, labels: Sequence[Label]) -> None:
    """Keep verdicts, all or none; a person's earlier verdicts on the same answers are replaced."""

    def work(connection: Connection) -> None:
        for label in labels:
            k = label.key
            key = {"participant": k.participant, "item": k.item, "slot": k.slot, "digest": k.digest}
            here = [_L[name] == value for name, value in key.items()]
            connection.execute(tables.label.delete().where(and_(*here, _L.person == label.person)))
            rows = [
                {**key, "person": label.person, "dimension": dimension, "verdict": verdict.value}
                for dimension, verdict in label.verdicts.items()
            ]
            if rows:
                connection.execute(insert(tables.label), rows)

    database.write(work)


_A, _P, _R = tables.answer.c, tables.participant.c, tables.reading.c
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
        if connection.execute(update(tables.reading).where(_of(reading)).values(columns)).rowcount == 0:
            k = reading.key
            key = {"participant": k.participant, "item": k.item, "slot": k.slot, "digest": k.digest}
            insert_new(connection, tables.reading, {**key, "reader": reading.reader, **columns})

    database.write(work)


def take_back(database: Database, reading: Reading) -> None:
    """Forget a reading."""
    database.write(lambda connection: connection.execute(tables.reading.delete().where(_of(reading))))


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
        .join_from(tables.reading, tables.answer, _SAME)
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
