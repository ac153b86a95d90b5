"""URLs, transactions and what is in their way, servers that only read, and the schema."""

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, insert, inspect, select, text, update
from sqlalchemy.exc import OperationalError
from sqlmodel import SQLModel

from defsurvey.storage import database as database_module
from defsurvey.storage import schema
from defsurvey.storage.database import BadDatabaseUrl, Database, Now
from defsurvey.storage.runs import tables
from defsurvey.storage.schema import HEAD, OtherSchema, condition, current_revision, migrate
from tests.storage.postgres import execute


def beats(connection: Connection) -> list[tuple[str, str]]:
    w = tables.worker.c
    return [(row.owner, row.model) for row in connection.execute(select(w.owner, w.model).order_by(w.owner))]


def beat(owner: str, model: str = "m") -> dict[str, object]:
    return {"owner": owner, "model": model, "rates": {}, "beat_at": 0.0}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "expected sqlite:///path or postgresql://user@host/name, got 'nonsense'"),
        ("postgresql://user:secret@host:port/name", r"got 'postgresql://\*\*\*@host:port/name'"),
        ("mysql://user@host/name", "expected sqlite or postgresql, got mysql"),
        ("sqlite:///:memory:", "SQLite needs a file"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, message: str) -> None:
    with pytest.raises(BadDatabaseUrl, match=f"^database URL: .*{message}") as refused:
        Database(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(("setting", "level"), [("off", 0), ("normal", 1), ("full", 2)])
def test_synchronous_reaches_sqlite(tmp_path: Path, setting: str, level: int) -> None:
    with Database(f"sqlite:///{tmp_path / 'a.db'}", synchronous=setting) as database, database.read() as connection:
        found = [connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("synchronous", "foreign_keys")]
        assert found == [level, 1]
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
    with pytest.raises(BadDatabaseUrl, match="expected one of full, normal, off, got 'extra'"):
        Database(f"sqlite:///{tmp_path / 'a.db'}", synchronous="extra")


def test_write_rolls_back_whatever_is_raised(database: Database) -> None:
    def work(connection: Connection) -> None:
        connection.execute(insert(tables.worker).values(beat("a")))
        raise KeyError("out")

    with pytest.raises(KeyError):
        database.write(work)
    database.write(lambda connection: connection.execute(insert(tables.worker).values(beat("b"))))
    with database.read() as connection:
        assert beats(connection) == [("b", "m")]


def test_a_connection_in_use_is_closed_when_it_comes_back(url: str) -> None:
    database = Database(url)
    with database.read() as connection:
        read = connection.connection.dbapi_connection
        database.close()
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    written = database.write(lambda connection: connection.connection.dbapi_connection)
    for closed in (read, written):
        assert closed is not None
        with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError), match="closed"):
            closed.cursor().execute("SELECT 1")


def test_a_connection_that_is_dropped_without_a_word_is_noticed(postgresql_url: str) -> None:
    """PostgreSQL's own library is told to ask after it within a minute; what the URL says of that wins."""

    def told(url: str) -> dict[str, str]:
        with Database(url) as database, database.read() as connection:
            dbapi = connection.connection.dbapi_connection
            assert isinstance(dbapi, psycopg.Connection)
            return dbapi.info.get_parameters()

    ours = {name: str(value) for name, value in database_module.DROPPED.items()}
    assert set(ours) == {"keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"}
    assert told(postgresql_url).items() >= ours.items()
    wanted = told(f"{postgresql_url}&keepalives_idle=5&tcp_user_timeout=0")
    assert wanted.items() >= {**ours, "keepalives_idle": "5", "tcp_user_timeout": "0"}.items()


def test_read_sees_one_state(url: str, database: Database) -> None:
    with Database(url) as other, database.read() as connection:
        assert beats(connection) == []
        other.write(lambda writing: writing.execute(insert(tables.worker).values(beat("a"))))
        assert beats(connection) == []
    with database.read() as connection:
        assert beats(connection) == [("a", "m")]


