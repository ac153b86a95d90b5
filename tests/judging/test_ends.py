"""How judging a run ends: what a judge that cannot be asked leaves behind, what happens meanwhile, when it is due."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pytest

from defsurvey.jobs.broker import JUDGE, make_app
from defsurvey.jobs.daemons import tasks
from defsurvey.jobs.judging import steps
from defsurvey.jobs.judging.judge import JudgingLeft, in_words
from defsurvey.storage.runs import judgements, outbox, recovery, store
from defsurvey.storage.runs.judgement import Rubric
from defsurvey.storage.runs.judgements import Ended
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.run import AnswerState, Decoding
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Completion, Engine, EngineUnavailable, Message, Request, ask_all
from defsurvey.workers.judging import verdicts
from defsurvey.workers.judging.prompt import INSTRUCTIONS
from defsurvey.workers.judging.verdicts import JudgeGaveUp
from defsurvey.workers.models import ModelCard
from tests.judging.conftest import JudgedRun, nowhere
from tests.judging.provider import lenient
from tests.storage.small_run import SURVEY, answer, claimed, new_cell, new_run, started
from tests.workers.paraphrasers import Paraphraser

#: Everything that a judge can leave behind.
TABLES = ("judge", "judging", "judgement", "calibration", "judge_batch", "report")


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("jugde", "there is no model 'jugde' (did you mean 'judge'?)"),
        ("rule", "model rule cannot judge: it is a scripted respondent"),
        ("own", "model own: cannot be opened: TypeError: "),
        ("judge", "model judge: there is no key: set JUDGE_KEY"),
    ],
)
def test_wrong_input_leaves_nothing_behind(here: JudgedRun, model: str, told: str) -> None:
    def left() -> list[list[tuple[object, ...]]]:
        return [here.rows(f"SELECT * FROM {table}") for table in TABLES]

    here.answer(5)
    here.wants_judging()
    here.add_cards('[rule]\nengine = "scripted"\nrespondent = "human"\n[own]\nengine = "json:loads"\n')
    shown = here.report_text()
    before = left()
    refused = here.type("judge", "first", "--model", model, **({"JUDGE_KEY": ""} if model == "judge" else {}))
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1].startswith(f"defsurvey: {told}")
    assert (left(), here.report_text()) == (before, shown)


def test_batches_of_a_model_without_them_are_refused_before_it_is_opened(
    here: JudgedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No weights are loaded and no call of a calibration is paid for; how the run was judged before stays as it was."""
    here.answer(5)
    opened = "defsurvey.jobs.judging.judge.open_engine"
    monkeypatch.setattr(opened, lambda *_, **__: pytest.fail("the judge was opened"))
    here.add_cards('[other]\nengine = "transformers"\nhub = "here/weights"\n')
    refused = here.type("judge", "first", "--model", "other", "--batch")
    assert refused.exit_code == 2
    assert refused.stderr == "defsurvey: model other: batches are only known of engine anthropic, not transformers\n"
    assert here.judgements().revision == 0


