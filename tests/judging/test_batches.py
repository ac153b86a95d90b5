"""Batches that come to an end otherwise than they should: cut off, no longer known, or made without being named."""

from __future__ import annotations

import pytest

from defsurvey.jobs.judging.judge import in_words
from defsurvey.storage.runs import judgements
from defsurvey.storage.runs.judgements import Ended
from defsurvey.workers.engines.base import EngineUnavailable
from tests.judging.conftest import JudgedRun
from tests.judging.provider import JudgeServer
from tests.storage.conftest import url  # noqa: F401 -- the fixture of either database


class Killed(BaseException):
    """The process dies here."""


def killed(here: JudgedRun, before: str) -> None:
    """Judge until a batch has been made and something of ``jobs.judging.steps`` is about to be done."""

    def die(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(f"defsurvey.jobs.judging.steps.{before}", die)
        with pytest.raises(Killed):
            here.judge(batch=True)


def others(server: JudgeServer, number: int, *, calls: int = 1) -> None:
    """Batches of other people in the same workspace."""
    prompt = "[response x]\nhello\n[end of response x]"
    params = {"model": "other", "messages": [{"role": "user", "content": prompt}]}
    for batch in range(number):
        server.make([{"custom_id": f"others-{batch}-{call}", "params": params} for call in range(calls)])


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked again is asked at once."""
    monkeypatch.setattr("defsurvey.workers.judging.batches.LONGEST_LOOK", 0.01)


@pytest.mark.parametrize("times", [1, 3])
def test_results_that_are_cut_off_are_read_again(here: JudgedRun, times: int) -> None:
    """As often as the card says; then it is one error, and the same command goes on with the same batch."""
    here.answer(5)
    here.server.cut = times
    if times == 3:
        with pytest.raises(
            EngineUnavailable, match=r"the server was not reached: RemoteProtocolError: .*asked 3 times"
        ):
            here.judge(batch=True)
    assert here.judge(batch=True).ended is Ended.DONE
    assert len(here.server.batches) == 1


def test_a_batch_without_a_name_is_found_behind_many_younger_ones(here: JudgedRun) -> None:
    """More than are told at once."""
    here.answer(5)
    killed(here, "judgements.name_batch")
    others(here.server, 120)
    assert here.judge(batch=True).ended is Ended.DONE
    assert [len(batch["calls"]) for batch in here.server.batches.values() if len(batch["calls"]) > 1] == [
        len(here.server.batches["msgbatch_1"]["calls"])
    ]


def test_nobody_waits_for_the_batches_of_others(here: JudgedRun) -> None:
    """They may take a day: those of another size are left alone, and those of the same size are looked at last."""
    here.answer(5)
    killed(here, "judgements.name_batch")
    mine = len(here.server.batches["msgbatch_1"]["calls"])
    others(here.server, 1)
    others(here.server, 1, calls=mine)
    here.server.batches["msgbatch_1"]["looks"] = 2
    assert here.judge(batch=True).ended is Ended.DONE
    assert [batch["looks"] for batch in here.server.batches.values()][1:] == [0, 0]


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("lost", ["gone", "archived"])
def test_a_batch_that_the_provider_has_no_more_is_told_and_asked_again(here: JudgedRun, lost: str, batch: bool) -> None:
    """Deleted, or older than its results are kept: it would keep a run from being judged for ever."""
    here.answer(5)
    killed(here, "_finish")
    getattr(here.server, lost).add("msgbatch_1")
    done = here.judge(batch=batch)
    assert (done.ended, done.judged) == (Ended.DONE, done.sampled)
    what = {"gone": "is not known there any more", "archived": "has no results there any more"}[lost]
    assert in_words(done).endswith(f"; batch msgbatch_1 {what}, what was in it is asked again")
    assert judgements.batch_ids(here.database) == set()


def test_a_server_that_knows_no_batches_is_not_taken_for_one_that_lost_one(here: JudgedRun) -> None:
    """Whatever answers 404 to everything, a proxy say, tells nothing of a batch: it stays open."""
    here.answer(5)
    killed(here, "_finish")
    here.server.gone.add("msgbatch_1")
    here.server.told_gone = "error"
    with pytest.raises(EngineUnavailable, match="the server says 404"):
        here.judge(batch=True)
    assert judgements.batch_ids(here.database) == {"msgbatch_1"}
