"""Judging in batches, at half the price.

A batch is written down before it is made, named as soon as it has an id, and forgotten when all its results are
committed. Whoever is killed at any point goes on with the batches that are written down and makes none twice. Knows the
order of these steps. Deliberately knows neither SQL nor the provider's protocol.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import closing

from jobs.judge_steps import Put, Work
from storage import judge_batches
from storage.judge_batches import OpenBatch
from storage.judgement import Judgement
from storage.judgements import Call
from workers.engines.base import EngineUnavailable
from workers.engines.exchange import Retryable
from workers.judging.asking import JudgeGaveUp, judgement_in
from workers.judging.batches import MOST_CALLS, Batches, Lost

#: How often what errored or expired is handed over again.
ROUNDS = 3
#: Results committed at once.
_KEPT = 100


def collect_open(work: Work) -> None:
    """Finish the batches that an earlier process left open, whether or not it knew that they were made.

    Raises:
        EngineUnavailable: the provider cannot be asked.
    """
    for batch in judge_batches.open_batches(work.database, work.run.id, work.judge):
        with closing(Batches(work.card)) as batches:
            _finish(work, batches, batch, len(batch.calls))


def judge_in_batches(work: Work, sample: Sequence[Call]) -> list[str]:
    """Hand over everything of the sample that is not judged. Returns what went wrong for good, call by call.

    Raises:
        EngineUnavailable: the provider cannot be asked; what is open is finished by the next call.
    """
    refused: dict[Call, str] = {}
    passing: dict[Call, str] = {}
    with closing(Batches(work.card)) as batches:
        for _ in range(ROUNDS):
            passing = {}
            todo = [call for call in work.left(sample) if call not in refused]
            work.watch("judging", len(sample) - len(todo), len(sample))
            for start in range(0, len(todo), MOST_CALLS):
                if work.over:
                    return list(refused.values())
                for call, lost in _hand_over(work, batches, todo[start : start + MOST_CALLS], len(sample)):
                    (passing if lost.again else refused)[call] = lost.reason
            if not passing:
                break
    return [*refused.values(), *passing.values()]


def _hand_over(work: Work, batches: Batches, calls: Sequence[Call], total: int) -> list[tuple[Call, Lost]]:
    puts = list(work.put(calls))
    work.keep([(put.call, put.decided) for put in puts if put.decided is not None])
    asked = [put for put in puts if put.decided is None]
    if not asked:
        return []
    token = uuid.uuid4().hex[:12]
    judge_batches.announce_batch(work.database, work.run.id, work.judge, token, [put.call for put in asked])
    name = _make(batches, token, asked)
    judge_batches.name_batch(work.database, token, name)
    (batch,) = [b for b in judge_batches.open_batches(work.database, work.run.id, work.judge) if b.token == token]
    return _finish(work, batches, batch, total)


def _make(batches: Batches, token: str, asked: Sequence[Put]) -> str:
    try:
        return batches.make(token, [put.request for put in asked])
    except Retryable as error:
        raise EngineUnavailable(f"{error}; the same command finds out whether the batch was made and goes on") from None


def _finish(work: Work, batches: Batches, batch: OpenBatch, total: int) -> list[tuple[Call, Lost]]:
    """Wait for a batch, commit its results and forget it. Returns the calls without a reply."""
    name = batch.batch
    if name is None:
        known = judge_batches.batch_ids(work.database)
        name = batches.find(batch.token, since=batch.made_at, known=known)
        if name is None:  # it was never made
            judge_batches.close_batch(work.database, batch.token)
            return []
        judge_batches.name_batch(work.database, batch.token, name)
    before = total - len(batch.calls)
    batches.wait(name, look=lambda done: work.watch("judging in a batch", before + done, total))
    places = {call: place for place, call in enumerate(batch.calls)}
    puts = {places[put.call]: put for put in work.put(batch.calls)}
    said: list[tuple[Call, Judgement]] = []
    lost: list[tuple[Call, Lost]] = []
    for place, result in batches.results(name, batch.token, {place: put.request for place, put in puts.items()}):
        put = puts[place]
        if isinstance(result, Lost):
            lost.append((put.call, result))
            continue
        try:
            said.append((put.call, judgement_in(result, put.response, put.by_program)))
        except JudgeGaveUp as error:
            lost.append((put.call, Lost(reason=str(error), again=True)))
        if len(said) == _KEPT:
            work.keep(said, batched=True)
            said = []
    work.keep(said, batched=True)
    judge_batches.close_batch(work.database, batch.token)
    return lost
