"""A finished run in either database, and a server that judges it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from defsurvey.jobs.cli.main import main
from defsurvey.jobs.daemons.tasks import judge_if_due
from defsurvey.jobs.judging.judge import Judged, judge_run
from defsurvey.jobs.results import current_report
from defsurvey.jobs.settings import Settings
from defsurvey.storage.database import Database
from defsurvey.storage.runs import budget, judgements
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.outbox import BuiltReport
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.runs.store import NewCell
from defsurvey.storage.runs.verdicts import RunJudgements, read_judgements
from tests.jobs.small_study import change, rows
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
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setattr("defsurvey.workers.judging.batches.FIRST_LOOK", 0.01)
    with judging() as local:
        yield local


@pytest.fixture
def settings(tmp_path: Path, server: JudgeServer) -> Settings:
    cards = tmp_path / "cards.toml"
    cards.write_text(server.cards())
    return Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path / "home"), "DEFSURVEY_MODELS": str(cards)})


def say(number: int, item: int, cell: int) -> tuple[AnswerState, str]:
    kinds = {
        0: (AnswerState.UNPARSABLE, "I like turtles"),
        1: (AnswerState.REFUSED, "I will not say"),
        2: (AnswerState.UNPARSABLE, " "),
        3: (AnswerState.FAILED, ""),
        4: (AnswerState.ANSWERED, "Answer: 2\nExplanation: The earth is flat."),
    }
    plain = f"Answer: 2\nExplanation: So says citizen {number} of cell {cell} to question {item}."
    return kinds.get(number if item == 0 else -1, (AnswerState.ANSWERED, plain))


def nowhere(cell: NewCell) -> NewCell:
    return replace(cell, draws=tuple(replace(draws, region=None) for draws in cell.draws))


@dataclass(frozen=True, kw_only=True)
class JudgedRun:
    settings: Settings
    database: Database
    server: JudgeServer

    def answer(self, participants: int = 12) -> int:
        cells = [new_cell(model, participants=participants) for model in ("model-a", "model-b")]
        cells.append(new_cell("model-a", participants=2, condition="none"))
        ledger = Ledger(self.database, owner="host:1:here")
        for place, who in enumerate(started(self.database, *map(nowhere, cells))):
            held = claimed(ledger, who)
            for item in range(3):
                state, completion = say(place % participants, item, place // participants)
                shown, reason = SURVEY.question("ABC"[item]).codes, "it names no option"
                said = answer(held, item, state=state, completion=completion, shown=shown, reason=reason)
                ledger.checkpoint(held, said, ())
        return 2 * (3 * participants - 1)

    def judge(self, **options: Any) -> Judged:
        return self.judge_by_study(**{"model": "judge", "share": 1.0, **options})

    def judge_by_study(self, **options: Any) -> Judged:
        return judge_run(self.settings, self.database, "first", **options)

    def judge_if_due(self, **options: Any) -> None:
        judge_if_due(self.settings, self.database, "first", **options)

    def wants_judging(self, sample: float = 0.02) -> None:
        self.change(f"""UPDATE run SET judge = '{{"model": "judge", "sample": {sample}}}'""")

    def is_due(self) -> bool:
        return judgements.is_due(self.database, "first")

    def judgements(self) -> RunJudgements:
        return read_judgements(self.database, "first")

    def report(self) -> BuiltReport:
        return current_report(self.settings, self.database, "first", None)

    def report_text(self) -> str:
        return Path(self.report().markdown).read_text().replace("\\", "")

    def change_budget(self, dollars: float) -> None:
        budget.change_budget(self.database, "first", dollars)

    def spent(self) -> float:
        return budget.spent(self.database, "first")

    @property
    def asked(self) -> int:
        return self.server.asked.total()

    @property
    def paid(self) -> int:
        return self.server.paid().total()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return rows(self.database, query)

    def change(self, statement: str) -> None:
        change(self.database, statement)

    def cards(self, **fields: object) -> None:
        assert self.settings.models is not None
        lines = self.server.cards(**fields).splitlines()
        self.settings.models.write_text("\n".join(line for line in lines if not line.endswith("= null")) + "\n")

    def add_cards(self, text: str) -> None:
        assert self.settings.models is not None
        with self.settings.models.open("a") as cards:
            cards.write(text)

    def type(self, *words: str, **env: str) -> Result:
        home = {"DEFSURVEY_HOME": str(self.settings.home), "DEFSURVEY_MODELS": str(self.settings.models)}
        home |= {"DEFSURVEY_DATABASE_URL": self.database.url.render_as_string(hide_password=False)}
        return CliRunner().invoke(main, words, env=home | env)


@pytest.fixture
def here(settings: Settings, database: Database, server: JudgeServer) -> JudgedRun:  # noqa: F811 -- the fixture
    return JudgedRun(settings=settings, database=database, server=server)
