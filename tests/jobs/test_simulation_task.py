"""What a worker does with messages of runs that are not its own."""

from __future__ import annotations

from typing import cast

from defsurvey.jobs.broker import SIMULATE, make_app
from defsurvey.jobs.daemons.tasks import register_simulation
from defsurvey.jobs.study.producer import enqueue
from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox
from defsurvey.workers.runner.participant_runner import Outcome, ParticipantRunner
from tests.jobs.ledger_rows import rows
from tests.jobs.small_study import study


class Asked:
    """Stands where a stage has to stand, and notes who it was to ask."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.asked: list[int] = []

    def simulate(self, participant: int) -> Outcome:
        """Ask nobody."""
        self.asked.append(participant)
        return Outcome.FINISHED


def test_messages_of_other_runs_go_back_to_the_outbox(database: Database) -> None:
    """An interrupted run left them in the queue of the model: nobody is asked, and nothing is lost."""
    enqueue(database, None, study(name="older", models="[human]", participants="1"))
    enqueue(database, None, study(models="[human]", participants="1"))
    outbox.mark_published(database, [1, 2, 3, 4])
    stage = Asked(database)
    app = make_app("redis://nowhere")
    register_simulation(app, cast(ParticipantRunner, stage), only="first")
    for participant in (1, 2, 3, 4):
        app.tasks[SIMULATE](participant)
    assert stage.asked == [3, 4]
    assert rows(database, "SELECT id FROM participant WHERE published_at IS NULL") == [(1,), (2,)]


def test_a_worker_of_every_run_asks_everybody(database: Database) -> None:
    """As ``defsurvey worker`` does."""
    enqueue(database, None, study(models="[human]", participants="1"))
    stage = Asked(database)
    app = make_app("redis://nowhere")
    register_simulation(app, cast(ParticipantRunner, stage))
    app.tasks[SIMULATE](1)
    assert stage.asked == [1]
