"""Judging a run: what there is to judge, calibration, then every answer of the sample that was not judged yet.

Typed again it goes on: each reply is committed as soon as it is there, and nothing that was committed is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from defsurvey.jobs.judging import steps
from defsurvey.jobs.judging.steps import BeingJudged as BeingJudged
from defsurvey.jobs.judging.steps import JudgingLeft as JudgingLeft
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.study import DEFAULT_SAMPLE, StudyError, check_prices
from defsurvey.storage.database import Database
from defsurvey.storage.runs import budget, judgements, outbox, store
from defsurvey.storage.runs.judgement import AnswerKey, Judge, Rubric
from defsurvey.storage.runs.judgements import Ended as Ended
from defsurvey.storage.runs.run import Reply, Run
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Engine, EngineUnavailable
from defsurvey.workers.engines.opening import check_card, open_engine
from defsurvey.workers.judging.batches import check_batches
from defsurvey.workers.judging.prompt import judge_name
from defsurvey.workers.models import find_card, read_cards

DEFAULT_JUDGE = "claude-haiku-5-5"  #: who judges where neither the command nor the study says


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How judging a run ended, as ``judge --json`` prints it."""

    run: str
    judge: str  #: name and version
    calibration: str  #: its score; empty: it was not asked, since there was nothing to judge or no money left
    ended: Ended
    sampled: int  #: calls that the sample asks for, those for the judge's agreement with itself counted
    judged: int  #: of them, all that are there now
    told: str = ""  #: what went wrong first


def in_words(done: Judged) -> str:
    """How judging ended, for a person to read."""
    go_on = f"the budget is spent: give it more (defsurvey resume {done.run} --budget USD), then judge again"
    if not done.calibration and done.ended is Ended.OVER_BUDGET:
        return f"{done.run}: nothing is judged by {done.judge}; {go_on}"
    if not done.calibration:
        return f"{done.run}: {done.told}"
    if done.ended is Ended.REFUSED:
        return f"{done.run}: nothing is judged: {done.judge} was {done.calibration}; see docs/judge.md"
    words = f"{done.run}: {done.judged:,} of {done.sampled:,} judged by {done.judge}, {done.calibration}"
    if done.ended is Ended.OVER_BUDGET:
        return f"{words}; {go_on}"
    return f"{words}; {done.told}" if done.told else words


def judge_run(
    settings: Settings,
    database: Database,
    run_id: str,
    *,
    model: str | None = None,
    share: float | None = None,
    rubric: Rubric | None = None,
    batch: bool = False,
    device: str = "cpu",
    watch: steps.Watch = lambda *_: None,
    leaving: Callable[[], bool] = lambda: False,
) -> Judged:
    """Judge a run, or go on with it: as the command says, else the study, else ``DEFAULT_JUDGE`` on ``DEFAULT_SAMPLE``.

    Answers that come meanwhile are left to the next judging, and a run that is cancelled meanwhile is judged no more.
    Raises EngineUnavailable (what was judged before that is kept), StudyError where replies are bare choices, or where
    the run has a budget and the judge is billed and has no prices, BeingJudged, and JudgingLeft where this process is
    ``leaving`` before the end.
    """
    ledger = outbox.revision(database, run_id)  # before the run is read: whatever comes later is not in the sample
    run = store.load_run(database, run_id)
    if run.protocol.reply is Reply.CHOICE:
        raise StudyError(f"run {run_id}: expected replies that a judge can read, got bare choices (reply: choice)")
    wanted = judgements.wanted(database, run_id) or Judge(model=DEFAULT_JUDGE, sample=DEFAULT_SAMPLE)
    wanted = Judge(model=model or wanted.model, sample=share or wanted.sample, rubric=rubric or wanted.rubric)
    cards = read_cards(settings.models)
    card = find_card(wanted.model, cards)
    if not card.capabilities.reads_prompts:
        raise EngineUnavailable(f"model {card.name} cannot judge: it is a scripted respondent and reads no prompt")
    check_card(card, cache=settings.cache)
    check_prices(budget.budget_of(database, run_id), [wanted.model], cards)
    if batch:
        check_batches(card)
    survey = store.load_survey(database, run.survey)
    with steps.judging(database, run_id) as held:
        sample = judgements.sample(database, judged_cells(run, survey), share=wanted.sample, seed=run.protocol.seed)
        if not sample:
            done, told = Ended.DONE, "there is no answer to judge"  # and no judge is opened
            judgements.end(database, run_id, wanted, judge=None, ended=done, told=told, ledger=ledger)
            return Judged(run=run_id, judge=wanted.key, calibration="", ended=done, sampled=0, judged=0, told=told)
        with closing(open_engine(card, survey=survey, device=device, cache=settings.cache)) as engine:
            name = judge_name(card, engine, wanted.rubric)
            judge = judgements.register(database, name)
            work = steps.Work(
                database, run, survey, card, judge, wanted, ledger=ledger, watch=watch, held=held, leaving=leaving
            )
            before = len(judgements.judged(database, judge, run_id))
            try:
                return _judge(work, engine, name.identity, sample, batch=batch)
            except EngineUnavailable as error:
                if len(judgements.judged(database, judge, run_id)) > before:  # the report is to tell what was paid
                    work.end(Ended.INCOMPLETE, str(error))
                raise


