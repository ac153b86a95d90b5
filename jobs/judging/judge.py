"""Judging a run: what there is to judge, calibration, then every answer of the sample that was not judged yet.

Typed again it goes on: each reply is committed as soon as it is there, and nothing that was committed is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from defsurvey.jobs.judging.batches import collect_open, judge_in_batches
from defsurvey.jobs.judging.steps import BeingJudged as BeingJudged
from defsurvey.jobs.judging.steps import JudgingLeft as JudgingLeft
from defsurvey.jobs.judging.steps import Watch, Work, calibrate, is_calibrated, judge_one_by_one, judging
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.requirements import check_prices
from defsurvey.jobs.study.study import DEFAULT_SAMPLE
from defsurvey.reports.figures.words import main_condition
from defsurvey.storage.database import Database
from defsurvey.storage.runs import budget, judgements, outbox, store
from defsurvey.storage.runs.judgement import Judge, Rubric
from defsurvey.storage.runs.judgements import Call
from defsurvey.storage.runs.judgements import Ended as Ended
from defsurvey.storage.runs.run import Run
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Engine, EngineUnavailable
from defsurvey.workers.engines.opening import check_card, open_engine
from defsurvey.workers.judging.batches import check_batches
from defsurvey.workers.judging.verdicts import check_judge, judge_name
from defsurvey.workers.models import find_card, read_cards

#: Who judges where neither the command nor the study says.
DEFAULT_JUDGE = "claude-haiku-5-5"
#: What is said of a run without an answer that a judge could be asked about; no judge is opened for it.
NOTHING = "there is no answer to judge"
#: What is said of a run that was cancelled while it was judged.
CANCELLED = "the run is cancelled"


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
    watch: Watch = lambda *_: None,
    leaving: Callable[[], bool] = lambda: False,
) -> Judged:
    """Judge a run, or go on with it: as the command says, else the study, else ``DEFAULT_JUDGE`` on ``DEFAULT_SAMPLE``.

    ``share`` is of the answers of each model, culture and state, of which at least 30 are judged where there are so
    many. Answers that come while it is judged are left to the next judging. A run that is cancelled meanwhile is
    judged no more; that it was cancelled before keeps nobody from having it judged.

    Raises:
        EngineUnavailable: the judge cannot be asked, or not in batches; what was judged before that is kept, and where
            there is nothing of the kind, nothing is noted.
        StudyError: the run has a budget, and the judge is billed and has no prices.
        BeingJudged: another process judges the run, or took it over from this one, which had slept.
        JudgingLeft: this process is to end (``leaving``), and something is left to be asked.
    """
    ledger = outbox.revision(database, run_id)  # before the run is read: whatever comes later is not in the sample
    run = store.load_run(database, run_id)
    wanted = judgements.wanted(database, run_id) or Judge(model=DEFAULT_JUDGE, sample=DEFAULT_SAMPLE)
    wanted = Judge(model=model or wanted.model, sample=share or wanted.sample, rubric=rubric or wanted.rubric)
    cards = read_cards(settings.models)
    card = find_card(wanted.model, cards)
    check_judge(card)
    check_card(card, cache=settings.cache)
    check_prices(budget.budget_of(database, run_id), [wanted.model], cards)
    if batch:
        check_batches(card)
    survey = store.load_survey(database, run.survey)
    with judging(database, run_id) as held:
        sample = judgements.sample(database, judged_cells(run, survey), share=wanted.sample, seed=run.protocol.seed)
        if not sample:
            done = Ended.DONE
            _end_unopened(database, run_id, wanted, done, NOTHING, ledger)
            return Judged(run=run_id, judge=wanted.key, calibration="", ended=done, sampled=0, judged=0, told=NOTHING)
        with closing(open_engine(card, survey=survey, device=device, cache=settings.cache)) as engine:
            name = judge_name(card, engine, wanted.rubric)
            work = Work(
                database=database,
                run=run,
                survey=survey,
                card=card,
                judge=judgements.register(database, name),
                wanted=wanted,
                ledger=ledger,
                watch=watch,
                held=held,
                leaving=leaving,
            )
            before = len(judgements.judged(database, work.judge, run_id))
            try:
                return _judge(work, engine, name.identity, sample, batch=batch)
            except EngineUnavailable as error:
                if len(judgements.judged(database, work.judge, run_id)) > before:  # the report is to tell what was paid
                    work.end(Ended.INCOMPLETE, str(error))
                raise


def _judge(work: Work, engine: Engine, identity: str, sample: Sequence[Call], *, batch: bool) -> Judged:
    """Calibrate an open judge, and have it judge a sample that is not empty."""
    run, sampled = work.run.id, len(sample)

    def judged(ended: Ended, score: object, *, sampled: int = sampled, done: int, told: str = "") -> Judged:
        said = "" if score is None else str(score)
        return Judged(run=run, judge=identity, calibration=said, ended=ended, sampled=sampled, judged=done, told=told)

    unpaid = f"{identity}: the budget of {budget.budget_of(work.database, run)} US dollars is spent"
    done = sampled - len(work.left(sample))
    if work.spent and not is_calibrated(work):
        work.end(Ended.OVER_BUDGET, unpaid)
        return judged(Ended.OVER_BUDGET, None, done=done, told=unpaid)
    score = calibrate(work, engine)
    if score is not None and not score.passed:
        work.end(Ended.REFUSED, f"{identity} was {score}")
        return judged(Ended.REFUSED, score, sampled=0, done=0)
    gone = [] if score is None else collect_open(work)
    while True:
        before, problems = done, list[str]()
        if score is not None:
            problems = judge_in_batches(work, sample) if batch else judge_one_by_one(work, engine, sample)
        done = sampled - len(work.left(sample))
        if work.leaving() and (score is None or done < sampled):
            raise JudgingLeft(f"run {run} is left to be judged: this process was told to end")
        if not work.held():
            raise BeingJudged(f"run {run} is being judged by another process, since this one was away")
        if score is None or (done < sampled and work.cancelled):
            work.end(Ended.INCOMPLETE, f"{identity}: {CANCELLED}", go_on=True)
            return judged(Ended.INCOMPLETE, score, done=done, told=CANCELLED)
        over = done < sampled and work.spent
        if before < done < sampled and not over and not problems:
            continue  # it stopped for want of money, and there is some by now
        ended = Ended.OVER_BUDGET if over else Ended.DONE if done == sampled else Ended.INCOMPLETE
        said = next(iter([*problems, *gone]), "")
        work.end(ended, unpaid if over else said or str(score))
        if not over or work.spent:  # else there was more money before it could be noted that there was none
            return judged(ended, score, done=done, told=said)


def end_unasked(database: Database, run: str, told: str, *, ledger: int) -> None:
    """Note that a run's own judge cannot be asked, which ends its judging too, unless that is noted already.

    ``ledger`` is its revision before the judge was to be asked.
    """
    wanted = judgements.wanted(database, run)
    if wanted is not None and judgements.is_due(database, run):
        _end_unopened(database, run, wanted, Ended.INCOMPLETE, told, ledger)


def _end_unopened(database: Database, run: str, wanted: Judge, ended: Ended, told: str, ledger: int) -> None:
    judgements.end(database, run, wanted.key, judge=None, ended=ended, told=told, share=wanted.sample, ledger=ledger)


def judged_cells(run: Run, survey: Survey) -> list[int]:
    """Ids of the cells that Figure 9 shows: the main condition, each culture in its own language where there is one."""
    condition = main_condition(run.cells)
    chosen = []
    for culture in dict.fromkeys(cell.culture for cell in run.cells):
        cells = [cell for cell in run.cells if (cell.culture, cell.condition.name) == (culture, condition)]
        native = survey.culture(culture).language
        language = native if any(cell.language == native for cell in cells) else cells[0].language
        chosen += [cell.id for cell in cells if cell.language == language]
    return chosen
