"""The producer: rows first, then one message each; what the broker did not take stays in the outbox."""

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
from tests.jobs.small_study import change, queued, rows, study

PARTICIPANTS = "SELECT id FROM participant ORDER BY id"


def small(**changes: str | None) -> Any:
    """The small study with three respondents in each of two cells."""
    return study(**{"models": "[human]", "participants": "3", **changes})


def test_every_participant_gets_one_message_once(database: Database, app: Celery, client: redis.Redis) -> None:
    """To enqueue again is to resume: what is there stays, what was sent is not sent twice."""
    assert enqueue(database, app, small()) == Enqueued(run="first", added=6, published=6, waiting=0)
    assert enqueue(database, app, small()) == Enqueued(run="first", added=0, published=0, waiting=0)
    assert queued(client) == [who for (who,) in rows(database, PARTICIPANTS)] == [1, 2, 3, 4, 5, 6]


def test_without_a_broker_the_messages_wait_in_the_outbox(database: Database, app: Celery, client: redis.Redis) -> None:
    """Be there none, or one that is down; publishing later sends exactly what was not sent, of one run alone."""
    nowhere = make_app("redis+socket:///nowhere/nobody.sock")
    assert enqueue(database, nowhere, small()) == Enqueued(run="first", added=6, published=0, waiting=6)
    assert enqueue(database, None, small(name="second")) == Enqueued(run="second", added=6, published=0, waiting=6)
    nowhere.close()
    assert publish(database, app, run="second") == 6
    assert (outbox.waiting(database, "first"), outbox.waiting(database, "second")) == (6, 0)
    assert queued(client) == list(range(7, 13))


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


def test_more_messages_than_one_batch_of_200_go_to_the_queues_of_their_models(
    database: Database, app: Celery, client: redis.Redis
) -> None:
    """A worker listens to one model; its queue must hold nobody else's participants."""
    done = enqueue(database, app, small(models="[human, plain-model]", participants="101"))
    assert (done.published, done.waiting) == (404, 0)
    models = "SELECT p.id FROM participant p JOIN cell c ON p.cell = c.id WHERE c.model = '{}' ORDER BY p.id"
    for model in ("human", "plain-model"):
        assert queued(client, model) == [who for (who,) in rows(database, models.format(model))]


def test_participants_of_equal_index_share_their_draws() -> None:
    """Decoding and memory are drawn alike in every cell, so that comparisons are paired."""
    new = new_run(small(models="[human, plain-model]", conditions="[def, none]"))
    of_def = [cell.draws for cell in new.cells if cell.condition.name == "def"]
    drawn = [[(d.num_beams, d.do_sample, d.memory_capacity) for d in draws] for draws in of_def]
    assert len(drawn) == 4
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
    """Participants are added behind those there are, under the same seed; new models get all of them."""
    enqueue(database, None, small().pilot(2))
    before = rows(database, "SELECT * FROM participant ORDER BY id")
    with pytest.raises(StudyError, match="without model plain-model; add it: defsurvey extend first --models plain-"):
        enqueue(database, None, small(models="[human, plain-model]").pilot(2))
    assert rows(database, "SELECT * FROM participant ORDER BY id") == before
    assert enqueue(database, None, small()).added == 2
    grown = replace(small(), participants=4, models=("human", "plain-model"))
    assert enqueue(database, None, grown, extend=True).added == 2 * 1 + 2 * 4
    assert rows(database, "SELECT * FROM participant ORDER BY id")[:4] == before
    run = store.load_run(database, "first")
    assert [(cell.model, cell.participants) for cell in run.cells] == [("human", 4)] * 2 + [("plain-model", 4)] * 2


@pytest.mark.parametrize(
    ("spent", "budget", "state"),
    [(0, "5", "judging"), (0, None, "judging"), (2, "0.01", "budget reached"), (2, "0.02", "budget reached")],
)
def test_judging_that_ended_for_want_of_money_goes_on_where_there_is_more(
    database: Database, spent: int, budget: str | None, state: str
) -> None:
    """With a budget above what is spent, or with none; as it was, or with too little, the judge is asked nothing."""
    judge = "{model: tiny-model}"
    enqueue(database, None, small(judge=judge, budget="0.01"))
    record_served(database, "first", "human", {"engine": "openai", "input_price": "1", "output_price": "1"}, {})
    change(database, f"UPDATE participant SET status = 'finished', prompt_tokens = {spent} * 1000000")
    over: dict[str, Any] = {"ended": judgements.Ended.OVER_BUDGET, "told": "it is spent", "ledger": 0}
    judgements.end(database, "first", Judge(model="tiny-model", sample=0.01), judge=None, **over)
    assert snapshot(database, "first").state == "budget reached"
    enqueue(database, None, small(judge=judge, budget=budget))
    assert snapshot(database, "first").state == state
