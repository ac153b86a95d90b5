"""The stage: from a claim to the last answer, and every way in which it can end before."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from defsurvey.jobs.study.study import BUILT_IN_CONDITIONS
from defsurvey.storage.database import Database
from defsurvey.storage.runs import store
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.results import read_results
from defsurvey.storage.runs.run import AnswerState, Decoding
from defsurvey.storage.runs.store import OtherEngine, record_served
from defsurvey.workers.engines.base import Completion, Engine, EngineUnavailable, Message, Request
from defsurvey.workers.engines.scripted import ScriptedEngine
from defsurvey.workers.models import ModelCard, UnknownModel
from defsurvey.workers.runner.participant_runner import Outcome, ParticipantRunner
from defsurvey.workers.runner.watchdog import Watchdog, Watched, end_after
from tests.storage.what_is_there import answers_of
from tests.workers.citizens import SURVEY
from tests.workers.working import QUESTIONS, add_run, change, make_stage, respondent, rows

CARDS = {
    "quick": respondent("quick"),
    "slow": respondent("slow", latency=60.0),
    "brisk": respondent("brisk", latency=0.05),
    "broken": ModelCard(name="broken", path=Path("/nowhere/weights")),
}
HELD = "SELECT id FROM participant WHERE lease_until IS NOT NULL ORDER BY id"
ANSWERS = "SELECT count(*) FROM answer"


@pytest.fixture
def finished() -> list[str]:
    return []


@pytest.fixture
def stage(database: Database, finished: list[str]) -> Iterator[ParticipantRunner]:
    made = make_stage(database, CARDS, finished)
    yield made
    made.close()


def wait_until(condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    assert condition()


def test_a_participant_is_asked_every_question(
    database: Database, stage: ParticipantRunner, finished: list[str]
) -> None:
    add_run(database)
    assert stage.simulate(1) is Outcome.FINISHED
    assert [answer.question for answer in answers_of(database, 1)] == list(QUESTIONS)
    assert {answer.state for answer in answers_of(database, 1)} == {AnswerState.ANSWERED}
    assert finished == []
    assert stage.simulate(2) is Outcome.FINISHED
    assert finished == ["r"]
    assert (len(stage.leases.holding()), stage.resident.loads, rows(database, HELD)) == (0, 1, [])


def test_a_message_that_comes_twice_does_nothing(database: Database, stage: ParticipantRunner) -> None:
    """Finished, held elsewhere, cancelled or not there at all: the claim decides."""
    add_run(database, participants=3)
    stage.simulate(1)
    assert stage.simulate(1) is Outcome.NOT_CLAIMED
    assert Ledger(database, owner="there:2:b").claim(2) is not None
    assert stage.simulate(2) is Outcome.NOT_CLAIMED
    assert stage.simulate(99) is Outcome.NOT_CLAIMED
    store.cancel(database, "r")
    assert stage.simulate(3) is Outcome.NOT_CLAIMED
    assert rows(database, ANSWERS) == [(len(QUESTIONS),)]


def test_an_interview_goes_on_where_it_was_left(database: Database, stage: ParticipantRunner) -> None:
    add_run(database, "whole", participants=1)
    add_run(database, "half", participants=1)
    stage.simulate(1)
    elsewhere = make_stage(database, CARDS, [])
    elsewhere.leases.count = lambda run: elsewhere.stop() if rows(database, ANSWERS) == [(6,)] else None  # type: ignore[method-assign]
    assert elsewhere.simulate(2) is Outcome.RELEASED
    assert [answer.item for answer in answers_of(database, 2)] == [0, 1]
    assert stage.simulate(2) is Outcome.FINISHED
    whole, half = answers_of(database, 1), answers_of(database, 2)
    assert [(a.completion, a.memory, a.seed) for a in half] == [(a.completion, a.memory, a.seed) for a in whole]


@pytest.mark.parametrize(
    ("engine", "shared"), [("transformers", True), ("openai", True), ("scripted", False), ("json:loads", False)]
)
def test_runs_of_two_surveys_share_an_engine_that_knows_none(
    database: Database, finished: list[str], monkeypatch: pytest.MonkeyPatch, engine: str, shared: bool
) -> None:
    """Weights and servers are asked about both at once; an engine that is given its survey is one for each."""
    needs = {"transformers": {"hub": "a/b"}, "openai": {"model": "m"}, "scripted": {"respondent": "human"}}
    card = ModelCard.model_validate({"name": "any", "engine": engine} | needs.get(engine, {}))
    monkeypatch.setattr(
        "defsurvey.workers.runner.participant_runner.open_engine",
        lambda _card, *, survey, **_: ScriptedEngine(CARDS["quick"], survey),
    )
    stage = make_stage(database, {"any": card}, finished)
    for number, run in enumerate(("one", "other")):
        add_run(database, run, models=("any",), participants=1, survey=replace(SURVEY, fingerprint=f"{number}" * 64))
    for who in (1, 2):
        assert stage.simulate(who) is Outcome.FINISHED
    assert stage.resident.loads == (1 if shared else 2)
    stage.close()


def test_a_checkpoint_under_an_old_lease_is_refused(database: Database, stage: ParticipantRunner) -> None:
    """Another worker claimed meanwhile: the fence keeps the late answer out, and the claim of the other stays."""
    add_run(database, models=("brisk",), participants=1)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(stage.simulate, 1)
        wait_until(lambda: rows(database, HELD) == [(1,)])
        change(database, "UPDATE participant SET lease_until = 1")
        taken = Ledger(database, owner="there:2:b").claim(1)
        assert taken is not None
        assert asked.result(timeout=10) is Outcome.LOST
    assert rows(database, "SELECT lease_owner FROM participant") == [("there:2:b",)]
    assert rows(database, ANSWERS) == [(taken.next_item,)]


def test_an_engine_that_cannot_be_opened_is_told_and_the_participant_let_go(
    database: Database, stage: ParticipantRunner
) -> None:
    """The error reaches the task, which ends the worker; another worker may be able to serve."""
    add_run(database, models=("broken", "unheard-of"), participants=1)
    with pytest.raises(EngineUnavailable, match="/nowhere/weights"):
        stage.simulate(1)
    with pytest.raises(UnknownModel, match="unheard-of"):
        stage.simulate(2)
    assert (rows(database, HELD), len(stage.leases.holding())) == ([], 0)


def test_other_weights_are_refused_for_everybody_at_once(database: Database, stage: ParticipantRunner) -> None:
    """Nobody in flight is asked anything by an engine that its run may not be served by."""
    add_run(database, models=("brisk",), participants=8)
    record_served(database, "r", "brisk", {"respondent": "mode"}, {})
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(stage.simulate, who) for who in range(1, 9)]
        for each in asked:
            with pytest.raises(OtherEngine, match="respondent mode, this worker has uniform"):
                each.result(10)
    assert (rows(database, HELD), rows(database, ANSWERS)) == ([], [(0,)])


def test_a_model_that_cannot_be_opened_is_tried_once(
    database: Database, stage: ParticipantRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waited for it is told the same, instead of loading it again for minutes, one after the other."""
    add_run(database, models=("brisk",), participants=8)
    loads: list[int] = []

    def open_in_vain(*_arguments: object, **_options: object) -> Engine:
        loads.append(1)
        wait_until(lambda: len(stage.leases.holding()) == 8)
        raise EngineUnavailable("no memory for it")

    monkeypatch.setattr("defsurvey.workers.runner.participant_runner.open_engine", open_in_vain)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(stage.simulate, who) for who in range(1, 9)]
        for each in asked:
            with pytest.raises(EngineUnavailable, match="no memory for it"):
                each.result(10)
    assert (len(loads), rows(database, HELD)) == (1, [])


