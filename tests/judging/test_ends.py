"""How judging a run ends: what is left behind by a judge that cannot be asked, and when it is due again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from defsurvey.jobs.cli.main import main
from defsurvey.jobs.daemons.tasks import judge_if_due
from defsurvey.jobs.judging.judge import judge_run
from defsurvey.jobs.results import current_report
from defsurvey.jobs.settings import Settings
from defsurvey.storage.database import Database
from defsurvey.storage.runs import judgements, outbox
from defsurvey.storage.runs.judgements import Ended
from defsurvey.storage.runs.verdicts import read_judgements
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.judging import verdicts
from tests.jobs.ledger_rows import change, rows
from tests.judging.conftest import Answered, wants_judging
from tests.judging.provider import JudgeServer

#: Everything that a judge can leave behind.
TABLES = ("judge", "judging", "judgement", "calibration", "judge_batch", "report")


def left(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """The rows of these tables."""
    return {table: rows(database, f"SELECT * FROM {table}") for table in TABLES}


Typed = Callable[..., Result]


@pytest.fixture
def typed(settings: Settings, database: Database) -> Typed:
    """Types ``judge first`` with further words; returns what came of it."""
    home = {"DEFSURVEY_HOME": str(settings.home), "DEFSURVEY_MODELS": str(settings.models)}
    home |= {"DEFSURVEY_DATABASE_URL": database.url.render_as_string(hide_password=False)}
    return lambda *words, **more: CliRunner().invoke(main, ("judge", "first", *words), env=home | more)


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
def test_wrong_input_leaves_nothing_behind(
    settings: Settings, database: Database, answered: Answered, typed: Typed, model: str, told: str
) -> None:
    """Neither in the ledger nor in the report, also where the run has a judge of its own."""
    answered(5)
    wants_judging(database)
    assert settings.models is not None
    with settings.models.open("a") as cards:
        cards.write('[rule]\nengine = "scripted"\nrespondent = "human"\n[gone]\npath = "/nowhere"\n')
        cards.write('[own]\nengine = "json:loads"\n')
    report = current_report(settings, database, "first", None)
    before, shown = left(database), Path(report.markdown).read_text()
    refused = typed("--model", model, **({"JUDGE_KEY": ""} if model == "judge" else {}))
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1].startswith(f"defsurvey: {told}")
    assert left(database) == before
    assert Path(current_report(settings, database, "first", None).markdown).read_text() == shown


def test_what_was_said_before_a_judge_went_away_reaches_the_report(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was paid for: the judgements have a new revision, and they are the judge's."""
    answered(8)
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
            judge_run(settings, database, "first", model="judge", share=1.0)
        if not calibrated:  # nothing was said of the run
            assert outbox.judgement_revision(database, "first") == 0
            asked = -72
    assert rows(database, "SELECT judge, ended, told, revision FROM judging") == [
        (1, "incomplete", "model judge: the server refuses the key", 1)
    ]
    assert [judge.judge for judge in read_judgements(database, "first").judges] == ["judge (judge-1, rubric 1)"]


@pytest.mark.parametrize("share", [0.01, 1.0])
def test_another_sample_does_not_reopen_a_run_that_was_judged(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered, share: float
) -> None:
    """What its study asks for has been done, whatever was asked for later; more answers make it due again."""
    answered(8)
    wants_judging(database)
    assert judgements.is_due(database, "first")
    assert judge_run(settings, database, "first").ended is Ended.DONE
    assert not judgements.is_due(database, "first")
    judge_run(settings, database, "first", share=share)
    assert not judgements.is_due(database, "first")
    wants_judging(database, sample=0.5)
    assert judgements.is_due(database, "first") == (share < 0.5)
    change(database, "UPDATE participant SET commits = commits + 1 WHERE number = 0")
    assert judgements.is_due(database, "first")