def test_what_was_said_before_a_judge_went_away_reaches_the_report(
    here: JudgedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.answer(8)
    asked = 0
    judgement_in = verdicts.judgement_in

    def refuse(*given: object) -> object:
        nonlocal asked
        asked += 1
        if asked > 5:
            raise EngineUnavailable("model judge: the server refuses the key")
        return judgement_in(*given)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr("defsurvey.jobs.judging.steps.judgement_in", refuse)
    for calibrated in (False, True):
        with pytest.raises(EngineUnavailable, match="refuses the key"):
            here.judge()
        if not calibrated:  # nothing was said of the run
            assert outbox.revisions(here.database, "first")[1] == 0
            asked = -72
    assert here.rows("SELECT judge, ended, told, revision FROM judging") == [
        (1, "incomplete", "model judge: the server refuses the key", 1)
    ]
    assert [judge.judge for judge in here.judgements().judges] == ["judge (judge-1, rubric 1)"]


@pytest.mark.parametrize("share", [0.01, 1.0])
def test_another_sample_does_not_reopen_a_run_that_was_judged(here: JudgedRun, share: float) -> None:
    """What its study asks for has been done, whatever was asked for later; more answers make it due again."""
    here.answer(8)
    here.wants_judging()
    assert here.is_due()
    assert here.judge_by_study().ended is Ended.DONE
    assert not here.is_due()
    here.judge_by_study(share=share)
    assert not here.is_due()
    here.wants_judging(sample=0.5)
    assert here.is_due() == (share < 0.5)
    here.change("UPDATE participant SET commits = commits + 1 WHERE number = 0")
    assert here.is_due()


@pytest.mark.parametrize("fault", ["no card", "no key", "a defect"])
def test_a_run_whose_own_judge_cannot_be_asked_comes_to_its_end(
    here: JudgedRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """It would be asked for again without end, and the run be ``judging`` for ever; the report says why."""
    here.answer(5)
    here.wants_judging()
    if fault == "no card":
        told = "there is no model 'judge'"
        here.settings.models.write_text("")
    elif fault == "no key":
        told = "model judge: there is no key: set JUDGE_KEY"
        monkeypatch.delenv("JUDGE_KEY")
    else:
        told = "ZeroDivisionError: division by zero"
        monkeypatch.setattr("defsurvey.jobs.judging.judge.judge_name", lambda *_: 1 / 0)
    here.judge_if_due()
    assert not here.is_due()
    (reason,) = here.judgements().told
    assert reason.startswith(told)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"judging of run first: {told}")
    assert bool(record.exc_info) == (fault == "a defect")


def test_a_calibration_answer_that_cannot_be_judged_costs_no_reply_to_another(here: JudgedRun) -> None:
    """Those under way were paid for: all are kept. No more are asked for then, the next time what is missing."""
    here.answer(5)
    refused: list[str] = []

    def refuse(prompt: str) -> bool:
        refused.append(prompt)
        return len(refused) == 20

    here.server.refused = refuse
    with pytest.raises(EngineUnavailable, match="the calibration set could not be judged: the server says 400: it is"):
        here.judge()
    asked = here.asked
    assert 20 <= asked < 72
    assert here.rows("SELECT count(*) FROM calibration") == [(asked - 1,)]
    done = here.judge()
    assert here.asked == 73 + done.sampled - 2  # two answers are empty: a program judges them


def test_a_judge_that_gives_no_reply_is_not_asked_about_everything(here: JudgedRun) -> None:
    """Two rounds of calls in a row are enough, four at once; one reply between them, and the next begin to count."""
    here.answer()
    here.judge()
    here.change("DELETE FROM judgement")
    here.server.asked.clear()
    refused: list[bool] = []

    def refuse(_prompt: str) -> bool:
        refused.append(len(refused) != 5)
        return refused[-1]

    here.server.refused = refuse
    done = here.judge()
    assert (done.ended, done.judged < done.sampled) == (Ended.INCOMPLETE, True)
    assert done.told.startswith("the server says 400: ")
    assert 6 + 8 <= here.asked <= 6 + 8 + 3 + 3  # those under way may end in another order


def test_a_judge_that_cannot_be_asked_any_more_has_judged_a_part(
    here: JudgedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that was to be judged until then, and not what came later; nothing is said of a judge of another card."""
    here.answer(5)
    here.wants_judging()
    here.add_cards(here.server.cards(model="judge-2").replace("[judge]", "[other]"))
    for model in ("judge", "other"):
        here.judge_by_study(model=model)
    assert here.judgements().partial == frozenset()
    here.change("UPDATE participant SET commits = commits + 1 WHERE number = 0")
    monkeypatch.delenv("JUDGE_KEY")
    here.judge_if_due()
    said = here.judgements()
    assert (said.partial, len(said.judges)) == ({"judge (judge-1, rubric 1)"}, 2)
    told = "Judging did not come to its end: model judge: there is no key: set JUDGE_KEY"
    assert told in here.report_text()


def open_judge(card: ModelCard, *, survey: Survey, device: str) -> Engine:
    raise MemoryError(f"no room on {device}")


def test_a_judge_is_opened_on_the_device_that_is_named(here: JudgedRun) -> None:
    """By a command, without one on the CPU; and by a reporter, which tells in the report that it has no room there."""
    here.answer(4)
    here.add_cards(f'[local]\nengine = "{__name__}:open_judge"\n')
    here.change("""UPDATE run SET judge = '{"model": "local", "sample": 1.0}'""")
    told = "model local: cannot be opened: MemoryError: no room on"
    for words, said in (
        (["--device", "cuda:1"], f"defsurvey: {told} cuda:1"),
        ([], f"defsurvey: {told} cpu"),
        (["--template", "x.csv", "--device", "cpu"], "Error: --template and --audit stand alone: they ask no judge"),
    ):
        done = here.type("judge", "first", *words)
        assert (done.exit_code, done.stderr.splitlines()[-1]) == (2, said)
    app = make_app("redis://nowhere")
    tasks.register_judging(app, here.settings, here.database, device="cuda:1")
    app.tasks[JUDGE]("first")
    assert here.judgements().told == (f"{told} cuda:1",)
    assert not here.is_due()


def test_two_rubrics_of_one_model_are_never_pooled(here: JudgedRun) -> None:
    """Each is calibrated, paid for, kept and shown apart; one leaves the other due, and the report tells the rubric."""
    here.answer()
    here.change("""UPDATE run SET judge = '{"model": "judge", "sample": 0.5, "rubric": "code"}'""")
    here.judge(rubric=Rubric.OWN)
    assert here.is_due()
    paid = here.paid
    done = here.judge()
    assert not here.is_due()
    assert (done.judge, done.ended) == ("judge (judge-1, rubric code 1)", Ended.DONE)
    assert here.paid - paid == paid
    ours, theirs = here.judgements().judges
    assert (ours.judge, theirs.judge) == ("judge (judge-1, rubric 1)", "judge (judge-1, rubric code 1)")
    assert ours.answer.size == theirs.answer.size
    text = here.report_text()
    assert "Failure rates by judge (judge-1, rubric code 1)" in text
    assert "Rubric code: qc is the type of the question" in text
    assert {str(body["system"]) for body in here.server.bodies} == set(INSTRUCTIONS.values())


def test_a_judge_that_passes_everything_judges_nothing(here: JudgedRun) -> None:
    here.answer()
    here.server.judge = lenient
    done = here.judge()
    assert (done.ended, done.sampled, done.judged) == (Ended.REFUSED, 0, 0)
    assert "right on 36 of 72 calibration answers" in in_words(done)
    here.judge()
    assert here.paid == 72
    told = "no judge: judge (judge-1, rubric 1) was right on 36 of 72 calibration answers"
    assert told in here.report_text()


#: Answers of each model that were judged, first verdicts alone.
JUDGED = """SELECT c.model, count(*) FROM judgement j JOIN participant p ON p.id = j.participant
    JOIN cell c ON c.id = p.cell WHERE j.repeat = 0 GROUP BY c.model ORDER BY c.model"""


@dataclass(frozen=True, kw_only=True)
class Meanwhile(JudgedRun):
    def answer_everything(self, *, models: str = "%") -> None:
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
        begun = threading.Lock()

        def before_reply(_path: str) -> None:
            there = judged and self.rows("SELECT count(*) FROM judgement")[0][0]
            if there >= judged and begun.acquire(blocking=False):
                do()

        self.server.before_reply = before_reply

    def cancel(self, cancelled: bool = True) -> None:
        store.cancel(self.database, "first", cancelled=cancelled)

    def due(self) -> list[str]:
        return judgements.judging_due(self.database)


@pytest.fixture
def small(here: JudgedRun) -> Meanwhile:
    started(here.database, *(nowhere(new_cell(model, participants=10)) for model in ("model-a", "model-b")))
    here.wants_judging(1.0)
    return Meanwhile(settings=here.settings, database=here.database, server=here.server)


def test_answers_of_an_extension_are_judged_as_well(small: Meanwhile) -> None:
    def extend() -> None:
        cells = (nowhere(new_cell(f"model-{name}", participants=10)) for name in "abc")
        store.add_run(small.database, new_run(*cells), extend=True)
        small.answer_everything()

    small.answer_everything()
    small.once(extend)
    assert small.judge_by_study().ended is Ended.DONE
    assert small.rows(JUDGED) == [("model-a", 30), ("model-b", 30)]
    assert small.due() == ["first"]
    small.judge_if_due()
    assert small.rows(JUDGED) == [("model-a", 30), ("model-b", 30), ("model-c", 30)]
    assert not small.is_due()


def test_an_answer_that_is_asked_again_meanwhile_is_judged_anew(small: Meanwhile) -> None:
    def ask_again() -> None:
        recovery.ask_again(small.database, "first", [AnswerState.UNPARSABLE])
        small.answer_everything()

    small.answer_everything()
    small.change("UPDATE answer SET state = 'unparsable', choices = '' WHERE item = 2 AND participant <= 3")
    small.once(ask_again)
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
    small.answer_everything()
    small.once(small.cancel, judged=5)
    done = small.judge_by_study()
    assert (done.ended, done.told) == (Ended.INCOMPLETE, "the run is cancelled")
    assert in_words(done).endswith("; the run is cancelled")
    assert 5 <= done.judged == small.asked - 72 <= 5 + 2 * 4
    assert small.rows("SELECT ended, told FROM judging") == [("incomplete", f"{done.judge}: the run is cancelled")]
    assert small.due() == []
    small.cancel(False)
    assert small.due() == ["first"]
    small.judge_if_due()
    assert small.rows(JUDGED) == [("model-a", 30), ("model-b", 30)]
    assert not small.is_due()


def test_a_run_that_is_cancelled_is_no_reason_to_calibrate_its_judge(small: Meanwhile) -> None:
    small.answer_everything()
    small.once(small.cancel, judged=0)
    done = small.judge_by_study()
    assert (done.ended, done.judged, done.calibration) == (Ended.INCOMPLETE, 0, "")
    assert in_words(done) == "first: the run is cancelled"
    assert small.asked <= 2 * 4


def test_no_further_batch_is_made_for_a_run_that_is_cancelled(
    small: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one under way is waited for: it is paid for. Whoever asks for it afterwards has the run judged."""
    small.answer_everything()
    monkeypatch.setattr("defsurvey.jobs.judging.steps.MOST_CALLS", 10)
    small.once(small.cancel, judged=10)
    done = small.judge_by_study(batch=True)
    assert (done.ended, done.told) == (Ended.INCOMPLETE, "the run is cancelled")
    assert (done.judged, len(small.server.batches)) == (20, 2)
    done = small.judge()
    assert (done.ended, done.judged) == (Ended.DONE, done.sampled)


def test_money_that_comes_as_the_last_call_ends_makes_it_due_again(
    small: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.answer_everything()
    small.change_budget(0.008)
    judge_one_by_one = steps.judge_one_by_one

    def and_filled(*asked: Any) -> list[str]:
        problems = judge_one_by_one(*asked)
        small.change_budget(100.0)
        return problems

    monkeypatch.setattr("defsurvey.jobs.judging.steps.judge_one_by_one", and_filled)
    small.judge_if_due()
    assert small.due() == ["first"]


@pytest.mark.parametrize("told_at", [10, 90], ids=["calibrating", "judging"])
def test_a_process_that_is_told_to_end_asks_nothing_more_and_keeps_what_is_under_way(
    here: JudgedRun, told_at: int
) -> None:
    """How it ended is noted by whoever goes on, which may be another process at once, and pays for nothing twice."""
    total = here.answer(12)
    with pytest.raises(JudgingLeft, match="run first is left to be judged: this process was told to end"):
        here.judge(leaving=lambda: here.asked >= told_at)
    asked = here.asked
    assert told_at <= asked <= told_at + 4  # so many at once, as the judge's card says
    kept = here.rows("SELECT (SELECT count(*) FROM judgement), (SELECT count(*) FROM calibration)")
    assert sum(kept[0]) >= asked
    assert outbox.revisions(here.database, "first")[1] == 0
    done = here.judge()
    assert (done.ended, done.judged) == (Ended.DONE, total + -(-total // 10))
    assert max(here.server.asked.values()) <= 2  # the judge's agreement with itself is a second call
    assert here.judge(leaving=lambda: True).ended is Ended.DONE  # all is judged: there is nothing to leave


def test_a_judging_that_is_left_is_not_at_its_end(here: JudgedRun, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    here.answer(2)
    here.wants_judging()
    here.judge_if_due(leaving=lambda: True)
    assert here.is_due()
    assert here.asked == 0
    assert "told to end" in caplog.text
    assert "ERROR" not in caplog.text


def raising(error: Exception, *, late: bool) -> Paraphraser:
    def reply(prompt: str) -> str:
        if prompt == "2":
            raise error
        return prompt

    return Paraphraser(reply, late=late)


class Ending(Paraphraser):
    """Ends while it is asked, and cancels what it was asked as an engine of anybody's would: without a word more."""

    def submit(self, request: Request) -> Future[Completion]:
        if request.messages[0].content != "2":
            return super().submit(request)
        future: Future[Completion] = Future()
        threading.Timer(0.05, future.cancel).start()
        return future


def calls(number: int) -> list[tuple[int, Request]]:
    messages = [(Message(role="user", content=str(n)),) for n in range(number)]
    return [(n, Request(messages=said, decoding=Decoding(), seed=n)) for n, said in enumerate(messages)]


@pytest.mark.parametrize("late", [False, True])
def test_what_an_engine_raises_is_no_reply_to_one_call(late: bool) -> None:
    """An engine may be anybody's: the others go on. One that goes away gives back what was under way and was paid."""
    said = dict(ask_all(raising(ZeroDivisionError("by zero"), late=late), calls(6), at_once=4))
    assert sorted(said) == list(range(6))
    with pytest.raises(JudgeGaveUp, match="the engine raised ZeroDivisionError: by zero"):
        verdicts.judgement_in(said[2], "", {})
    replies = ask_all(raising(EngineUnavailable("no credit"), late=late), calls(9), at_once=4)
    under_way = [0, 1, 3] if late else [0, 1]
    assert sorted(number for number, _ in islice(replies, len(under_way))) == under_way
    with pytest.raises(EngineUnavailable, match="no credit"):
        next(replies)


@pytest.mark.timeout(10)
def test_a_judge_that_ends_under_those_who_ask_it_cannot_be_asked_any_more() -> None:
    replies = ask_all(Ending(str), calls(9), at_once=4)
    given: list[int] = []
    with pytest.raises(EngineUnavailable, match="the engine has cancelled what it was asked"):
        given.extend(number for number, _ in replies)
    assert given[:3] == [0, 1, 3]
    assert 2 not in given
