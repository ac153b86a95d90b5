"""Judges, what they said, and how judging a run ended: in and out of SQL.

Every call that was paid for is one row, committed as soon as it is known and never asked for again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import blake2b
from math import ceil
from operator import itemgetter
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, Update, and_, case, func, or_, select, tuple_

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
)
from defsurvey.storage.runs.ledger import OPEN
from defsurvey.storage.runs.rows import flat, noun
from defsurvey.storage.runs.run import Answer, AnswerState, Cell
from defsurvey.storage.text import storable

#: US dollars per million tokens read and written.
Prices = tuple[float, float]
#: What a call in a batch costs, of what it costs alone.
BATCHED = 0.5
#: In place of a revision of the ledger: before any answer, so that whatever ended then is due again.
NONE = -1
_FINDING = TypeAdapter(Finding)
#: Keys in one statement.
_KEYS = 400

_A, _P, _J, _B = tables.answer.c, tables.participant.c, tables.judgement.c, tables.judge_batch.c
#: Columns of an answer that make its ``AnswerKey``.
KEY = [_A[name] for name in AnswerKey._fields[:-1]]


class Ended(StrEnum):
    """How judging a run ended."""

    DONE = "done"
    REFUSED = "refused"  #: the judge did not pass the calibration set: nothing was judged
    INCOMPLETE = "incomplete"  #: some calls failed, or the judge could not be asked
    OVER_BUDGET = "over budget"


def register(database: Database, judge: JudgeName) -> int:
    """The id of a judge, written down the first time. Its first prices stay, for what it judged while it had none."""
    j = tables.judge.c
    prices = {"input_price": judge.input_price, "output_price": judge.output_price}
    unpriced = and_(j.identity == judge.identity, or_(j.input_price.is_(None), j.output_price.is_(None)))

    def work(connection: Connection) -> int:
        insert_new(connection, tables.judge, asdict(judge))
        connection.execute(tables.judge.update().where(unpriced).values(prices))
        return int(connection.execute(select(j.id).where(j.identity == judge.identity)).scalar_one())

    return database.write(work)


def calibrated(database: Database, judge: int) -> dict[str, Mapping[str, Finding]]:
    """Item -> what a judge said of it, of all that it was asked so far."""
    c = tables.calibration.c
    found = database.rows(select(c.item, c.findings).where(c.judge == judge))
    return {item: {name: _FINDING.validate_python(body[name]) for name in DIMENSIONS} for item, body in found}


def record_calibration(database: Database, judge: int, item: str, judgement: Judgement) -> None:
    """Keep what a judge said of one answer of the calibration set."""
    columns = {"judge": judge, "item": item, **_said(judgement)}
    database.write(lambda connection: insert_new(connection, tables.calibration, columns))


def _said(judgement: Judgement) -> dict[str, Any]:
    return {**flat(judgement), "findings": {name: flat(finding) for name, finding in judgement.findings.items()}}


def sample(database: Database, cells: Collection[int], *, share: float, seed: int) -> list[AnswerKey]:
    """Which answers of some cells are to be judged, stratified by cell and state.

    Of each stratum the share asked for, rounded up, and at least ``LEAST``; failed answers have no completion and are
    left out. Which ones follows from the study's seed, the participant's number and the question alone, so that models,
    cultures and later extensions of a run are judged on the same participants and questions.

    Their order is fixed, and every stratum comes as far in it as the others: whoever judges half of them has judged
    half of each. A tenth, 50 at most, stands once more at the end, to be judged again.
    """
    query = select(_P.cell, _P.number, _A.question, _A.state, *KEY).select_from(tables.ANSWERS)
    strata: dict[tuple[int, str], list[tuple[bytes, AnswerKey]]] = {}
    for cell, number, question, state, *key in database.rows(
        query.where(_P.cell.in_(cells), _A.state != AnswerState.FAILED.value)
    ):
        answer = AnswerKey(*key)
        drawn = blake2b(f"{seed}:{number}:{question}:{answer.slot}".encode(), digest_size=8).digest()
        strata.setdefault((cell, state), []).append((drawn, answer))
    taken = (sorted(stratum)[: max(ceil(share * len(stratum)), LEAST)] for _, stratum in sorted(strata.items()))
    placed = [(place / len(members), member) for members in taken for place, member in enumerate(members)]
    chosen = [member for _, member in sorted(placed, key=itemgetter(0))]
    again = sorted(chosen)[: min(MOST_REPEATED, ceil(REPEATED * len(chosen)))]
    return [key for _, key in chosen] + [key._replace(repeat=1) for _, key in again]


def judged(database: Database, judge: int, run: str) -> set[AnswerKey]:
    """What a judge has said of a run's answers so far."""
    said = select(*(_J[name] for name in AnswerKey._fields)).join(tables.participant, _J.participant == _P.id)
    return {AnswerKey(*row) for row in database.rows(said.where(_P.run == run, _J.judge == judge))}


