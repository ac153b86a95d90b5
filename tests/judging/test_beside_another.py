"""Two processes that would judge the same run: one does, wherever they are; the other when the first is gone."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from defsurvey.jobs.judging.judge import BeingJudged
from defsurvey.jobs.judging.steps import judging
from defsurvey.storage.database import Database
from defsurvey.storage.hosts import host
from defsurvey.storage.runs import judgements, outbox, tables
from defsurvey.storage.runs.judgements import Ended
from tests.judging.conftest import JudgedRun
from tests.storage.conftest import url  # noqa: F401 -- the fixture of either database


def test_whoever_judges_beside_another_is_refused_and_pays_for_nothing(here: JudgedRun, tmp_path: Path) -> None:
    """Two containers: the database is all that they share, and their homes are not."""
    here.answer(6)
    beside: list[str] = []

    def judge_beside(path: str) -> None:
        here.server.before_reply = lambda path: None
        with pytest.raises(BeingJudged) as refused:
            replace(here, settings=replace(here.settings, home=tmp_path / "other")).judge()
        beside.append(str(refused.value))

    here.server.before_reply = judge_beside
    done = here.judge()
    assert beside
    assert (done.ended, done.judged) == (Ended.DONE, done.sampled)
    assert replace(here, settings=replace(here.settings, home=tmp_path / "other")).judge().judged == done.sampled
    assert here.paid <= 72 + done.sampled


def test_a_killed_judge_is_followed_at_once_on_its_host_and_after_its_lease_elsewhere(here: JudgedRun) -> None:
    """Of a process of this host it is known that it is dead; of one elsewhere nothing, until its time is over."""
    here.answer(5)
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as dead:
        dead.wait()
    judgements.take_lease(here.database, "first", f"{host()}:{dead.pid}:token", ttl=60.0)
    assert here.judge().ended is Ended.DONE
    judgements.take_lease(here.database, "first", "elsewhere:1:token", ttl=60.0)
    with pytest.raises(BeingJudged):
        here.judge()
    judgements.renew_lease(here.database, "first", "elsewhere:1:token", ttl=-1.0)
    assert here.judge().ended is Ended.DONE


def test_a_lease_is_renewed_for_as_long_as_judging_lasts(here: JudgedRun) -> None:
    """Several times its length; whoever comes then is still refused, and not any more when it is over."""
    here.answer(1)
    with judging(here.database, "first", ttl=0.3) as held:
        time.sleep(1.0)
        assert judgements.take_lease(here.database, "first", "elsewhere:1:token", ttl=60.0) != "elsewhere:1:token"
        assert held()
    assert judgements.take_lease(here.database, "first", "elsewhere:1:token", ttl=60.0) == "elsewhere:1:token"


@pytest.mark.parametrize("batch", [False, True])
def test_a_judge_that_slept_asks_for_nothing_more(here: JudgedRun, batch: bool) -> None:
    """Another process has its lease; what was under way is kept, and how judging ended is for the other to say."""
    total = here.answer(6)
    calibrated = judgements.calibrated

    def take_over(database: Database, judge: int) -> object:
        with here.database.read() as connection:
            owner = connection.execute(select(tables.judge_lease.c.owner)).scalar_one()
        judgements.release_lease(here.database, "first", owner)
        judgements.take_lease(here.database, "first", "elsewhere:1:token", ttl=60.0)
        return calibrated(here.database, judge)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(judgements, "calibrated", take_over)
        with pytest.raises(BeingJudged, match="run first is being judged by another process, since this one was away"):
            here.judge(batch=batch)
    assert here.paid == 72
    assert outbox.judgement_revision(here.database, "first") == 0
    judgements.release_lease(here.database, "first", "elsewhere:1:token")
    assert here.judge(batch=batch).judged == total + -(-total // 10)