def test_what_a_card_says_of_its_model_is_remembered_with_the_run(database: Database, finished: list[str]) -> None:
    """A report groups by it, though the card may have changed since; a card that says nothing adds nothing."""
    known = respondent("known").model_copy(update={"series": "Rules", "stage": "fixed", "parameters": "7B"})
    add_run(database, models=("known", "quick"), participants=1)
    stage = make_stage(database, {"known": known, "quick": CARDS["quick"]}, finished)
    for who in (1, 2):
        stage.simulate(who)
    stage.close()
    results = read_results(database, "r")
    assert results.model_facts == {"known": {"series": "Rules", "stage": "fixed", "parameters": "7B"}}
    assert results.engines["known"] == results.engines["quick"]


@pytest.mark.parametrize("method", ["ccsv-single", "first-token"])
def test_an_engine_that_is_slow_and_answers_has_not_hung(
    database: Database, stage: ParticipantRunner, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """However many completions an answer takes: the watchdog sees each of them, not only the last."""
    add_run(database, participants=1, condition=BUILT_IN_CONDITIONS[method])
    now, hung = [0.0], []
    stage.watchdog = Watchdog(10.0, clock=lambda: now[0])
    submit = ScriptedEngine.submit

    def slowly(engine: ScriptedEngine, request: Request) -> Future[Completion]:
        now[0] += 6.0
        hung.append(stage.watchdog.hung())
        return submit(engine, request)

    monkeypatch.setattr(ScriptedEngine, "submit", slowly)
    assert stage.simulate(1) is Outcome.FINISHED
    assert len(hung) > len(QUESTIONS)
    assert not any(hung)


#: Seconds that something may take which is to happen.
PATIENCE = 10.0


REQUEST = Request(messages=(Message(role="user", content="How?"),), decoding=Decoding(), seed=0)


def test_each_completion_of_an_engine_is_seen_and_each_request_for_as_long_as_it_lasts() -> None:
    """Whether it is answered, fails, is cancelled or was never taken; replies that nobody waits for count as well."""
    now, replies = [100.0], [Future[Completion]() for _ in range(3)]
    watchdog = Watchdog(10.0, clock=lambda: now[0])
    slow = Mock(submit=Mock(side_effect=[*replies, EngineUnavailable("nothing is asked")]))
    engine = Watched(slow, watchdog)
    now[0] += 1000
    assert not watchdog.hung()
    for _ in range(3):
        engine.submit(REQUEST)
    with pytest.raises(EngineUnavailable):
        engine.submit(REQUEST)
    now[0] += 8
    replies[0].set_exception(RuntimeError())
    now[0] += 8
    assert not watchdog.hung()
    now[0] += 3
    assert watchdog.hung()
    engine.close()
    slow.close.assert_called_once()
    for reply in replies:
        reply.cancel()
    now[0] += 100
    assert not watchdog.hung()


def test_it_ends_the_process_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    ended = threading.Event()
    watchdog = Watchdog(0.2, end=ended.set)
    watchdog.start()
    assert not ended.wait(0.4)
    watchdog.asked()
    assert ended.wait(PATIENCE)
    assert "while 1 are asked: the engine hangs" in caplog.text


def test_a_process_that_does_not_end_is_ended(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("defsurvey.workers.runner.watchdog.LAST_SECONDS", 0.1)
    said, ended, never = [], threading.Event(), threading.Event()
    began = time.monotonic()
    end_after(0.1, first=lambda: said.append(time.monotonic()) or (never.wait() and None), end=ended.set)
    assert ended.wait(PATIENCE)
    assert said[0] - began >= 0.1
    assert "this process ends as it is" in caplog.text
    never.set()


def test_a_process_that_ends_by_itself_keeps_its_own_status() -> None:
    program = "from defsurvey.workers.runner.watchdog import end_after; end_after(60, first=lambda: None); exit(3)"
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 3
