"""An error that nobody foresaw is counted against the participant that was asked, if it says anything of it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DataError, ProgrammingError

from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox
from defsurvey.storage.runs.recovery import QUARANTINE_AFTER
from defsurvey.storage.runs.store import OtherEngine
from defsurvey.storage.schema import migrate
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.scripted import ScriptedEngine
from defsurvey.workers.models import ModelError
from defsurvey.workers.runner import participant_runner as stages
from defsurvey.workers.runner.participant_runner import Outcome, ParticipantRunner
from tests.workers.working import add_run, make_stage, respondent, rows

STANDING = "SELECT status, deaths, lease_owner, published_at FROM participant ORDER BY id"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database with a run of two participants."""
    with Database(f"sqlite:///{tmp_path / 'x.db'}", synchronous="off") as opened:
        migrate(opened)
        add_run(opened)
        yield opened


@pytest.fixture
def failing(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Exception], ParticipantRunner]]:
    """Makes a stage that fails whenever it is to ask the first participant."""
    made = make_stage(database, {"quick": respondent("quick")}, [])
    interview = stages.interview

    def failing_with(error: Exception) -> ParticipantRunner:
        def asked(asking: Any, **options: Any) -> Any:
            if asking.participant.id == 1:
                raise error
            return interview(asking, **options)

        monkeypatch.setattr(stages, "interview", asked)
        return made

    yield failing_with
    made.close()


@pytest.mark.parametrize("error", [ValueError("too many digits"), DataError("", {}, ValueError("out of range"))])
def test_who_cannot_be_asked_is_set_aside_and_the_run_goes_on(
    database: Database,
    failing: Callable[[Exception], ParticipantRunner],
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """Each attempt tells the error; the last one also that the participant is set aside."""
    stage = failing(error)
    for attempt in range(QUARANTINE_AFTER):
        assert rows(database, STANDING)[0] == ("open", attempt, None, None)
        with pytest.raises(type(error)):
            stage.simulate(1)
    assert rows(database, STANDING)[0] == ("quarantined", QUARANTINE_AFTER, None, None)
    assert f"participant 1 is set aside, 3 attempts to ask it failed: {type(error).__name__}: " in caplog.text
    assert stage.simulate(1) is Outcome.NOT_CLAIMED
    assert stage.simulate(2) is Outcome.FINISHED
    assert outbox.unfinished(database, "r") == 0


@pytest.mark.parametrize(
    "error",
    [
        OtherEngine("others"),
        ModelError("no card"),
        ProgrammingError("", {}, ValueError("no such column")),
        OSError(errno.EMFILE, "Too many open files"),
        MemoryError(),
    ],
)
def test_an_error_that_says_nothing_of_the_participant_is_not_counted(
    database: Database, failing: Callable[[Exception], ParticipantRunner], error: Exception
) -> None:
    """However often it comes: weights, cards, schema and machine are put right by hand; everybody is asked then."""
    stage = failing(error)
    for _ in range(QUARANTINE_AFTER + 1):
        with pytest.raises(type(error)):
            stage.simulate(1)
    assert rows(database, STANDING)[0] == ("open", 0, None, None)


def test_an_engine_that_cannot_say_what_it_is_serves_nobody(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be asked the same for each participant, and none of them is at fault."""

    def broken(_engine: ScriptedEngine) -> None:
        raise ValueError("no version")

    monkeypatch.setattr(ScriptedEngine, "describe", broken)
    stage = make_stage(database, {"quick": respondent("quick")}, [])
    for _ in range(QUARANTINE_AFTER):
        with pytest.raises(EngineUnavailable, match=r"^model quick: cannot be described: ValueError: no version$"):
            stage.simulate(1)
    assert rows(database, STANDING)[0] == ("open", 0, None, None)
    assert caplog.records[0].exc_info is not None
    stage.close()
