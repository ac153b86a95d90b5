"""What verbs do with runs: enqueue, extend, work on them here, go on, cancel, ask again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defsurvey.jobs.daemons.startup import app_if_up
from defsurvey.jobs.local import work
from defsurvey.jobs.progress import Snapshot, snapshot
from defsurvey.jobs.results import current_report
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study import producer
from defsurvey.jobs.study.study import Study, check_conditions, check_prices
from defsurvey.jobs.study.study_file import parse_study, read_study
from defsurvey.storage.database import Database
from defsurvey.storage.runs import judgements, outbox, recovery, store
from defsurvey.storage.runs.budget import budget_of, change_budget, halt_if_spent
from defsurvey.storage.runs.run import AnswerState
from defsurvey.workers.engines.keys import missing_key
from defsurvey.workers.engines.opening import check_card
from defsurvey.workers.models import find_card, read_cards

if TYPE_CHECKING:
    from celery import Celery


def read(settings: Settings, path: Path, *, name: str | None = None, pilot: int | None = None) -> Study:
    """A study file, validated; ``pilot``: only that many participants of each cell."""
    study = read_study(path, cards=read_cards(settings.models), name=name)
    return study if pilot is None else study.pilot(pilot)


def check_models(settings: Settings, study: Study, *, keys: bool = True, here: bool = True) -> None:
    """Refuse models that cannot be asked; those that are not to be asked ``here`` only where they retired."""
    cards = read_cards(settings.models)
    check_conditions(study.conditions, study.models, cards, study.protocol)
    check_prices(study.budget, study.asked, cards)
    for card in (find_card(model, cards) for model in study.asked):
        if here or card.retired:
            check_card(card, cache=settings.cache, key=keys)


def enqueue(settings: Settings, database: Database, study: Study, *, extend: bool = False) -> producer.Enqueued:
    """Write the run and publish what a broker that is up will take; one that was cancelled goes on, unless extended."""
    check_models(settings, study, keys=settings.broker_url is None)  # else they are with the workers
    app = app_if_up(settings)
    done = producer.enqueue(database, app, study, extend=extend)
    if extend or not store.load_run(database, done.run).cancelled:
        return done
    published = _reopen(database, app, done.run)
    return replace(done, published=published, waiting=outbox.waiting(database, done.run))


def extended(
    settings: Settings, database: Database, run_id: str, *, participants: int | None, models: Sequence[str]
) -> Study:
    """The study of a run, with more participants or further models, and the judge and budget that it has by now."""
    run = store.load_run(database, run_id)
    cards = read_cards(settings.models)
    for model in models:
        find_card(model, cards)
    path, survey = Path(f"study of run {run_id}"), store.load_survey(database, run.survey)
    study = parse_study(run.study, path=path, cards=cards, survey=survey, name=run_id)
    return replace(
        study,
        participants=participants or max(cell.participants for cell in run.cells),
        models=tuple(dict.fromkeys((*study.models, *(cell.model for cell in run.cells), *models))),
        judge=judgements.wanted(database, run_id),
        budget=budget_of(database, run_id),
    )


def run_here(settings: Settings, database: Database, study: Study, **options: Any) -> Snapshot:
    """Enqueue, work and report on this machine; ``options`` are those of ``jobs.local.work``."""
    check_models(settings, study)

    def prepare() -> None:
        producer.enqueue(database, None, study)
        store.cancel(database, study.name, cancelled=False)

    return with_report(settings, database, work(settings, database, study.name, prepare, **options))


def resume_here(settings: Settings, database: Database, run_id: str, **options: Any) -> Snapshot:
    """Go on with a run on this machine until it is done; ``options`` are those of ``jobs.local.work``."""
    cards = read_cards(settings.models)
    for model in outbox.unfinished_models(database, run_id):
        check_card(find_card(model, cards), cache=settings.cache)
    now = work(settings, database, run_id, partial(_reopen, database, None, run_id), **options)
    return with_report(settings, database, now)


def with_report(settings: Settings, database: Database, now: Snapshot) -> Snapshot:
    """A look at a run; where it is finished and the file of its report is gone, that is written again first."""
    if now.reporting and now.missing:
        current_report(settings, database, now.run, None)
        return snapshot(database, now.run)
    return now


def resume(settings: Settings, database: Database, run_id: str) -> int:
    """Publish what is unfinished again. Returns the number of messages that the broker took."""
    return _reopen(database, app_if_up(settings), run_id)


def _reopen(database: Database, app: Celery | None, run_id: str) -> int:
    store.cancel(database, run_id, cancelled=False)
    recovery.free_expired(database)
    halt_if_spent(database, run_id)
    outbox.publish_again(database, run=run_id)
    return producer.publish(database, app, run=run_id) if app is not None else 0


def cancel(database: Database, run_id: str) -> bool:
    """Cancel a run. Returns False, and changes nothing, where it is finished."""
    finished = snapshot(database, run_id).state == "finished"
    if not finished:
        store.cancel(database, run_id)
    return not finished


def ask_again(settings: Settings, database: Database, run_id: str, *, states: Sequence[str], rewind: bool) -> int:
    """Have answers asked again. Returns how many answers, and participants that were set aside, are to be asked."""
    store.design_of(database, run_id)  # raises UnknownRun
    ended = [AnswerState(state) for state in states if state != "missing"]
    asked = (recovery.rewind if rewind else recovery.ask_again)(database, run_id, ended)
    if "missing" in states:  # no state of an answer: participants that were set aside leave answers missing
        asked += recovery.reopen_quarantined(database, run_id) + recovery.reopen_unweighed(database, run_id)
    app = app_if_up(settings)
    if app is not None:
        producer.publish(database, app, run=run_id)
    return asked


def set_budget(settings: Settings, database: Database, run_id: str, budget: float) -> None:
    """Give a run another budget, with which its models and its judge go on as far as it lasts."""
    judge, cards = judgements.wanted(database, run_id), read_cards(settings.models)
    models = [*(cell.model for cell in store.load_run(database, run_id).cells), *([judge.model] if judge else ())]
    check_prices(budget, [model for model in models if model in cards], cards)  # without a card nobody is asked
    change_budget(database, run_id, budget)


def keyless(settings: Settings, study: Study) -> str:
    """Which models of a study have no key here, so that others have to have it; nothing where none needs one."""
    cards = read_cards(settings.models)
    without = [model for model in study.asked if missing_key(find_card(model, cards))]
    return f"no key here for {', '.join(without)}: the workers that ask them need one" if without else ""
