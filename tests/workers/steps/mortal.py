"""A worker that kills itself before a given request: `python -m tests.workers.steps.mortal URL PARTICIPANT REQUEST`."""

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from defsurvey.storage.database import Database
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.workers.engines.base import Completion, Engine, Request
from defsurvey.workers.runner.participant_runner import ParticipantRunner
from tests.workers.citizens import Asked
from tests.workers.working import make_stage, respondent

CARDS = {"quick": respondent("quick")}


class Mortal(Asked):
    """Its process is gone when it is asked so many times."""

    def __init__(self, request: int) -> None:
        super().__init__()
        self._last = request

    def submit(self, request: Request) -> Future[Completion]:
        if len(self.requests) == self._last:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().submit(request)


def worker(database: Database, engine: Asked, *, owner: str) -> ParticipantRunner:
    made = make_stage(database, CARDS, [])
    made.ledger = Ledger(database, owner=owner)

    @contextmanager
    def served(*_what: object) -> Iterator[Engine]:
        yield engine

    made._engine = served  # type: ignore[method-assign, assignment]
    return made


if __name__ == "__main__":
    with Database(sys.argv[1]) as reached:
        worker(reached, Mortal(int(sys.argv[3])), owner="mortal:1:x").simulate(int(sys.argv[2]))
