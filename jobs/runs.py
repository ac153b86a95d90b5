"""What verbs do with runs: plan, enqueue, extend, go on, cancel, ask again; and what they say of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from sqlalchemy.exc import DatabaseError, OperationalError

from defsurvey.jobs.local import work
from defsurvey.jobs.progress.following import Look, watch
from defsurvey.jobs.progress.snapshot import Snapshot, snapshot
from defsurvey.jobs.queue.broker import BrokerUnavailable, EmbeddedBroker, check_reachable, client_of
from defsurvey.jobs.queue.celery_app import make_app
from defsurvey.jobs.results import current_report
from defsurvey.jobs.settings import BadSetting, Settings
from defsurvey.jobs.study import producer
from defsurvey.jobs.study.plan import Earlier, Plan, plan
from defsurvey.jobs.study.requirements import check_conditions, check_prices
from defsurvey.jobs.study.study import Study
from defsurvey.jobs.study.study_file import parse_study, read_study
from defsurvey.storage.database import BadDatabaseUrl, Database
from defsurvey.storage.runs import judge_batches, judgements, outbox, retry, store
from defsurvey.storage.runs.budget import budget_of, change_budget, halt_if_spent
from defsurvey.storage.runs.deaths import free_expired, last_heartbeat
from defsurvey.storage.runs.paces import paces, tokens_seen, validities
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.runs.waiting import before
from defsurvey.storage.schema import HEAD, current_revision
from defsurvey.workers.engines.keys import missing_key
from defsurvey.workers.engines.opening import check_card
from defsurvey.workers.models import find_card, read_cards
from defsurvey.workers.runner.dead_letters import counts

if TYPE_CHECKING:
    from celery import Celery
    from rich.console import Console

#: Not a state of an answer: participants that were set aside leave answers missing.
MISSING = "missing"


def read(settings: Settings, path: Path, *, name: str | None = None, pilot: int | None = None) -> Study:
    """A study file, validated; ``pilot``: only that many participants of each cell."""
    study = read_study(path, cards=read_cards(settings.models), name=name)
    return study if pilot is None else study.pilot(pilot)


def _models_of(study: Study) -> tuple[str, ...]:
    """The models that a study asks, its judge among them."""
    return tuple(dict.fromkeys((*study.models, *([study.judge.model] if study.judge else ()))))


def planned(settings: Settings, study: Study) -> Plan:
    """What a study would cost, by what the database says of earlier runs.

    Models that nobody serves any more are refused; whether keys and weights are here is asked when a run is enqueued.

    Raises:
        EngineUnavailable: a model is retired; the message names its successor.
    """
    cards = read_cards(settings.models)
    for model in _models_of(study):
        if find_card(model, cards).retired:
            check_card(find_card(model, cards), cache=settings.cache)
    return plan(study, cards=cards, earlier=earlier(settings, study))


def earlier(settings: Settings, study: Study) -> Earlier:
    """How fast a study's models answered before, how many answers were valid, and the tokens that it all took.

    The database is read as it is. Nothing is known where there is none yet, where it does not answer, or where it has
    another schema, which whoever writes to it changes.
    """
    try:
        with Database(settings.database_url, synchronous=settings.synchronous) as database:
            if database.file is not None and not database.file.exists():
                return Earlier()  # and none is made
            with database.read() as connection:
                known = current_revision(connection) == HEAD
            if not known:
                return Earlier()
            survey, run = study.survey.id, study.name
            return Earlier(
                paces=paces(database, study.models),
                validities=validities(database, study.models, run=run),
                tokens=tokens_seen(database, study.models, survey=survey, questions=study.questions, run=run),
                judge=judge_batches.tokens_seen(database, run, study.judge.key) if study.judge else None,
            )
    except BadDatabaseUrl as error:
        raise BadSetting(f"environment variable DEFSURVEY_DATABASE_URL: {error.told}") from None
    except DatabaseError as error:
        if type(error) not in (OperationalError, DatabaseError):
            raise  # a defect of ours, not of the place
        return Earlier()


def enqueue(settings: Settings, database: Database, study: Study, *, extend: bool = False) -> producer.Enqueued:
    """Write the run and publish what a broker that is up will take; the rest waits in the outbox.

    One that is there already goes on, also where it was cancelled; one that is extended stays as it was. Where others
    do the work, on a broker that is named, keys have to be with them and not here.
    """
    _check_models(settings, study, keys=settings.broker_url is None)
    app = _app_if_up(settings)
    done = producer.enqueue(database, app, study, extend=extend)
    if extend or not store.load_run(database, done.run).cancelled:
        return done
    published = _reopen(database, app, done.run)
    return replace(done, published=published, waiting=outbox.waiting(database, done.run))


def _check_models(settings: Settings, study: Study, *, keys: bool = True) -> None:
    cards, models = read_cards(settings.models), _models_of(study)
    check_conditions(study.conditions, study.models, cards, study.protocol)
    check_prices(study.budget, models, cards)
    for model in models:
        check_card(find_card(model, cards), cache=settings.cache, key=keys)


def extended(
    settings: Settings, database: Database, run_id: str, *, participants: int | None, models: Sequence[str]
) -> Study:
    """The study of a run, with more participants or further models, and the judge and budget that it has by now."""
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
    study = replace(study, judge=judgements.wanted(database, run_id), budget=budget_of(database, run_id))
    present = max(cell.participants for cell in run.cells)
    already = list(dict.fromkeys(cell.model for cell in run.cells))
    return producer.extended(study, participants=participants or present, models=[*already, *models])


def run_here(settings: Settings, database: Database, study: Study, **options: Any) -> Snapshot:
    """Enqueue, work and report on this machine; ``options`` are those of ``jobs.local.work``."""
    _check_models(settings, study)

    def prepare() -> str:
        run = producer.enqueue(database, None, study).run
        store.cancel(database, run, cancelled=False)
        return run

    return with_report(settings, database, work(settings, database, prepare, **options))


def resume_here(settings: Settings, database: Database, run_id: str, **options: Any) -> Snapshot:
    """Go on with a run on this machine until it is done; ``options`` are those of ``jobs.local.work``."""
    cards = read_cards(settings.models)
    for model in outbox.unfinished_models(database, run_id):
        check_card(find_card(model, cards), cache=settings.cache)

    def prepare() -> str:
        _reopen(database, None, run_id)
        return run_id

    return with_report(settings, database, work(settings, database, prepare, **options))


def with_report(settings: Settings, database: Database, now: Snapshot) -> Snapshot:
    """A look at a run; where it is finished and the file of its report is gone, that is written again first."""
    if not now.reporting or not now.missing:
        return now
    current_report(settings, database, now.run, None)
    return snapshot(database, now.run)


def resume(settings: Settings, database: Database, run_id: str) -> int:
    """Publish what is unfinished again. Returns the number of messages that the broker took."""
    return _reopen(database, _app_if_up(settings), run_id)


def _reopen(database: Database, app: Celery | None, run_id: str) -> int:
    store.cancel(database, run_id, cancelled=False)
    free_expired(database)
    halt_if_spent(database, run_id)
    outbox.publish_again(database, run=run_id)
    return producer.publish(database, app, run=run_id) if app is not None else 0


def _app_if_up(settings: Settings) -> Celery | None:
    """The broker's app; None where it does not answer, or, for the embedded one, where nobody would listen."""
    if settings.broker_url is not None:
        try:
            check_reachable(settings.broker_url)
        except BrokerUnavailable:
            return None  # see ``unpublished``
        return make_app(settings.broker_url, visibility_timeout=settings.visibility_timeout)
    broker = EmbeddedBroker(settings.home)
    return make_app(broker.url, visibility_timeout=settings.visibility_timeout) if broker.alive() else None


