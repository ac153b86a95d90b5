"""What happens to a run while a judge is at work on it: answers come, or it is cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from defsurvey.jobs.daemons.tasks import judge_if_due
from defsurvey.jobs.judging import judge
from defsurvey.jobs.judging.judge import in_words, judge_run
from defsurvey.jobs.settings import Settings
from defsurvey.storage.database import Database
from defsurvey.storage.runs import budget, judgements, recovery, store
from defsurvey.storage.runs.judgement import AnswerKey
from defsurvey.storage.runs.judgements import Ended
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.runs.store import NewCell, add_run
from defsurvey.workers.engines.base import EngineUnavailable
from tests.jobs.ledger_rows import change, rows
from tests.judging.conftest import Answered, nowhere, wants_judging
from tests.judging.provider import JudgeServer
from tests.storage.small_run import SURVEY, answer, claimed, new_cell, new_run, started

#: Answers of each model that were judged, first verdicts alone.
JUDGED = """SELECT c.model, count(*) FROM judgement j JOIN participant p ON p.id = j.participant
    JOIN cell c ON c.id = p.cell WHERE j.repeat = 0 GROUP BY c.model ORDER BY c.model"""


def answer_everything(database: Database, *, models: str = "%") -> None:
    """Let all who are open, of the models whose names are like that, answer what is left."""
    ledger = Ledger(database, owner="host:1:here")
    of_model = f"cell IN (SELECT id FROM cell WHERE model LIKE '{models}')"
    for (who,) in rows(database, f"SELECT id FROM participant WHERE status = 'open' AND {of_model} ORDER BY id"):
        held = claimed(ledger, who)
        for item in range(held.next_item, 3):
            shown = SURVEY.question("ABC"[item]).codes
            said = f"Answer: 2\nExplanation: So says {who} to {item}."
            ledger.checkpoint(held, answer(held, item, shown=shown, completion=said), ())
        for before, attempt in ledger.to_ask_again(held):
            said = f"Answer: 2\nExplanation: Anew says {who}."
            fields = {"state": AnswerState.ANSWERED, "choices": (2,), "completion": said, "out_of_sequence": True}
            ledger.replace(held, replace(before, attempt=attempt, **fields))


def once(server: JudgeServer, database: Database, do: Callable[[], object], *, judged: int = 1) -> None:
    """Have this done before a reply, once so many answers have been judged."""
    begun = threading.Lock()

    def before_reply(_path: str) -> None:
        there = judged and rows(database, "SELECT count(*) FROM judgement")[0][0]
        if there >= judged and begun.acquire(blocking=False):
            do()

    server.before_reply = before_reply


def extend(database: Database, *cells: NewCell) -> None:
    """Add cells to the run, and have them answered."""
    add_run(database, new_run(*map(nowhere, cells)), extend=True)
    answer_everything(database)


def ask_again(database: Database) -> None:
    """Have what could not be read asked again, and answered."""
    recovery.ask_again(database, "first", [AnswerState.UNPARSABLE])
    answer_everything(database)


@pytest.fixture
def small(database: Database) -> Database:
    """A run of two models with ten participants each, which asks for a judge of every answer."""
    started(database, *(nowhere(new_cell(model, participants=10)) for model in ("model-a", "model-b")))
    wants_judging(database, 1.0)
    return database


def test_answers_of_an_extension_are_judged_as_well(settings: Settings, small: Database, server: JudgeServer) -> None:
    """They came behind the sample that was drawn: judging is due once more, and then not any more."""
    answer_everything(small)
    cells = [new_cell(model, participants=10) for model in ("model-a", "model-b", "model-c")]
    once(server, small, lambda: extend(small, *cells))
    assert judge_run(settings, small, "first").ended is Ended.DONE
    assert rows(small, JUDGED) == [("model-a", 30), ("model-b", 30)]
    assert judgements.judging_due(small) == ["first"]
    judge_if_due(settings, small, "first")
    assert rows(small, JUDGED) == [("model-a", 30), ("model-b", 30), ("model-c", 30)]
    assert not judgements.is_due(small, "first")


def test_a_judge_that_is_asked_while_the_run_goes_on_leaves_the_rest_to_be_judged(
    settings: Settings, small: Database, server: JudgeServer
) -> None:
    """One model has answered everything, and the other answers while the first is judged."""
    answer_everything(small, models="model-a")
    once(server, small, lambda: answer_everything(small))
    judge_run(settings, small, "first")
    assert rows(small, JUDGED) == [("model-a", 30)]
    assert judgements.is_due(small, "first")
    judge_if_due(settings, small, "first")
    assert rows(small, JUDGED) == [("model-a", 30), ("model-b", 30)]
    assert not judgements.is_due(small, "first")


def test_a_judge_that_finds_no_answer_yet_leaves_all_of_them_to_be_judged(
    settings: Settings, small: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That there is nothing to judge was true when it looked."""
    sample = judgements.sample

    def looked(*given: Any, **more: Any) -> list[AnswerKey]:
        calls = sample(*given, **more)
        answer_everything(small)
        return calls

    monkeypatch.setattr(judgements, "sample", looked)
    assert judge_run(settings, small, "first").sampled == 0
    assert judgements.is_due(small, "first")


