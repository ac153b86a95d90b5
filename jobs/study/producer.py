"""From a study to a run: rows first, in one transaction, then a message each; again, only what is missing."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from defsurvey.jobs.broker import SIMULATE, client_of, simulate_queue
from defsurvey.jobs.study.study import Study, StudyError
from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox, store
from defsurvey.storage.runs.budget import change_budget, halt_if_spent
from defsurvey.storage.runs.run import Cell
from defsurvey.workers.simulation.methods import method_of

log = logging.getLogger(__name__)

_BATCH = 200  #: messages sent between two notes of what was sent
SENTINEL = "defsurvey:sentinel"  #: key that vanishes together with the broker's memory; whoever publishes sets it first


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """What enqueuing did."""

    run: str
    added: int  #: participants that were not there before
    published: int  #: messages handed to the broker
    waiting: int  #: messages that stay in the outbox, since there is no broker


def new_run(study: Study) -> store.NewRun:
    """The run that a study asks for, every draw made."""

    def with_draws(cell: Cell) -> store.NewCell:
        draw, given = method_of(cell.condition).draw, (study.protocol, cell.condition)
        culture, most = study.survey.culture(cell.culture), study.survey.most_paraphrases
        draws = tuple(draw(*given, culture, index, paraphrases=most) for index in range(cell.participants))
        of = {name: getattr(cell, name) for name in ("model", "culture", "condition", "language")}
        return store.NewCell(**of, draws=draws)

    return store.NewRun(
        id=study.name,
        survey=study.survey,
        questions=study.questions,
        protocol=study.protocol,
        design=study.fingerprint(),
        study=study.text,
        cells=tuple(map(with_draws, study.cells())),
        judge=None if study.judge is None else study.judge.to_json(),
        budget=study.budget,
    )


def enqueue(database: Database, app: Celery | None, study: Study, *, extend: bool = False) -> Enqueued:
    """Write the run of a study and publish its messages; one that is extended keeps its judge and its budget."""
    planned = new_run(study)
    if not extend:
        _refuse_new_models(database, planned)
    try:
        added = store.add_run(database, planned, extend=extend)
    except store.OtherDesign:
        another = "give this study another name (name: in the file, or --name)"
        old = f"go on with the old one: defsurvey resume {study.name}"
        raise StudyError(f"run {study.name} exists already with another design; {another}, or {old}") from None
    if extend:
        halt_if_spent(database, study.name)  # a model that comes later is stopped by it too
    else:
        change_budget(database, study.name, study.budget)  # what another one had stopped goes on, its judge too
    published = publish(database, app, run=study.name) if app is not None else 0
    return Enqueued(run=study.name, added=added, published=published, waiting=outbox.waiting(database, study.name))


def _refuse_new_models(database: Database, planned: store.NewRun) -> None:
    if not store.has_run(database, planned.id) or store.design_of(database, planned.id) != planned.design:
        return
    there = {tuple(cell.names.values()) for cell in store.load_run(database, planned.id).cells}
    models = sorted({cell.model for cell in planned.cells if cell.key not in there})
    if models:
        add = f"add it: defsurvey extend {planned.id} --models {','.join(models)}"
        raise StudyError(f"run {planned.id} exists already without model {', '.join(models)}; {add}")


def publish(database: Database, app: Celery, *, run: str | None = None) -> int:
    """Send what the outbox holds, and note what the broker took. Returns the number of these messages."""
    try:
        with client_of(app.conf.broker_url) as broker:
            notice_lost_broker(database, broker)
    except redis.RedisError as error:
        log.warning("broker: %s", error)
        return 0
    sent = 0
    while batch := outbox.outgoing(database, run=run, limit=_BATCH):
        taken: list[int] = []
        try:
            with app.producer_pool.acquire(block=True, timeout=10) as producer:
                for message in batch:
                    queue, args = simulate_queue(message.model), [message.participant]
                    app.send_task(SIMULATE, args=args, queue=queue, producer=producer, retry=False)
                    taken.append(message.participant)
        except OperationalError as error:
            log.warning("broker: %s; %d messages wait in the outbox", error, len(batch) - len(taken))
        outbox.mark_published(database, taken)
        sent += len(taken)
        if len(taken) < len(batch):
            break
    return sent


def notice_lost_broker(
    database: Database, broker: redis.Redis, *, before: object = None, run: str | None = None
) -> object:
    """Put messages back into the outbox if the broker lost its memory; returns the sentinel by which that is seen."""
    new = broker.set(SENTINEL, uuid.uuid4().hex, nx=True)
    now: object = broker.get(SENTINEL)
    if new or before not in (None, now):
        again = outbox.publish_again(database, run=run)
        if again:
            log.warning("the broker has lost its queues; %d messages are published again", again)
    return now
