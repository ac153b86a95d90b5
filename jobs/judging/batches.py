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
from defsurvey.storage.runs.judgement import AnswerKey, Judgement
from defsurvey.storage.runs.judgements import BATCHED
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
    gone = []
    for batch in judgements.open_batches(work.database, work.run.id, work.judge):
        with closing(Batches(work.card)) as batches:
            name = batch.batch
            if name is None:
                known = judgements.batch_ids(work.database)
                name = batches.find(batch.token, size=len(batch.calls), since=batch.made_at, known=known)
            if name is None:  # it was never made
                judgements.close_batch(work.database, batch.token)
                continue
            judgements.name_batch(work.database, batch.token, name)
            try:
                _finish(work, batches, batch.token, name, batch.calls, len(batch.calls))
            except Gone as error:
                gone.append(str(error))
    return gone


def judge_in_batches(work: Work, sample: Sequence[AnswerKey]) -> list[str]:
    """Hand over everything of the sample that is not judged. Returns what went wrong for good, call by call.

    Raises:
        EngineUnavailable: the provider cannot be asked; what is open is finished by the next call.
    """
    refused: dict[AnswerKey, str] = {}
    passing: dict[AnswerKey, str] = {}
    with closing(Batches(work.card)) as batches:
        for _ in range(ROUNDS):
            passing = {}
            todo = [call for call in work.left(sample) if call not in refused]
            work.watch("judging", len(sample) - len(todo), len(sample))
            while todo:
                if work.spent or work.stopped:
                    return list(refused.values())
                most = _most_calls(work)
                for call, lost in _hand_over(work, batches, todo[:most], len(sample)):
                    (passing if lost.again else refused)[call] = lost.reason
                todo = todo[most:]
            if not passing:
                break
    return [*refused.values(), *passing.values()]


def _most_calls(work: Work) -> int:
    """How many calls the next batch may have: no more than what is left of a budget is expected to pay for."""
    left, prices = work.money_left, work.card.prices
    if left is None or prices is None:
        return MOST_CALLS
    read, written = judgements.tokens_of_a_call(work.database, work.run.id, work.judge)
    cost = BATCHED * (read * prices[0] + written * prices[1]) / 1e6
    return MOST_CALLS if not cost else max(1, ceil(min(MOST_CALLS, left / cost)))


def _hand_over(work: Work, batches: Batches, calls: Sequence[AnswerKey], total: int) -> list[tuple[AnswerKey, Lost]]:
    """Have calls judged in a batch, or by the program where that can. Returns the calls without a reply."""
    puts = list(work.put(calls))
    work.keep([(put.call, put.decided) for put in puts if put.decided is not None])
    asked = {put.call: put.request for put in puts if put.decided is None}
    if not asked:
        return []
    token = uuid.uuid4().hex[:12]
    judgements.announce_batch(work.database, work.run.id, work.judge, token, list(asked))
    try:
        name = batches.make(token, list(asked.values()))
    except Retryable as error:
        again = "the same command finds out whether the batch was made and goes on"
        raise EngineUnavailable(f"{error}; {again}") from None
    judgements.name_batch(work.database, token, name)
    try:
        return _finish(work, batches, token, name, list(asked), total)
    except Gone as gone:
        return [(call, Lost(reason=str(gone), again=True)) for call in asked]


def _finish(
    work: Work, batches: Batches, token: str, name: str, calls: Sequence[AnswerKey], total: int
) -> list[tuple[AnswerKey, Lost]]:
    """Wait for a batch, commit its results and forget it. Returns the calls without a reply.

    Raises:
        Gone: the provider has it no more, so that it is forgotten; the message says so.
    """
    puts = {put.call: put for put in work.put(calls)}
    requests = {place: puts[call].request for place, call in enumerate(calls) if call in puts}
    before = total - len(calls)
    try:
        batches.wait(name, look=lambda done: work.watch("judging in a batch", before + done, total))
        results = batches.results(name, token, requests)
    except Gone as gone:
        judgements.close_batch(work.database, token)
        raise Gone(f"batch {name} {gone}, what was in it is asked again") from None
    said: list[tuple[AnswerKey, Judgement]] = []
    lost: list[tuple[AnswerKey, Lost]] = []
    for place, result in results:
        put = puts[calls[place]]
        try:
            if isinstance(result, Lost):
                lost.append((put.call, result))
            else:
                said.append((put.call, judgement_in(result, put.response, put.by_program)))
        except JudgeGaveUp as error:
            lost.append((put.call, Lost(reason=str(error), again=True)))
    for start in range(0, len(said), _KEPT):
        work.keep(said[start : start + _KEPT], batched=True)
    judgements.close_batch(work.database, token)
    return lost
