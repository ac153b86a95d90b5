"""Judges, what they said, and how judging a run ended: in and out of SQL.

Every call that was paid for is one row, committed as soon as it is known and never asked for again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from math import ceil
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select, tuple_, update

from defsurvey.storage.columns import Now
from defsurvey.storage.database import Database, insert_new
from defsurvey.storage.runs import outbox, tables, verdict_tables
from defsurvey.storage.runs.claimable import OPEN
from defsurvey.storage.runs.judgement import (
    DIMENSIONS,
    LEAST,
    MOST_REPEATED,
    REPEATED,
    AnswerKey,
    Finding,
    GivenAnswer,
    Judge,
    Judgement,
    JudgeName,
    Verdict,
)
from defsurvey.storage.runs.rows import answer_from, cell_from
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.runs.storable import storable

#: US dollars per million tokens read and written.
Prices = tuple[float, float]
#: In place of a revision of the ledger: before any answer, so that whatever ended then is due again.
NONE = -1
#: Keys in one statement.
_KEYS = 400

_A, _P, _J = tables.answer.c, tables.participant.c, verdict_tables.judgement.c


class Ended(StrEnum):
    """How judging a run ended."""

    DONE = "done"
    REFUSED = "refused"  #: the judge did not pass the calibration set: nothing was judged
    INCOMPLETE = "incomplete"  #: some calls failed, or the judge could not be asked
    OVER_BUDGET = "over budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One answer that is to be judged."""

    key: AnswerKey
    repeat: int = 0  #: 1: a second time, to see whether the judge agrees with itself

    @property
    def numbers(self) -> list[int]:
        """As a list, for a JSON column."""
        k = self.key
        return [k.participant, k.item, k.slot, k.attempt, k.digest, self.repeat]


def call_from(numbers: Sequence[int]) -> Call:
    """A call from its ``numbers``."""
    who, item, slot, attempt, digest, repeat = numbers
    key = AnswerKey(participant=who, item=item, slot=slot, attempt=attempt, digest=digest)
    return Call(key=key, repeat=repeat)


def register(database: Database, judge: JudgeName) -> int:
    """The id of a judge, written down the first time. Its first prices stay, for what it judged while it had none."""
    j = verdict_tables.judge.c
    prices = {"input_price": judge.input_price, "output_price": judge.output_price}
    unpriced = and_(j.identity == judge.identity, or_(j.input_price.is_(None), j.output_price.is_(None)))
    columns = {"identity": judge.identity, "model": judge.model, "description": dict(judge.description), **prices}

    def work(connection: Connection) -> int:
        insert_new(connection, verdict_tables.judge, columns)
        connection.execute(update(verdict_tables.judge).where(unpriced).values(prices))
        return int(connection.execute(select(j.id).where(j.identity == judge.identity)).scalar_one())

    return database.write(work)


def calibrated(database: Database, judge: int) -> dict[str, Mapping[str, Finding]]:
    """Item -> what a judge said of it, of all that it was asked so far."""
    c = verdict_tables.calibration.c
    with database.read() as connection:
        rows = connection.execute(select(c.item, c.findings).where(c.judge == judge))
        return {item: findings_from(findings) for item, findings in rows}


def record_calibration(database: Database, judge: int, item: str, judgement: Judgement) -> None:
    """Keep what a judge said of one answer of the calibration set."""
    columns = {"judge": judge, "item": item, **_said(judgement)}
    database.write(lambda connection: insert_new(connection, verdict_tables.calibration, columns))


