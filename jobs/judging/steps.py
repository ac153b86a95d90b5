"""The steps of judging a run: hold its lease, calibrate, put answers before the judge, keep what it says.

A batch is written down before it is made, named as soon as it has an id, and forgotten when all its results are
committed. Whoever is killed at any point goes on with the batches that are written down and makes none twice.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import takewhile
from math import ceil

from defsurvey.storage.database import Database
from defsurvey.storage.errors import Failure
from defsurvey.storage.hosts import is_dead
from defsurvey.storage.runs import budget, judgements, store
from defsurvey.storage.runs.budget import BudgetWatch
from defsurvey.storage.runs.judgement import DIMENSIONS, AnswerKey, Finding, Judge, Judgement
from defsurvey.storage.runs.judgements import BATCHED, NONE, Ended
from defsurvey.storage.runs.ledger import LEASE_SECONDS, lease_owner
from defsurvey.storage.runs.run import Run
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import AT_ONCE, Engine, EngineUnavailable, Request, ask_all
from defsurvey.workers.engines.http import Retryable
from defsurvey.workers.judging.batches import MOST_CALLS, Batches, Gone, Lost
from defsurvey.workers.judging.prompt import Score, calibration_set, judge_request, score, subject_of
from defsurvey.workers.judging.verdicts import JudgeGaveUp, decided, judgement_in
from defsurvey.workers.models import ModelCard
from defsurvey.workers.runner.faults import OUTAGE
from defsurvey.workers.runner.lease import BEATS_PER_LEASE

log = logging.getLogger(__name__)

_IN_VAIN = 2  #: as many rounds of calls in a row without a reply, and nothing more is asked
ROUNDS = 3  #: how often what errored or expired is handed over again
_KEPT = 100  #: results committed at once

#: Told how far judging has come: what is being done, how much of it, of how much.
Watch = Callable[[str, int, int], None]


class BeingJudged(Failure, RuntimeError):
    """Another process judges the run; the message names both."""


class JudgingLeft(RuntimeError):
    """This process was told to end while it judged: what was judged is kept, and whoever comes next goes on."""


@contextmanager
def judging(database: Database, run: str, *, ttl: float = LEASE_SECONDS) -> Iterator[Callable[[], bool]]:
    """Hold the lease on a run's judging, which runs out ``ttl`` seconds after this process has died or slept.

    The block gets a function that says whether it is still this process's. Raises BeingJudged where it is another's.
    """
    owner = lease_owner()
    while (holder := judgements.take_lease(database, run, owner, ttl=ttl)) != owner and is_dead(holder):
        judgements.release_lease(database, run, holder)
    if holder != owner:
        raise BeingJudged(f"run {run} is being judged by another process ({holder})")
    over = threading.Event()

    def keep() -> None:
        while not over.wait(ttl / BEATS_PER_LEASE):
            with _outage_survived(run):
                judgements.renew_lease(database, run, owner, ttl=ttl)

    thread = threading.Thread(target=keep, name="judging", daemon=True)
    thread.start()
    try:
        yield partial(judgements.holds_lease, database, run, owner)
    finally:
        over.set()
        thread.join()
        with _outage_survived(run):
            judgements.release_lease(database, run, owner)


@contextmanager
def _outage_survived(run: str) -> Iterator[None]:
    """While the database is away nobody else can take the lease, which runs out by itself."""
    try:
        yield
    except OUTAGE as error:
        log.warning("lease on judging %s: %s", run, getattr(error, "orig", None) or error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """One call as it is put before a judge."""

    call: AnswerKey
    response: str
    by_program: Mapping[str, Finding]  #: what needs no judge
    decided: Judgement | None  #: all of it, where the program alone can say that
    request: Request


@dataclass(frozen=True, slots=True)
class Work:
    """One judging of one run."""

    database: Database
    run: Run
    survey: Survey
    card: ModelCard
    judge: int
    wanted: Judge  #: by what card, on what share of the answers, by which rubric
    ledger: int  #: its revision before they were drawn
    watch: Watch
    held: Callable[[], bool]  #: whether no other process judges the run by now
    leaving: Callable[[], bool]  #: whether this process is to end

    @property
    def cancelled(self) -> bool:
        """Whether the run has been cancelled since judging it began."""
        return not self.run.cancelled and store.is_cancelled(self.database, self.run.id)

    @property
    def at_once(self) -> int:
        """How many calls are under way at once."""
        return self.card.concurrency if self.card.hosted else AT_ONCE

    @property
    def money_left(self) -> float | None:
        """US dollars that may still be asked for, calls of open batches counted as paid; None: there is no limit."""
        left = budget.left(self.database, self.run.id) if any(self.card.prices or ()) else None
        return None if left is None else left - judgements.expected_cost(self.database, self.run.id)

    @property
    def spent(self) -> bool:
        """Whether the judge costs money and the run may cost no more."""
        left = self.money_left
        return left is not None and left <= 0

    @property
    def stopped(self) -> bool:
        """Whether nothing more is to be asked, whatever money there is."""
        return self.leaving() or self.cancelled or not self.held()

    def put(self, calls: Sequence[AnswerKey]) -> Iterator[Put]:
        """The calls as they are put before the judge, read as they are needed; gone answers are left out."""
        for given in judgements.given_answers(self.database, calls):
            answer, request = given.answer, judge_request(subject_of(given, self.survey), self.wanted.rubric)
            found = decided(answer.state, answer.reason, answer.completion, self.run.protocol.reply)
            whole = {name: found[name] for name in DIMENSIONS if name in found}
            alone = Judgement(findings=whole) if len(whole) == len(DIMENSIONS) else None
            yield Put(call=given.key, response=answer.completion, by_program=found, decided=alone, request=request)

    def keep(self, said: Sequence[tuple[AnswerKey, Judgement]], *, batched: bool = False) -> None:
        """Commit judgements."""
        judgements.record(self.database, self.judge, said, prices=self.card.prices, batched=batched)

    def end(self, ended: Ended, told: str, *, go_on: bool = False) -> None:
        """Note how it ended; where it is to go on later, none of the answers counts as done with."""
        ledger = NONE if go_on else self.ledger
        where = (self.database, self.run.id, self.wanted)
        judgements.end(*where, judge=self.judge, ended=ended, told=told, ledger=ledger)

    def left(self, sample: Sequence[AnswerKey]) -> list[AnswerKey]:
        """What of a sample is not judged yet."""
        there = judgements.judged(self.database, self.judge, self.run.id)
        return [call for call in sample if call not in there]


def calibrate(work: Work, engine: Engine) -> Score | None:
    """The judge's score on the calibration set, of which only what is missing is asked; None: not all of it is there.

    Raises EngineUnavailable where one of its replies ended in an error, after which it is asked no more.
    """
    items = {}
    for item in calibration_set(work.wanted.rubric):  # by names that change with its words: then it is asked anew
        asked = "\n".join(message.content for message in item.request.messages)
        items[f"{item.name}-{sha256(asked.encode()).hexdigest()[:12]}"] = item
    said = {name: found for name, found in judgements.calibrated(work.database, work.judge).items() if name in items}
    missing = [(name, item.request) for name, item in items.items() if name not in said]
    if missing and work.spent:
        return None
    problems: list[str] = []
    wanted = takewhile(lambda _: not (problems or work.leaving() or work.cancelled), missing)
    for name, completion in ask_all(engine, wanted, at_once=work.at_once):
        try:
            judgement = judgement_in(completion, items[name].subject.response, {})
        except JudgeGaveUp as error:
            problems.append(str(error))
            continue
        judgements.record_calibration(work.database, work.judge, name, judgement)
        said[name] = judgement.findings
        work.watch("calibrating", len(said), len(items))
    if problems:
        raise EngineUnavailable(f"the calibration set could not be judged: {problems[0]}")
    if len(said) < len(items):
        return None
    return score({items[name].name: findings for name, findings in said.items()}, work.wanted.rubric)


def judge_one_by_one(work: Work, engine: Engine, sample: Sequence[AnswerKey]) -> list[str]:
    """Ask for what of the sample is not judged, as far as money lasts and replies come. Returns what went wrong."""
    todo = work.left(sample)
    done, in_vain, problems = len(sample) - len(todo), 0, list[str]()
    money = BudgetWatch(lambda: work.money_left)

    def keep(call: AnswerKey, judgement: Judgement) -> None:
        nonlocal done
        work.keep([(call, judgement)])
        done += 1
        work.watch("judging", done, len(sample))

    def calls() -> Iterator[tuple[Put, Request]]:
        for put in work.put(todo):
            if put.decided is not None:
                keep(put.call, put.decided)
            elif in_vain >= _IN_VAIN * work.at_once or money.is_spent() or work.stopped:
                return
            else:
                yield put, put.request

    work.watch("judging", done, len(sample))
    for put, completion in ask_all(engine, calls(), at_once=work.at_once):
        try:
            keep(put.call, judgement_in(completion, put.response, put.by_program))
            in_vain = 0
        except JudgeGaveUp as error:
            problems.append(str(error))
            in_vain += 1
    return problems


def collect_open(work: Work) -> list[str]:
    """Finish the batches that an earlier process left open; returns what is to be said of those that are Gone."""
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
    """Hand over everything of the sample that is not judged. Returns what went wrong for good, call by call."""
    refused: dict[AnswerKey, str] = {}
    passing: dict[AnswerKey, str] = {}
    with closing(Batches(work.card)) as batches:
        for _ in range(ROUNDS):
            passing.clear()
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
    left, (read_price, written_price) = work.money_left, work.card.prices or (0.0, 0.0)
    read, written = judgements.tokens_of_a_call(work.database, work.run.id, work.judge)
    cost = BATCHED * (read * read_price + written * written_price) / 1e6
    return MOST_CALLS if left is None or not cost else max(1, ceil(min(MOST_CALLS, left / cost)))


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
    """Wait for a batch, commit its results and forget it, as where it is Gone. Returns the calls without a reply."""
    known = {put.call: put for put in work.put(calls)}
    puts = {place: known[call] for place, call in enumerate(calls) if call in known}
    before = total - len(calls)
    try:
        batches.wait(name, look=lambda done: work.watch("judging in a batch", before + done, total))
        results = batches.results(name, token, {place: put.request for place, put in puts.items()})
    except Gone as gone:
        judgements.close_batch(work.database, token)
        raise Gone(f"batch {name} {gone}, what was in it is asked again") from None
    said: list[tuple[AnswerKey, Judgement]] = []
    lost: list[tuple[AnswerKey, Lost]] = []
    for place, result in results:
        put = puts[place]
        if isinstance(result, Lost):
            lost.append((put.call, result))
            continue
        try:
            said.append((put.call, judgement_in(result, put.response, put.by_program)))
        except JudgeGaveUp as error:
            lost.append((put.call, Lost(reason=str(error), again=True)))
    for start in range(0, len(said), _KEPT):
        work.keep(said[start : start + _KEPT], batched=True)
    judgements.close_batch(work.database, token)
    return lost