@pytest.fixture
def locked(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Database, sqlite3.Connection]]:
    """A SQLite database, opened by one that waits briefly, and the connection of another that holds its write lock."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT", 0.01)
    monkeypatch.setattr(database_module, "RETRY_PAUSES", (0.01, 0.02, 0.03))
    path = sqlite_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as holder, Database(sqlite_url) as database:
        holder.execute("PRAGMA journal_mode = WAL")  # as it is where another process of ours has it open
        holder.execute("BEGIN IMMEDIATE")
        yield database, holder


def test_a_write_that_another_process_kept_out_is_tried_again(
    locked: tuple[Database, sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, holder = locked
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            holder.execute("ROLLBACK")

    monkeypatch.setattr(database_module.time, "sleep", pause)
    runs: list[int] = []
    database.write(lambda connection: runs.append(1))
    assert pauses == [0.01, 0.02]
    assert runs == [1]


def test_an_error_that_would_come_again_is_not_tried_again(database: Database) -> None:
    runs: list[int] = []

    def work(connection: Connection) -> None:
        runs.append(1)
        connection.execute(text("SELECT no_such_column FROM worker"))

    with pytest.raises(Exception, match="no_such_column"):
        database.write(work)
    assert runs == [1]


def test_transactions_that_wait_for_each_other_both_end(postgresql_url: str) -> None:
    """PostgreSQL ends one of two that are deadlocked; it is tried again, and both writes are there."""
    with Database(postgresql_url) as database:
        for owner in ("a", "b"):
            database.write(lambda connection, o=owner: connection.execute(insert(tables.worker).values(beat(o, ""))))
        both_hold_one = threading.Barrier(2)
        attempts: list[str] = []
        w = tables.worker.c

        def write(first: str, second: str) -> None:
            def work(connection: Connection) -> None:
                attempts.append(first)
                for owner in (first, second):
                    grown = update(tables.worker).where(w.owner == owner).values(model=w.model + "x")
                    connection.execute(grown)
                    if owner == first and attempts.count(first) == 1:
                        both_hold_one.wait(10)

            database.write(work)

        threads = [threading.Thread(target=write, args=order) for order in (("a", "b"), ("b", "a"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(attempts) == 3
        with database.read() as connection:
            assert beats(connection) == [("a", "xx"), ("b", "xx")]


Switch = Callable[[str], None]


@pytest.fixture
def switch(postgres: Path, postgresql_url: str) -> Iterator[Switch]:
    """Has connections to come only read (``on``), or write as well (``off``); those that are there stay as they are."""
    name = postgresql_url.partition("@/")[2].partition("?")[0]
    yield lambda state: execute(postgres, f"ALTER DATABASE {name} SET default_transaction_read_only = {state}")
    execute(postgres, f"ALTER DATABASE {name} RESET ALL")


def note(connection: Connection) -> None:
    connection.execute(insert(tables.worker).values(owner="a", model="m", rates={}, beat_at=0.0))


def test_a_server_that_takes_no_writes_is_an_outage(postgresql_url: str, switch: Switch) -> None:
    """It is waited out like any: its connections are given up, and the next ones may lead to the server that writes."""
    switch("on")
    with Database(postgresql_url) as database:
        for _ in range(2):
            with pytest.raises(OperationalError, match="read-only transaction") as refused:
                database.write(note)
            assert refused.value.connection_invalidated
            assert isinstance(refused.value.orig, psycopg.errors.ReadOnlySqlTransaction)
        switch("off")
        database.write(note)


def test_of_several_servers_the_one_that_writes_is_taken(postgres: Path, postgresql_url: str, switch: Switch) -> None:
    switch("on")
    with Database(postgresql_url.replace(f"host={postgres}", f"host={postgres}&host={postgres}")) as database:
        with pytest.raises(OperationalError, match="session is read-only"), database.read():
            pass
        switch("off")
        database.write(note)


REPOSITORY = Path(__file__).parents[2]
MIGRATE = "import sys; from defsurvey.storage.database import Database; from defsurvey.storage.schema import migrate\n"
MIGRATE += "with Database(sys.argv[1]) as database: print(migrate(database))"


def test_an_empty_database_is_migrated_once(empty_url: str) -> None:
    with Database(empty_url) as database:
        with database.read() as connection:
            assert current_revision(connection) is None
        assert migrate(database)
        assert not migrate(database)
        with database.read() as connection:
            assert current_revision(connection) == HEAD
            assert {"run", "participant", "answer"} <= set(inspect(connection).get_table_names())


def test_processes_that_migrate_at_once_all_succeed(empty_url: str) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, empty_url], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    told = [worker.communicate(timeout=120)[0].strip() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert sorted(told) == ["False", "False", "True"]


def test_the_schema_is_what_the_tables_say(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []


@pytest.mark.parametrize(
    ("found", "remedy"),
    [("9999", "update defsurvey"), ("0007", "take a new home or database, or the version that made this one")],
)
def test_another_schema_is_refused(database: Database, found: str, remedy: str) -> None:
    made_by_other = text(f"UPDATE alembic_version SET version_num = '{found}'")
    database.write(lambda connection: connection.execute(made_by_other))
    with pytest.raises(OtherSchema, match=f"^database schema: expected revision {HEAD}, got {found}; {remedy}$"):
        migrate(database)
    with database.read() as connection:
        assert current_revision(connection) == found


def test_a_migration_that_is_cut_off_leaves_nothing(empty_url: str) -> None:
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
    with database.read() as connection:
        first = float(connection.execute(select(Now())).scalar_one())
        time.sleep(0.05)
        second = float(connection.execute(select(Now())).scalar_one())
    assert abs(first - time.time()) < 5
    assert 0.03 < second - first < 5


def test_the_server_is_named_with_its_version(database: Database) -> None:
    kind, version = condition(database).server.split()
    assert kind == ("SQLite" if database.sqlite else "PostgreSQL")
    assert version[0].isdigit()


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_a_clock_that_is_off_is_seen(database: Database, ahead: float) -> None:
    offset = condition(database, clock=lambda: time.time() - ahead).clock_offset
    assert offset == pytest.approx(ahead, abs=2.0)
    assert ahead or abs(offset) < 0.1
