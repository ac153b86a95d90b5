"""The task that simulates: what it makes of a worker that cannot serve."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from celery.exceptions import Reject
from celery.worker import state as worker_state

from defsurvey.jobs.broker import SIMULATE, make_app
from defsurvey.jobs.daemons.tasks import register_simulation
from defsurvey.jobs.system import UNAVAILABLE
from defsurvey.storage.database import Database
from defsurvey.storage.runs.store import record_served
from defsurvey.workers.models import ModelCard
from tests.jobs.ledger_rows import rows
from tests.storage.what_is_there import progress_of
from tests.workers.working import add_run, make_stage, respondent

HELD = "SELECT count(*) FROM participant WHERE lease_until IS NOT NULL"
CARDS = {
    "slow": respondent("slow", latency=5.0),
    "broken": ModelCard(name="broken", path=Path("/nowhere/weights")),
    "defective": ModelCard(name="defective", engine="json:loads"),  # a function that is given what it does not know
}
#: What cannot be opened, so that there is nobody in hand.
UNOPENED = {"no weights": "broken", "a defect": "defective"}


@pytest.mark.parametrize("why", ["other weights", "no card", *UNOPENED])
def test_a_worker_that_cannot_serve_asks_nothing_more(
    database: Database, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Celery waits for whoever is in hand: they are let go of at once, and their messages go back."""
    monkeypatch.setattr(worker_state, "should_stop", None)
    add_run(database, "good", models=("slow",))
    add_run(database, "bad", models=(UNOPENED.get(why, "slow"),), participants=1)
    if why == "other weights":
        record_served(database, "bad", "slow", {"respondent": "mode"}, {})
    if why == "no card":
        add_run(database, "bad", models=("slow", "unheard-of"), participants=1)
    stage = make_stage(database, CARDS, [])
    app = make_app("redis://nowhere")
    register_simulation(app, stage)
    task = app.tasks[SIMULATE]
    with ThreadPoolExecutor(3) as pool:
        in_hand = [pool.submit(task, who) for who in ((1, 2) if why not in UNOPENED else ())]
        while in_hand and (len(stage.leases.holding()) < 2 or not stage.resident.loads):
            assert not threading.Event().wait(0.01)
            assert not any(each.done() for each in in_hand)
        refused = pool.submit(task, 4 if why == "no card" else 3)
        for each in (refused, *in_hand):
            with pytest.raises(Reject) as told:
                each.result(10)
            assert told.value.requeue
    assert worker_state.should_stop == UNAVAILABLE
    assert rows(database, HELD) == [(0,)]
    assert progress_of(database, "good").answered == 0
    with pytest.raises(Reject, match="this worker stops"):
        task(1)
    stage.close()