def test_an_answer_that_is_asked_again_meanwhile_is_judged_anew(
    settings: Settings, small: Database, server: JudgeServer
) -> None:
    """Its verdicts were of what it said before."""
    answer_everything(small)
    change(small, "UPDATE answer SET state = 'unparsable', choices = '' WHERE item = 2 AND participant <= 3")
    once(server, small, lambda: ask_again(small))
    judge_run(settings, small, "first")
    assert judgements.is_due(small, "first")
    judge_if_due(settings, small, "first")
    anew = "SELECT count(*) FROM judgement WHERE attempt = 1 AND repeat = 0"
    assert (rows(small, anew), judgements.is_due(small, "first")) == ([(3,)], False)


def test_answers_that_come_while_a_judge_cannot_be_asked_are_judged_later(
    settings: Settings, small: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it could not is the end for those that were there, as one that cannot be asked is not asked without end."""
    answer_everything(small, models="model-a")
    change(small, "UPDATE participant SET status = 'finished'")

    def gone(*_: object, **__: object) -> None:
        change(small, "UPDATE participant SET status = 'open' WHERE next_item = 0")
        answer_everything(small)
        raise EngineUnavailable("the server is away")

    monkeypatch.setattr("defsurvey.jobs.judging.judge.open_engine", gone)
    judge_if_due(settings, small, "first")
    assert judgements.is_due(small, "first")
    judge_if_due(settings, small, "first")
    assert not judgements.is_due(small, "first")


def cancelled_meanwhile(server: JudgeServer, database: Database, *, judged: int) -> None:
    """Have the run cancelled once so many answers have been judged."""
    once(server, database, lambda: store.cancel(database, "first"), judged=judged)


def test_a_run_that_is_cancelled_is_judged_no_more(settings: Settings, small: Database, server: JudgeServer) -> None:
    """Calls under way were paid for, and are kept; resumed, it is judged to its end."""
    answer_everything(small)
    cancelled_meanwhile(server, small, judged=5)
    done = judge_run(settings, small, "first")
    assert (done.ended, done.told) == (Ended.INCOMPLETE, "the run is cancelled")
    assert in_words(done).endswith("; the run is cancelled")
    assert 5 <= done.judged == sum(server.asked.values()) - 72 <= 5 + 2 * 4
    assert rows(small, "SELECT ended, told FROM judging") == [("incomplete", f"{done.judge}: the run is cancelled")]
    assert judgements.judging_due(small) == []
    store.cancel(small, "first", cancelled=False)
    assert judgements.judging_due(small) == ["first"]
    judge_if_due(settings, small, "first")
    assert rows(small, JUDGED) == [("model-a", 30), ("model-b", 30)]
    assert not judgements.is_due(small, "first")


def test_a_run_that_is_resumed_before_its_judge_has_ended_is_due(
    settings: Settings, small: Database, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge saw that it was cancelled and asks nothing more, while its last calls are under way."""
    answer_everything(small)
    cancelled_meanwhile(server, small, judged=5)
    is_cancelled = store.is_cancelled

    def and_resumed(database: Database, run: str) -> bool:
        if seen := is_cancelled(database, run):
            store.cancel(database, run, cancelled=False)
        return seen

    monkeypatch.setattr(store, "is_cancelled", and_resumed)
    judge_if_due(settings, small, "first")
    assert judgements.judging_due(small) == ["first"]


def test_money_that_comes_as_the_last_call_ends_makes_it_due_again(
    settings: Settings, small: Database, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was wrong and nothing is spent: what is left is asked the next time."""
    answer_everything(small)
    budget.change_budget(small, "first", 0.008)
    judge_one_by_one = judge.judge_one_by_one

    def and_filled(*asked: Any) -> list[str]:
        problems = judge_one_by_one(*asked)
        budget.change_budget(small, "first", 100.0)
        return problems

    monkeypatch.setattr("defsurvey.jobs.judging.judge.judge_one_by_one", and_filled)
    judge_if_due(settings, small, "first")
    assert judgements.judging_due(small) == ["first"]


def test_a_run_that_is_cancelled_is_no_reason_to_calibrate_its_judge(
    settings: Settings, small: Database, server: JudgeServer
) -> None:
    """What the judge has said of the calibration set until then is kept, and nothing is made of it."""
    answer_everything(small)
    cancelled_meanwhile(server, small, judged=0)
    done = judge_run(settings, small, "first")
    assert (done.ended, done.judged, done.calibration) == (Ended.INCOMPLETE, 0, "")
    assert in_words(done) == "first: the run is cancelled"
    assert sum(server.asked.values()) <= 2 * 4
    store.cancel(small, "first", cancelled=False)
    assert judge_run(settings, small, "first").ended is Ended.DONE


def test_no_further_batch_is_made_for_a_run_that_is_cancelled(
    settings: Settings, small: Database, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one under way is waited for: it is paid for."""
    answer_everything(small)
    monkeypatch.setattr("defsurvey.jobs.judging.steps.MOST_CALLS", 10)
    cancelled_meanwhile(server, small, judged=10)
    done = judge_run(settings, small, "first", batch=True)
    assert (done.ended, done.told) == (Ended.INCOMPLETE, "the run is cancelled")
    assert (done.judged, len(server.batches)) == (20, 2)


def test_a_cancelled_run_is_judged_where_somebody_asks_for_it(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """Its answers are there, and it is not by mistake."""
    answered(5)
    store.cancel(database, "first")
    done = judge_run(settings, database, "first", model="judge", share=1.0)
    assert (done.ended, done.judged) == (Ended.DONE, done.sampled)
