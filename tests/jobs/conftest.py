"""A database, a real broker and its app, for the tests of this room."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery

from defsurvey.jobs.broker import EmbeddedBroker, make_app
from defsurvey.storage.database import Database
from defsurvey.storage.schema import migrate


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path / 'defsurvey.db'}", synchronous="off") as opened:
        migrate(opened)
        yield opened


@pytest.fixture(scope="session")
def running_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """One server for all tests of the room that do not stop it."""
    with EmbeddedBroker(tmp_path_factory.mktemp("home")) as broker:
        yield broker


@pytest.fixture
def client(running_broker: EmbeddedBroker) -> Iterator[redis.Redis]:
    """A client of the running broker, which is emptied first."""
    with running_broker.client() as connected:
        connected.flushall()
        yield connected


@pytest.fixture
def app(running_broker: EmbeddedBroker, client: redis.Redis) -> Iterator[Celery]:
    made = make_app(running_broker.url)
    yield made
    made.close()