def given_answers(database: Database, keys: Sequence[AnswerKey]) -> Iterator[GivenAnswer]:
    """The answers of those keys, in their order; one that was asked again meanwhile is left out."""
    for start in range(0, len(keys), _KEYS):
        part = keys[start : start + _KEYS]
        given = select(tables.answer, _P.number, _P.cell).select_from(tables.ANSWERS)
        query = given.where(tuple_(_A.participant, _A.item, _A.slot).in_([key[:3] for key in part]))
        with database.read() as connection:
            rows = {tuple(row._mapping[column] for column in KEY): row for row in connection.execute(query)}
            wanted = select(tables.cell).where(tables.cell.c.id.in_({row.cell for row in rows.values()}))
            cells = {row.id: noun(Cell, row, participants=0) for row in connection.execute(wanted)}
        for key in part:
            if row := rows.get(key[:-1]):
                yield GivenAnswer(key=key, cell=cells[row.cell], number=row.number, answer=noun(Answer, row))


def record(
    database: Database, judge: int, said: Sequence[tuple[AnswerKey, Judgement]], *, prices: Prices | None, batched: bool
) -> None:
    """Keep judgements with what they were paid by, in one transaction; what is there already stays as it is."""
    paid = dict(zip(("input_price", "output_price"), prices or (None, None), strict=True))

    def work(connection: Connection) -> None:
        for key, judgement in said:
            columns = {"judge": judge, **key._asdict(), **_said(judgement), **paid, "batched": batched}
            insert_new(connection, tables.judgement, {**columns, "judged_at": Now()})

    database.write(work)


def end(
    database: Database, run: str, wanted: Judge, *, judge: int | None, ended: Ended, told: str, ledger: int
) -> None:
    """Note how judging a run ended; the run's judgements get a new revision, so that a report is due.

    A larger share of the same answers, ``wanted`` before, stays. ``told``: the score on the calibration set, or what
    went wrong; ``ledger``: its revision before the answers were drawn, later ones being due.
    """
    j, model, share = tables.judging.c, wanted.key, wanted.sample
    columns = {"judge": judge, "ended": ended.value, "told": storable(told), "share": share, "ledger": ledger}

    def work(connection: Connection) -> None:
        insert_new(connection, tables.judging, {"run": run, "model": model, **columns, "revision": 0})
        largest = case((and_(j.ledger == ledger, j.share > share), j.share), else_=share)
        changed = {**columns, "share": largest, "revision": j.revision + 1}
        connection.execute(tables.judging.update().where(j.run == run, j.model == model).values(changed))

    database.write(work)


def wanted(database: Database, run: str) -> Judge | None:
    """The judge that a run's study asks for, or None."""
    judge = database.value(select(tables.run.c.judge).where(tables.run.c.id == run))
    return None if judge is None else Judge.from_json(judge)


def judging_due(database: Database, *which: ColumnElement[bool]) -> list[str]:
    """Finished runs, those of some conditions, whose study names a judge that has still to end with their answers."""
    r, j = tables.run.c, tables.judging.c
    query = select(r.id, r.judge).where(r.judge.is_not(None), r.cancelled.is_(False), *which)
    with database.read() as connection:
        asking = {row.id: Judge.from_json(row.judge) for row in connection.execute(query)}
        ended = {
            (row.run, row.model, row.ledger): row.share  # at least what was asked for: a person may have asked for more
            for row in connection.execute(select(tables.judging).where(j.run.in_(asking)))
        }
        unfinished = set(connection.execute(select(_P.run).where(_P.run.in_(asking), OPEN).distinct()).scalars())
        return [
            run
            for run, judge in asking.items()
            if run not in unfinished
            and ended.get((run, judge.key, outbox.revisions_in(connection, run)[0]), 0.0) < judge.sample
        ]


def is_due(database: Database, run: str) -> bool:
    """Whether a run is finished and the judge that its study names has still to say something of its answers."""
    return bool(judging_due(database, tables.run.c.id == run))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBatch:
    """A batch whose results are not all here yet."""

    token: str
    batch: str | None  #: the provider's id; None: it is not known whether it was made
    calls: tuple[AnswerKey, ...]
    made_at: float  #: seconds since the epoch


