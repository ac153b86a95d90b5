"""Verdicts of people, in and out of SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, insert, select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import tables, verdict_tables
from defsurvey.storage.runs.judgement import AnswerKey, Verdict

_A, _P, _C, _L = tables.answer.c, tables.participant.c, tables.cell.c, verdict_tables.label.c


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
            connection.execute(verdict_tables.label.delete().where(and_(*here, _L.person == label.person)))
            rows = [
                {**key, "person": label.person, "dimension": dimension, "verdict": verdict.value}
                for dimension, verdict in label.verdicts.items()
            ]
            if rows:
                connection.execute(insert(verdict_tables.label), rows)

    database.write(work)
