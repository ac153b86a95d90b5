"""Where a judge runs whose weights are here, and how it ends where it has no room there."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from defsurvey.jobs.broker import JUDGE, make_app
from defsurvey.jobs.cli.main import main
from defsurvey.jobs.daemons import tasks
from defsurvey.jobs.settings import Settings
from defsurvey.storage.database import Database
from defsurvey.storage.runs import judgements
from defsurvey.storage.runs.verdicts import read_judgements
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Engine
from defsurvey.workers.models import ModelCard
from tests.jobs.ledger_rows import change
from tests.judging.conftest import Answered

TOLD = "model local: cannot be opened: MemoryError: no room on cuda:1"


def open_judge(card: ModelCard, *, survey: Survey, device: str) -> Engine:
    """An engine for which there is no room anywhere."""
    raise MemoryError(f"no room on {device}")


@pytest.fixture
def here(settings: Settings, database: Database, answered: Answered) -> Settings:
    """A run that is judged by a model of this machine."""
    answered(4)
    assert settings.models is not None
    with settings.models.open("a") as cards:
        cards.write(f'[local]\nengine = "{__name__}:open_judge"\n')
    change(database, """UPDATE run SET judge = '{"model": "local", "sample": 1.0}'""")
    return settings


def typed(settings: Settings, database: Database, *words: str) -> tuple[int, str]:
    """Exit code and last line of ``judge first`` with further words."""
    home = {"DEFSURVEY_HOME": str(settings.home), "DEFSURVEY_MODELS": str(settings.models)}
    home |= {"DEFSURVEY_DATABASE_URL": database.url.render_as_string(hide_password=False)}
    done = CliRunner().invoke(main, ("judge", "first", *words), env=home)
    return done.exit_code, done.stderr.splitlines()[-1]


def test_a_judge_is_opened_on_the_device_that_is_named(here: Settings, database: Database) -> None:
    """Without one on the CPU; nobody is asked for a template, so that there it has no meaning."""
    assert typed(here, database, "--device", "cuda:1") == (2, f"defsurvey: {TOLD}")
    assert typed(here, database) == (2, f"defsurvey: {TOLD.replace('cuda:1', 'cpu')}")
    code, told = typed(here, database, "--template", "people.csv", "--device", "cuda:1")
    assert (code, told) == (2, "Error: --template and --audit stand alone: they ask no judge")
    assert not Path("people.csv").exists()


def test_a_reporter_opens_judges_on_its_device_and_does_not_try_again(here: Settings, database: Database) -> None:
    """What has no room there now is told in the report, and the run comes to its end."""
    app = make_app("redis://nowhere")
    tasks.register_judging(app, here, database, device="cuda:1")
    app.tasks[JUDGE]("first")
    assert read_judgements(database, "first").told == (TOLD,)
    assert not judgements.is_due(database, "first")