def announce_batch(database: Database, run: str, judge: int, token: str, calls: Sequence[AnswerKey]) -> None:
    """Note a batch before it is handed to its provider, so that it is found again whatever happens."""
    columns = {"token": token, "judge": judge, "run": run, "calls": list(map(list, calls)), "made_at": Now()}
    database.change(tables.judge_batch.insert().values(columns))


def name_batch(database: Database, token: str, batch: str) -> None:
    """Note the provider's id of a batch."""
    database.change(tables.judge_batch.update().where(_B.token == token).values(batch=batch))


def close_batch(database: Database, token: str) -> None:
    """Forget a batch: all its results are here, or it was never made."""
    database.change(tables.judge_batch.delete().where(_B.token == token))


def open_batches(database: Database, run: str, judge: int) -> list[OpenBatch]:
    """A judge's batches of a run that are not over, the oldest first."""
    query = select(_B.token, _B.batch, _B.calls, _B.made_at).where(_B.run == run, _B.judge == judge)
    return [
        OpenBatch(token=token, batch=batch, calls=tuple(AnswerKey(*call) for call in calls), made_at=made_at)
        for token, batch, calls, made_at in database.rows(query.order_by(_B.made_at, _B.token))
    ]


def batch_ids(database: Database) -> set[str]:
    """The provider's ids of all open batches, whosever they are."""
    return {batch for (batch,) in database.rows(select(_B.batch).where(_B.batch.is_not(None)))}


def tokens_of_a_call(database: Database, run: str, judge: int) -> tuple[float, float]:
    """Tokens that a judge reads and writes in a call: the mean over a run and the calibration set; 0 of none told."""
    c = tables.calibration.c
    of_run = select(_P.id).where(_P.run == run)
    asked = select(_J.prompt_tokens, _J.completion_tokens).where(_J.judge == judge, _J.participant.in_(of_run))
    calls = asked.union_all(select(c.prompt_tokens, c.completion_tokens).where(c.judge == judge)).subquery().c
    ((read, written),) = database.rows(select(func.avg(calls.prompt_tokens), func.avg(calls.completion_tokens)))
    return float(read or 0), float(written or 0)


def tokens_seen(database: Database, run: str, judge: str) -> tuple[float, float] | None:
    """Tokens that a call of a run's judge (``Judge.key``) read and wrote on average; None where nothing is known."""
    j = tables.judging.c
    found = database.value(select(j.judge).where(j.run == run, j.model == judge))
    tokens = (0.0, 0.0) if found is None else tokens_of_a_call(database, run, found)
    return tokens if all(tokens) else None


def expected_cost(database: Database, run: str) -> float:
    """US dollars that the open batches of a run, whosever they are, are expected to cost."""
    j, cost = tables.judge.c, 0.0
    query = select(j.id, j.input_price, j.output_price, _B.calls).where(_B.run == run, _B.judge == j.id)
    for judge, input_price, output_price, calls in database.rows(query):
        read, written = tokens_of_a_call(database, run, judge)
        cost += BATCHED * len(calls) * (read * (input_price or 0.0) + written * (output_price or 0.0)) / 1e6
    return cost


def take_lease(database: Database, run: str, owner: str, *, ttl: float) -> str:
    """Take the lease of a run's judging for ``ttl`` seconds unless another holds it. Returns who holds it now."""
    lease, mine = tables.judge_lease, {"owner": owner, "until": Now() + ttl}

    def work(connection: Connection) -> str:
        insert_new(connection, lease, {"run": run, **mine})
        connection.execute(lease.update().where(lease.c.run == run, lease.c.until < Now()).values(mine))
        return str(connection.execute(select(lease.c.owner).where(lease.c.run == run)).scalar_one())

    return database.write(work)


def renew_lease(database: Database, run: str, owner: str, *, ttl: float) -> None:
    """Hold on to a lease, also to one that has run out and that nobody else took."""
    database.change(_lease_of(run, owner).values(until=Now() + ttl))


def release_lease(database: Database, run: str, owner: str) -> None:
    """Let a lease go, so that another may take it at once; nothing happens where it is not this owner's."""
    database.change(_lease_of(run, owner).values(until=0.0))


def _lease_of(run: str, owner: str) -> Update:
    lease = tables.judge_lease
    return lease.update().where(lease.c.run == run, lease.c.owner == owner)


def holds_lease(database: Database, run: str, owner: str) -> bool:
    """Whether nobody has taken the lease since this owner took it."""
    lease = tables.judge_lease.c
    return bool(database.value(select(lease.owner).where(lease.run == run)) == owner)
