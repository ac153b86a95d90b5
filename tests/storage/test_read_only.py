"""A PostgreSQL that only reads: a standby, or the server of before after a failover."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import InternalError, OperationalError

from defsurvey.storage.database import Database
from defsurvey.storage.runs import tables
from tests.storage.postgres import execute

Switch = Callable[[str], None]


@pytest.fixture
def switch(postgres: Path, postgresql_url: str) -> Iterator[Switch]:
    """Has connections to come only read (``on``), or write as well (``off``); those that are there stay as they are."""
    name = postgresql_url.partition("@/")[2].partition("?")[0]
    yield lambda state: execute(postgres, f"ALTER DATABASE {name} SET default_transaction_read_only = {state}")
    execute(postgres, f"ALTER DATABASE {name} RESET ALL")


def note(connection: Connection) -> None:
    """Write something."""
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


def test_a_server_that_takes_no_writes_is_read(postgresql_url: str, switch: Switch) -> None:
    """``status`` shows what a standby has."""
    switch("on")
    with Database(postgresql_url) as database, database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM worker")).scalar_one() == 0


def test_to_write_where_one_reads_is_a_defect(postgresql_url: str) -> None:
    """It would be there again, and is not waited out."""
    with Database(postgresql_url) as database:
        with pytest.raises(InternalError, match="read-only transaction"), database.read() as connection:
            note(connection)
        with database.read() as connection:
            assert connection.execute(text("SELECT 1")).scalar_one() == 1


@pytest.mark.parametrize("options", ["", "&target_session_attrs=any"])
def test_of_several_servers_the_one_that_writes_is_taken(
    postgres: Path, postgresql_url: str, switch: Switch, options: str
) -> None:
    """Where the URL names more than one, unless it says otherwise; where it names one, a standby may be meant."""
    switch("on")
    several = postgresql_url.replace(f"host={postgres}", f"host={postgres}&host={postgres}") + options
    with Database(several) as database:
        if options:
            with database.read() as connection:
                assert connection.execute(text("SELECT 1")).scalar_one() == 1
        else:
            with pytest.raises(OperationalError, match="session is read-only"), database.read():
                pass
            switch("off")
            database.write(note)
