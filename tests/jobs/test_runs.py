"""What verbs make of a run that is there already: its judge, its budget, and that it was cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from defsurvey.jobs import runs
from defsurvey.jobs.settings import BadSetting, Settings
from defsurvey.jobs.study.plan import Earlier, read_earlier
from defsurvey.jobs.study.study import Study, StudyError
from defsurvey.jobs.study.study_file import parse_study
from defsurvey.storage.database import Database
from defsurvey.storage.runs import judgements, outbox, store
from defsurvey.storage.runs.budget import budget_of
from defsurvey.storage.runs.judgement import Judge
from defsurvey.workers.models import read_cards
from tests.jobs.ledger_rows import change, finish, rows
from tests.jobs.small_study import SURVEY, written

CARDS = """\
[billed]
engine = "openai"
model = "m"
key = "SOME_KEY"

[priced]
engine = "openai"
model = "n"
key = "SOME_KEY"
input_price = 1.0
output_price = 2.0

[own]
engine = "openai"
model = "o"
base_url = "http://localhost:1"
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home without a broker, and models that cost money, with and without a price."""
    (tmp_path / "cards.toml").write_text(CARDS)
    monkeypatch.setenv("SOME_KEY", "not-a-real-key")
    return Settings.from_environment(
        {"DEFSURVEY_HOME": str(tmp_path / "home"), "DEFSURVEY_MODELS": str(tmp_path / "cards.toml")}
    )


def small(settings: Settings, **changes: str) -> Study:
    """The small study with two participants in each cell."""
    text = written(**{"models": "[human]", "participants": "2", **changes})
    return parse_study(text, path=Path("study.yaml"), cards=read_cards(settings.models), survey=SURVEY)


def extend(
    settings: Settings, database: Database, *, participants: int | None = None, models: Sequence[str] = ()
) -> int:
    """What ``defsurvey extend`` does; how many participants were added."""
    wanted = runs.extended(settings, database, "first", participants=participants, models=models)
    return runs.enqueue(settings, database, wanted, extend=True).added


def test_an_extended_run_keeps_a_budget_that_it_was_given_later(settings: Settings, database: Database) -> None:
    """The study's text knows nothing of it."""
    runs.enqueue(settings, database, small(settings))
    runs.set_budget(settings, database, "first", 5.0)
    assert extend(settings, database, participants=3) == 2
    assert budget_of(database, "first") == 5.0


def test_an_extended_run_keeps_a_judge_that_it_was_given_later(settings: Settings, database: Database) -> None:
    """By enqueuing the same study once more, with a judge; a budget can be given so too."""
    runs.enqueue(settings, database, small(settings))
    runs.enqueue(settings, database, small(settings, judge="{model: priced, sample: 0.5}", budget="7"))
    assert extend(settings, database, participants=3) == 2
    assert judgements.wanted(database, "first") == Judge(model="priced", sample=0.5)
    assert budget_of(database, "first") == 7.0


@pytest.mark.parametrize("later", [False, True])
def test_a_budget_holds_for_models_that_come_later(settings: Settings, database: Database, *, later: bool) -> None:
    """A model without a price is refused as in a study file, whoever gave the budget; nothing is written."""
    runs.enqueue(settings, database, small(settings, **({} if later else {"budget": "5"})))
    if later:
        runs.set_budget(settings, database, "first", 5.0)
    with pytest.raises(StudyError, match="expected models with prices on their cards: billed has none, got 5"):
        extend(settings, database, models=["billed"])
    assert {cell.model for cell in store.load_run(database, "first").cells} == {"human"}
    assert extend(settings, database, models=["priced", "own"]) == 8


@pytest.mark.parametrize("changes", [{"models": "[human, billed]"}, {"judge": "{model: billed}"}])
def test_a_budget_is_not_given_to_what_has_no_price(
    settings: Settings, database: Database, changes: dict[str, str]
) -> None:
    """Neither models nor judge could be stopped by it; the old one stays."""
    runs.enqueue(settings, database, small(settings, **changes))
    with pytest.raises(StudyError, match="billed has none, got 5"):
        runs.set_budget(settings, database, "first", 5.0)
    assert budget_of(database, "first") is None