def sample(database: Database, cells: Collection[int], *, share: float, seed: int) -> list[Call]:
    """Which answers of some cells are to be judged, stratified by cell and state.

    Of each stratum the share asked for, rounded up, and at least ``LEAST``; failed answers have no completion and are
    left out. Which ones follows from the seed, the participant's number and the question alone, so that models,
    cultures and later extensions of a run are judged on the same participants and questions.

    Args:
        database: where the run is.
        cells: ids of the cells.
        share: above 0 and at most 1.
        seed: of the study.

    Returns:
        Calls in a fixed order, in which every stratum comes as far as the others: whoever judges half of them has
        judged half of each. A tenth, 50 at most, stands once more at the end, to be judged again.
    """
    columns = [_P.cell, _P.number, _A.participant, _A.item, _A.slot, _A.attempt, _A.digest, _A.question, _A.state]
    query = (
        select(*columns)
        .join_from(tables.answer, tables.participant, _A.participant == _P.id)
        .where(_P.cell.in_(cells), _A.state != AnswerState.FAILED.value)
    )
    strata: dict[tuple[int, str], list[tuple[bytes, list[int], Call]]] = {}
    with database.read() as connection:
        for row in connection.execute(query):
            drawn = blake2b(f"{seed}:{row.number}:{row.question}:{row.slot}".encode(), digest_size=8).digest()
            call = Call(key=_key(row))
            strata.setdefault((row.cell, row.state), []).append((drawn, call.numbers, call))
    taken = (sorted(stratum)[: max(ceil(share * len(stratum)), LEAST)] for _, stratum in sorted(strata.items()))
    placed = [(place / len(members), member) for members in taken for place, member in enumerate(members)]
    chosen = [member for _, member in sorted(placed, key=itemgetter(0))]
    again = sorted(chosen)[: min(MOST_REPEATED, ceil(REPEATED * len(chosen)))]
    return [call for *_, call in chosen] + [Call(key=call.key, repeat=1) for *_, call in again]


def _key(row: Any) -> AnswerKey:
    return AnswerKey(participant=row.participant, item=row.item, slot=row.slot, attempt=row.attempt, digest=row.digest)


def judged(database: Database, judge: int, run: str) -> set[Call]:
    """What a judge has said of a run's answers so far."""
    query = (
        select(_J.participant, _J.item, _J.slot, _J.attempt, _J.digest, _J.repeat)
        .join_from(verdict_tables.judgement, tables.participant, _J.participant == _P.id)
        .where(_P.run == run, _J.judge == judge)
    )
    with database.read() as connection:
        return {Call(key=_key(row), repeat=row.repeat) for row in connection.execute(query)}


def given_answers(database: Database, keys: Sequence[AnswerKey]) -> Iterator[GivenAnswer]:
    """The answers of those keys, in their order; one that was asked again meanwhile is left out."""
    for start in range(0, len(keys), _KEYS):
        part = keys[start : start + _KEYS]
        places = [(key.participant, key.item, key.slot) for key in part]
        query = (
            select(tables.answer, _P.number, _P.cell)
            .join_from(tables.answer, tables.participant, _A.participant == _P.id)
            .where(tuple_(_A.participant, _A.item, _A.slot).in_(places))
        )
        with database.read() as connection:
            rows = {_key(row): row for row in connection.execute(query)}
            wanted = select(tables.cell).where(tables.cell.c.id.in_({row.cell for row in rows.values()}))
            cells = {row.id: cell_from(row, participants=0) for row in connection.execute(wanted)}
        for key in part:
            if key in rows:
                row = rows[key]
                answer = answer_from(row)
                yield GivenAnswer(
                    key=key,
                    cell=cells[row.cell],
                    number=row.number,
                    question=answer.question,
                    state=answer.state,
                    choices=answer.choices,
                    shown=answer.shown,
                    completion=answer.completion,
                    reason=answer.reason,
                    region=answer.draws.region,
                    paraphrase=answer.draws.paraphrase,
                )


def record(
    database: Database, judge: int, said: Sequence[tuple[Call, Judgement]], *, prices: Prices | None, batched: bool
) -> None:
    """Keep judgements with what they were paid by, in one transaction; what is there already stays as it is."""
    paid = dict(zip(("input_price", "output_price"), prices or (None, None), strict=True))

    def work(connection: Connection) -> None:
        for call, judgement in said:
            k = call.key
            key = {"participant": k.participant, "item": k.item, "slot": k.slot, "attempt": k.attempt}
            told = {"judge": judge, **key, "digest": k.digest, "repeat": call.repeat, **_said(judgement)}
            insert_new(connection, verdict_tables.judgement, {**told, **paid, "batched": batched, "judged_at": Now()})

    database.write(work)


