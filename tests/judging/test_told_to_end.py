"""A process that is told to end while it judges asks for nothing more and keeps what it paid for."""

from __future__ import annotations

import pytest

from defsurvey.jobs.daemons.tasks import judge_if_due
from defsurvey.jobs.judging.judge import JudgingLeft, judge_run
from defsurvey.jobs.settings import Settings
from defsurvey.storage.database import Database
from defsurvey.storage.runs import judgements, outbox
from defsurvey.storage.runs.judgements import Ended
from tests.jobs.ledger_rows import rows
from tests.judging.conftest import Answered, wants_judging
from tests.judging.provider import JudgeServer

UNDER_WAY = 4  # as the judge's card says


@pytest.mark.parametrize("told_at", [10, 90], ids=["calibrating", "judging"])
def test_nothing_more_is_asked_and_replies_under_way_are_kept(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered, told_at: int
) -> None:
    """How it ended is noted by whoever goes on, which may be another process at once, and pays for nothing twice."""
    total = answered(12)

    def told() -> bool:
        return sum(server.asked.values()) >= told_at

    with pytest.raises(JudgingLeft, match="run first is left to be judged: this process was told to end"):
        judge_run(settings, database, "first", model="judge", share=1.0, leaving=told)
    asked = sum(server.asked.values())
    assert told_at <= asked <= told_at + UNDER_WAY
    kept = rows(database, "SELECT (SELECT count(*) FROM judgement), (SELECT count(*) FROM calibration)")
    assert sum(kept[0]) >= asked
    assert outbox.judgement_revision(database, "first") == 0
    assert judgements.take_lease(database, "first", "elsewhere:1:token", ttl=60.0) == "elsewhere:1:token"
    judgements.release_lease(database, "first", "elsewhere:1:token")
    done = judge_run(settings, database, "first", model="judge", share=1.0)
    assert (done.ended, done.judged) == (Ended.DONE, total + -(-total // 10))
    assert max(server.asked.values()) <= 2  # the judge's agreement with itself is a second call


def test_who_is_told_when_all_is_judged_notes_it(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """Nothing is left to be asked, and a report waits for it."""
    answered(2)
    judge_run(settings, database, "first", model="judge", share=1.0)
    assert judge_run(settings, database, "first", model="judge", share=1.0, leaving=lambda: True).ended is Ended.DONE


def test_a_judging_that_is_left_is_not_at_its_end(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered, caplog: pytest.LogCaptureFixture
) -> None:
    """The run waits for it, and the reconciler asks again."""
    caplog.set_level("INFO")
    answered(2)
    wants_judging(database)
    judge_if_due(settings, database, "first", leaving=lambda: True)
    assert judgements.is_due(database, "first")
    assert sum(server.asked.values()) == 0
    assert "told to end" in caplog.text
    assert "ERROR" not in caplog.text
