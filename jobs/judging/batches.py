"""Judging in batches, at half the price.

A batch is written down before it is made, named as soon as it has an id, and forgotten when all its results are
committed. Whoever is killed at any point goes on with the batches that are written down and makes none twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import closing
from math import ceil

from defsurvey.jobs.judging.steps import Work
from defsurvey.storage.runs import judgements
from defsurvey.storage.runs.judgement import Judgement
from defsurvey.storage.runs.judgements import BATCHED, Call, OpenBatch
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.http import Retryable
from defsurvey.workers.judging.batches import MOST_CALLS, Batches, Gone, Lost
from defsurvey.workers.judging.verdicts import JudgeGaveUp, judgement_in

#: How often what errored or expired is handed over again.
ROUNDS = 3
#: Results committed at once.
_KEPT = 100


def collect_open(work: Work) -> list[str]:
    """Finish the batches that an earlier process left open, whether or not it knew that they were made.

    Returns what is to be said of those that the provider has no more: what was in them is to be asked again.

    Raises:
        EngineUnavailable: the provider cannot be asked.
    """
    lost = []
    for batch in _open_batches(work):
        with closing(Batches(work.card)) as batches:
            try:
                _finish(work, batches, batch, len(batch.calls))
            except Gone as gone:
                lost.append(str(gone))
    return lost


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
            while todo:
                if work.over:
                    return list(refused.values())
                most = _most_calls(work)
                for call, lost in _hand_over(work, batches, todo[:most], len(sample)):
                    (passing if lost.again else refused)[call] = lost.reason
                todo = todo[most:]
            if not passing:
                break
    return [*refused.values(), *passing.values()]


def _open_batches(work: Work) -> list[OpenBatch]:
    return judgements.open_batches(work.database, work.run.id, work.judge)


def _most_calls(work: Work) -> int:
    """How many calls the next batch may have: no more than what is left of a budget is expected to pay for.

    The last of them may come to a little more, as it may where calls are asked one by one.
    """
    left, prices = work.money_left, work.prices
    if left is None or prices is None:
        return MOST_CALLS
    read, written = judgements.tokens_of_a_call(work.database, work.run.id, work.judge)
    cost = BATCHED * (read * prices[0] + written * prices[1]) / 1e6
    return MOST_CALLS if not cost else max(1, ceil(min(MOST_CALLS, left / cost)))


def _hand_over(work: Work, batches: Batches, calls: Sequence[Call], total: int) -> list[tuple[Call, Lost]]:
    """Have calls judged in a batch, or by the program where that can. Returns the calls without a reply."""
    puts = list(work.put(calls))
    work.keep([(put.call, put.decided) for put in puts if put.decided is not None])
    asked = [put for put in puts if put.decided is None]
    if not asked:
        return []
    token = uuid.uuid4().hex[:12]
    judgements.announce_batch(work.database, work.run.id, work.judge, token, [put.call for put in asked])
    try:
        name = batches.make(token, [put.request for put in asked])
    except Retryable as error:
        again = "the same command finds out whether the batch was made and goes on"
        raise EngineUnavailable(f"{error}; {again}") from None
    judgements.name_batch(work.database, token, name)
    (batch,) = [batch for batch in _open_batches(work) if batch.token == token]
    try:
        return _finish(work, batches, batch, total)
    except Gone as gone:
        return [(call, Lost(reason=str(gone), again=True)) for call in batch.calls]


def _finish(work: Work, batches: Batches, batch: OpenBatch, total: int) -> list[tuple[Call, Lost]]:
    """Wait for a batch, commit its results and forget it. Returns the calls without a reply.

    Raises:
        Gone: the provider has it no more, so that it is forgotten; the message says so.
    """
    name = batch.batch
    if name is None:
        known = judgements.batch_ids(work.database)
        name = batches.find(batch.token, size=len(batch.calls), since=batch.made_at, known=known)
        if name is None:  # it was never made
            judgements.close_batch(work.database, batch.token)
            return []
        judgements.name_batch(work.database, batch.token, name)
    try:
        lost = _collect(work, batches, batch, name, total)
    except Gone as gone:
        judgements.close_batch(work.database, batch.token)
        raise Gone(f"batch {name} {gone}, what was in it is asked again") from None
    judgements.close_batch(work.database, batch.token)
    return lost


def _collect(work: Work, batches: Batches, batch: OpenBatch, name: str, total: int) -> list[tuple[Call, Lost]]:
    """Wait for a batch that has a name and commit its results. Returns the calls without a reply."""
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
    return lost
