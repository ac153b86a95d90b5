"""Judging a run: calibration first, nothing paid twice, gone on with wherever it stopped; and the report of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import update

from defsurvey.jobs.cli.main import main
from defsurvey.jobs.judging.judge import BeingJudged, Judged, in_words, judge_run
from defsurvey.jobs.results import current_report
from defsurvey.jobs.settings import Settings
from defsurvey.reports.figures.judging import judged_by
from defsurvey.storage.database import Database
from defsurvey.storage.runs import budget, judgements, outbox, tables
from defsurvey.storage.runs.archive import export_bundle, import_bundle
from defsurvey.storage.runs.judgement import DIMENSIONS, Judge, JudgeName, Rubric
from defsurvey.storage.runs.judgements import Ended
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.runs.store import UnknownRun
from defsurvey.storage.runs.verdicts import read_judgements
from defsurvey.storage.schema import migrate
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.judging.prompt import INSTRUCTIONS, SCHEMA, calibration_set
from tests.judging.conftest import KEY, Answered, nowhere
from tests.judging.provider import JudgeServer, lenient, response_in
from tests.storage.conftest import url  # noqa: F401 -- the fixture of either database
from tests.storage.small_run import new_cell, started


def judged(
    settings: Settings, database: Database, *, share: float = 1.0, batch: bool = False, rubric: Rubric | None = None
) -> Judged:
    """Judge the run."""
    return judge_run(settings, database, "first", model="judge", share=share, batch=batch, rubric=rubric)


@pytest.mark.parametrize("batch", [False, True])
def test_every_answer_is_judged_once(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered, batch: bool
) -> None:
    """Of the main condition; a tenth once more; a program judges what is empty; typed again, nothing is asked."""
    total = answered()
    done = judged(settings, database, batch=batch)
    again = -(-total // 10)
    assert (done.ended, done.sampled, done.judged) == (Ended.DONE, total + again, total + again)
    assert done.judge == "judge (judge-1, rubric 1)"
    assert done.calibration == "right on 72 of 72 calibration answers"
    sample = judgements.sample(database, [1, 2], share=1.0, seed=11)
    given = [given.answer for given in judgements.given_answers(database, sample)]
    paid = server.paid()
    assert sum(paid.values()) == 72 + sum(1 for answer in given if answer.completion.strip())
    before = sum(paid.values())
    assert judged(settings, database, batch=batch).judged == done.judged
    assert sum(server.paid().values()) == before
    assert len(server.batches) == (1 if batch else 0)
    assert all(KEY in str(headers) for headers in server.headers)
    assert judgements.tokens_seen(database, "first", "judge") == (1000, 200)
    assert judgements.tokens_seen(database, "first", "another") is None


def test_verdicts_reach_the_report(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """Each model failed once on facts; an unreadable answer fails on instructions; a refusal has no choice."""
    answered()
    before = current_report(settings, database, "first", None)
    assert "not run: no judge" in Path(before.markdown).read_text().casefold()
    judged(settings, database)
    (judge,) = read_judgements(database, "first").judges
    rows = zip(judge.cell, judge.dimension, judge.verdict, strict=True)
    fails = Counter((int(cell), DIMENSIONS[dimension]) for cell, dimension, verdict in rows if verdict == 1)
    assert fails == {(cell, name): n for cell in (0, 1) for name, n in (("ff", 1), ("iu", 2), ("qc", 1))}
    assert set(judge.weight) == {1.0}
    (pairs,) = judge.pairs
    assert (pairs.other, set(pairs.first == pairs.second)) == ("", {True})
    after = current_report(settings, database, "first", None)
    assert (after.revision, after.judgements) == (before.revision, 1)
    text = Path(after.markdown).read_text()
    assert "judge (judge-1, rubric 1)" in text
    assert "not run: no judge" not in text.casefold()
    assert outbox.reports_due(database) == []


def test_two_rubrics_of_one_model_are_never_pooled(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """Each is calibrated, paid for, kept and shown apart, and the report says what the other rubric asks for."""
    answered()
    judged(settings, database)
    paid = sum(server.paid().values())
    done = judged(settings, database, rubric=Rubric.CODE)
    assert (done.judge, done.ended) == ("judge (judge-1, rubric code 1)", Ended.DONE)
    assert sum(server.paid().values()) - paid == paid
    ours, theirs = read_judgements(database, "first").judges
    assert (ours.judge, theirs.judge) == ("judge (judge-1, rubric 1)", "judge (judge-1, rubric code 1)")
    assert ours.answer.size == theirs.answer.size
    text = Path(current_report(settings, database, "first", None).markdown).read_text()
    assert "Failure rates by judge (judge-1, rubric code 1)" in text
    assert "Rubric code: qc is the type of the question" in text
    asked = {str(body["system"]) for body in server.bodies}
    assert asked == set(INSTRUCTIONS.values())


def test_a_run_whose_study_has_another_rubric_is_still_to_be_judged(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """What was judged by one rubric leaves the other due, in the same model."""
    answered()
    study = {"model": "judge", "sample": 0.5, "rubric": "code"}
    database.write(lambda connection: connection.execute(update(tables.run).values(judge=study)))
    assert judgements.wanted(database, "first") == Judge(model="judge", sample=0.5, rubric=Rubric.CODE)
    judged(settings, database, rubric=Rubric.OWN)
    assert judgements.is_due(database, "first")
    assert judged(settings, database).judge == "judge (judge-1, rubric code 1)"
    assert not judgements.is_due(database, "first")


def test_a_judge_that_passes_everything_judges_nothing(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """It fails the calibration set, which is paid for once; the report says so with its score."""
    answered()
    server.judge = lenient
    done = judged(settings, database)
    assert (done.ended, done.sampled, done.judged) == (Ended.REFUSED, 0, 0)
    assert sum(server.paid().values()) == 72
    assert "right on 36 of 72 calibration answers" in in_words(done)
    judged(settings, database)
    assert sum(server.paid().values()) == 72
    text = Path(current_report(settings, database, "first", None).markdown).read_text()
    assert "no judge: judge (judge-1, rubric 1) was right on 36 of 72 calibration answers" in text


def test_a_sample_is_stratified_and_weighted(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """At least 30 of each model and state, all where there are fewer; weights say what each stands for."""
    answered(40)
    sample = judgements.sample(database, [1, 2], share=0.01, seed=11)
    first = [call for call in sample if not call.repeat]
    given = list(judgements.given_answers(database, first))
    strata = Counter((each.cell.model, each.answer.state) for each in given)
    counts = {AnswerState.ANSWERED: 30, AnswerState.REFUSED: 1, AnswerState.UNPARSABLE: 2}
    assert strata == {(model, state): n for model in ("model-a", "model-b") for state, n in counts.items()}
    assert sample == judgements.sample(database, [1, 2], share=0.01, seed=11)
    half = Counter((each.cell.model, each.answer.state) for each in given[:34])  # where money may end, all have as much
    assert half == {(model, state): (n + 1) // 2 for (model, state), n in strata.items()}
    chosen = [
        {(a.number, a.answer.question) for a in given if a.cell.model == model} for model in ("model-a", "model-b")
    ]
    assert chosen[0] == chosen[1]
    assert set(sample) < set(judgements.sample(database, [1, 2], share=0.6, seed=11))
    judged(settings, database, share=0.01)
    (judge,) = read_judgements(database, "first").judges
    (verdicts, *_), _ = judged_by(read_judgements(database, "first"))
    one_each = judge.dimension == 0
    assert sum(judge.weight[one_each]) == pytest.approx(2 * (3 * 40 - 1))
    assert set(judge.weight) == {116 / 30, 1.0}
    assert (verdicts.judge, verdicts.weight.tolist()) == (judge.judge, judge.weight.tolist())


def test_a_reply_that_orders_a_pass_is_judged_like_any_other(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """A judge that echoes what it was told to say has said nothing."""
    answered(6)
    fair_judge = server.judge
    server.judge = lambda response: "All pass." if "citizen" in response else fair_judge(response)
    judged(settings, database)
    (judge,) = read_judgements(database, "first").judges
    assert Counter(judge.verdict.tolist())[2] > 100


def test_errors_are_told_and_asked_again_later(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """In a batch, what errored or expired is asked again at once; what can never succeed is left and told."""
    total = answered()

    def outcome(prompt: str, batch: int) -> str:
        response = response_in(prompt)
        if "citizen 7" in response:
            return "invalid_request_error"
        kinds = {"citizen 8": "api_error", "citizen 9": "expired", "citizen 10": "canceled"}
        return next((kind for words, kind in kinds.items() if words in response and batch == 0), "succeeded")

    server.outcome = outcome
    done = judged(settings, database, batch=True)
    assert done.ended is Ended.INCOMPLETE
    assert done.told == "the server says invalid_request_error: it went wrong"
    assert total <= done.judged + 6 < done.sampled + 6
    assert len(server.batches) == 2
    assert max((server.paid() - Counter(server.asked)).values()) <= 2  # a second time only where it is a repeat
    server.outcome = lambda prompt, batch: "succeeded"
    finished = judged(settings, database, batch=False)
    assert (finished.ended, finished.judged) == (Ended.DONE, finished.sampled)


def test_an_answer_that_was_asked_again_is_judged_anew(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """What was said of the answer before it no longer counts."""
    total = answered(6)
    sample = judgements.sample(database, [1, 2], share=1.0, seed=11)
    done = judged(settings, database)
    stale = sample[0]._replace(digest=sample[0].digest + 1)
    assert list(judgements.given_answers(database, [stale])) == []
    assert done.sampled == total + -(-total // 10)


def test_who_cannot_judge_is_refused(
    settings: Settings, database: Database, answered: Answered, tmp_path: Path
) -> None:
    """A scripted respondent, an unknown run, a run that is being judged, a model without batches."""
    answered(5)
    assert settings.models is not None
    with settings.models.open("a") as cards:
        cards.write('[rule]\nengine = "scripted"\nrespondent = "human"\n')
        cards.write('[other]\nengine = "openai"\nmodel = "m"\nbase_url = "http://127.0.0.1:9/v1"\n')
    with pytest.raises(EngineUnavailable, match="model rule cannot judge: it is a scripted respondent"):
        judge_run(settings, database, "first", model="rule")
    with pytest.raises(UnknownRun):
        judge_run(settings, database, "second", model="judge")
    judgements.take_lease(database, "first", "elsewhere:1:token", ttl=60.0)
    with pytest.raises(BeingJudged, match=r"run first is being judged by another process \(elsewhere:1:token\)"):
        judge_run(settings, database, "first", model="judge")


@pytest.mark.parametrize("engine", ["openai", "transformers"])
def test_batches_of_a_model_without_them_are_refused_before_it_is_opened(
    settings: Settings, database: Database, answered: Answered, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """No weights are loaded and no call of a calibration is paid for; how the run was judged before stays as it was."""
    answered(5)
    monkeypatch.setattr(
        "defsurvey.jobs.judging.judge.open_engine", lambda *_, **__: pytest.fail("the judge was opened")
    )
    assert settings.models is not None
    where = {"openai": 'model = "m"\nbase_url = "http://127.0.0.1:9/v1"\n', "transformers": 'hub = "here/weights"\n'}
    with settings.models.open("a") as cards:
        cards.write(f'[other]\nengine = "{engine}"\n{where[engine]}')
    home = {"DEFSURVEY_HOME": str(settings.home), "DEFSURVEY_MODELS": str(settings.models)}
    home |= {"DEFSURVEY_DATABASE_URL": database.url.render_as_string(hide_password=False)}
    refused = CliRunner().invoke(main, ("judge", "first", "--model", "other", "--batch"), env=home)
    assert refused.exit_code == 2
    assert refused.stderr == f"defsurvey: model other: batches are only known of engine anthropic, not {engine}\n"
    assert read_judgements(database, "first").revision == 0


@pytest.mark.parametrize("batch", [False, True])
def test_where_there_is_nothing_to_judge_no_judge_is_asked(
    settings: Settings, database: Database, server: JudgeServer, batch: bool
) -> None:
    """Not even about the calibration set; the run does not ask for its judge again until there are answers."""
    started(database, nowhere(new_cell("model-a", participants=2)))
    done = judged(settings, database, batch=batch)
    assert (done.ended, done.sampled, done.judged) == (Ended.DONE, 0, 0)
    assert in_words(done) == "first: there is no answer to judge"
    assert sum(server.paid().values()) == 0
    assert read_judgements(database, "first").revision == 1


def test_judgements_move_with_their_run(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered, tmp_path: Path
) -> None:
    """Elsewhere they are not paid again, and the report says the same, also where the judge has judged before.

    Whether it may judge here is found out here: a calibration that came with a run could be anybody's.
    """
    answered(5)
    judged(settings, database)
    export_bundle(database, "first", tmp_path / "run.bundle")
    paid = sum(server.paid().values())
    with Database(f"sqlite:///{tmp_path / 'elsewhere.db'}") as elsewhere:
        migrate(elsewhere)
        judgements.register(elsewhere, JudgeName(identity="another", model="x", description={}))
        import_bundle(elsewhere, tmp_path / "run.bundle")
        assert judgements.judging_due(elsewhere) == judgements.judging_due(database)
        done = judged(settings, elsewhere)
        assert (done.ended, done.judged) == (Ended.DONE, done.sampled)
        assert sum(server.paid().values()) == paid + len(calibration_set())
        judged(settings, elsewhere)
        (here,), (there,) = read_judgements(database, "first").judges, read_judgements(elsewhere, "first").judges
        assert here.verdict.tolist() == there.verdict.tolist()
        assert budget.spent(elsewhere, "first") == budget.spent(database, "first") > 0
    assert sum(server.paid().values()) == paid + len(calibration_set())


def test_a_judge_is_held_to_a_schema(
    settings: Settings, database: Database, server: JudgeServer, answered: Answered
) -> None:
    """Every call, alone or in a batch, asks for the same structured reply."""
    answered(5)
    judged(settings, database, batch=True)
    alone = [body["output_config"]["format"] for body in server.bodies if "requests" not in body]
    (batch,) = [body for body in server.bodies if "requests" in body]
    together = [call["params"]["output_config"]["format"] for call in batch["requests"]]
    assert len(alone) == 72
    assert all(given == {"type": "json_schema", "schema": dict(SCHEMA)} for given in alone + together)
