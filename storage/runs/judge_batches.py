"""Batches of calls that a provider was handed, or was about to be, and that are not over.

A batch is noted before it is made and named before it is asked after, so that a process that dies at any moment pays
for nothing twice; what its calls are expected to cost counts as spent by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, insert, select, update

from defsurvey.storage.columns import Now
from defsurvey.storage.database import Database
from defsurvey.storage.runs import tables, verdict_tables
from defsurvey.storage.runs.budget import BATCHED
from defsurvey.storage.runs.judgements import Call, call_from


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
    database.write(lambda connection: connection.execute(insert(verdict_tables.judge_batch).values(columns)))


def name_batch(database: Database, token: str, batch: str) -> None:
    """Note the provider's id of a batch."""
    b = verdict_tables.judge_batch
    database.write(lambda connection: connection.execute(update(b).where(b.c.token == token).values(batch=batch)))


def close_batch(database: Database, token: str) -> None:
    """Forget a batch: all its results are here, or it was never made."""
    b = verdict_tables.judge_batch
    database.write(lambda connection: connection.execute(b.delete().where(b.c.token == token)))


def open_batches(database: Database, run: str, judge: int) -> list[OpenBatch]:
    """A judge's batches of a run that are not over, the oldest first."""
    b = verdict_tables.judge_batch.c
    query = select(verdict_tables.judge_batch).where(b.run == run, b.judge == judge).order_by(b.made_at, b.token)
    with database.read() as connection:
        return [
            OpenBatch(token=row.token, batch=row.batch, calls=tuple(map(call_from, row.calls)), made_at=row.made_at)
            for row in connection.execute(query)
        ]


def batch_ids(database: Database) -> set[str]:
    """The provider's ids of all open batches, whosever they are."""
    b = verdict_tables.judge_batch.c
    with database.read() as connection:
        return set(connection.execute(select(b.batch).where(b.batch.is_not(None))).scalars())


def tokens_of_a_call(database: Database, run: str, judge: int) -> tuple[float, float]:
    """Tokens that a judge reads and writes in a call, on average over what it said of a run and the calibration set.

    0 of what was never counted.
    """
    j, c, p = verdict_tables.judgement.c, verdict_tables.calibration.c, tables.participant.c
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
    j = verdict_tables.judging.c
    with database.read() as connection:
        found = connection.execute(select(j.judge).where(j.run == run, j.model == judge)).scalar_one_or_none()
    read, written = (0.0, 0.0) if found is None else tokens_of_a_call(database, run, found)
    return (read, written) if read and written else None


def expected_cost(database: Database, run: str) -> float:
    """US dollars that the open batches of a run, whosever they are, are expected to cost."""
    b, j = verdict_tables.judge_batch.c, verdict_tables.judge.c
    query = select(j.id, j.input_price, j.output_price, b.calls).where(b.run == run, b.judge == j.id)
    with database.read() as connection:
        batches = connection.execute(query).all()
    cost = 0.0
    for judge, input_price, output_price, calls in batches:
        read, written = tokens_of_a_call(database, run, judge)
        cost += BATCHED * len(calls) * (read * (input_price or 0.0) + written * (output_price or 0.0)) / 1e6
    return cost
