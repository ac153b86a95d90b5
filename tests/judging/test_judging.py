"""Judging a run, on either database: calibration first, nothing paid twice, gone on with wherever it stopped."""

import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from defsurvey.jobs.judging.judge import BeingJudged, in_words
from defsurvey.jobs.judging.steps import judging
from defsurvey.reports.figures.judging import judged_by
from defsurvey.storage.database import Database
from defsurvey.storage.hosts import host
from defsurvey.storage.runs import judgements, outbox, tables
from defsurvey.storage.runs.judgement import DIMENSIONS
from defsurvey.storage.runs.judgements import Ended, holds_lease, release_lease, renew_lease, take_lease
from defsurvey.storage.runs.run import AnswerState
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.judging.prompt import SCHEMA
from tests.judging.conftest import KEY, JudgedRun, nowhere
from tests.judging.provider import JudgeServer, response_in
from tests.storage.conftest import url  # noqa: F401 -- the fixture of either database
from tests.storage.small_run import new_cell, started

RUN, ELSEWHERE = "first", "elsewhere:1:token"


@pytest.mark.parametrize("batch", [False, True])
def test_every_answer_is_judged_once(here: JudgedRun, batch: bool) -> None:
    """Of the main condition; a tenth once more; a program judges what is empty; typed again, nothing is asked."""
    total = here.answer()
    done = here.judge(batch=batch)
    again = -(-total // 10)
    assert (done.ended, done.sampled, done.judged) == (Ended.DONE, total + again, total + again)
    assert done.judge == "judge (judge-1, rubric 1)"
    assert done.calibration == "right on 72 of 72 calibration answers"
    sample = judgements.sample(here.database, [1, 2], share=1.0, seed=11)
    given = [given.answer for given in judgements.given_answers(here.database, sample)]
    paid = here.paid
    assert paid == 72 + sum(1 for answer in given if answer.completion.strip())
    assert here.judge(batch=batch).judged == done.judged
    assert here.paid == paid
    assert len(here.server.batches) == (1 if batch else 0)
    assert all(KEY in str(headers) for headers in here.server.headers)
    calls = [call for body in here.server.bodies for call in body.get("requests", [{"params": body}])]
    schemas = [call["params"]["output_config"]["format"] for call in calls]
    assert all(schema == {"type": "json_schema", "schema": dict(SCHEMA)} for schema in schemas)
    assert judgements.tokens_seen(here.database, RUN, "judge") == (1000, 200)
    assert judgements.tokens_seen(here.database, RUN, "another") is None


def test_verdicts_reach_the_report(here: JudgedRun) -> None:
    """Each model failed once on facts; an unreadable answer fails on instructions; a refusal has no choice."""
    here.answer()
    before = here.report()
    assert "not run: no judge" in Path(before.markdown).read_text().casefold()
    here.judge()
    (judge,) = here.judgements().judges
    rows = zip(judge.cell, judge.dimension, judge.verdict, strict=True)
    fails = Counter((int(cell), DIMENSIONS[dimension]) for cell, dimension, verdict in rows if verdict == 1)
    assert fails == {(cell, name): n for cell in (0, 1) for name, n in (("ff", 1), ("iu", 2), ("qc", 1))}
    assert set(judge.weight) == {1.0}
    (pairs,) = judge.pairs
    assert (pairs.other, set(pairs.first == pairs.second)) == ("", {True})
    after = here.report()
    assert (after.revision, after.judgements) == (before.revision, 1)
    text = Path(after.markdown).read_text()
    assert "judge (judge-1, rubric 1)" in text
    assert "not run: no judge" not in text.casefold()
    assert outbox.reports_due(here.database) == []


def test_a_sample_is_stratified_and_weighted(here: JudgedRun) -> None:
    here.answer(40)
    sample = judgements.sample(here.database, [1, 2], share=0.01, seed=11)
    given = list(judgements.given_answers(here.database, [call for call in sample if not call.repeat]))
    strata = Counter((each.cell.model, each.answer.state) for each in given)
    counts = {AnswerState.ANSWERED: 30, AnswerState.REFUSED: 1, AnswerState.UNPARSABLE: 2}
    models = ("model-a", "model-b")
    assert strata == {(model, state): n for model in models for state, n in counts.items()}
    assert sample == judgements.sample(here.database, [1, 2], share=0.01, seed=11)
    half = Counter((each.cell.model, each.answer.state) for each in given[:34])  # where money may end, all have as much
    assert half == {(model, state): (n + 1) // 2 for (model, state), n in strata.items()}
    first, second = ({(a.number, a.answer.question) for a in given if a.cell.model == model} for model in models)
    assert first == second
    assert set(sample) < set(judgements.sample(here.database, [1, 2], share=0.6, seed=11))
    here.judge(share=0.01)
    (judge,) = here.judgements().judges
    (verdicts, *_), _ = judged_by(here.judgements())
    assert sum(judge.weight[judge.dimension == 0]) == pytest.approx(2 * (3 * 40 - 1))
    assert set(judge.weight) == {116 / 30, 1.0}
    assert (verdicts.judge, verdicts.weight.tolist()) == (judge.judge, judge.weight.tolist())


@pytest.mark.parametrize("batch", [False, True])
def test_where_there_is_nothing_to_judge_no_judge_is_asked(here: JudgedRun, batch: bool) -> None:
    started(here.database, nowhere(new_cell("model-a", participants=2)))
    done = here.judge(batch=batch)
    assert (done.ended, done.sampled, done.judged) == (Ended.DONE, 0, 0)
    assert in_words(done) == "first: there is no answer to judge"
    assert here.paid == 0
    assert here.judgements().revision == 1


class Killed(BaseException):
    """The process dies here."""


def killed(here: JudgedRun, before: str) -> None:
    def die(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(f"defsurvey.jobs.judging.steps.{before}", die)
        with pytest.raises(Killed):
            here.judge(batch=True)


def others(server: JudgeServer, number: int, *, calls: int = 1) -> None:
    prompt = "[response x]\nhello\n[end of response x]"
    params = {"model": "other", "messages": [{"role": "user", "content": prompt}]}
    for batch in range(number):
        server.make([{"custom_id": f"others-{batch}-{call}", "params": params} for call in range(calls)])


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("defsurvey.workers.judging.batches.LONGEST_LOOK", 0.01)


def test_what_errs_in_a_batch_is_told_and_asked_again(here: JudgedRun) -> None:
    here.answer()

    def outcome(prompt: str, batch: int) -> str:
        kinds = {"citizen 7": "invalid_request_error"}
        if batch == 0:
            kinds |= {"citizen 8": "api_error", "citizen 9": "expired", "citizen 10": "canceled"}
        return next((kind for words, kind in kinds.items() if words in response_in(prompt)), "succeeded")

    here.server.outcome = outcome
    done = here.judge(batch=True)
    assert (done.ended, done.told) == (Ended.INCOMPLETE, "the server says invalid_request_error: it went wrong")
    assert done.judged < done.sampled
    assert len(here.server.batches) == 2
    in_batches = here.server.paid() - Counter(here.server.asked)
    assert max(in_batches.values()) <= 2  # a second time only where it is a repeat
    here.server.outcome = lambda prompt, batch: "succeeded"
    finished = here.judge(batch=False)
    assert (finished.ended, finished.judged) == (Ended.DONE, finished.sampled)


@pytest.mark.parametrize("times", [1, 3])
def test_results_that_are_cut_off_are_read_again(here: JudgedRun, times: int) -> None:
    """As often as the card says; then it is one error, and the same command goes on with the same batch."""
    here.answer(5)
    here.server.cut = times
    if times == 3:
        with pytest.raises(EngineUnavailable, match=r"the server was not reached: .*asked 3 times"):
            here.judge(batch=True)
    assert here.judge(batch=True).ended is Ended.DONE
    assert len(here.server.batches) == 1


def test_a_batch_without_a_name_is_found_among_those_of_others(here: JudgedRun) -> None:
    here.answer(5)
    killed(here, "judgements.name_batch")
    mine = len(here.server.batches["msgbatch_1"]["calls"])
    others(here.server, 120)
    others(here.server, 1, calls=mine)
    here.server.batches["msgbatch_1"]["looks"] = 2
    assert here.judge(batch=True).ended is Ended.DONE
    assert {batch["looks"] for batch in list(here.server.batches.values())[1:]} == {0}


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize(
    ("lost", "what"), [("gone", "is not known there any more"), ("archived", "has no results there any more")]
)
def test_a_batch_that_the_provider_has_no_more_is_told_and_asked_again(
    here: JudgedRun, lost: str, what: str, batch: bool
) -> None:
    here.answer(5)
    killed(here, "_finish")
    getattr(here.server, lost).add("msgbatch_1")
    done = here.judge(batch=batch)
    assert (done.ended, done.judged) == (Ended.DONE, done.sampled)
    assert in_words(done).endswith(f"; batch msgbatch_1 {what}, what was in it is asked again")
    assert judgements.batch_ids(here.database) == set()


def test_a_server_that_knows_no_batches_is_not_taken_for_one_that_lost_one(here: JudgedRun) -> None:
    here.answer(5)
    killed(here, "_finish")
    here.server.gone.add("msgbatch_1")
    here.server.told_gone = "error"
    with pytest.raises(EngineUnavailable, match="the server says 404"):
        here.judge(batch=True)
    assert judgements.batch_ids(here.database) == {"msgbatch_1"}


def test_whoever_judges_beside_another_is_refused_and_pays_for_nothing(here: JudgedRun, tmp_path: Path) -> None:
    here.answer(6)
    other = replace(here, settings=here.settings.model_copy(update={"home": tmp_path / "other"}))
    refused: list[bool] = []

    def judge_beside(path: str) -> None:
        here.server.before_reply = lambda path: None
        with pytest.raises(BeingJudged):
            other.judge()
        refused.append(True)

    here.server.before_reply = judge_beside
    done = here.judge()
    assert refused
    assert (done.ended, done.judged) == (Ended.DONE, done.sampled)
    assert other.judge().judged == done.sampled
    assert here.paid <= 72 + done.sampled


def test_a_killed_judge_is_followed_at_once_on_its_host_and_after_its_lease_elsewhere(here: JudgedRun) -> None:
    """Of a process of this host it is known that it is dead; of one elsewhere nothing, until its time is over."""
    here.answer(5)
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as dead:
        dead.wait()
    take_lease(here.database, RUN, f"{host()}:{dead.pid}:token", ttl=60.0)
    assert here.judge().ended is Ended.DONE
    take_lease(here.database, RUN, ELSEWHERE, ttl=60.0)
    with pytest.raises(BeingJudged):
        here.judge()
    renew_lease(here.database, RUN, ELSEWHERE, ttl=-1.0)
    assert here.judge().ended is Ended.DONE


def test_a_lease_is_renewed_for_as_long_as_judging_lasts(here: JudgedRun) -> None:
    here.answer(1)
    with judging(here.database, RUN, ttl=0.3) as held:
        time.sleep(1.0)
        assert take_lease(here.database, RUN, ELSEWHERE, ttl=60.0) != ELSEWHERE
        assert held()
    assert take_lease(here.database, RUN, ELSEWHERE, ttl=60.0) == ELSEWHERE


@pytest.mark.parametrize("batch", [False, True])
def test_a_judge_that_slept_asks_for_nothing_more(here: JudgedRun, batch: bool) -> None:
    """Another process has its lease; what was under way is kept, and how judging ended is for the other to say."""
    total = here.answer(6)
    calibrated = judgements.calibrated

    def take_over(database: Database, judge: int) -> object:
        with here.database.read() as connection:
            owner = connection.execute(select(tables.judge_lease.c.owner)).scalar_one()
        release_lease(here.database, RUN, owner)
        take_lease(here.database, RUN, ELSEWHERE, ttl=60.0)
        return calibrated(here.database, judge)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(judgements, "calibrated", take_over)
        with pytest.raises(BeingJudged, match="run first is being judged by another process, since this one was away"):
            here.judge(batch=batch)
    assert here.paid == 72
    assert outbox.revisions(here.database, RUN)[1] == 0
    release_lease(here.database, RUN, ELSEWHERE)
    assert here.judge(batch=batch).judged == total + -(-total // 10)


def test_a_lease_is_held_until_it_is_let_go_or_taken_after_its_time(database: Database) -> None:
    started(database)
    assert take_lease(database, RUN, "a", ttl=60.0) == "a"
    assert take_lease(database, RUN, "b", ttl=60.0) == "a"
    release_lease(database, RUN, "b")
    assert (holds_lease(database, RUN, "a"), holds_lease(database, RUN, "b")) == (True, False)
    release_lease(database, RUN, "a")
    assert take_lease(database, RUN, "b", ttl=-1.0) == "b"
    assert holds_lease(database, RUN, "b")  # its time is over, and nobody else has come
    renew_lease(database, RUN, "b", ttl=60.0)
    assert take_lease(database, RUN, "c", ttl=60.0) == "b"
    renew_lease(database, RUN, "b", ttl=-1.0)
    assert take_lease(database, RUN, "c", ttl=-1.0) == "c"
    renew_lease(database, RUN, "b", ttl=60.0)
    assert not holds_lease(database, RUN, "b")
    assert take_lease(database, RUN, "d", ttl=60.0) == "d"


@pytest.mark.parametrize("before", [False, True], ids=["never held", "run out"])
def test_of_many_at_the_same_instant_one_has_the_lease(database: Database, before: bool) -> None:
    started(database)
    if before:
        take_lease(database, RUN, "before", ttl=-1.0)
    start = threading.Barrier(8)

    def come(name: str) -> str:
        start.wait(10)
        return take_lease(database, RUN, name, ttl=60.0)

    with ThreadPoolExecutor(8) as pool:
        told = set(pool.map(come, "abcdefgh"))
    assert len(told) == 1
    assert told < set("abcdefgh")
