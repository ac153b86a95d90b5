"""A run of scripted respondents in a real ledger, and stages to work on it, for the tests of the worker's own parts."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import text

from defsurvey.storage.database import Database
from defsurvey.storage.runs import store
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.run import Condition, Protocol
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.models import ModelCard
from defsurvey.workers.runner.participant_runner import ParticipantRunner
from defsurvey.workers.simulation.methods import method_of
from tests.workers.citizens import DEF, SURVEY, US

QUESTIONS = ("family", "divorce", "more0", "more1")
PROTOCOL = Protocol(seed=7)
ASKED = replace(SURVEY, fingerprint="f" * 64)


def respondent(name: str, *, latency: float = 0.0, rule: str = "uniform") -> ModelCard:
    return ModelCard(name=name, engine="scripted", respondent=rule, latency_seconds=latency)


def add_run(
    database: Database,
    run: str = "r",
    *,
    models: tuple[str, ...] = ("quick",),
    participants: int = 2,
    condition: Condition = DEF,
    survey: Survey = ASKED,
) -> None:
    """Write a run of four questions: one cell for each model."""
    draws = tuple(method_of(condition).draw(PROTOCOL, condition, US, index) for index in range(participants))
    cells = tuple(
        store.NewCell(model=model, culture="us", condition=condition, language="en", draws=draws) for model in models
    )
    new = store.NewRun(
        id=run, survey=survey, questions=QUESTIONS, protocol=PROTOCOL, design="d", study="s", cells=cells
    )
    store.add_run(database, new)


def make_stage(
    database: Database, cards: Mapping[str, ModelCard], finished: list[str], **options: Any
) -> ParticipantRunner:
    return ParticipantRunner(
        database=database,
        ledger=Ledger(database, owner="here:1:token"),
        cards=cards,
        cache=Path("nowhere"),
        on_run_finished=finished.append,
        **options,
    )


def rows(database: Database, sql: str) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def change(database: Database, sql: str) -> None:
    database.write(lambda connection: connection.execute(text(sql)))
