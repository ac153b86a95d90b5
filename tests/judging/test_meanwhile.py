"""What happens while a judge is at work on a run: answers come, it is cancelled, or the process is told to end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from defsurvey.jobs.judging import judge
from defsurvey.jobs.judging.judge import JudgingLeft, in_words
from defsurvey.storage.runs import judgements, outbox, recovery, store
from defsurvey.storage.runs.judgements import Ended
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.runs.store import add_run
from defsurvey.workers.engines.base import EngineUnavailable
from tests.judging.conftest import JudgedRun, nowhere
from tests.storage.small_run import SURVEY, answer, claimed, new_cell, new_run, started

#: Answers of each model that were judged, first verdicts alone.
JUDGED = """SELECT c.model, count(*) FROM judgement j JOIN participant p ON p.id = j.participant
    JOIN cell c ON c.id = p.cell WHERE j.repeat = 0 GROUP BY c.model ORDER BY c.model"""


@dataclass(frozen=True, kw_only=True)
class Meanwhile(JudgedRun):
    """A run to which something happens."""

    def answer_everything(self, *, models: str = "%") -> None:
        """Let all who are open, of the models whose names are like that, answer what is left."""
        ledger = Ledger(self.database, owner="host:1:here")
        of_model = f"cell IN (SELECT id FROM cell WHERE model LIKE '{models}')"
        for (who,) in self.rows(f"SELECT id FROM participant WHERE status = 'open' AND {of_model} ORDER BY id"):
            held = claimed(ledger, who)
            for item in range(held.next_item, 3):
                shown = SURVEY.question("ABC"[item]).codes
                said = f"Answer: 2\nExplanation: So says {who} to {item}."
                ledger.checkpoint(held, answer(held, item, shown=shown, completion=said), ())
            for before, attempt in ledger.to_ask_again(held):
                said = f"Answer: 2\nExplanation: Anew says {who}."
                fields = {"state": AnswerState.ANSWERED, "choices": (2,), "completion": said, "out_of_sequence": True}
                ledger.replace(held, replace(before, attempt=attempt, **fields))

    def once(self, do: Callable[[], object], *, judged: int = 1) -> None:
        """Have this done before a reply, once so many answers have been judged."""
        begun = threading.Lock()

        def before_reply(_path: str) -> None:
            there = judged and self.rows("SELECT count(*) FROM judgement")[0][0]
            if there >= judged and begun.acquire(blocking=False):
                do()

        self.server.before_reply = before_reply

    def extend(self) -> None:
        """Add ten participants of each of three models to the run, and have them answer."""
        cells = (nowhere(new_cell(f"model-{name}", participants=10)) for name in "abc")
        add_run(self.database, new_run(*cells), extend=True)
        self.answer_everything()

    def ask_again(self) -> None:
        """Have what could not be read asked again, and answered."""
        recovery.ask_again(self.database, "first", [AnswerState.UNPARSABLE])
        self.answer_everything()

    def cancel(self) -> None:
        """Cancel it."""
        store.cancel(self.database, "first")

    def resume(self) -> None:
        """Let it go on."""
        store.cancel(self.database, "first", cancelled=False)


@pytest.fixture
def small(here: JudgedRun) -> Meanwhile:
    """A run of two models with ten participants each, which asks for a judge of every answer."""
    started(here.database, *(nowhere(new_cell(model, participants=10)) for model in ("model-a", "model-b")))
    here.wants_judging(1.0)
    return Meanwhile(settings=here.settings, database=here.database, server=here.server)


def test_answers_of_an_extension_are_judged_as_well(small: Meanwhile) -> None:
    """They came behind the sample that was drawn: judging is due once more, and then not any more."""
    small.answer_everything()
    small.once(small.extend)
    assert small.judge_by_study().ended is Ended.DONE
    assert small.rows(JUDGED) == [("model-a", 30), ("model-b", 30)]
    assert judgements.judging_due(small.database) == ["first"]
    small.judge_if_due()
    assert small.rows(JUDGED) == [("model-a", 30), ("model-b", 30), ("model-c", 30)]
    assert not small.is_due()


def test_an_answer_that_is_asked_again_meanwhile_is_judged_anew(small: Meanwhile) -> None:
    """Its verdicts were of what it said before."""
    small.answer_everything()
    small.change("UPDATE answer SET state = 'unparsable', choices = '' WHERE item = 2 AND participant <= 3")
    small.once(small.ask_again)
    small.judge_by_study()
    assert small.is_due()
    small.judge_if_due()
    anew = "SELECT count(*) FROM judgement WHERE attempt = 1 AND repeat = 0"
    assert (small.rows(anew), small.is_due()) == ([(3,)], False)


def test_answers_that_come_while_a_judge_cannot_be_asked_are_judged_later(
    small: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it could not is the end for those that were there, as one that cannot be asked is not asked without end."""
    small.answer_everything(models="model-a")
    small.change("UPDATE participant SET status = 'finished'")

    def gone(*_: object, **__: object) -> None:
        small.change("UPDATE participant SET status = 'open' WHERE next_item = 0")
        small.answer_everything()
        raise EngineUnavailable("the server is away")

    monkeypatch.setattr("defsurvey.jobs.judging.judge.open_engine", gone)
    small.judge_if_due()
    assert small.is_due()
    small.judge_if_due()
    assert not small.is_due()


