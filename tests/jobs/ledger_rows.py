"""Reads and bends the ledger's rows behind the back of the code under test."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import redis
from sqlalchemy import text

from defsurvey.jobs.broker import simulate_queue
from defsurvey.storage.database import Database
from defsurvey.storage.runs import store
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.run import Answer, AnswerState, Participant
from defsurvey.workers.engines.base import NO_DECODING


def rows(database: Database, sql: str) -> list[tuple[Any, ...]]:
    """What a query finds."""
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def change(database: Database, sql: str) -> None:
    """Run a statement and commit it."""
    database.write(lambda connection: connection.execute(text(sql)))


def queued(client: redis.Redis, model: str = "human") -> list[int]:
    """Participants whose messages lie in a model's queue, sorted."""
    messages: Any = client.lrange(simulate_queue(model), 0, -1)
    return sorted(json.loads(b64decode(json.loads(message)["body"]))[0][0] for message in messages)


def answer_to(held: Participant, question: str, **changes: Any) -> Answer:
    """A plain answer to a participant's next question."""
    fields: dict[str, Any] = {
        "participant": held.id,
        "item": held.next_item,
        "question": question,
        "state": AnswerState.ANSWERED,
        "choices": (1,),
        "completion": "1: choice 1",
        "shown": (1, 2, 3, 4),
        "draws": held.draws,
        "seed": 7,
        "used": NO_DECODING,
    }
    return Answer(**fields | changes)


def finish(database: Database, run: str = "first", *, owner: str = "host:1:token", **changes: Any) -> None:
    """Answer every open question of a run."""
    ledger = Ledger(database, owner=owner)
    questions = store.load_run(database, run).questions
    for (who,) in rows(database, f"SELECT id FROM participant WHERE run = '{run}' ORDER BY id"):
        held = ledger.claim(who)
        if held is None:
            continue
        for item in range(held.next_item, len(questions)):
            ledger.checkpoint(held, answer_to(held, questions[item], item=item, **changes), ())
