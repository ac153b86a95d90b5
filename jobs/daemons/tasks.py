"""The Celery tasks: load, call pure code, save. One that is delivered twice, or late, does nothing the second time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import redis
from celery import Celery, signals
from celery.exceptions import Reject
from celery.worker import state as worker_state
from pydantic import Field
from sqlalchemy.exc import SQLAlchemyError

from defsurvey.jobs.broker import JUDGE, REPORT, SIMULATE, report_failure_key
from defsurvey.jobs.daemons.reports import write_report
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.study import StudyError
from defsurvey.jobs.system import DISK, UNAVAILABLE, HomeInUse
from defsurvey.storage.database import Database
from defsurvey.storage.files import path_under
from defsurvey.storage.runs import judgements, outbox, store
from defsurvey.storage.runs.judgements import Ended
from defsurvey.storage.runs.run import NAME
from defsurvey.storage.runs.store import OtherEngine
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.models import ModelError
from defsurvey.workers.runner.faults import OUTAGE
from defsurvey.workers.runner.participant_runner import Outcome, ParticipantRunner

log = logging.getLogger(__name__)

#: What messages may say, see ``workers.runner.dead_letters``: a row's number, a revision, a run's name.
RowId = Annotated[int, Field(ge=1, lt=2**63)]
Revision = Annotated[int, Field(ge=0, lt=2**63)]
RunName = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]

Leaving = Callable[[], bool]  #: whether this process is to end

_FAILURE_SECONDS = 3600  #: seconds for which the broker remembers why a report could not be built
_REPORT_PATIENCE = 5.0  #: seconds that a reporter waits for another process that builds the report of a run


def register_simulation(app: Celery, stage: ParticipantRunner, *, only: str | None = None) -> None:
    """Let this process simulate participants, of one run only or of all; messages of others go back to the outbox."""

    @app.task(name=SIMULATE, shared=False)  # type: ignore[untyped-decorator]  # Celery ships no types
    def simulate_participant(participant: RowId) -> None:
        try:
            if only is not None and outbox.put_back(stage.database, participant, unless_of=only):
                return
            outcome = stage.simulate(participant)
        except (EngineUnavailable, OtherEngine, ModelError) as error:
            log.error("%s", error)
            stage.stop()  # Celery would wait for whoever is in hand, down to the last question
            worker_state.should_stop = UNAVAILABLE
            raise Reject(str(error), requeue=True) from error
        except SQLAlchemyError as error:
            log.warning("database: %s", error)
            raise Reject(str(error), requeue=True) from error
        if outcome is Outcome.RELEASED:
            raise Reject("this worker stops", requeue=True)


def register_reports(app: Celery, database: Database, folder: Path, broker: redis.Redis) -> None:
    """Let this process build reports, in a folder for each run; the broker keeps why one cannot be built."""
    # The end of a run and the reconciler may ask for the same report at the same moment; in two threads the two would
    # take turns at every step. Whoever comes second finds it built.
    building = threading.Lock()

    @app.task(name=REPORT, shared=False)  # type: ignore[untyped-decorator]  # Celery ships no types
    def build_report(run: RunName, revision: Revision, judgements: Revision = 0) -> None:
        if not store.has_run(database, run):
            log.warning("a report is asked for of run %r, which is not there", run)
            return
        with building:
            built = outbox.latest_report(database, run)
            shown = (-1, -1) if built is None else (built.revision, built.judgements)
            if built is None or shown < (revision, judgements) or not Path(built.html).is_file():
                try:
                    write_report(database, run, path_under(folder, run), patience=_REPORT_PATIENCE)
                except HomeInUse as error:
                    log.info("report of %s: %s", run, error)
                    return  # the reconciler asks again; other runs' reports do not wait for this one
        broker.delete(report_failure_key(run))

    def failed(*, exception: BaseException, args: tuple[str, ...], **_: Any) -> None:
        log.error("report of %s: %s", args[0], exception)
        full = isinstance(exception, OSError) and exception.errno in DISK
        if not full and not isinstance(exception, (*OUTAGE, redis.RedisError)):  # else the reconciler asks again
            broker.set(report_failure_key(args[0]), str(exception), ex=_FAILURE_SECONDS)

    signals.task_failure.connect(failed, sender=build_report, weak=False)


def register_judging(
    app: Celery,
    settings: Settings,
    database: Database,
    *,
    only: str | None = None,
    device: str = "cpu",
    leaving: Leaving = lambda: False,
) -> None:
    """Let this process judge finished runs whose study names a judge, one after the other, unless it is ``leaving``."""
    # Judging takes hours: for a second run there must be no waiting on a thread that a report may need.
    judging = threading.Lock()

    @app.task(name=JUDGE, shared=False)  # type: ignore[untyped-decorator]  # Celery ships no types
    def judge_answers(run: RunName) -> None:
        if only not in (None, run) or leaving() or not judging.acquire(blocking=False):
            return  # the reconciler asks again
        try:
            judge_if_due(settings, database, run, device=device, leaving=leaving)
        finally:
            judging.release()


def judge_if_due(
    settings: Settings, database: Database, run: str, *, device: str = "cpu", leaving: Leaving = lambda: False
) -> None:
    """Judge a run by the judge that its study names, unless that has been done.

    Whatever keeps the judge from being asked is noted as the end of its judging, which a run would else wait for
    without end; an outage of the database, or the end of this process, is not, since the reconciler asks again.
    """
    ledger = outbox.revision(database, run)
    if not judgements.is_due(database, run):
        return  # judged meanwhile
    from defsurvey.jobs.judging.judge import BeingJudged, JudgingLeft, in_words, judge_run

    try:
        log.info("%s", in_words(judge_run(settings, database, run, device=device, leaving=leaving)))
    except (BeingJudged, JudgingLeft) as error:
        log.info("%s", error)
    except OUTAGE as error:
        log.warning("judging of run %s: database: %s", run, error)
    except Exception as error:
        foreseen = isinstance(error, (EngineUnavailable, ModelError, StudyError))
        reason = str(error) if foreseen else f"{type(error).__name__}: {error}"
        log.error("judging of run %s: %s", run, reason, exc_info=not foreseen)
        wanted = judgements.wanted(database, run)
        if wanted is not None and judgements.is_due(database, run):
            judgements.end(database, run, wanted, judge=None, ended=Ended.INCOMPLETE, told=reason, ledger=ledger)
