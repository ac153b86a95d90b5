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

from sqlalchemy import ColumnElement, Connection, and_, case, func, insert, or_, select, tuple_, update

from defsurvey.storage.database import Database, Now, insert_new
from defsurvey.storage.runs import outbox, tables
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
from defsurvey.storage.runs.ledger import OPEN
from defsurvey.storage.runs.rows import answer_from, cell_from
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.text import storable

#: US dollars per million tokens read and written.
Prices = tuple[float, float]
#: What a call in a batch costs, of what it costs alone.
BATCHED = 0.5
#: In place of a revision of the ledger: before any answer, so that whatever ended then is due again.
NONE = -1
#: Keys in one statement.
_KEYS = 400

_A, _P, _J = tables.answer.c, tables.participant.c, tables.judgement.c


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
    j = tables.judge.c
    prices = {"input_price": judge.input_price, "output_price": judge.output_price}
    unpriced = and_(j.identity == judge.identity, or_(j.input_price.is_(None), j.output_price.is_(None)))
    columns = {"identity": judge.identity, "model": judge.model, "description": dict(judge.description), **prices}

    def work(connection: Connection) -> int:
        insert_new(connection, tables.judge, columns)
        connection.execute(update(tables.judge).where(unpriced).values(prices))
        return int(connection.execute(select(j.id).where(j.identity == judge.identity)).scalar_one())

    return database.write(work)


def calibrated(database: Database, judge: int) -> dict[str, Mapping[str, Finding]]:
    """Item -> what a judge said of it, of all that it was asked so far."""
    c = tables.calibration.c
    with database.read() as connection:
        rows = connection.execute(select(c.item, c.findings).where(c.judge == judge))
        return {item: findings_from(findings) for item, findings in rows}


def record_calibration(database: Database, judge: int, item: str, judgement: Judgement) -> None:
    """Keep what a judge said of one answer of the calibration set."""
    columns = {"judge": judge, "item": item, **_said(judgement)}
    database.write(lambda connection: insert_new(connection, tables.calibration, columns))


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
        .join_from(tables.judgement, tables.participant, _J.participant == _P.id)
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
            insert_new(connection, tables.judgement, {**told, **paid, "batched": batched, "judged_at": Now()})

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
    j = tables.judging.c
    key = {"run": run, "model": model}
    told = storable(told)

    def work(connection: Connection) -> None:
        columns = {"judge": judge, "ended": ended.value, "told": told, "share": share, "ledger": ledger}
        insert_new(connection, tables.judging, {**key, **columns, "revision": 0})
        largest = case((and_(j.ledger == ledger, j.share > share), j.share), else_=share)
        changed = {**columns, "share": largest, "revision": j.revision + 1}
        connection.execute(update(tables.judging).where(j.run == run, j.model == model).values(changed))

    database.write(work)


