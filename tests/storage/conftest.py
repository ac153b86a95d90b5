"""One fresh database per test, of either kind."""

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from defsurvey.storage.database import Database
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.schema import migrate
from tests.storage.postgres import execute, postgres_server

_numbers = count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Path]:
    """The socket folder of a PostgreSQL server."""
    with postgres_server() as socket:
        yield socket


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema and nothing in it, to copy."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    with Database(f"sqlite:///{path}") as database:
        migrate(database)
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Path) -> str:
    """Name of a PostgreSQL database with the schema and nothing in it, to copy."""
    execute(postgres, "CREATE DATABASE migrated")
    with Database(postgres_url(postgres, "migrated")) as database:
        migrate(database)
    return "migrated"


def postgres_url(socket: Path, name: str) -> str:
    return f"postgresql://postgres@/{name}?host={socket}"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    socket, name = request.getfixturevalue("postgres"), f"test_{next(_numbers)}"
    execute(socket, f"CREATE DATABASE {name} STRATEGY FILE_COPY")
    yield postgres_url(socket, name)
    execute(socket, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """URL of a SQLite database with the schema and nothing in it."""
    path = tmp_path / "migrated.db"
    shutil.copy(migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url(postgres: Path, migrated_postgres: str) -> Iterator[str]:
    """URL of a PostgreSQL database with the schema and nothing in it."""
    name = f"test_{next(_numbers)}"
    execute(
        postgres, f"CREATE DATABASE {name} TEMPLATE {migrated_postgres} STRATEGY FILE_COPY"
    )  # in a quarter of the time
    yield postgres_url(postgres, name)
    execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """URL of a database with the schema and nothing in it."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A database with the schema and nothing in it."""
    with Database(url, threads=32) as opened:
        yield opened


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database, owner="host:1:here")
