"""What the verbs of the command line do, from settings and options to a result."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from jobs import local, producer, progress
from jobs.broker import EmbeddedBroker
from jobs.celery_app import make_app
from jobs.settings import Settings
from jobs.study import Study, parse_study, read_study
from jobs.study_keys import check_probabilities
from storage import outbox, store
from storage import retry as retrying
from storage.budget import change_budget, halt_if_spent
from storage.database import Database
from storage.deaths import free_expired
from storage.run import AnswerState
from workers.engines.opening import check_card
from workers.models import find_card, read_cards

if TYPE_CHECKING:
    from celery import Celery
    from rich.console import Console


#: Not a state of an answer: participants that were set aside leave answers missing.
MISSING = "missing"


def console(*, stderr: bool = False) -> Console:
    """A terminal, or a plain stream; progress goes to stderr and results to stdout."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 120)


def read(settings: Settings, path: Path, *, name: str | None = None, pilot: int | None = None) -> Study:
    """A study file, validated, with the models it names checked."""
    study = read_study(path, cards=read_cards(settings.models), name=name)
    return study if pilot is None else study.pilot(pilot)


def _check_models(settings: Settings, study: Study) -> None:
    cards = read_cards(settings.models)
    check_probabilities(study.conditions, study.models, cards)
    for model in (*study.models, *([study.judge.model] if study.judge else ())):
        check_card(find_card(model, cards), cache=settings.cache)


def check_retired(settings: Settings, study: Study) -> None:
    """Refuse models that nobody serves any more; whether keys and weights are here is asked when a run is enqueued.

    Raises:
        EngineUnavailable: a model is retired; the message names its successor.
    """
    cards = read_cards(settings.models)
    for model in (*study.models, *([study.judge.model] if study.judge else ())):
        if find_card(model, cards).retired:
            check_card(find_card(model, cards), cache=settings.cache)


def enqueue(settings: Settings, database: Database, study: Study, *, extend: bool = False) -> producer.Enqueued:
    """Write the run and publish what a broker that is up will take; the rest waits in the outbox."""
    _check_models(settings, study)
    return producer.enqueue(database, _app_if_up(settings), study, extend=extend)


def extended(
    settings: Settings, database: Database, run_id: str, *, participants: int | None, models: Sequence[str]
) -> Study:
    """The study of a run as it was enqueued, with more participants or further models."""
    run = store.load_run(database, run_id)
    cards = read_cards(settings.models)
    for model in models:
        find_card(model, cards)
    study = parse_study(
        run.study,
        path=Path(f"study of run {run_id}"),
        cards=cards,
        survey=store.load_survey(database, run.survey),
        name=run_id,
    )
    present = max(cell.participants for cell in run.cells)
    already = list(dict.fromkeys(cell.model for cell in run.cells))
    return producer.extended(study, participants=participants or present, models=[*already, *models])


def run_here(
    settings: Settings, database: Database, study: Study, *, workers: int, worker_options: Sequence[str]
) -> progress.Snapshot:
    """Enqueue, work and report on this machine."""
    _check_models(settings, study)

    def prepare() -> str:
        done = producer.enqueue(database, None, study)
        store.cancel(database, done.run, cancelled=False)
        return done.run

    return _work(settings, database, prepare, workers, worker_options)


def resume_here(
    settings: Settings, database: Database, run_id: str, *, workers: int, worker_options: Sequence[str]
) -> progress.Snapshot:
    """Go on with a run on this machine until it is done."""

    def prepare() -> str:
        _reopen(database, None, run_id)
        return run_id

    return _work(settings, database, prepare, workers, worker_options)


def resume(settings: Settings, database: Database, run_id: str) -> int:
    """Publish what is unfinished again. Returns the number of messages that the broker took."""
    app = _app_if_up(settings)
    return _reopen(database, app, run_id)


def _reopen(database: Database, app: Celery | None, run_id: str) -> int:
    store.cancel(database, run_id, cancelled=False)
    free_expired(database)
    halt_if_spent(database, run_id)
    outbox.publish_again(database, run=run_id)
    return producer.publish(database, app, run=run_id) if app is not None else 0


def set_budget(database: Database, run_id: str, budget: float) -> None:
    """Give a run another budget, with which its models and its judge go on as far as it lasts.

    Raises:
        storage.store.UnknownRun: there is no such run.
    """
    store.design_of(database, run_id)
    change_budget(database, run_id, budget)


def _work(
    settings: Settings,
    database: Database,
    prepare: Callable[[], str],
    workers: int,
    worker_options: Sequence[str],
) -> progress.Snapshot:
    def interrupted(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    return local.work(
        settings,
        database,
        prepare=prepare,
        workers=workers,
        worker_options=worker_options,
        console=console(stderr=True),
    )


def _app_if_up(settings: Settings) -> Celery | None:
    """The broker's app; None where the embedded broker is not running, since nobody would listen."""
    if settings.broker_url is not None:
        return make_app(settings.broker_url, visibility_timeout=settings.visibility_timeout)
    broker = EmbeddedBroker(settings.home)
    return make_app(broker.url, visibility_timeout=settings.visibility_timeout) if broker.alive() else None


def retry(settings: Settings, database: Database, run_id: str, *, states: Sequence[str], rewind: bool) -> int:
    """Have answers asked again. Returns how many answers, and participants that were set aside, are to be asked.

    Raises:
        storage.store.UnknownRun: there is no such run.
    """
    store.design_of(database, run_id)
    ended = [AnswerState(state) for state in states if state != MISSING]
    asked = retrying.rewind(database, run_id, ended) if rewind else retrying.ask_again(database, run_id, ended)
    if MISSING in states:
        asked += retrying.reopen_quarantined(database, run_id)
    app = _app_if_up(settings)
    if app is not None:
        producer.publish(database, app, run=run_id)
    return asked


def named_or_newest(database: Database, run_id: str | None) -> str:
    """The run named, or the newest.

    Raises:
        storage.store.UnknownRun: there is none.
    """
    if run_id is not None:
        return run_id
    runs = store.run_ids(database)
    if not runs:
        raise store.UnknownRun("yet; defsurvey run STUDY makes one")
    return runs[0]


def watch_run(database: Database, run_id: str) -> progress.Snapshot:
    """Show a run's progress until it is finished or cancelled."""
    return progress.watch(
        lambda: progress.snapshot(database, run_id),
        lambda now: now.state in ("finished", "cancelled", "budget reached"),
        console(),
        each=lambda: None,
    )
