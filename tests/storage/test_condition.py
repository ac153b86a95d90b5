"""What a database says of itself, on either kind."""

from __future__ import annotations

import time

import pytest

from defsurvey.storage.database import Database
from defsurvey.storage.schema import HEAD, condition, migrate


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
