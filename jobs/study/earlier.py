"""What earlier runs showed of a study's models: how fast they answered, how validly, in how many tokens."""

from __future__ import annotations

from sqlalchemy.exc import DatabaseError, OperationalError

from defsurvey.jobs.settings import BadSetting, Settings
from defsurvey.jobs.study.plan import Earlier
from defsurvey.jobs.study.study import Study
from defsurvey.storage.database import BadDatabaseUrl, Database
from defsurvey.storage.runs import judge_batches
from defsurvey.storage.runs.paces import paces, tokens_seen, validities
from defsurvey.storage.schema import HEAD, current_revision


def read_earlier(settings: Settings, study: Study) -> Earlier:
    """What the database holds of earlier runs, read as it is.

    Nothing is known where there is none yet, where it does not answer, or where it has another schema, which whoever
    writes to it changes.
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