@pytest.mark.parametrize("fault", ["no card", "no key", "a defect"])
def test_a_run_whose_own_judge_cannot_be_asked_comes_to_its_end(
    settings: Settings,
    database: Database,
    answered: Answered,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    """It would be asked for again without end, and the run be ``judging`` for ever; the report says why."""
    answered(5)
    wants_judging(database)
    assert settings.models is not None
    told = {
        "no card": "there is no model 'judge'",
        "no key": "model judge: there is no key: set JUDGE_KEY",
        "a defect": "ZeroDivisionError: division by zero",
    }[fault]
    if fault == "no card":
        settings.models.write_text("")
    if fault == "no key":
        monkeypatch.delenv("JUDGE_KEY")
    if fault == "a defect":
        monkeypatch.setattr("defsurvey.jobs.judging.judge.judge_name", lambda *_: 1 / 0)
    judge_if_due(settings, database, "first")
    assert not judgements.is_due(database, "first")
    (reason,) = read_judgements(database, "first").told
    assert reason.startswith(told)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"judging of run first: {told}")
    assert bool(record.exc_info) == (fault == "a defect")


def test_a_calibration_answer_that_cannot_be_judged_costs_no_reply_to_another(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """Those under way were paid for: all are kept. No more are asked for then, the next time what is missing."""
    answered(5)
    refused: list[str] = []

    def refuse(prompt: str) -> bool:
        refused.append(prompt)
        return len(refused) == 20

    server.refused = refuse
    with pytest.raises(EngineUnavailable, match="the calibration set could not be judged: the server says 400: it is"):
        judge_run(settings, database, "first", model="judge", share=1.0)
    asked = sum(server.asked.values())
    assert 20 <= asked < 72
    assert rows(database, "SELECT count(*) FROM calibration") == [(asked - 1,)]
    done = judge_run(settings, database, "first", model="judge", share=1.0)
    assert sum(server.asked.values()) == 73 + done.sampled - 2  # two answers are empty: a program judges them


def test_a_judge_that_refuses_everything_is_not_asked_about_the_whole_set(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """One that cannot be reached neither: each call would be tried again and again before anybody is told."""
    answered(5)
    server.refused = lambda _prompt: True
    with pytest.raises(EngineUnavailable, match="the calibration set could not be judged: the server says 400: it is"):
        judge_run(settings, database, "first", model="judge", share=1.0)
    assert sum(server.asked.values()) <= 4  # the card's concurrency: how many were under way


def test_a_judge_that_gives_no_reply_is_not_asked_about_everything(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """Two rounds of calls in a row are enough, four at once; one reply between them, and the next begin to count."""
    answered()
    judge_run(settings, database, "first", model="judge", share=1.0)
    change(database, "DELETE FROM judgement")
    server.asked.clear()
    refused: list[bool] = []

    def refuse(_prompt: str) -> bool:
        refused.append(len(refused) != 5)
        return refused[-1]

    server.refused = refuse
    done = judge_run(settings, database, "first", model="judge", share=1.0)
    assert (done.ended, done.judged < done.sampled) == (Ended.INCOMPLETE, True)
    assert done.told.startswith("the server says 400: ")
    assert 6 + 8 <= sum(server.asked.values()) <= 6 + 8 + 3 + 3  # those under way may end in another order


def test_a_judge_that_cannot_be_asked_any_more_has_judged_a_part(
    settings: Settings,
    database: Database,
    server: JudgeServer,
    answered: Answered,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that was to be judged until then, and not what came later; nothing is said of a judge of another card."""
    answered(5)
    wants_judging(database)
    assert settings.models is not None
    with settings.models.open("a") as cards:
        cards.write(server.cards(model="judge-2").replace("[judge]", "[other]"))
    for model in ("judge", "other"):
        judge_run(settings, database, "first", model=model)
    assert read_judgements(database, "first").partial == frozenset()
    change(database, "UPDATE participant SET commits = commits + 1 WHERE number = 0")
    monkeypatch.delenv("JUDGE_KEY")
    judge_if_due(settings, database, "first")
    said = read_judgements(database, "first")
    assert (said.partial, len(said.judges)) == ({"judge (judge-1, rubric 1)"}, 2)
    text = Path(current_report(settings, database, "first", None).markdown).read_text().replace("\\", "")
    assert "Judging did not come to its end: model judge: there is no key: set JUDGE_KEY" in text
