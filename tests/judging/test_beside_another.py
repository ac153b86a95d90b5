"""Two processes that would judge the same run: one does, wherever they are; the other when the first is gone."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from defsurvey.jobs.judging.judge import BeingJudged
from defsurvey.jobs.judging.steps import judging
from defsurvey.storage.database import Database
from defsurvey.storage.hosts import host
from defsurvey.storage.runs import judgements, outbox, tables
from defsurvey.storage.runs.judgements import Ended, holds_lease, release_lease, renew_lease, take_lease
from tests.judging.conftest import JudgedRun
from tests.storage.conftest import url  # noqa: F401 -- the fixture of either database
from tests.storage.small_run import started


def test_whoever_judges_beside_another_is_refused_and_pays_for_nothing(here: JudgedRun, tmp_path: Path) -> None:
    """Two containers: the database is all that they share, and their homes are not."""
    here.answer(6)
    beside: list[str] = []

    def judge_beside(path: str) -> None:
        here.server.before_reply = lambda path: None
        with pytest.raises(BeingJudged) as refused:
            replace(here, settings=here.settings.model_copy(update={"home": tmp_path / "other"})).judge()
        beside.append(str(refused.value))

    here.server.before_reply = judge_beside
    done = here.judge()
    assert beside
    assert (done.ended, done.judged) == (Ended.DONE, done.sampled)
    assert (
        replace(here, settings=here.settings.model_copy(update={"home": tmp_path / "other"})).judge().judged
        == done.sampled
    )
    assert here.paid <= 72 + done.sampled


def test_a_killed_judge_is_followed_at_once_on_its_host_and_after_its_lease_elsewhere(here: JudgedRun) -> None:
    """Of a process of this host it is known that it is dead; of one elsewhere nothing, until its time is over."""
    here.answer(5)
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as dead:
        dead.wait()
    take_lease(here.database, "first", f"{host()}:{dead.pid}:token", ttl=60.0)
    assert here.judge().ended is Ended.DONE
    take_lease(here.database, "first", "elsewhere:1:token", ttl=60.0)
    with pytest.raises(BeingJudged):
        here.judge()
    renew_lease(here.database, "first", "elsewhere:1:token", ttl=-1.0)
    assert here.judge().ended is Ended.DONE


def test_a_lease_is_renewed_for_as_long_as_judging_lasts(here: JudgedRun) -> None:
    """Several times its length; whoever comes then is still refused, and not any more when it is over."""
    here.answer(1)
    with judging(here.database, "first", ttl=0.3) as held:
        time.sleep(1.0)
        assert take_lease(here.database, "first", "elsewhere:1:token", ttl=60.0) != "elsewhere:1:token"
        assert held()
    assert take_lease(here.database, "first", "elsewhere:1:token", ttl=60.0) == "elsewhere:1:token"


@pytest.mark.parametrize("batch", [False, True])
def test_a_judge_that_slept_asks_for_nothing_more(here: JudgedRun, batch: bool) -> None:
    """Another process has its lease; what was under way is kept, and how judging ended is for the other to say."""
    total = here.answer(6)
    calibrated = judgements.calibrated

    def take_over(database: Database, judge: int) -> object:
        with here.database.read() as connection:
            owner = connection.execute(select(tables.judge_lease.c.owner)).scalar_one()
        release_lease(here.database, "first", owner)
        take_lease(here.database, "first", "elsewhere:1:token", ttl=60.0)
        return calibrated(here.database, judge)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(judgements, "calibrated", take_over)
        with pytest.raises(BeingJudged, match="run first is being judged by another process, since this one was away"):
            here.judge(batch=batch)
    assert here.paid == 72
    assert outbox.judgement_revision(here.database, "first") == 0
    release_lease(here.database, "first", "elsewhere:1:token")
    assert here.judge(batch=batch).judged == total + -(-total // 10)


RUN = "first"


@pytest.fixture
def begun(database: Database) -> Database:
    """With a run to judge."""
    started(database)
    return database


def test_the_first_holds_it_until_it_lets_go(begun: Database) -> None:
    """Whoever comes meanwhile is told who holds it, and cannot let it go in its place."""
    assert take_lease(begun, RUN, "a", ttl=60.0) == "a"
    assert take_lease(begun, RUN, "b", ttl=60.0) == "a"
    release_lease(begun, RUN, "b")
    assert (holds_lease(begun, RUN, "a"), holds_lease(begun, RUN, "b")) == (True, False)
    release_lease(begun, RUN, "a")
    assert take_lease(begun, RUN, "b", ttl=60.0) == "b"


def test_a_lease_that_ran_out_is_taken_by_the_next(begun: Database) -> None:
    """The former holder notices, and renews nothing that is not its own any more."""
    take_lease(begun, RUN, "a", ttl=-1.0)
    assert holds_lease(begun, RUN, "a")  # nobody else has come
    assert take_lease(begun, RUN, "b", ttl=-1.0) == "b"
    assert not holds_lease(begun, RUN, "a")
    renew_lease(begun, RUN, "a", ttl=60.0)
    assert take_lease(begun, RUN, "c", ttl=60.0) == "c"


def test_a_lease_that_ran_out_is_renewed_where_nobody_took_it(begun: Database) -> None:
    """After an outage of the database, say."""
    take_lease(begun, RUN, "a", ttl=-1.0)
    renew_lease(begun, RUN, "a", ttl=60.0)
    assert take_lease(begun, RUN, "b", ttl=60.0) == "a"


@pytest.mark.parametrize("before", [False, True], ids=["never held", "run out"])
def test_of_many_at_the_same_instant_one_has_it(begun: Database, before: bool) -> None:
    """And everybody is told the same name."""
    if before:
        take_lease(begun, RUN, "before", ttl=-1.0)
    start = threading.Barrier(8)

    def come(name: str) -> str:
        start.wait(10)
        return take_lease(begun, RUN, name, ttl=60.0)

    with ThreadPoolExecutor(8) as pool:
        told = set(pool.map(come, "abcdefgh"))
    assert len(told) == 1
    assert told < set("abcdefgh")