def test_a_run_that_is_cancelled_is_judged_no_more(small: Meanwhile) -> None:
    """Calls under way were paid for, and are kept; resumed, it is judged to its end."""
    small.answer_everything()
    small.once(small.cancel, judged=5)
    done = small.judge_by_study()
    assert (done.ended, done.told) == (Ended.INCOMPLETE, "the run is cancelled")
    assert in_words(done).endswith("; the run is cancelled")
    assert 5 <= done.judged == small.asked - 72 <= 5 + 2 * 4
    assert small.rows("SELECT ended, told FROM judging") == [("incomplete", f"{done.judge}: the run is cancelled")]
    assert judgements.judging_due(small.database) == []
    small.resume()
    assert judgements.judging_due(small.database) == ["first"]
    small.judge_if_due()
    assert small.rows(JUDGED) == [("model-a", 30), ("model-b", 30)]
    assert not small.is_due()


def test_money_that_comes_as_the_last_call_ends_makes_it_due_again(
    small: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was wrong and nothing is spent: what is left is asked the next time."""
    small.answer_everything()
    small.change_budget(0.008)
    judge_one_by_one = judge.judge_one_by_one

    def and_filled(*asked: Any) -> list[str]:
        problems = judge_one_by_one(*asked)
        small.change_budget(100.0)
        return problems

    monkeypatch.setattr("defsurvey.jobs.judging.judge.judge_one_by_one", and_filled)
    small.judge_if_due()
    assert judgements.judging_due(small.database) == ["first"]


def test_a_run_that_is_cancelled_is_no_reason_to_calibrate_its_judge(small: Meanwhile) -> None:
    """What the judge has said of the calibration set until then is kept, and nothing is made of it."""
    small.answer_everything()
    small.once(small.cancel, judged=0)
    done = small.judge_by_study()
    assert (done.ended, done.judged, done.calibration) == (Ended.INCOMPLETE, 0, "")
    assert in_words(done) == "first: the run is cancelled"
    assert small.asked <= 2 * 4
    small.resume()
    assert small.judge_by_study().ended is Ended.DONE


def test_no_further_batch_is_made_for_a_run_that_is_cancelled(
    small: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one under way is waited for: it is paid for."""
    small.answer_everything()
    monkeypatch.setattr("defsurvey.jobs.judging.steps.MOST_CALLS", 10)
    small.once(small.cancel, judged=10)
    done = small.judge_by_study(batch=True)
    assert (done.ended, done.told) == (Ended.INCOMPLETE, "the run is cancelled")
    assert (done.judged, len(small.server.batches)) == (20, 2)


def test_a_cancelled_run_is_judged_where_somebody_asks_for_it(here: JudgedRun) -> None:
    """Its answers are there, and it is not by mistake."""
    here.answer(5)
    store.cancel(here.database, "first")
    done = here.judge()
    assert (done.ended, done.judged) == (Ended.DONE, done.sampled)


UNDER_WAY = 4  # as the judge's card says


@pytest.mark.parametrize("told_at", [10, 90], ids=["calibrating", "judging"])
def test_nothing_more_is_asked_and_replies_under_way_are_kept(here: JudgedRun, told_at: int) -> None:
    """How it ended is noted by whoever goes on, which may be another process at once, and pays for nothing twice."""
    total = here.answer(12)

    def told() -> bool:
        return here.asked >= told_at

    with pytest.raises(JudgingLeft, match="run first is left to be judged: this process was told to end"):
        here.judge(leaving=told)
    asked = here.asked
    assert told_at <= asked <= told_at + UNDER_WAY
    kept = here.rows("SELECT (SELECT count(*) FROM judgement), (SELECT count(*) FROM calibration)")
    assert sum(kept[0]) >= asked
    assert outbox.judgement_revision(here.database, "first") == 0
    assert judgements.take_lease(here.database, "first", "elsewhere:1:token", ttl=60.0) == "elsewhere:1:token"
    judgements.release_lease(here.database, "first", "elsewhere:1:token")
    done = here.judge()
    assert (done.ended, done.judged) == (Ended.DONE, total + -(-total // 10))
    assert max(here.server.asked.values()) <= 2  # the judge's agreement with itself is a second call


def test_who_is_told_when_all_is_judged_notes_it(here: JudgedRun) -> None:
    """Nothing is left to be asked, and a report waits for it."""
    here.answer(2)
    here.judge()
    assert here.judge(leaving=lambda: True).ended is Ended.DONE


def test_a_judging_that_is_left_is_not_at_its_end(here: JudgedRun, caplog: pytest.LogCaptureFixture) -> None:
    """The run waits for it, and the reconciler asks again."""
    caplog.set_level("INFO")
    here.answer(2)
    here.wants_judging()
    here.judge_if_due(leaving=lambda: True)
    assert here.is_due()
    assert here.asked == 0
    assert "told to end" in caplog.text
    assert "ERROR" not in caplog.text
