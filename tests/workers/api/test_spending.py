"""A budget at a worker: it ends in time, and what a run has cost is not summed up for every answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from defsurvey.storage.database import Database
from defsurvey.storage.runs import budget
from defsurvey.storage.schema import migrate
from defsurvey.workers.models import ModelCard
from defsurvey.workers.runner.participant_runner import Outcome, ParticipantRunner
from tests.workers.api.server import LocalServer, chat, serving
from tests.workers.working import add_run, change, make_stage, rows

#: US dollars for one answer of 20 tokens read and 5 written, at 1000 a million.
ANSWER = 0.025


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path / 'x.db'}", synchronous="off") as opened:
        migrate(opened)
        add_run(opened, participants=10)
        yield opened


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with serving(lambda got, before: chat("Answer: 2\nExplanation: So it is here.")) as local:
        yield local


def priced(server: LocalServer, price: float) -> ModelCard:
    """A model behind the server, in US dollars per million tokens."""
    url = f"{server.url}/v1"
    return ModelCard(name="quick", engine="openai", model="m", base_url=url, input_price=price, output_price=price)


@pytest.fixture
def stage(database: Database, server: LocalServer) -> Iterator[ParticipantRunner]:
    made = make_stage(database, {"quick": priced(server, 1000.0)}, [])
    yield made
    made.close()


def test_a_run_is_summed_up_now_and_then(
    database: Database, stage: ParticipantRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[str] = []
    left = budget.left

    def counted(of: Database, run: str) -> float | None:
        sums.append(run)
        return left(of, run)

    monkeypatch.setattr(budget, "left", counted)
    monkeypatch.setattr("defsurvey.storage.runs.budget.LOOK_SECONDS", 60.0)
    change(database, "UPDATE run SET budget = 1000.0")
    assert [stage.simulate(who) for who in range(1, 11)] == [Outcome.FINISHED] * 10
    assert sums == ["r", "r"]


def test_no_answer_is_asked_for_once_the_money_is_gone(database: Database, stage: ParticipantRunner) -> None:
    change(database, f"UPDATE run SET budget = {17.5 * ANSWER}")
    ended = [stage.simulate(who) for who in range(1, 11)]
    assert ended == [Outcome.FINISHED] * 4 + [Outcome.HALTED] + [Outcome.NOT_CLAIMED] * 5
    assert rows(database, "SELECT count(*) FROM answer") == [(18,)]
    budget.change_budget(database, "r", 100.0)
    assert [stage.simulate(who) for who in range(5, 11)] == [Outcome.FINISHED] * 6


def test_a_model_with_prices_of_0_is_neither_stopped_nor_summed_up(
    database: Database, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_of: Database, run: str) -> float | None:
        raise AssertionError(run)

    monkeypatch.setattr(budget, "left", never)
    change(database, "UPDATE run SET budget = 0.0")
    free = make_stage(database, {"quick": priced(server, 0.0)}, [])
    assert free.simulate(1) is Outcome.FINISHED
    free.close()