def _said(judgement: Judgement) -> dict[str, Any]:
    findings = {
        name: {
            "verdict": finding.verdict.value,
            "evidence": storable(finding.evidence),
            "reason": storable(finding.reason),
        }
        for name, finding in judgement.findings.items()
    }
    tokens = {"prompt_tokens": judgement.prompt_tokens, "completion_tokens": judgement.completion_tokens}
    return {"findings": findings, **tokens}


def findings_from(body: Mapping[str, Mapping[str, str]]) -> dict[str, Finding]:
    """Findings from their JSON object."""
    return {
        name: Finding(
            verdict=Verdict(body[name]["verdict"]), evidence=body[name]["evidence"], reason=body[name]["reason"]
        )
        for name in DIMENSIONS
    }


def end(
    database: Database, run: str, model: str, *, judge: int | None, ended: Ended, told: str, share: float, ledger: int
) -> None:
    """Note how judging a run ended; the run's judgements get a new revision, so that a report is due.

    Args:
        database: where the run is.
        run: which run.
        model: the judge as ``Judge.key`` names it.
        judge: its id; None: it could not be asked at all.
        ended: how.
        told: the score on the calibration set, or what went wrong.
        share: of the answers that were to be judged; where a larger one was, of the same answers, it stays.
        ledger: its revision before they were drawn: those that came later are still due. ``NONE``: all of them are.
    """
    j = verdict_tables.judging.c
    key = {"run": run, "model": model}
    told = storable(told)

    def work(connection: Connection) -> None:
        columns = {"judge": judge, "ended": ended.value, "told": told, "share": share, "ledger": ledger}
        insert_new(connection, verdict_tables.judging, {**key, **columns, "revision": 0})
        largest = case((and_(j.ledger == ledger, j.share > share), j.share), else_=share)
        changed = {**columns, "share": largest, "revision": j.revision + 1}
        connection.execute(update(verdict_tables.judging).where(j.run == run, j.model == model).values(changed))

    database.write(work)


def touch(database: Database, run: str) -> None:
    """Give a run's judgements a new revision, since what people say of them has changed."""
    j = verdict_tables.judging.c
    change = update(verdict_tables.judging).where(j.run == run).values(revision=j.revision + 1)
    database.write(lambda connection: connection.execute(change))


def wanted(database: Database, run: str) -> Judge | None:
    """The judge that a run's study asks for, or None."""
    with database.read() as connection:
        judge = connection.execute(select(tables.run.c.judge).where(tables.run.c.id == run)).scalar_one_or_none()
    return None if judge is None else Judge.from_json(judge)


def judging_due(database: Database, *which: ColumnElement[bool]) -> list[str]:
    """Finished runs whose study names a judge that has not come to an end with their present answers.

    Where there are conditions no other run is looked at.
    """
    r, j = tables.run.c, verdict_tables.judging.c
    query = select(r.id, r.judge).where(r.judge.is_not(None), r.cancelled.is_(False), *which)
    with database.read() as connection:
        asking = {row.id: Judge.from_json(row.judge) for row in connection.execute(query)}
        ended = {
            (row.run, row.model, row.ledger): row.share  # at least what was asked for: a person may have asked for more
            for row in connection.execute(select(verdict_tables.judging).where(j.run.in_(asking)))
        }
        return [
            run
            for run, judge in asking.items()
            if not _open(connection, run)
            and ended.get((run, judge.key, outbox.revision_in(connection, run)), 0.0) < judge.sample
        ]


def is_due(database: Database, run: str) -> bool:
    """Whether a run is finished and the judge that its study names has still to say something of its answers."""
    return bool(judging_due(database, tables.run.c.id == run))


def _open(connection: Connection, run: str) -> int:
    return connection.execute(select(func.count()).where(_P.run == run, OPEN)).scalar_one()
