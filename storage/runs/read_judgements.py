"""Judgements of a run as reports read them: arrays, one set for each judge.

Only what was said of answers as they are now: an answer that was asked again has lost its verdicts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, and_, or_, select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox, store, tables, verdict_tables
from defsurvey.storage.runs.judgement import DIMENSIONS, AnswerKey, Verdict
from defsurvey.storage.runs.judgements import Ended

_A, _P, _J, _L = tables.answer.c, tables.participant.c, verdict_tables.judgement.c, verdict_tables.label.c
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
    g, j = verdict_tables.judging.c, verdict_tables.judge.c
    whose = or_(g.judge == j.id, and_(g.judge.is_(None), g.model == j.model))
    query = (
        select(g.told, j.identity)
        .join_from(verdict_tables.judging, verdict_tables.judge, whose, isouter=True)
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
    j = verdict_tables.judge.c
    columns = [j.identity, _P.cell, _A.state, _J.participant, _J.item, _J.slot, _J.digest, _J.repeat, _J.findings]
    query = (
        select(*columns)
        .join_from(verdict_tables.judgement, tables.answer, _same(verdict_tables.judgement))
        .join(tables.participant, _A.participant == _P.id)
        .join(verdict_tables.judge, _J.judge == j.id)
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
        select(verdict_tables.label)
        .join_from(verdict_tables.label, tables.answer, _same(verdict_tables.label))
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
        .join_from(verdict_tables.judgement, tables.answer, _same(verdict_tables.judgement))
        .join(tables.participant, _A.participant == _P.id)
        .where(_P.run == run)
        .distinct()
        .order_by(*columns)
    )
    with database.read() as connection:
        return [AnswerKey(**row._mapping) for row in connection.execute(query)]