def cancel(database: Database, run_id: str) -> bool:
    """Cancel a run. Returns False, and changes nothing, where it is finished."""
    if snapshot(database, run_id).state == "finished":
        return False
    store.cancel(database, run_id)
    return True


def ask_again(settings: Settings, database: Database, run_id: str, *, states: Sequence[str], rewind: bool) -> int:
    """Have answers asked again. Returns how many answers, and participants that were set aside, are to be asked."""
    store.design_of(database, run_id)  # raises UnknownRun
    ended = [AnswerState(state) for state in states if state != MISSING]
    asked = retry.rewind(database, run_id, ended) if rewind else retry.ask_again(database, run_id, ended)
    if MISSING in states:
        asked += retry.reopen_quarantined(database, run_id) + retry.reopen_unweighed(database, run_id)
    app = _app_if_up(settings)
    if app is not None:
        producer.publish(database, app, run=run_id)
    return asked


def set_budget(settings: Settings, database: Database, run_id: str, budget: float) -> None:
    """Give a run another budget, with which its models and its judge go on as far as it lasts.

    Raises:
        StudyError: it has a model, or a judge, that its provider bills and whose card has no prices.
    """
    judge, cards = judgements.wanted(database, run_id), read_cards(settings.models)
    models = [*(cell.model for cell in store.load_run(database, run_id).cells), *([judge.model] if judge else ())]
    check_prices(budget, [model for model in models if model in cards], cards)  # without a card nobody is asked
    change_budget(database, run_id, budget)


