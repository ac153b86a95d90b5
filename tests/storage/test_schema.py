"""Migrations, the tables that they lead to, the clock, and what a database says of itself."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Table, inspect, select, text
from sqlmodel import SQLModel

from defsurvey.storage import schema
from defsurvey.storage.database import Database, Now
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.tables import Integers
from defsurvey.storage.schema import HEAD, OtherSchema, condition, current_revision, migrate

REPOSITORY = Path(__file__).parents[2]


MIGRATE = "import sys; from defsurvey.storage.database import Database; from defsurvey.storage.schema import migrate\n"


MIGRATE += "with Database(sys.argv[1]) as database: print(migrate(database))"


def test_an_empty_database_is_migrated_once(empty_url: str) -> None:
    """The first call does the work, the second finds it done."""
    with Database(empty_url) as database:
        with database.read() as connection:
            assert current_revision(connection) is None
        assert migrate(database)
        assert not migrate(database)
        with database.read() as connection:
            assert current_revision(connection) == HEAD
            assert {"run", "participant", "answer"} <= set(inspect(connection).get_table_names())


def test_processes_that_migrate_at_once_all_succeed(empty_url: str) -> None:
    """Of several processes that open an empty database together one migrates it and none fails."""
    workers = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, empty_url], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    told = [worker.communicate(timeout=120)[0].strip() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert sorted(told) == ["False", "False", "True"]


def test_the_schema_is_what_the_tables_say(database: Database) -> None:
    """Alembic finds no difference between the migrated database and the models."""
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_a_missing_column_would_be_noticed(database: Database) -> None:
    """The control of the comparison above."""
    database.write(lambda connection: connection.execute(text("ALTER TABLE worker DROP COLUMN model")))
    with database.read() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), SQLModel.metadata)
    assert [(difference[0], difference[3].name) for difference in differences] == [("add_column", "model")]


@pytest.mark.parametrize(
    ("found", "remedy"),
    [("9999", "update defsurvey"), ("0007", "take a new home or database, or the version that made this one")],
)
def test_another_schema_is_refused(database: Database, found: str, remedy: str) -> None:
    """A database of another version is left alone, and the message says what to do."""
    made_by_other = text(f"UPDATE alembic_version SET version_num = '{found}'")
    database.write(lambda connection: connection.execute(made_by_other))
    with pytest.raises(OtherSchema, match=f"^database schema: expected revision {HEAD}, got {found}; {remedy}$"):
        migrate(database)
    with database.read() as connection:
        assert current_revision(connection) == found


def test_a_migration_that_is_cut_off_leaves_nothing(empty_url: str) -> None:
    """Half a schema is never there: the next start begins anew, and succeeds."""

    def cut_off(connection: Connection) -> None:
        assert schema._upgrade(connection)
        assert inspect(connection).has_table("answer")
        raise InterruptedError

    with Database(empty_url) as database:
        with pytest.raises(InterruptedError):
            database.write(cut_off)
        with database.read() as connection:
            assert inspect(connection).get_table_names() == []
        assert migrate(database)


def test_now_is_the_time_of_day_and_goes_on(database: Database) -> None:
    """Both clocks tell seconds since the epoch, and tell a later time within the same transaction."""
    with database.read() as connection:
        first = float(connection.execute(select(Now())).scalar_one())
        time.sleep(0.05)
        second = float(connection.execute(select(Now())).scalar_one())
    assert abs(first - time.time()) < 5
    assert 0.03 < second - first < 5


def test_now_can_be_reckoned_with(database: Database) -> None:
    """A number of seconds added is a number of seconds later."""
    with database.read() as connection:
        minute = connection.execute(select((Now() + 60.0) - Now(), Now() < Now() + 1.0, Now() > Now() + 1.0)).one()
    assert abs(float(minute[0]) - 60) < 1
    assert [bool(value) for value in minute[1:]] == [True, False]


@pytest.mark.parametrize(("value", "stored"), [((), ""), ((3,), "3"), ((3, -1, 2), "3,-1,2"), (None, None)])
def test_integers_are_kept_as_text(database: Database, value: tuple[int, ...] | None, stored: str | None) -> None:
    """A tuple becomes a text and the same tuple again."""
    kind = Integers()
    assert kind.process_bind_param(value, database.engine.dialect) == stored
    assert kind.process_result_value(stored, database.engine.dialect) == value


def test_every_table_of_the_models_is_named() -> None:
    """A table that the room forgets to name is noticed."""
    both = vars(tables)
    named = {name: value for name, value in both.items() if isinstance(value, Table)}
    assert named == {str(name): table for name, table in SQLModel.metadata.tables.items()}


def test_an_empty_database_has_no_schema(empty_url: str) -> None:
    """And asking gives it none."""
    with Database(empty_url) as database:
        assert condition(database).revision is None
        assert condition(database).revision is None
        migrate(database)
        assert condition(database).revision == HEAD


def test_the_server_is_named_with_its_version(database: Database) -> None:
    """Kind and number, as a person would look for them in a list of supported ones."""
    kind, version = condition(database).server.split()
    assert kind == ("SQLite" if database.sqlite else "PostgreSQL")
    assert version[0].isdigit()


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_a_clock_that_is_off_is_seen(database: Database, ahead: float) -> None:
    """In which direction and by how much; what a statement takes is no offset."""
    offset = condition(database, clock=lambda: time.time() - ahead).clock_offset
    assert offset == pytest.approx(ahead, abs=2.0)
    assert ahead or abs(offset) < 0.1