def touch(database: Database, run: str) -> None:
    """Give a run's judgements a new revision, since what people say of them has changed."""
    j = tables.judging.c
    change = update(tables.judging).where(j.run == run).values(revision=j.revision + 1)
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
    r, j = tables.run.c, tables.judging.c
    query = select(r.id, r.judge).where(r.judge.is_not(None), r.cancelled.is_(False), *which)
    with database.read() as connection:
        asking = {row.id: Judge.from_json(row.judge) for row in connection.execute(query)}
        ended = {
            (row.run, row.model, row.ledger): row.share  # at least what was asked for: a person may have asked for more
            for row in connection.execute(select(tables.judging).where(j.run.in_(asking)))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBatch:
    """A batch whose results are not all here yet."""

    token: str
    batch: str | None  #: the provider's id; None: it is not known whether it was made
    calls: tuple[Call, ...]
    made_at: float  #: seconds since the epoch


def announce_batch(database: Database, run: str, judge: int, token: str, calls: Sequence[Call]) -> None:
    """Note a batch before it is handed to its provider, so that it is found again whatever happens."""
    columns = {"token": token, "judge": judge, "run": run, "calls": [call.numbers for call in calls], "made_at": Now()}
    database.write(lambda connection: connection.execute(insert(tables.judge_batch).values(columns)))


def name_batch(database: Database, token: str, batch: str) -> None:
    """Note the provider's id of a batch."""
    b = tables.judge_batch
    database.write(lambda connection: connection.execute(update(b).where(b.c.token == token).values(batch=batch)))


def close_batch(database: Database, token: str) -> None:
    """Forget a batch: all its results are here, or it was never made."""
    b = tables.judge_batch
    database.write(lambda connection: connection.execute(b.delete().where(b.c.token == token)))


def open_batches(database: Database, run: str, judge: int) -> list[OpenBatch]:
    """A judge's batches of a run that are not over, the oldest first."""
    b = tables.judge_batch.c
    query = select(tables.judge_batch).where(b.run == run, b.judge == judge).order_by(b.made_at, b.token)
    with database.read() as connection:
        return [
            OpenBatch(token=row.token, batch=row.batch, calls=tuple(map(call_from, row.calls)), made_at=row.made_at)
            for row in connection.execute(query)
        ]


def batch_ids(database: Database) -> set[str]:
    """The provider's ids of all open batches, whosever they are."""
    b = tables.judge_batch.c
    with database.read() as connection:
        return set(connection.execute(select(b.batch).where(b.batch.is_not(None))).scalars())


def tokens_of_a_call(database: Database, run: str, judge: int) -> tuple[float, float]:
    """Tokens that a judge reads and writes in a call, on average over what it said of a run and the calibration set.

    0 of what was never counted.
    """
    j, c, p = tables.judgement.c, tables.calibration.c, tables.participant.c
    of_run = select(p.id).where(p.run == run)
    asked = select(j.prompt_tokens, j.completion_tokens).where(j.judge == judge, j.participant.in_(of_run))
    calibrated = select(c.prompt_tokens, c.completion_tokens).where(c.judge == judge)
    calls = asked.union_all(calibrated).subquery().c
    with database.read() as connection:
        read, written = connection.execute(
            select(func.avg(calls.prompt_tokens), func.avg(calls.completion_tokens))
        ).one()
    return float(read or 0), float(written or 0)


def tokens_seen(database: Database, run: str, judge: str) -> tuple[float, float] | None:
    """Tokens that a call of a run's judge read and wrote on average; None where it was not asked or did not say.

    Args:
        database: where judgements are.
        run: the run; it need not exist.
        judge: ``storage.runs.judgement.Judge.key``.
    """
    j = tables.judging.c
    with database.read() as connection:
        found = connection.execute(select(j.judge).where(j.run == run, j.model == judge)).scalar_one_or_none()
    read, written = (0.0, 0.0) if found is None else tokens_of_a_call(database, run, found)
    return (read, written) if read and written else None


def expected_cost(database: Database, run: str) -> float:
    """US dollars that the open batches of a run, whosever they are, are expected to cost."""
    b, j = tables.judge_batch.c, tables.judge.c
    query = select(j.id, j.input_price, j.output_price, b.calls).where(b.run == run, b.judge == j.id)
    with database.read() as connection:
        batches = connection.execute(query).all()
    cost = 0.0
    for judge, input_price, output_price, calls in batches:
        read, written = tokens_of_a_call(database, run, judge)
        cost += BATCHED * len(calls) * (read * (input_price or 0.0) + written * (output_price or 0.0)) / 1e6
    return cost


tables.judge_lease = tables.judge_lease


def take_lease(database: Database, run: str, owner: str, *, ttl: float) -> str:
    """Take the lease of a run unless another holds it. Returns who holds it now.

    Args:
        database: where the run is.
        run: which run.
        owner: a name that no other judging has, see ``storage.runs.ledger.lease_owner``.
        ttl: seconds for which the lease holds without being renewed.
    """
    mine = {"owner": owner, "until": Now() + ttl}

    def work(connection: Connection) -> str:
        insert_new(connection, tables.judge_lease, {"run": run, **mine})
        connection.execute(
            update(tables.judge_lease)
            .where(tables.judge_lease.c.run == run, tables.judge_lease.c.until < Now())
            .values(mine)
        )
        return str(
            connection.execute(select(tables.judge_lease.c.owner).where(tables.judge_lease.c.run == run)).scalar_one()
        )

    return database.write(work)


def renew_lease(database: Database, run: str, owner: str, *, ttl: float) -> None:
    """Hold on to a lease, also to one that has run out and that nobody else took."""
    _set_lease(database, run, owner, Now() + ttl)


def release_lease(database: Database, run: str, owner: str) -> None:
    """Let a lease go, so that another may take it at once; nothing happens where it is not this owner's."""
    _set_lease(database, run, owner, 0.0)


def holds_lease(database: Database, run: str, owner: str) -> bool:
    """Whether nobody has taken the lease since this owner took it."""
    with database.read() as connection:
        return (
            connection.execute(
                select(tables.judge_lease.c.owner).where(tables.judge_lease.c.run == run)
            ).scalar_one_or_none()
            == owner
        )


def _set_lease(database: Database, run: str, owner: str, until: ColumnElement[float] | float) -> None:
    here = and_(tables.judge_lease.c.run == run, tables.judge_lease.c.owner == owner)
    database.write(lambda connection: connection.execute(update(tables.judge_lease).where(here).values(until=until)))