def test_a_budget_does_not_ask_for_cards_that_are_gone(settings: Settings, database: Database, tmp_path: Path) -> None:
    """Nobody can be asked without one. A run that is not there is told as ever."""
    runs.enqueue(settings, database, small(settings, models="[human, billed]"))
    (tmp_path / "cards.toml").write_text("")
    runs.set_budget(settings, database, "first", 5.0)
    assert budget_of(database, "first") == 5.0
    with pytest.raises(store.UnknownRun, match="there is no run"):
        runs.set_budget(settings, database, "second", 5.0)


def test_a_cancelled_run_that_is_enqueued_goes_on(settings: Settings, database: Database) -> None:
    """Resuming is the same call: messages that workers took meanwhile, and did nothing with, are sent again."""
    runs.enqueue(settings, database, small(settings))
    outbox.mark_published(database, [who for (who,) in rows(database, "SELECT id FROM participant")])
    store.cancel(database, "first")
    done = runs.enqueue(settings, database, small(settings))
    assert (done.added, done.published, done.waiting) == (0, 0, 4)
    assert not store.load_run(database, "first").cancelled
    assert len(outbox.outgoing(database)) == 4


def test_paces_are_of_a_database_that_is_there(settings: Settings, database: Database) -> None:
    """Looking ahead makes no database, and does without one that does not answer."""
    study = small(settings, participants="10")
    assert read_earlier(settings, study) == Earlier()
    assert not settings.home.exists()
    away = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none?connect_timeout=1"})
    assert read_earlier(away, study) == Earlier()
    runs.enqueue(settings, database, study)
    finish(database)
    change(database, "UPDATE answer SET committed_at = 1000 + rowid / 4.0")
    found = read_earlier(settings.model_copy(update={"database_url": str(database.url)}), study)
    assert (found.paces, found.tokens) == ({"human": pytest.approx(4.0)}, {})  # a rule reads and writes nothing


def test_validity_is_that_of_the_studys_own_run_or_of_the_newest(settings: Settings, database: Database) -> None:
    """A pilot of this run tells; another study is told by the newest run of the model; without any, nothing."""
    study = small(settings, participants="10")
    assert read_earlier(settings, study) == Earlier()
    runs.enqueue(settings, database, study)
    finish(database)
    change(database, "UPDATE answer SET state = 'refused' WHERE item = 0")
    here = settings.model_copy(update={"database_url": str(database.url)})
    asked = len(study.questions)
    assert read_earlier(here, study).validities == {"human": pytest.approx(1 - 1 / asked)}
    runs.enqueue(settings, database, replace(study, name="second"))
    finish(database, "second")
    assert read_earlier(here, replace(study, name="third")).validities == {"human": 1.0}
    assert read_earlier(here, study).validities == {"human": pytest.approx(1 - 1 / asked)}


def test_paces_are_asked_of_the_present_schema_alone(settings: Settings, database: Database) -> None:
    """One that a newer version of this program has made is not read."""
    runs.enqueue(settings, database, small(settings, participants="10"))
    finish(database)
    change(database, "UPDATE answer SET committed_at = 1000 + rowid / 4.0")
    change(database, "UPDATE alembic_version SET version_num = '9999'")
    assert read_earlier(settings.model_copy(update={"database_url": str(database.url)}), small(settings)) == Earlier()


def test_a_file_that_is_no_database_has_no_paces(settings: Settings, tmp_path: Path) -> None:
    """Whoever writes to it is told. A URL that is none is told at once."""
    (tmp_path / "file.db").write_text("no database, but long enough to be taken for one" * 9)
    assert (
        read_earlier(settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'file.db'}"}), small(settings))
        == Earlier()
    )
    with pytest.raises(BadSetting, match="DEFSURVEY_DATABASE_URL: expected sqlite or postgresql"):
        read_earlier(settings.model_copy(update={"database_url": "mysql://here/x"}), small(settings))
    with pytest.raises(BadSetting, match="DEFSURVEY_DATABASE_URL: expected sqlite:///path or"):
        read_earlier(settings.model_copy(update={"database_url": "sqlite:/here/x.db"}), small(settings))


def test_a_run_that_is_only_extended_stays_cancelled(settings: Settings, database: Database) -> None:
    """To go on with it is another verb."""
    runs.enqueue(settings, database, small(settings))
    store.cancel(database, "first")
    assert extend(settings, database, participants=3) == 2
    assert store.load_run(database, "first").cancelled
