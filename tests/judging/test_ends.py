"""How judging a run ends: what is left behind by a judge that cannot be asked, and when it is due again."""

from __future__ import annotations

import pytest

from defsurvey.jobs.broker import JUDGE, make_app
from defsurvey.jobs.daemons import tasks
from defsurvey.jobs.judging.judge import in_words
from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox
from defsurvey.storage.runs.judgement import Rubric
from defsurvey.storage.runs.judgements import Ended
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Engine, EngineUnavailable
from defsurvey.workers.judging import verdicts
from defsurvey.workers.judging.prompt import INSTRUCTIONS
from defsurvey.workers.models import ModelCard
from tests.jobs.ledger_rows import rows
from tests.judging.conftest import JudgedRun
from tests.judging.provider import lenient

#: Everything that a judge can leave behind.
TABLES = ("judge", "judging", "judgement", "calibration", "judge_batch", "report")


def left(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """The rows of these tables."""
    return {table: rows(database, f"SELECT * FROM {table}") for table in TABLES}


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("jugde", "there is no model 'jugde' (did you mean 'judge'?)"),
        ("rule", "model rule cannot judge: it is a scripted respondent"),
        ("gone", "model gone: field path: there is no file or folder /nowhere"),
        ("own", "model own: cannot be opened: TypeError: "),
        ("judge", "model judge: there is no key: set JUDGE_KEY"),
    ],
)
def test_wrong_input_leaves_nothing_behind(here: JudgedRun, model: str, told: str) -> None:
    """Neither in the ledger nor in the report, also where the run has a judge of its own."""
    here.answer(5)
    here.wants_judging()
    here.add_cards('[rule]\nengine = "scripted"\nrespondent = "human"\n[gone]\npath = "/nowhere"\n')
    here.add_cards('[own]\nengine = "json:loads"\n')
    shown = here.report_text()
    before = left(here.database)
    refused = here.type("judge", "first", "--model", model, **({"JUDGE_KEY": ""} if model == "judge" else {}))
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1].startswith(f"defsurvey: {told}")
    assert left(here.database) == before
    assert here.report_text() == shown


def test_what_was_said_before_a_judge_went_away_reaches_the_report(
    here: JudgedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was paid for: the judgements have a new revision, and they are the judge's."""
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
            assert outbox.judgement_revision(here.database, "first") == 0
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
    told = {
        "no card": "there is no model 'judge'",
        "no key": "model judge: there is no key: set JUDGE_KEY",
        "a defect": "ZeroDivisionError: division by zero",
    }[fault]
    if fault == "no card":
        here.settings.models.write_text("")
    if fault == "no key":
        monkeypatch.delenv("JUDGE_KEY")
    if fault == "a defect":
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
    text = here.report_text()
    assert "Judging did not come to its end: model judge: there is no key: set JUDGE_KEY" in text


TOLD = "model local: cannot be opened: MemoryError: no room on cuda:1"


def open_judge(card: ModelCard, *, survey: Survey, device: str) -> Engine:
    """An engine for which there is no room anywhere."""
    raise MemoryError(f"no room on {device}")


@pytest.fixture
def crowded(here: JudgedRun) -> JudgedRun:
    """A run that is judged by a model of this machine."""
    here.answer(4)
    here.add_cards(f'[local]\nengine = "{__name__}:open_judge"\n')
    here.change("""UPDATE run SET judge = '{"model": "local", "sample": 1.0}'""")
    return here


def test_a_judge_is_opened_on_the_device_that_is_named(crowded: JudgedRun) -> None:
    """Without one on the CPU; nobody is asked for a template, so that there it has no meaning."""
    for words, told in (
        (["--device", "cuda:1"], f"defsurvey: {TOLD}"),
        ([], f"defsurvey: {TOLD.replace('cuda:1', 'cpu')}"),
        (["--template", "x.csv", "--device", "cpu"], "Error: --template and --audit stand alone: they ask no judge"),
    ):
        done = crowded.type("judge", "first", *words)
        assert (done.exit_code, done.stderr.splitlines()[-1]) == (2, told)


def test_a_reporter_opens_judges_on_its_device_and_does_not_try_again(crowded: JudgedRun) -> None:
    """What has no room there now is told in the report, and the run comes to its end."""
    app = make_app("redis://nowhere")
    tasks.register_judging(app, crowded.settings, crowded.database, device="cuda:1")
    app.tasks[JUDGE]("first")
    assert crowded.judgements().told == (TOLD,)
    assert not crowded.is_due()


def test_two_rubrics_of_one_model_are_never_pooled(here: JudgedRun) -> None:
    """Each is calibrated, paid for, kept and shown apart; one leaves the other due, and the report tells the rubric."""
    here.answer()
    study = '{"model": "judge", "sample": 0.5, "rubric": "code"}'
    here.change(f"UPDATE run SET judge = '{study}'")
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
    asked = {str(body["system"]) for body in here.server.bodies}
    assert asked == set(INSTRUCTIONS.values())


def test_a_judge_that_passes_everything_judges_nothing(here: JudgedRun) -> None:
    """It fails the calibration set, which is paid for once; the report says so with its score."""
    here.answer()
    here.server.judge = lenient
    done = here.judge()
    assert (done.ended, done.sampled, done.judged) == (Ended.REFUSED, 0, 0)
    assert here.paid == 72
    assert "right on 36 of 72 calibration answers" in in_words(done)
    here.judge()
    assert here.paid == 72
    text = here.report_text()
    assert "no judge: judge (judge-1, rubric 1) was right on 36 of 72 calibration answers" in text


def test_batches_of_a_model_without_them_are_refused_before_it_is_opened(
    here: JudgedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No weights are loaded and no call of a calibration is paid for; how the run was judged before stays as it was."""
    here.answer(5)
    monkeypatch.setattr(
        "defsurvey.jobs.judging.judge.open_engine", lambda *_, **__: pytest.fail("the judge was opened")
    )
    here.add_cards('[other]\nengine = "transformers"\nhub = "here/weights"\n')
    refused = here.type("judge", "first", "--model", "other", "--batch")
    assert refused.exit_code == 2
    assert refused.stderr == "defsurvey: model other: batches are only known of engine anthropic, not transformers\n"
    assert here.judgements().revision == 0
