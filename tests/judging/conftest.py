"""A finished run in either database, and a server that judges it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from defsurvey.jobs.settings import Settings
from defsurvey.storage.database import Database
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.runs.store import NewCell
from tests.jobs.ledger_rows import change
from tests.judging.provider import JudgeServer, judging
from tests.storage.conftest import (  # noqa: F401 -- fixtures
    database,
    empty_url,
    migrated_postgres,
    migrated_sqlite,
    postgres,
    postgresql_url,
    sqlite_url,
)
from tests.storage.small_run import SURVEY, answer, claimed, new_cell, started

KEY = "sk-marked-0123456789abcdef-KEY"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest) -> str:
    """URL of a database with the schema and nothing in it; `make test` takes PostgreSQL in some files only."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    """A fair judge behind a server."""
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setattr("defsurvey.workers.judging.batches.FIRST_LOOK", 0.01)
    with judging() as local:
        yield local


@pytest.fixture
def settings(tmp_path: Path, server: JudgeServer) -> Settings:
    """Settings of a home whose cards name the server."""
    cards = tmp_path / "cards.toml"
    cards.write_text(server.cards())
    return Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path / "home"), "DEFSURVEY_MODELS": str(cards)})


def say(number: int, item: int, cell: int) -> tuple[AnswerState, str]:
    """What participant ``number`` said to its question ``item``: some is flat, unreadable, refused or nothing."""
    kinds = {
        0: (AnswerState.UNPARSABLE, "I like turtles"),
        1: (AnswerState.REFUSED, "I will not say"),
        2: (AnswerState.UNPARSABLE, " "),
        3: (AnswerState.FAILED, ""),
        4: (AnswerState.ANSWERED, "Answer: 2\nExplanation: The earth is flat."),
    }
    plain = (
        AnswerState.ANSWERED,
        f"Answer: 2\nExplanation: So says citizen {number} of cell {cell} to question {item}.",
    )
    return kinds.get(number, plain) if item == 0 else plain


def nowhere(cell: NewCell) -> NewCell:
    """A cell whose participants live in no region: the survey knows none."""
    return replace(cell, draws=tuple(replace(draws, region=None) for draws in cell.draws))


def wants_judging(database: Database, sample: float = 0.02) -> None:  # noqa: F811 -- no fixture here
    """Let the run's study name the judge."""
    change(database, f"""UPDATE run SET judge = '{{"model": "judge", "sample": {sample}}}'""")


Answered = Callable[..., int]


@pytest.fixture
def answered(database: Database) -> Answered:  # noqa: F811 -- the fixture
    """Writes a run of two models and a further condition, every answer given; returns how many can be judged."""

    def write(participants: int = 12) -> int:
        cells = [
            new_cell("model-a", participants=participants),
            new_cell("model-b", participants=participants),
            new_cell("model-a", participants=2, condition="none"),
        ]
        people = started(database, *map(nowhere, cells))
        ledger = Ledger(database, owner="host:1:here")
        for place, who in enumerate(people):
            held = claimed(ledger, who)
            number = place % participants
            for item in range(3):
                state, completion = say(number, item, place // participants)
                shown = SURVEY.question("ABC"[item]).codes
                told: dict[str, Any] = {
                    "state": state,
                    "completion": completion,
                    "shown": shown,
                    "reason": "it names no option",
                }
                given = answer(held, item, **told)
                ledger.checkpoint(held, given, ())
        return 2 * (3 * participants - 1)

    return write
