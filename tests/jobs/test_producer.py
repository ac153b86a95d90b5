"""The producer: rows first, then one message each; what the broker did not take stays in the outbox."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from defsurvey.jobs.broker import EmbeddedBroker, make_app
from defsurvey.jobs.progress import snapshot
from defsurvey.jobs.study.producer import Enqueued, enqueue, new_run, publish
from defsurvey.jobs.study.study import StudyError
from defsurvey.storage.database import Database
from defsurvey.storage.runs import judgements, outbox, store
from defsurvey.storage.runs.judgement import Judge
from defsurvey.storage.runs.store import record_served
from tests.jobs.ledger_rows import change, queued, rows
from tests.jobs.small_study import study

PARTICIPANTS = "SELECT id FROM participant ORDER BY id"


def small(**changes: str | None) -> Any:
    """The small study with three respondents in each of two cells."""
    return study(**{"models": "[human]", "participants": "3", **changes})


def test_every_participant_gets_one_message(database: Database, app: Celery, client: redis.Redis) -> None:
    """Enqueuing writes the rows and hands each participant's id to its model's queue."""
    assert enqueue(database, app, small()) == Enqueued(run="first", added=6, published=6, waiting=0)
    assert queued(client) == [who for (who,) in rows(database, PARTICIPANTS)] == [1, 2, 3, 4, 5, 6]


def test_enqueuing_again_adds_and_sends_nothing(database: Database, app: Celery, client: redis.Redis) -> None:
    """Resuming is the same call: what is there stays, what was sent is not sent twice."""
    enqueue(database, app, small())
    assert enqueue(database, app, small()) == Enqueued(run="first", added=0, published=0, waiting=0)
    assert len(queued(client)) == 6


def test_without_a_broker_the_messages_wait_in_the_outbox(database: Database, app: Celery, client: redis.Redis) -> None:
    """The rows are the outbox: publishing later sends exactly what was not sent."""
    assert enqueue(database, None, small()) == Enqueued(run="first", added=6, published=0, waiting=6)
    assert publish(database, app) == 6
    assert outbox.waiting(database, "first") == 0
    assert len(queued(client)) == 6


def test_a_broker_that_is_down_loses_nothing(database: Database, tmp_path: Path) -> None:
    """Publishing to nobody is no error: the messages go on waiting."""
    nowhere = make_app(f"redis+socket://{tmp_path / 'nobody.sock'}")
    assert enqueue(database, nowhere, small()) == Enqueued(run="first", added=6, published=0, waiting=6)
    nowhere.close()


def test_only_what_the_broker_took_is_noted_as_sent(database: Database, tmp_path: Path) -> None:
    """A broker that dies half way got three messages; the other three are sent to its successor."""
    broker = EmbeddedBroker(tmp_path)
    broker.ensure()
    app = make_app(broker.url)
    app.send_task = _after(3, broker.stop, app.send_task)
    assert enqueue(database, app, small()) == Enqueued(run="first", added=6, published=3, waiting=3)
    sent = "SELECT id FROM participant WHERE published_at IS NOT NULL ORDER BY id"
    assert rows(database, sent) == [(1,), (2,), (3,)]
    with broker:
        assert publish(database, app) == 3
        with broker.client() as client:
            assert queued(client) == [1, 2, 3, 4, 5, 6]
    app.close()


def _after(calls: int, happens: Callable[[], None], send: Callable[..., Any]) -> Callable[..., Any]:
    made: list[int] = []

    def counted(*args: Any, **options: Any) -> Any:
        made.append(1)
        if len(made) == calls + 1:
            happens()
        return send(*args, **options)

    return counted


def test_more_messages_than_one_batch_are_all_sent_once(database: Database, app: Celery, client: redis.Redis) -> None:
    """The outbox is emptied in batches of 200."""
    done = enqueue(database, app, small(participants="201"))
    assert (done.published, done.waiting) == (402, 0)
    assert queued(client) == list(range(1, 403))


def test_publishing_one_run_leaves_the_others_alone(database: Database, app: Celery, client: redis.Redis) -> None:
    """``resume RUN`` sends that run's messages only."""
    enqueue(database, None, small())
    enqueue(database, None, small(name="second"))
    assert publish(database, app, run="second") == 6
    assert queued(client) == list(range(7, 13))


