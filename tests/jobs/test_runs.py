"""Runs that are there already: their judge, their budget, that they were cancelled, and brokers of two homes."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import redis
from celery import Celery

from defsurvey.jobs import runs
from defsurvey.jobs.broker import REPORTS_QUEUE, EmbeddedBroker, make_app
from defsurvey.jobs.daemons.reconciler import LOST_SECONDS, Reconciler
from defsurvey.jobs.settings import BadSetting, Settings
from defsurvey.jobs.study import producer
from defsurvey.jobs.study.plan import Earlier, read_earlier
from defsurvey.jobs.study.study import Study, StudyError
from defsurvey.jobs.study.study_file import parse_study
from defsurvey.storage.database import Database
from defsurvey.storage.runs import judgements, outbox, store
from defsurvey.storage.runs.budget import budget_of
from defsurvey.storage.runs.judgement import Judge
from defsurvey.workers.models import read_cards
from tests.jobs.small_study import SURVEY, change, finish, queued, rows, study, written

CARDS = """
billed = {engine = "openai", model = "m", key = "SOME_KEY"}
priced = {engine = "openai", model = "n", key = "SOME_KEY", input_price = 1.0, output_price = 2.0}
own = {engine = "openai", model = "o", base_url = "http://localhost:1"}
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "cards.toml").write_text(CARDS)
    monkeypatch.setenv("SOME_KEY", "not-a-real-key")
    return Settings.from_environment(
        {"DEFSURVEY_HOME": str(tmp_path / "home"), "DEFSURVEY_MODELS": str(tmp_path / "cards.toml")}
    )


def small(settings: Settings, **changes: str) -> Study:
    text = written(**{"models": "[human]", "participants": "2", **changes})
    return parse_study(text, path=Path("study.yaml"), cards=read_cards(settings.models), survey=SURVEY)


def extend(
    settings: Settings, database: Database, *, participants: int | None = None, models: Sequence[str] = ()
) -> int:
    wanted = runs.extended(settings, database, "first", participants=participants, models=models)
    return runs.enqueue(settings, database, wanted, extend=True).added


def test_an_extended_run_keeps_a_judge_and_a_budget_that_it_was_given_later(
    settings: Settings, database: Database
) -> None:
    """By enqueuing the same study once more, or by ``resume --budget``; a run that was cancelled stays so."""
    runs.enqueue(settings, database, small(settings))
    runs.enqueue(settings, database, small(settings, judge="{model: priced, sample: 0.5}", budget="7"))
    store.cancel(database, "first")
    assert extend(settings, database, participants=3) == 2
    assert judgements.wanted(database, "first") == Judge(model="priced", sample=0.5)
    assert budget_of(database, "first") == 7.0
    runs.set_budget(settings, database, "first", 5.0)
    assert extend(settings, database, participants=4) == 2
    assert budget_of(database, "first") == 5.0
    assert store.load_run(database, "first").cancelled


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
    settings: Settings, database: Database, tmp_path: Path, changes: dict[str, str]
) -> None:
    """The old one stays. What has no card any more cannot be asked, and is no obstacle."""
    runs.enqueue(settings, database, small(settings, **changes))
    with pytest.raises(StudyError, match="billed has none, got 5"):
        runs.set_budget(settings, database, "first", 5.0)
    assert budget_of(database, "first") is None
    (tmp_path / "cards.toml").write_text("")
    runs.set_budget(settings, database, "first", 5.0)
    assert budget_of(database, "first") == 5.0
    with pytest.raises(store.UnknownRun, match="there is no run"):
        runs.set_budget(settings, database, "second", 5.0)


def test_a_cancelled_run_that_is_enqueued_goes_on(settings: Settings, database: Database) -> None:
    """Messages that workers took meanwhile, and did nothing with, are sent again."""
    runs.enqueue(settings, database, small(settings))
    outbox.mark_published(database, [who for (who,) in rows(database, "SELECT id FROM participant")])
    store.cancel(database, "first")
    done = runs.enqueue(settings, database, small(settings))
    assert (done.added, done.published, done.waiting) == (0, 0, 4)
    assert not store.load_run(database, "first").cancelled
    assert len(outbox.outgoing(database)) == 4


