"""What becomes of a participant whose interview ended in an error that nobody foresaw.

All others would be there again at each attempt.
"""

from __future__ import annotations

import logging

from sqlalchemy.exc import DataError, SQLAlchemyError

from defsurvey.storage.database import Database
from defsurvey.storage.runs.deaths import QUARANTINE_AFTER, count_failure
from defsurvey.storage.runs.run import Participant
from defsurvey.storage.runs.served import OtherEngine
from defsurvey.workers.models import ModelError
from defsurvey.workers.runner.patience import GaveUp

log = logging.getLogger(__name__)

#: What the weights, the cards, the database, the machine (files, memory) or the end of the process are at fault for.
_OTHERS_FAULT = (OtherEngine, ModelError, SQLAlchemyError, OSError, MemoryError, GaveUp)


def blame(database: Database, held: Participant, error: Exception) -> None:
    """Count an error against the participant that was asked, unless it says nothing of it; the third sets it aside.

    A value that the database cannot hold (``DataError``) is of the participant's answer.
    """
    if isinstance(error, _OTHERS_FAULT) and not isinstance(error, DataError):
        return
    if count_failure(database, held):
        told = f"{type(error).__name__}: {error}"
        log.error("participant %d is set aside, %d attempts to ask it failed: %s", held.id, QUARANTINE_AFTER, told)