def test_each_model_gets_its_own_queue(database: Database, app: Celery, client: redis.Redis) -> None:
    """A worker listens to one model; its queue must hold nobody else's participants."""
    enqueue(database, app, small(models="[human, plain-model]"))
    models = "SELECT p.id FROM participant p JOIN cell c ON p.cell = c.id WHERE c.model = '{}' ORDER BY p.id"
    for model in ("human", "plain-model"):
        assert queued(client, model) == [who for (who,) in rows(database, models.format(model))]


def test_participants_of_equal_index_share_their_draws() -> None:
    """Decoding and memory are drawn alike in every cell, so that comparisons are paired."""
    new = new_run(small(models="[human, plain-model]", conditions="[def, none]"))
    of_def = [cell.draws for cell in new.cells if cell.condition.name == "def"]
    assert len(of_def) == 4
    drawn = [[(d.num_beams, d.do_sample, d.memory_capacity) for d in draws] for draws in of_def]
    assert drawn[0] == drawn[1] == drawn[2] == drawn[3]
    none = next(cell for cell in new.cells if cell.condition.name == "none")
    assert {(d.region, d.num_beams, d.do_sample, d.memory_capacity) for d in none.draws} == {(None, 1, False, 0)}


def test_another_design_under_the_same_name_is_refused(database: Database) -> None:
    """Answers to different designs must not be pooled; the message names both ways out."""
    enqueue(database, None, small())
    with pytest.raises(StudyError, match=r"run first exists already with another design; .* defsurvey resume first"):
        enqueue(database, None, small(seed="8"))
    assert store.load_run(database, "first").protocol.seed == 0


def test_a_pilot_grows_by_itself_and_models_have_to_be_asked_for(database: Database) -> None:
    """The study without its pilot adds the rest; for another model the message gives the command."""
    enqueue(database, None, small().pilot(2))
    with pytest.raises(StudyError, match="without model plain-model; add it: defsurvey extend first --models plain-"):
        enqueue(database, None, small(models="[human, plain-model]").pilot(2))
    assert rows(database, PARTICIPANTS) == [(1,), (2,), (3,), (4,)]
    assert enqueue(database, None, small()).added == 2
    assert rows(database, PARTICIPANTS)[:4] == [(1,), (2,), (3,), (4,)]


def test_an_extended_run_keeps_what_it_had(database: Database) -> None:
    """Participants are added behind those there are, under the same seed; new models get all of them."""
    enqueue(database, None, small().pilot(2))
    before = rows(database, "SELECT * FROM participant ORDER BY id")
    grown = replace(small().pilot(2), participants=4, models=("human", "plain-model"))
    assert enqueue(database, None, grown, extend=True).added == 2 * 2 + 2 * 4
    assert rows(database, "SELECT * FROM participant ORDER BY id")[:4] == before
    run = store.load_run(database, "first")
    assert [(cell.model, cell.participants) for cell in run.cells] == [
        ("human", 4),
        ("human", 4),
        ("plain-model", 4),
        ("plain-model", 4),
    ]


@pytest.mark.parametrize("budget", ["5", None])
def test_judging_that_ended_for_want_of_money_goes_on_with_another_budget(
    database: Database, budget: str | None
) -> None:
    """The same study asks for it: with more money, and with none named, after which nothing is out of reach."""
    judge = "{model: tiny-model}"
    enqueue(database, None, small(judge=judge, budget="0.01"))
    change(database, "UPDATE participant SET status = 'finished'")
    over: dict[str, Any] = {"ended": judgements.Ended.OVER_BUDGET, "told": "it is spent", "ledger": 0}
    judgements.end(database, "first", Judge(model="tiny-model", sample=0.01), judge=None, **over)
    assert snapshot(database, "first").state == "budget reached"
    enqueue(database, None, small(judge=judge, **({} if budget is None else {"budget": budget})))
    assert snapshot(database, "first").state == "judging"


def test_a_budget_that_is_spent_stays_spent(database: Database) -> None:
    """A study that is typed again as it was, or with too little, asks its judge for nothing."""
    judge = "{model: tiny-model}"
    enqueue(database, None, small(judge=judge, budget="0.01"))
    prices = {"engine": "openai", "input_price": "1", "output_price": "1"}
    record_served(database, "first", "human", prices, {})
    change(database, "UPDATE participant SET status = 'finished', prompt_tokens = 1000000")
    over: dict[str, Any] = {"ended": judgements.Ended.OVER_BUDGET, "told": "it is spent", "ledger": 0}
    judgements.end(database, "first", Judge(model="tiny-model", sample=0.01), judge=None, **over)
    for budget in ("0.01", "0.02"):
        enqueue(database, None, small(judge=judge, budget=budget))
        assert snapshot(database, "first").state == "budget reached"