def has_worker(settings: Settings, database: Database) -> bool:
    """Whether any worker has been heard of within the time of a lease."""
    age = last_heartbeat(database)
    return age is not None and age < settings.lease_seconds


def keyless(settings: Settings, study: Study) -> str:
    """Which models of a study have no key here, so that others have to have it; nothing where none needs one."""
    cards = read_cards(settings.models)
    without = [model for model in _models_of(study) if missing_key(find_card(model, cards))]
    return f"no key here for {', '.join(without)}: the workers that ask them need one" if without else ""


def unpublished(settings: Settings, database: Database, run_id: str) -> str:
    """Why messages of a run have not reached a broker and what sends them; nothing where all have."""
    number = outbox.waiting(database, run_id)
    if not number:
        return ""
    waiting = f"{number} messages wait in the outbox"
    if settings.broker_url is None:
        return f"no broker: {waiting} until defsurvey reconciler runs beside a worker"
    try:
        check_reachable(settings.broker_url)
    except BrokerUnavailable as error:
        return f"{error}; {waiting} until it answers and defsurvey reconciler runs"
    return f"{waiting} for defsurvey reconciler"


def dead_letters(settings: Settings) -> dict[str, int] | None:
    """Queue -> how many of its items were put aside as dead letters; None where the broker does not answer."""
    embedded = EmbeddedBroker(settings.home)
    if settings.broker_url is None and not embedded.alive():
        return None
    try:
        with client_of(settings.broker_url or embedded.url) as client:
            return counts(client)
    except (redis.RedisError, ValueError):  # ValueError: a port that is none
        return None


def waits_behind(settings: Settings, database: Database, now: Snapshot) -> dict[str, int]:
    """Other run -> participants that workers take up before this run, where nobody of it is asked yet.

    Only a broker that the settings name is shared by runs: ``defsurvey run`` keeps others out of the embedded one.
    """
    shared = settings.broker_url is not None
    return before(database, now.run) if shared and now.state == "waiting" else {}


def named_or_newest(database: Database, run_id: str | None) -> str:
    """The run named, or the newest; raises ``UnknownRun`` where there is none."""
    if run_id is not None:
        return run_id
    runs = store.run_ids(database)
    if not runs:
        raise store.UnknownRun(None)
    return runs[0]


def watch_run(database: Database, run_id: str, shown: Console) -> Snapshot:
    """Show a run's progress until it is finished, cancelled or out of budget. Returns the last look at it."""
    return watch(Look(database, run_id), lambda now: now.state in ("finished", "cancelled", "budget reached"), shown)
