"""Judging a run: calibration first, nothing paid twice, gone on with wherever it stopped; and the report of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from defsurvey.jobs.judging.judge import in_words
from defsurvey.reports.figures.judging import judged_by
from defsurvey.storage.runs import judgements, outbox
from defsurvey.storage.runs.judgement import DIMENSIONS
from defsurvey.storage.runs.judgements import Ended
from defsurvey.storage.runs.run import AnswerState
from defsurvey.workers.judging.prompt import SCHEMA
from tests.judging.conftest import KEY, JudgedRun, nowhere
from tests.judging.provider import response_in
from tests.storage.conftest import url  # noqa: F401 -- the fixture of either database
from tests.storage.small_run import new_cell, started


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
    paid = here.server.paid()
    assert sum(paid.values()) == 72 + sum(1 for answer in given if answer.completion.strip())
    before = sum(paid.values())
    assert here.judge(batch=batch).judged == done.judged
    assert here.paid == before
    assert len(here.server.batches) == (1 if batch else 0)
    assert all(KEY in str(headers) for headers in here.server.headers)
    calls = [call for body in here.server.bodies for call in body.get("requests", [{"params": body}])]
    schemas = [call["params"]["output_config"]["format"] for call in calls]
    assert all(schema == {"type": "json_schema", "schema": dict(SCHEMA)} for schema in schemas)
    assert judgements.tokens_seen(here.database, "first", "judge") == (1000, 200)
    assert judgements.tokens_seen(here.database, "first", "another") is None


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
    """At least 30 of each model and state, all where there are fewer; weights say what each stands for."""
    here.answer(40)
    sample = judgements.sample(here.database, [1, 2], share=0.01, seed=11)
    first = [call for call in sample if not call.repeat]
    given = list(judgements.given_answers(here.database, first))
    strata = Counter((each.cell.model, each.answer.state) for each in given)
    counts = {AnswerState.ANSWERED: 30, AnswerState.REFUSED: 1, AnswerState.UNPARSABLE: 2}
    assert strata == {(model, state): n for model in ("model-a", "model-b") for state, n in counts.items()}
    assert sample == judgements.sample(here.database, [1, 2], share=0.01, seed=11)
    half = Counter((each.cell.model, each.answer.state) for each in given[:34])  # where money may end, all have as much
    assert half == {(model, state): (n + 1) // 2 for (model, state), n in strata.items()}
    chosen = [
        {(a.number, a.answer.question) for a in given if a.cell.model == model} for model in ("model-a", "model-b")
    ]
    assert chosen[0] == chosen[1]
    assert set(sample) < set(judgements.sample(here.database, [1, 2], share=0.6, seed=11))
    here.judge(share=0.01)
    (judge,) = here.judgements().judges
    (verdicts, *_), _ = judged_by(here.judgements())
    one_each = judge.dimension == 0
    assert sum(judge.weight[one_each]) == pytest.approx(2 * (3 * 40 - 1))
    assert set(judge.weight) == {116 / 30, 1.0}
    assert (verdicts.judge, verdicts.weight.tolist()) == (judge.judge, judge.weight.tolist())


def test_errors_are_told_and_asked_again_later(here: JudgedRun) -> None:
    """In a batch, what errored or expired is asked again at once; what can never succeed is left and told."""
    total = here.answer()

    def outcome(prompt: str, batch: int) -> str:
        response = response_in(prompt)
        if "citizen 7" in response:
            return "invalid_request_error"
        kinds = {"citizen 8": "api_error", "citizen 9": "expired", "citizen 10": "canceled"}
        return next((kind for words, kind in kinds.items() if words in response and batch == 0), "succeeded")

    here.server.outcome = outcome
    done = here.judge(batch=True)
    assert done.ended is Ended.INCOMPLETE
    assert done.told == "the server says invalid_request_error: it went wrong"
    assert total <= done.judged + 6 < done.sampled + 6
    assert len(here.server.batches) == 2
    in_batches = here.server.paid() - Counter(here.server.asked)
    assert max(in_batches.values()) <= 2  # a second time only where it is a repeat
    here.server.outcome = lambda prompt, batch: "succeeded"
    finished = here.judge(batch=False)
    assert (finished.ended, finished.judged) == (Ended.DONE, finished.sampled)


@pytest.mark.parametrize("batch", [False, True])
def test_where_there_is_nothing_to_judge_no_judge_is_asked(here: JudgedRun, batch: bool) -> None:
    """Not even about the calibration set; the run does not ask for its judge again until there are answers."""
    started(here.database, nowhere(new_cell("model-a", participants=2)))
    done = here.judge(batch=batch)
    assert (done.ended, done.sampled, done.judged) == (Ended.DONE, 0, 0)
    assert in_words(done) == "first: there is no answer to judge"
    assert here.paid == 0
    assert here.judgements().revision == 1