def _judge(work: steps.Work, engine: Engine, identity: str, sample: Sequence[AnswerKey], *, batch: bool) -> Judged:
    """Calibrate an open judge, and have it judge a sample that is not empty."""
    run, problems = work.run.id, list[str]()
    score = steps.calibrate(work, engine)
    said = {"run": run, "judge": identity, "calibration": "" if score is None else str(score)}
    if score is not None and not score.passed:
        work.end(Ended.REFUSED, f"{identity} was {score}")
        return Judged(**said, ended=Ended.REFUSED, sampled=0, judged=0)
    if score is not None:
        gone = steps.collect_open(work)
        asked = steps.judge_in_batches(work, sample) if batch else steps.judge_one_by_one(work, engine, sample)
        problems = asked + gone
    done = len(sample) - len(work.left(sample))
    complete = score is not None and done == len(sample)
    if work.leaving() and not complete:
        raise JudgingLeft(f"run {run} is left to be judged: this process was told to end")
    if not work.held():
        raise BeingJudged(f"run {run} is being judged by another process, since this one was away")
    told = problems[0] if problems else ""
    if complete:
        ended = Ended.DONE
        work.end(ended, told or str(score))
    elif work.cancelled:
        ended, told = Ended.INCOMPLETE, "the run is cancelled"
        work.end(ended, f"{identity}: {told}", go_on=True)
    elif work.spent:
        ended = Ended.OVER_BUDGET
        unpaid = f"{identity}: the budget of {budget.budget_of(work.database, run)} US dollars is spent"
        work.end(ended, unpaid)
        told = unpaid if score is None else told
    else:
        ended, told = Ended.INCOMPLETE, told or "what stopped it has passed, and the next judging goes on"
        work.end(ended, told if problems else f"{identity}: {told}", go_on=not problems)
    return Judged(**said, ended=ended, sampled=len(sample), judged=done, told=told)


def judged_cells(run: Run, survey: Survey) -> list[int]:
    """Ids of the cells that Figure 9 shows: the main condition, each culture in its own language where there is one."""
    condition = run.main_condition
    chosen = []
    for culture in dict.fromkeys(cell.culture for cell in run.cells):
        cells = [cell for cell in run.cells if (cell.culture, cell.condition.name) == (culture, condition)]
        native = survey.culture(culture).language
        language = native if any(cell.language == native for cell in cells) else cells[0].language
        chosen += [cell.id for cell in cells if cell.language == language]
    return chosen