def test_paces_and_validity_are_those_of_the_studys_own_run_or_of_the_newest(
    settings: Settings, database: Database
) -> None:
    """A pilot of this run tells; another study is told by the newest run of the model; a newer schema is not read."""
    study = small(settings, participants="10")
    here = settings.model_copy(update={"database_url": str(database.url)})
    runs.enqueue(settings, database, study)
    finish(database)
    change(database, "UPDATE answer SET committed_at = 1000 + rowid / 4.0")
    change(database, "UPDATE answer SET state = 'refused' WHERE item = 0")
    found = read_earlier(here, study)
    assert (found.paces, found.tokens) == ({"human": pytest.approx(4.0)}, {})  # a rule reads and writes nothing
    assert found.validities == {"human": pytest.approx(1 - 1 / len(study.questions))}
    runs.enqueue(settings, database, replace(study, name="second"))
    finish(database, "second")
    assert read_earlier(here, replace(study, name="third")).validities == {"human": 1.0}
    assert read_earlier(here, study).validities == found.validities
    change(database, "UPDATE alembic_version SET version_num = '9999'")
    assert read_earlier(here, study) == Earlier()


def test_looking_ahead_makes_no_database_and_does_without_one(settings: Settings, tmp_path: Path) -> None:
    """One that is not there, does not answer, or is none has no paces; a URL that is none is told."""
    study = small(settings)
    (tmp_path / "file.db").write_text("no database, but long enough to be taken for one" * 9)
    away = "postgresql://nobody@127.0.0.1:1/none?connect_timeout=1"
    for url in (settings.database_url, away, f"sqlite:///{tmp_path / 'file.db'}"):
        assert read_earlier(settings.model_copy(update={"database_url": url}), study) == Earlier()
    assert not settings.home.exists()
    with pytest.raises(BadSetting, match="DEFSURVEY_DATABASE_URL: expected sqlite or postgresql"):
        read_earlier(settings.model_copy(update={"database_url": "mysql://here/x"}), study)


@pytest.fixture(scope="module")
def second_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("other")) as broker:
        yield broker


@pytest.fixture
def both(database: Database) -> Database:
    producer.enqueue(database, None, study(models="[human]", participants="2"))
    producer.enqueue(database, None, study(name="second", models="[human]", cultures="[us]", participants="2"))
    return database


def test_messages_that_lie_with_another_broker_are_not_lost(
    both: Database, app: Celery, client: redis.Redis, second_broker: EmbeddedBroker
) -> None:
    clock, other = Mock(return_value=0.0), second_broker.client()
    here = Reconciler(database=both, app=app, broker=client, clock=clock, only="first")
    there = Reconciler(database=both, app=make_app(second_broker.url), broker=other, clock=clock, only="second")
    for _ in range(3):
        for reconciler in (here, there):
            reconciler.reconcile()
        assert (queued(client), queued(other)) == ([1, 2, 3, 4], [5, 6])
        change(both, f"UPDATE participant SET published_at = published_at - {LOST_SECONDS}")
        clock.return_value += LOST_SECONDS


def test_a_report_is_asked_for_where_its_run_is_worked_on(both: Database, app: Celery, client: redis.Redis) -> None:
    finish(both, "second")
    Reconciler(database=both, app=app, broker=client, only="first").reconcile()
    assert client.llen(REPORTS_QUEUE) == 0
    Reconciler(database=both, app=app, broker=client, only="second").reconcile()
    assert client.llen(REPORTS_QUEUE) == 1


def test_a_broker_that_both_have_is_seen_to_be_new_by_both(both: Database, app: Celery, client: redis.Redis) -> None:
    """Whoever notices first sends what is its own, and the other the rest."""
    reconcilers = [Reconciler(database=both, app=app, broker=client, only=run) for run in ("first", "second")]
    for _ in range(2):
        for reconciler in reconcilers:
            reconciler.reconcile()
        assert queued(client) == [1, 2, 3, 4, 5, 6]
        client.flushall()
